//! What tollgate says about itself: health, readiness, metrics, usage, what it would do. Everything here reads; nothing
//! changes. Who may look is decided in `access`.

mod access;

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::policy::budget::{ScopeKey, ScopeKind};
use crate::proxy::explain::Question;
use crate::proxy::{AnswerBody, Gate};
use crate::store::event_query::{EventQuery, Events};
use crate::store::query::Query;
use crate::store::savings::BY;
use crate::units::RequestId;

type Answer = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Largest question that is read, in bytes.
const MAX_QUESTION_BYTES: usize = 4 << 20;

/// Answers a request to one of tollgate's own addresses; gives it back if it is for a provider. `peer` is the other end of
/// the connection.
///
/// # Errors
/// It is for a provider.
#[expect(
    clippy::result_large_err,
    reason = "the request is what goes on, and is not worth a box"
)]
pub fn route(
    gate: &Arc<Gate>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Answer, Request<Incoming>> {
    let Some(answer) = answer(gate, &request, peer) else {
        return Err(request);
    };
    Ok(match answer {
        Found::Answer(answer) => answer,
        Found::Question => {
            let gate = Arc::clone(gate);
            Box::pin(async move { question(&gate, request.into_body()).await })
        }
    })
}

/// What a path of tollgate's own leads to.
enum Found {
    /// An answer to whoever looks.
    Answer(Answer),
    /// A question that stands in the body.
    Question,
}

fn answer(gate: &Arc<Gate>, request: &Request<Incoming>, peer: IpAddr) -> Option<Found> {
    let path = request.uri().path();
    let known = Arc::clone(gate);
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
        "/api/v1/savings" => {
            let query = request.uri().query().unwrap_or("").to_owned();
            Box::pin(async move { savings(&gate, &query).await })
        }
        "/api/v1/throttle" => {
            let query = request.uri().query().unwrap_or("").to_owned();
            Box::pin(aside(move || throttle(&gate, &query)))
        }
        "/api/v1/providers" => {
            Box::pin(async move { json(&serde_json::json!({"lanes": gate.lanes_now()})) })
        }
        "/api/throttle/stats" => Box::pin(aside(move || json(&gate.throttle_stats()))),
        "/api/v1/events" => {
            let query = request.uri().query().unwrap_or("").to_owned();
            Box::pin(async move { events(&gate, &query).await })
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
    // Probes have no keys.
    let open = matches!(path, "/healthz" | "/readyz");
    let allowed = || {
        access::judge(
            known.settings.auth.mode,
            &known.keys,
            request.uri(),
            request.headers(),
            peer,
            known.clock.unix_ms(),
        )
    };
    if !open && let Err(denied) = allowed() {
        return Some(Found::Answer(Box::pin(async move { refused(denied) })));
    }
    let asks = path == "/api/v1/route";
    Some(match *request.method() {
        Method::POST if asks => Found::Question,
        Method::GET | Method::HEAD if !asks => Found::Answer(answer),
        _ => Found::Answer(Box::pin(async move { wrong_method(asks) })),
    })
}

fn wrong_method(asks: bool) -> Response<AnswerBody> {
    let (allowed, message) = match asks {
        true => ("POST", "questions are sent by POST"),
        false => ("GET, HEAD", "only GET is served here"),
    };
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, message);
    let allowed = header::HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// What would happen to a request now.
async fn question(gate: &Arc<Gate>, body: Incoming) -> Response<AnswerBody> {
    let pause = gate.settings.server.body_timeout;
    let read = Limited::new(body, MAX_QUESTION_BYTES).collect();
    let bytes = match tokio::time::timeout(pause, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let message =
                format!("the question broke off, or is larger than {MAX_QUESTION_BYTES} bytes");
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Err(_) => {
            return problem(
                StatusCode::REQUEST_TIMEOUT,
                "the question did not come in time",
            );
        }
    };
    // A list would be taken for the fields in their order.
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    let read = serde_json::from_slice::<Question>(&bytes);
    let place = read
        .as_ref()
        .err()
        .map(|error| (error.line(), error.column()));
    let Some(question) = read.ok().filter(|_| is_object) else {
        // Where, but nothing of what stands there.
        let (line, column) = place.unwrap_or((1, 1));
        let message = format!(
            "the question is not understood at line {line}, column {column}: a JSON object with model, text, priority, task, \
             session, key, provider, path, body, user_agent and pinned is expected"
        );
        return problem(StatusCode::BAD_REQUEST, &message);
    };
    match gate.explain(&question).await {
        Ok(explanation) => json(&explanation),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn welcome(gate: &Gate) -> String {
    let mut text = format!("tollgate {}\n\nproviders:\n", env!("CARGO_PKG_VERSION"));
    for provider in &gate.settings.providers {
        text.push_str(&format!("  /{:<12} {}\n", provider.name, provider.base_url));
    }
    text.push_str(
        "\nhere:\n  /metrics            Prometheus text\n  /healthz  /readyz   liveness, readiness\n  \
         /api/v1/usage       what was used; by=session,model,… since=24h format as in `tollgate usage --json`\n  \
         /api/v1/savings     what routing saved or would have saved; the same words, as in `tollgate usage --savings --json`\n  \
         /api/v1/requests/ID one request\n  \
         /api/v1/route       what would happen to a request now, by POST; the same words as `tollgate route --json`\n  \
         /api/v1/throttle    every budget with its level; session=NAME for one session\n  \
         /api/throttle/stats levels and usage of every session\n  \
         /api/v1/events      what the limits did; since=MS&kind=refused&session=…&budget=…&limit=100\n",
    );
    text
}

/// Ready means: requests will be served. A ledger that cannot be written, or a process on its way out, is not ready.
fn ready(gate: &Gate) -> Response<AnswerBody> {
    let journal = gate.ledger.health().journal;
    let writable = journal.failure.is_none();
    let ok = !gate.is_draining() && (writable || gate.settings.ledger.pass_on_failure);
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({
        "ready": ok,
        "draining": gate.is_draining(),
        "ledger": {"writable": writable, "problem": journal.failure},
    });
    AnswerBody::response(status, JSON, body.to_string())
}

/// Prometheus' text.
async fn metrics(gate: Arc<Gate>) -> Response<AnswerBody> {
    aside(move || {
        gate.observe_budgets();
        gate.observe_lanes();
        gate.metrics
            .observe_now(catalogue_age(&gate), &gate.ledger.health());
        AnswerBody::response(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            gate.metrics.encode(),
        )
    })
    .await
}

/// Encoding many series or budgets takes milliseconds, so it is not done on a thread that serves requests.
async fn aside(
    answer: impl FnOnce() -> Response<AnswerBody> + Send + 'static,
) -> Response<AnswerBody> {
    let answered = tokio::task::spawn_blocking(answer).await;
    answered.unwrap_or_else(|_| {
        problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be encoded",
        )
    })
}

/// How old the prices are, counted from the beginning of their day in UTC.
fn catalogue_age(gate: &Gate) -> Duration {
    let day = gate.catalogue.as_of().to_zoned(jiff::tz::TimeZone::UTC);
    let since = day.map_or(0, |day| day.timestamp().as_millisecond());
    Duration::from_millis(
        gate.clock
            .unix_ms()
            .saturating_sub(u64::try_from(since).unwrap_or(0)),
    )
}

/// How the budgets stand: of everything, or of one scope (`session=docs`, `team=research`, …, `global`).
fn throttle(gate: &Gate, query: &str) -> Response<AnswerBody> {
    let mut only = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (kind, name) = pair.split_once('=').unwrap_or((pair, ""));
        let kind = ScopeKind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind);
        let name = percent_decode_str(&name.replace('+', " "))
            .decode_utf8()
            .map(Cow::into_owned);
        match (kind, name, &only) {
            (Some(kind), Ok(name), None) if (kind == ScopeKind::Global) == name.is_empty() => {
                only = Some(ScopeKey { kind, name });
            }
            _ => {
                let known = ScopeKind::ALL.map(ScopeKind::as_str).join(", ");
                let message = format!(
                    "{pair:?} is not understood; one scope can be named by its kind ({known}), as in session=docs or global"
                );
                return problem(StatusCode::BAD_REQUEST, &message);
            }
        }
    }
    json(&gate.throttle_now(only))
}

async fn usage(gate: &Gate, query: &str) -> Response<AnswerBody> {
    let query = match Query::from_query_string(query) {
        Ok(query) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match gate.ledger.report(query).await {
        Ok(report) => json(&report),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn savings(gate: &Gate, query: &str) -> Response<AnswerBody> {
    let by_default = Query {
        by: BY.to_vec(),
        ..Query::default()
    };
    let query = match by_default.read(query) {
        Ok(query) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match gate.ledger.savings(query).await {
        Ok(savings) => json(&savings),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn events(gate: &Gate, query: &str) -> Response<AnswerBody> {
    let query = match EventQuery::from_query_string(query) {
        Ok(query) => query,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match gate.ledger.events(query).await {
        Ok(events) => json(&Events { events }),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn one_request(gate: &Gate, id: &str) -> Response<AnswerBody> {
    let id: RequestId = match id.parse() {
        Ok(id) => id,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    match gate.ledger.find(id).await {
        Ok(Some(record)) => json(&record.shown()),
        Ok(None) => problem(StatusCode::NOT_FOUND, "no such request in the ledger (yet)"),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn json(value: &impl serde::Serialize) -> Response<AnswerBody> {
    match serde_json::to_string(value) {
        Ok(text) => AnswerBody::response(StatusCode::OK, JSON, text),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refused(denied: access::Denied) -> Response<AnswerBody> {
    let mut response = problem(denied.status, denied.message);
    if denied.status == StatusCode::UNAUTHORIZED {
        let asks = header::HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, asks);
    }
    response
}

fn not_found() -> Response<AnswerBody> {
    problem(
        StatusCode::NOT_FOUND,
        "no such address; known here: /api/v1/throttle, /api/throttle/stats, /api/v1/providers, /api/v1/events, /api/v1/usage, \
         /api/v1/savings, /api/v1/requests/ID",
    )
}

fn problem(status: StatusCode, message: &str) -> Response<AnswerBody> {
    AnswerBody::response(
        status,
        JSON,
        serde_json::json!({"error": {"message": message}}).to_string(),
    )
}
