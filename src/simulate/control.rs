//! The simulator's own pages: what it did, and mirrors for byte-for-byte tests.

use std::collections::HashMap;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::SimulatedBody;
use super::remembered::Remembered;
use super::route::Control;
use super::script::Script;
use super::stats::Stats;
use super::text::base64;

/// How many requests are listed unless another number is asked for.
const LISTED: usize = 100;

/// Answers a page.
pub(super) fn answer(
    page: Control,
    head: &Parts,
    body: Bytes,
    stats: &Stats,
    script: &Script,
    remembered: &Remembered,
) -> Response<SimulatedBody> {
    match page {
        Control::Stats => json_page(StatusCode::OK, &stats.summary()),
        Control::Requests => {
            let query: HashMap<&str, &str> = head
                .uri
                .query()
                .unwrap_or("")
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .collect();
            let last = match query.get("last").map(|last| last.parse()) {
                None if query.contains_key("id") => usize::MAX,
                None => LISTED,
                Some(Ok(last)) => last,
                Some(Err(_)) => {
                    let problem = json!({ "error": "last: a whole number expected" });
                    return json_page(StatusCode::BAD_REQUEST, &problem);
                }
            };
            json_page(
                StatusCode::OK,
                &stats.requests(last, query.get("id").copied()),
            )
        }
        Control::Reset => {
            stats.reset();
            script.rewind();
            remembered.clear();
            json_page(StatusCode::OK, &json!({ "reset": true }))
        }
        Control::Echo => json_page(StatusCode::OK, &echo(head, &body)),
        Control::Reflect => {
            let mut response = Response::new(SimulatedBody::Whole(Some(body), None));
            if let Some(content_type) = head.headers.get(header::CONTENT_TYPE) {
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, content_type.clone());
            }
            response
        }
        Control::Unknown => {
            let known = "GET stats, GET requests?last=N or ?id=ID, POST reset, echo, reflect";
            json_page(
                StatusCode::NOT_FOUND,
                &json!({ "error": "no such page", "known": known }),
            )
        }
    }
}

/// The request as it arrived. Values that are no UTF-8 are told as far as they are.
fn echo(head: &Parts, body: &[u8]) -> Value {
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("", |path| path.as_str()),
        "version": format!("{:?}", head.version),
        "headers": headers,
        "body_base64": base64(body),
    })
}

fn json_page(status: StatusCode, page: &Value) -> Response<SimulatedBody> {
    let mut response = Response::new(SimulatedBody::Whole(Some(page.to_string().into()), None));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
