//! What tollgate says about itself: health, readiness, metrics, usage. Everything here reads; nothing changes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::proxy::{AnswerBody, Gate};
use crate::store::report::Query;
use crate::units::RequestId;

type Answer = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a request to one of tollgate's own addresses; `None` if it is for a provider.
pub fn route(gate: &Arc<Gate>, request: &Request<Incoming>) -> Option<Answer> {
    let path = request.uri().path();
    let gate = Arc::clone(gate);
    let answer: Answer = match path {
        "/" => Box::pin(async move { AnswerBody::response(StatusCode::OK, TEXT, welcome(&gate)) }),
        "/healthz" => Box::pin(async { AnswerBody::response(StatusCode::OK, TEXT, "ok\n") }),
        "/readyz" => Box::pin(async move { ready(&gate) }),
        "/metrics" => Box::pin(metrics(gate)),
        "/api/v1/usage" => {
            let query = request.uri().query().unwrap_or("").to_owned();
            Box::pin(async move { usage(&gate, &query).await })
        }
        _ => match path.strip_prefix("/api/v1/") {
            Some(rest) => {
                let id = rest.strip_prefix("requests/").map(str::to_owned);
                Box::pin(async move {
                    match id {
                        Some(id) => one_request(&gate, &id).await,
                        None => not_found(),
                    }
                })
            }
            None => return None,
        },
    };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(answer);
    }
    Some(Box::pin(async {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        response
    }))
}

fn welcome(gate: &Gate) -> String {
    let mut text = format!("tollgate {}\n\nproviders:\n", env!("CARGO_PKG_VERSION"));
    for provider in &gate.settings.providers {
        text.push_str(&format!("  /{:<12} {}\n", provider.name, provider.base_url));
    }
    text.push_str(
        "\nhere:\n  /metrics            Prometheus text\n  /healthz  /readyz   liveness, readiness\n  \
         /api/v1/usage       what was used; by=session,model,… since=24h format as in `tollgate usage --json`\n  \
         /api/v1/requests/ID one request\n",
    );
    text
}

/// Ready means: requests will be served. A ledger that cannot be written, or a process on its way out, is not ready.
fn ready(gate: &Gate) -> Response<AnswerBody> {
    let ledger = gate.ledger.health();
    let ok = !gate.is_draining() && (ledger.is_writable() || gate.settings.ledger.pass_on_failure);
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "ready": ok,
        "draining": gate.is_draining(),
        "ledger": {"writable": ledger.is_writable(), "problem": ledger.problem()},
    });
    AnswerBody::response(status, JSON, body.to_string())
}

/// Encoding many series takes milliseconds, so it is not done on a thread that serves requests.
async fn metrics(gate: Arc<Gate>) -> Response<AnswerBody> {
    let encoded = tokio::task::spawn_blocking(move || {
        let now = gate.clock.unix_ms();
        let age = Duration::from_millis(now.saturating_sub(gate.catalogue.as_of_unix_ms()));
        let health = gate.ledger.health();
        gate.metrics.observe_now(age, health.disk_bytes(), health.is_writable());
        gate.metrics.encode()
    });
    match encoded.await {
        Ok(text) => AnswerBody::response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be encoded"),
    }
}

async fn usage(gate: &Gate, query: &str) -> Response<AnswerBody> {
    let query = match Query::from_query_string(query, gate.clock.unix_ms()) {
        Ok(query) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match gate.ledger.report(query).await {
        Ok(report) => AnswerBody::response(StatusCode::OK, JSON, report.to_json()),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn one_request(gate: &Gate, id: &str) -> Response<AnswerBody> {
    let id: RequestId = match id.parse() {
        Ok(id) => id,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    match gate.ledger.find(id).await {
        Ok(Some(record)) => AnswerBody::response(StatusCode::OK, JSON, record.to_json()),
        Ok(None) => problem(StatusCode::NOT_FOUND, "no such request in the ledger (yet)"),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn not_found() -> Response<AnswerBody> {
    problem(StatusCode::NOT_FOUND, "no such address; known here: /api/v1/usage, /api/v1/requests/ID")
}

fn problem(status: StatusCode, message: &str) -> Response<AnswerBody> {
    AnswerBody::response(status, JSON, serde_json::json!({"error": {"message": message}}).to_string())
}
