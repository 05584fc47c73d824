//! Sixth step: the request goes to the provider; its answer's head comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::account::Account;
use super::authenticate::Credential;
use super::gate::{Gate, Provider};
use super::headers;
use super::lanes::NoTurn;
use super::lineup::Lineup;
use super::opening::{self, Opening, Seen};
use super::parse::{Call, CallBody};
use super::provider_key;
use super::route::Route;
use super::upgrade;
use crate::llm::rate_limits::RateNews;
use crate::policy::retry::{self, Attempted, Failed, GiveUp, Next, Sent, Why};
use crate::refusal::Refusal;
use crate::upstream::{BodyPause, Head, SendBody, SendError};

/// What takes less is no wait: getting a turn that is free takes some microseconds.
const WAIT_WORTH_TELLING: Duration = Duration::from_millis(1);

/// Bodies up to this size are copied out of the connection's read buffer, which is larger.
const COPIED_BYTES: usize = 4 * 1024;

/// A request that the provider has begun to answer.
#[derive(Debug)]
pub(super) struct Served {
    /// The answer, its body still on its way.
    pub(super) reply: Reply,
    /// Where the request went.
    pub(super) route: Route,
}

/// The provider's answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Head and body as the provider sends them.
    pub(super) response: Response<Incoming>,
    /// What of the body was read already.
    pub(super) opening: Opening,
    /// The client's side of a connection that both want to turn into another protocol.
    pub(super) upgrade: Option<OnUpgrade>,
    /// When the head came.
    pub(super) head_at: Instant,
}

