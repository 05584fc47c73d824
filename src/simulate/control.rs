//! The simulator's own pages: what it did, and mirrors for byte-for-byte tests.

use std::collections::HashMap;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::SimulatedBody;
use super::limits::{Limits, Pools};
use super::remembered::Remembered;
use super::route::Control;
use super::running::Running;
use super::script::ScriptError;
use super::stats::Stats;
use super::text::base64;

/// How many requests are listed unless another number is asked for.
const LISTED: usize = 100;

/// What the pages are about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Controlled<'a> {
    /// Counts.
    pub(super) stats: &'a Stats,
    /// The script that runs.
    pub(super) running: &'a Running,
    /// Limits.
    pub(super) pools: &'a Pools,
    /// Stored responses.
    pub(super) remembered: &'a Remembered,
}

/// Answers a page.
pub(super) fn answer(
    page: Control,
    head: &Parts,
    body: Bytes,
    controlled: Controlled<'_>,
) -> Response<SimulatedBody> {
    let Controlled {
        stats,
        running,
        pools,
        remembered,
    } = controlled;
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
            running.rewind();
            pools.reset();
            remembered.clear();
            json_page(StatusCode::OK, &json!({ "reset": true }))
        }
        Control::Timeline => json_page(StatusCode::OK, &stats.timeline()),
        Control::Limits => json_page(StatusCode::OK, &pools.to_json()),
        Control::SetLimits => {
            let set = text(&body).and_then(|text| text.parse::<Limits>());
            changed(set.map(|limits| pools.replace(limits)))
        }
        Control::SetScript => {
            let set = text(&body).and_then(|text| text.parse());
            changed(set.map(|script| running.replace(script)))
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
            let known = "GET stats, GET requests?last=N or ?id=ID, GET timeline, GET limits, PUT limits, \
                 PUT script, POST reset, echo, reflect";
            json_page(
                StatusCode::NOT_FOUND,
                &json!({ "error": "no such page", "known": known }),
            )
        }
    }
}

fn text(body: &[u8]) -> Result<&str, ScriptError> {
    std::str::from_utf8(body).map_err(|_| ScriptError::new("not UTF-8".to_owned()))
}

/// Says whether something new is in place.
fn changed(done: Result<(), ScriptError>) -> Response<SimulatedBody> {
    match done {
        Ok(()) => json_page(StatusCode::OK, &json!({ "changed": true })),
        Err(problem) => {
            let problem = json!({ "error": problem.to_string() });
            json_page(StatusCode::BAD_REQUEST, &problem)
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
