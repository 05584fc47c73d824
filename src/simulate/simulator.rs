//! The path of a request through the simulated provider: route, read, steer, wait, answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::answer::{self, Content, Question};
use super::behaviour::{Behaviour, Flavour};
use super::body::SimulatedBody;
use super::control::Controlled;
use super::errors::Failure;
use super::exchange::Exchange;
use super::limits::{Exceeded, Headers, Pools};
use super::remembered::Remembered;
use super::route::{self, Recall, Route};
use super::running::Running;
use super::settings::SimulateSettings;
use super::socket::ResetFlag;
use super::standing::Standing;
use super::stats::{Outcome, Stats};
use super::{control, encode, models, reply, strict};

/// Largest request body.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped, as asked or because the client left")]
pub(super) struct Dropped;

/// One simulated provider.
#[derive(Debug)]
pub(super) struct Simulator {
    defaults: Behaviour,
    /// Rules that change them.
    pub(super) running: Running,
    pools: Pools,
    stats: Arc<Stats>,
    remembered: Remembered,
    strict: bool,
    /// Tells the ids of this run from those of others.
    run: u32,
    count: AtomicU64,
}

impl Simulator {
    /// One that has done nothing yet.
    pub(super) fn new(settings: SimulateSettings) -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            stats: Arc::new(Stats::new(settings.keep_requests)),
            defaults: settings.defaults,
            running: Running::new(settings.script),
            pools: Pools::new(settings.limits),
            remembered: Remembered::default(),
            strict: settings.strict,
            run: since_epoch.as_micros() as u32,
            count: AtomicU64::new(0),
        }
    }

    /// Answers a request.
    ///
    /// # Cancel safety
    /// Dropped, the client has left, and is counted so.
    pub(super) async fn handle(
        self: Arc<Self>,
        reset: ResetFlag,
        request: Request<Incoming>,
    ) -> Result<Response<SimulatedBody>, Dropped> {
        let (head, incoming) = request.into_parts();
        let uri = head.uri.clone();
        let route = route::find(
            &head.method,
            uri.path(),
            uri.query().unwrap_or(""),
            &head.headers,
        );
        if let Route::Control(page) = route {
            let body = incoming.collect().await.map_err(|_| Dropped)?.to_bytes();
            let controlled = Controlled {
                stats: &self.stats,
                running: &self.running,
                pools: &self.pools,
                remembered: &self.remembered,
            };
            return Ok(control::answer(page, &head, body, controlled));
        }
        let mut exchange = self.open(route, head, reset);
        let body = match self.collect(incoming, &mut exchange).await? {
            Ok(body) => body,
            Err((status, problem)) => {
                return Ok(exchange.fail(route, Flavour::OpenAi, status, &problem));
            }
        };
        let deployment = deployment(uri.path());
        let by_path = flavour_of(uri.path());
        let question = match route {
            Route::Model(call) => match answer::read(call, &body, deployment) {
                Ok(question) => Some(question),
                Err(problem) => {
                    return Ok(exchange.fail(route, by_path, StatusCode::BAD_REQUEST, &problem));
                }
            },
            _ => None,
        };
        let model = question
            .as_ref()
            .map_or("", |question| &*question.ask.model);
        exchange.ticket.seen.model.push_str(model);
        let behaviour = match self.steer(&exchange.head, model) {
            Ok(behaviour) => behaviour,
            Err(problem) => {
                return Ok(exchange.fail(route, by_path, StatusCode::BAD_REQUEST, &problem));
            }
        };
        exchange.overrides = behaviour.headers.clone().unwrap_or_default();
        let flavour = behaviour.flavour.unwrap_or(by_path);
        if behaviour.drop == Some(true) {
            exchange.ticket.end(Outcome::Dropped);
            return Err(Dropped);
        }
        if self.strict
            && behaviour.status.is_none()
            && let Some(refused) = refusal(route, model, uri.path(), flavour, &body)
        {
            let failure = Failure {
                status: StatusCode::BAD_REQUEST,
                code: refused.code,
                param: refused.param.as_deref(),
                message: Some(&refused.message),
                retry_after: None,
                exceeded: None,
                model,
                request_id: &exchange.request_id.clone(),
            };
            return Ok(exchange.refuse(route, flavour, &failure));
        }
        // What fails by script uses nothing of the limits.
        if let (Some(question), None) = (&question, behaviour.status)
            && let Some(refused) = self.admit(question, &behaviour, flavour, &mut exchange)
        {
            if let Some(latency) = refused.latency {
                tokio::time::sleep(latency).await;
            }
            let failure = Failure {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: None,
                param: None,
                message: None,
                retry_after: refused.wait,
                exceeded: Some(refused.exceeded),
                model,
                request_id: &exchange.request_id.clone(),
            };
            return Ok(exchange.refuse(route, flavour, &failure));
        }
        wait(&behaviour, question.as_ref()).await;
        if let Some(status) = behaviour.status {
            let failure = Failure {
                status,
                code: behaviour.error_code.as_deref(),
                param: None,
                message: None,
                retry_after: behaviour.retry_after,
                exceeded: None,
                model,
                request_id: &exchange.request_id.clone(),
            };
            return Ok(exchange.refuse(route, flavour, &failure));
        }
        Ok(self.answer(route, question, &behaviour, flavour, exchange))
    }

    fn open(&self, route: Route<'_>, head: Parts, reset: ResetFlag) -> Exchange {
        let id = format!(
            "{:08x}{:08x}",
            self.run,
            self.count.fetch_add(1, Ordering::Relaxed)
        );
        let request_id = format!("req_sim{id}");
        let ticket = Box::new(self.stats.open(&request_id, route.endpoint(), &head));
        Exchange {
            id,
            request_id,
            now: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            overrides: Vec::new(),
            standing: Some(Standing::GENEROUS),
            // Over HTTP/2 the connection carries others' streams as well.
            reset: (head.version != Version::HTTP_2).then_some(reset),
            head,
            ticket,
        }
    }

    /// The request's body, unpacked, or what is wrong with it.
    async fn collect(
        &self,
        incoming: Incoming,
        exchange: &mut Exchange,
    ) -> Result<Result<Bytes, (StatusCode, String)>, Dropped> {
        let body = match Limited::new(incoming, MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(problem) if problem.is::<LengthLimitError>() => {
                return Ok(Err((
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the request is larger than 256 MiB".to_owned(),
                )));
            }
            Err(_) => return Err(Dropped),
        };
        exchange.ticket.seen.body_bytes = body.len() as u64;
        let Some(encoding) = exchange.head.headers.get(header::CONTENT_ENCODING) else {
            return Ok(Ok(body));
        };
        let unpacked = match encoding.to_str().unwrap_or("unreadable") {
            "identity" => return Ok(Ok(body)),
            encoding => encoding.parse().and_then(|encoding| {
                encode::unpacked(encoding, &body).map_err(|problem| problem.to_string())
            }),
        };
        Ok(unpacked.map_err(|problem| {
            (
                StatusCode::BAD_REQUEST,
                format!("content-encoding: {problem}"),
            )
        }))
    }

    /// How the answer is to behave.
    fn steer(&self, head: &Parts, model: &str) -> Result<Behaviour, String> {
        let mut behaviour = self.defaults.clone();
        self.running.apply(&mut behaviour, head.uri.path(), model);
        behaviour.overlay_headers(&head.headers)?;
        Ok(behaviour)
    }

    /// Asks the limits. `None`: the request may go on, and holds its place.
    fn admit(
        &self,
        question: &Question<'_>,
        behaviour: &Behaviour,
        flavour: Flavour,
        exchange: &mut Exchange,
    ) -> Option<Refusal> {
        let Some(place) = self.pools.of(&exchange.head, &question.ask.model) else {
            exchange.ticket.admitted(None);
            return None;
        };
        let Some(need) = question.need(behaviour, flavour, &place.rules) else {
            exchange.ticket.admitted(None);
            return None;
        };
        let (headers, told_wait, latency) = (
            place.rules.headers,
            place.rules.retry_after,
            place.rules.refusal_latency,
        );
        let tells = headers != Some(Headers::None);
        let (admitted, standing) = place.admit(need);
        exchange.standing = tells.then_some(standing);
        match admitted {
            Ok(permit) => {
                exchange.ticket.admitted(Some(permit));
                None
            }
            Err(exceeded) => {
                let wait = match headers {
                    Some(Headers::None) => None,
                    Some(Headers::Lie) => Some(Duration::from_millis(1)),
                    Some(Headers::Own) | None => told_wait.or(exceeded.wait),
                };
                Some(Refusal {
                    exceeded,
                    // Zero says that no wait is told; left open, a second would be.
                    wait: Some(wait.unwrap_or_default()),
                    latency,
                })
            }
        }
    }

    fn answer(
        &self,
        route: Route<'_>,
        question: Option<Question<'_>>,
        behaviour: &Behaviour,
        flavour: Flavour,
        mut exchange: Exchange,
    ) -> Response<SimulatedBody> {
        let seen = &mut exchange.ticket.seen;
        let content = match (route, question) {
            (Route::Model(_), Some(question)) => question.answer(
                behaviour,
                flavour,
                exchange.id.clone(),
                exchange.now.as_secs(),
                &self.remembered,
                seen,
            ),
            (Route::Recall(id, what), _) => match self.recall(id, what, &mut exchange) {
                Some(content) => content,
                None => {
                    let problem = format!("Response with id '{id}' not found.");
                    return exchange.fail(route, flavour, StatusCode::NOT_FOUND, &problem);
                }
            },
            (Route::Models(dialect, one), _) => {
                Content::Whole("application/json", models::list(dialect, one).to_string())
            }
            (Route::OllamaPage(page), _) => {
                let (content_type, text) = models::ollama(page);
                Content::Whole(content_type, text)
            }
            (Route::WebSocket, _) => {
                let problem = "WebSocket is not simulated: use POST.";
                return exchange.fail(route, flavour, StatusCode::UPGRADE_REQUIRED, problem);
            }
            (Route::WrongMethod(_), _) => {
                let problem = format!("Method {} is not allowed here.", exchange.head.method);
                return exchange.fail(route, flavour, StatusCode::METHOD_NOT_ALLOWED, &problem);
            }
            (Route::Unknown(_) | Route::Control(_) | Route::Model(_), _) => {
                let problem = format!(
                    "Unknown request URL: {} {}",
                    exchange.head.method,
                    exchange.head.uri.path()
                );
                return exchange.fail(route, flavour, StatusCode::NOT_FOUND, &problem);
            }
        };
        exchange.send(route.dialect(), flavour, behaviour, content)
    }

    fn recall(&self, id: &str, what: Recall, exchange: &mut Exchange) -> Option<Content> {
        let query = exchange.head.uri.query().unwrap_or("");
        let stream = query.split('&').any(|pair| pair == "stream=true");
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("starting_after=")?.parse().ok());
        match what {
            Recall::Fetch => {
                let recalled = self.remembered.recall(id, stream)?;
                Some(answer::recalled(
                    recalled,
                    stream,
                    after,
                    &mut exchange.ticket.seen,
                ))
            }
            Recall::Cancel => {
                self.remembered.cancel(id);
                let recalled = self.remembered.recall(id, false)?;
                Some(answer::recalled(
                    recalled,
                    false,
                    None,
                    &mut exchange.ticket.seen,
                ))
            }
            Recall::Delete => self.remembered.forget(id).then(|| {
                let id = reply::json_string(id);
                Content::Whole(
                    "application/json",
                    format!(r#"{{"id":{id},"object":"response","deleted":true}}"#),
                )
            }),
        }
    }
}