/// Gets the request its turn at the provider, sends it, and sends it again where that is allowed and helps: until there
/// is an answer that goes to the client.
pub(super) async fn send(
    gate: &Arc<Gate>,
    mut call: Call,
    asked: &Lineup,
    route: &Route,
    account: &mut Account,
) -> Result<Reply, Refusal> {
    let started = Instant::now();
    let upgrade = prepare(gate, &mut call, route);
    let Call {
        provider,
        parts,
        body,
        ..
    } = call;
    let head = Head::new(parts.method, route.uri.clone(), &parts.headers);
    // Nothing of what it came in is kept while it waits: a few bytes would hold on to a whole read buffer.
    drop((parts.headers, parts.extensions));
    let mut body = match (body, &route.asking_body) {
        (_, Some(asking)) => Sending::Kept(asking.clone()),
        (CallBody::Kept(bytes), None) if bytes.len() <= COPIED_BYTES => {
            Sending::Kept(Bytes::copy_from_slice(&bytes))
        }
        (CallBody::Kept(bytes), None) => Sending::Kept(bytes),
        (CallBody::Passing(incoming), None) => Sending::Passing(Some(incoming)),
    };
    let provider = &gate.providers[provider];
    let settings = &gate.settings.send;
    let deadline_ms = asked.deadline_ms;
    if let Ok(mut budget) = provider.retries.lock() {
        budget.count_request(gate.lanes.now_ms());
    }
    account.add_own_time(started);
    let mut tries = 0;
    loop {
        let mut turn = match &asked.lane {
            Some(lane) => {
                let began = Instant::now();
                let turn = tokio::select! {
                    biased;
                    turn = lane.turn(asked.who(), asked.need, deadline_ms) => turn,
                    // The process is ending: whoever waits is told at once.
                    () = gate.draining() => Err(NoTurn::TooLate { wait: None }),
                };
                let waited = began.elapsed();
                if waited >= WAIT_WORTH_TELLING {
                    account.has_waited(waited);
                }
                Some(turn.map_err(|why| busy(&provider.settings.name, why))?)
            }
            None => None,
        };
        tries += 1;
        let repeatable = matches!(body, Sending::Kept(_));
        // In a box of its own, so that those who wait need not have room for it.
        let sent = Box::pin(once(gate, provider, &head, &mut body, account)).await;
        let now_ms = gate.lanes.now_ms();
        let mut news = RateNews::default();
        let (outcome, judgement) = match sent {
            Ok(mut response) => {
                news = RateNews::of_head(response.headers(), now_ms);
                // Before the wait for its body: the client may leave meanwhile, and errors are not billed.
                account.answered(response.status());
                let opening = if asked.lane.is_some() && upgrade.is_none() {
                    Box::pin(opening::open(&mut response, now_ms, &mut news)).await
                } else {
                    Opening::unread()
                };
                let status = response.status().as_u16();
                let failed = match &opening.seen {
                    Seen::Error(error) => Some(Failed::Answered { status, error }),
                    Seen::Nothing if asked.answers_with_something(status) => Some(Failed::Empty),
                    Seen::Cut => Some(Failed::Closed(Sent::Whole)),
                    Seen::Nothing | Seen::Answer => None,
                };
                let judgement = failed.map(|failed| retry::judge(&failed, &news));
                let reply = Reply {
                    response,
                    opening,
                    upgrade: None,
                    head_at: Instant::now(),
                };
                (Ok(reply), judgement)
            }
            Err(error) => {
                let failed = failed_send(&error, account);
                (Err(error), Some(retry::judge(&failed, &news)))
            }
        };
        if let Some(turn) = &mut turn {
            turn.answered(&news, judgement.as_ref(), chance());
        }
        let Some(judgement) = judgement else {
            let mut reply =
                outcome.map_err(|error| refusal(&error, &provider.settings.base_url))?;
            reply.upgrade = upgrade;
            account.has_turn(turn);
            return Ok(reply);
        };
        let attempted = Attempted {
            judgement,
            attempts: tries,
            max_retries: if asked.lane.is_some() {
                settings.max_retries
            } else {
                0
            },
            first_byte_out: false,
            repeatable,
            deadline_ms,
            now_ms,
            chance: chance(),
        };
        let next = match provider.retries.lock() {
            Ok(mut budget) => retry::next(&attempted, &mut budget),
            Err(_) => Next::GiveUp(GiveUp {
                why: Why::BudgetSpent,
                stop: false,
            }),
        };
        let given_up = match next {
            Next::RetryIn(pause) => {
                gate.metrics.retried(&provider.settings.name);
                tracing::debug!(provider = %provider.settings.name, attempt = tries, ?pause, "trying again");
                // Its place is another's meanwhile.
                drop(turn.take());
                account.tries_again();
                let began = Instant::now();
                let goes_on = tokio::select! {
                    () = tokio::time::sleep(pause) => true,
                    () = gate.draining() => false,
                };
                account.has_waited(began.elapsed());
                if goes_on {
                    continue;
                }
                // The process is ending, and nobody asked for a retry so soon: what the provider said is the answer.
                if let Ok(reply) = &outcome {
                    account.answered(reply.response.status());
                }
                GiveUp {
                    why: Why::Deadline,
                    stop: false,
                }
            }
            Next::GiveUp(given_up) => given_up,
        };
        let mut reply = match outcome {
            Ok(reply) => reply,
            Err(error) => {
                let provider = &provider.settings;
                tracing::warn!(provider = %provider.name, error = &error as &dyn std::error::Error, "request not answered");
                return Err(refusal(&error, &provider.base_url));
            }
        };
        // Where nobody is to try again, tollgate has not spent anything that the client would only repeat.
        let first_and_last = tries == 1 && given_up.why == Why::RetriesSpent;
        if let Some((name, value)) = given_up.marker().filter(|_| !first_and_last) {
            reply.response.headers_mut().insert(name, value);
        }
        reply.upgrade = upgrade;
        account.has_turn(turn);
        return Ok(reply);
    }
}

/// A request's body on its way out.
enum Sending {
    /// Kept, so that it can be sent again.
    Kept(Bytes),
    /// Passed on as it comes; `None` once it is gone.
    Passing(Option<Incoming>),
}

/// Makes the head what the provider is to get. Gives the client's side of a connection that is to change its protocol.
fn prepare(gate: &Gate, call: &mut Call, route: &Route) -> Option<OnUpgrade> {
    let Call {
        provider,
        credential,
        parts,
        body,
        ..
    } = call;
    let wants_upgrade = upgrade::is_wanted(parts);
    let upgrade = parts
        .extensions
        .remove::<OnUpgrade>()
        .filter(|_| wants_upgrade);
    let protocol = upgrade::protocol(&parts.headers);
    headers::for_upstream(&mut parts.headers);
    if let Credential::Tollgate(_) = credential {
        let own = &gate.providers[*provider].key;
        provider_key::replace(&mut parts.headers, own.as_ref());
    }
    if let Some(protocol) = protocol.filter(|_| upgrade.is_some()) {
        upgrade::ask(&mut parts.headers, protocol);
    }
    match body {
        _ if route.asking_body.is_some() => {
            // The stream will be edited on its way back, so it must come plain; hyper states the new length.
            parts.headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        // hyper states the length of what there is; that there is nothing, the client must have said itself.
        CallBody::Kept(bytes) if !bytes.is_empty() => {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        CallBody::Kept(_) | CallBody::Passing(_) => {}
    }
    upgrade
}

/// Sends the request once.
async fn once(
    gate: &Gate,
    provider: &Provider,
    head: &Head,
    body: &mut Sending,
    account: &mut Account,
) -> Result<Response<Incoming>, SendError> {
    let limits = &gate.settings.upstream;
    let left = limits
        .total_timeout
        .map(|total| total.saturating_sub(account.arrived().elapsed()));
    let header_timeout = left.map_or(limits.header_timeout, |left| {
        left.min(limits.header_timeout)
    });
    let body = match body {
        Sending::Kept(bytes) => SendBody::kept(bytes.clone(), account.sent_mark()),
        Sending::Passing(incoming) => match incoming.take() {
            Some(incoming) => SendBody::passing(
                incoming,
                gate.settings.server.body_timeout,
                account.sent_mark(),
            ),
            // It is sent once only.
            None => SendBody::kept(Bytes::new(), account.sent_mark()),
        },
    };
    let attempts = &mut account.record_mut().attempts;
    provider
        .upstream
        .send(head, body, header_timeout, attempts)
        .await
}

/// What a failed send says.
fn failed_send(error: &SendError, account: &Account) -> Failed<'static> {
    match error {
        SendError::Connect(_) => Failed::Connect,
        SendError::Tls(_) => Failed::Tls,
        SendError::Closed(_) if account.sent_mark().is_set() => Failed::Closed(Sent::Whole),
        SendError::Closed(_) => Failed::Closed(Sent::Nothing),
        SendError::Invalid(_) => Failed::Invalid,
        SendError::RequestBody(_) => Failed::RequestBody,
        SendError::HeaderTimeout(_) => Failed::TimedOut,
    }
}

/// A request that gets no turn at the provider.
fn busy(provider: &str, why: NoTurn) -> Refusal {
    let (wait, line_full) = match why {
        NoTurn::TooLate { wait } => (wait, false),
        NoTurn::Full => (None, true),
    };
    Refusal::ProviderBusy {
        provider: provider.to_owned(),
        wait,
        line_full,
    }
}

/// A random number from 0 up to 1.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    // The standard library's hash seeds are the system's random numbers, another one for each.
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// What a failed send means for the client.
fn refusal(error: &SendError, base: &http::Uri) -> Refusal {
    let address = || {
        let host = base.authority().map_or("", http::uri::Authority::as_str);
        format!("{}://{host}", base.scheme_str().unwrap_or("https"))
    };
    match error {
        SendError::Connect(_) => Refusal::Unreachable { address: address() },
        SendError::Tls(_) => Refusal::TlsFailed { address: address() },
        SendError::Closed(_) => Refusal::UpstreamClosed,
        SendError::Invalid(_) => Refusal::UpstreamInvalid,
        SendError::RequestBody(error) => match pause_in(error) {
            Some(limit) => Refusal::BodyTimeout { limit },
            None => Refusal::ClientGone,
        },
        SendError::HeaderTimeout(limit) => Refusal::UpstreamTimeout { limit: *limit },
    }
}

/// The limit that a client broke by pausing inside its body, if that is why the body broke off.
fn pause_in(error: &(dyn std::error::Error + 'static)) -> Option<Duration> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(BodyPause(limit)) = error.downcast_ref() {
            return Some(*limit);
        }
        cause = error.source();
    }
    None
}