/// What the real model would refuse.
fn refusal(
    route: Route<'_>,
    model: &str,
    path: &str,
    flavour: Flavour,
    body: &[u8],
) -> Option<strict::Refused> {
    let Route::Model(_) = route else { return None };
    let body = serde_json::from_slice(body).ok()?;
    // Ollama has its compatible endpoints under the same roof: paths under `/ollama` are its own.
    let own_server =
        matches!(flavour, Flavour::LlamaCpp | Flavour::Vllm) || path.contains("/ollama/");
    strict::check(route.endpoint(), Some(model), own_server, &body).err()
}

/// A refusal by the limits.
struct Refusal {
    exceeded: Exceeded,
    /// The wait that it tells.
    wait: Option<Duration>,
    /// Time to its head.
    latency: Option<Duration>,
}

/// Everything that may come before the head. Dropped here, the client has left.
async fn wait(behaviour: &Behaviour, question: Option<&Question<'_>>) {
    // A receipt comes at once: its latency is that of the work.
    if !question.is_some_and(Question::is_background) {
        let writing = match question {
            Some(question) if behaviour.status.is_none() => question.writing(behaviour),
            _ => Duration::ZERO,
        };
        let latency = behaviour.latency.unwrap_or_default() + writing;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
    if behaviour.hang == Some(true) {
        std::future::pending::<()>().await;
    }
}

/// Azure's name of the model: the path segment after `deployments`.
fn deployment(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/deployments/")?;
    rest.split('/').next()
}

/// Which provider a path belongs to, as far as it tells.
fn flavour_of(path: &str) -> Flavour {
    if path.contains("/deployments/") {
        Flavour::Azure
    } else if path.contains("/api/v1/") {
        Flavour::OpenRouter
    } else {
        Flavour::OpenAi
    }
}
