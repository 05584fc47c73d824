//! Sixth step: the request goes to the provider; its answer's head comes back.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::account::Account;
use super::admit;
use super::case::{Case, Choice};
use super::choose;
use super::gate::{Gate, Provider};
use super::lanes::{LaneCell, NoTurn, Turn};
use super::lineup::{self, Lineup};
use super::opening::{self, Opening, Seen};
use super::parse::{CallBody, Once};
use super::route::{self, Route};
use crate::llm::rate_limits::RateNews;
use crate::policy::retry::{self, Attempted, Failed, GiveUp, Judgement, Next, Sent, Sign, Why};
use crate::refusal::Refusal;
use crate::upstream::{BodyPause, SendBody, SendError};

/// A request that the provider has begun to answer.
#[derive(Debug)]
pub(super) struct Served {
    /// The answer, its body still on its way.
    pub(super) reply: Box<Reply>,
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

/// Sends the request, to somebody else where its provider does not serve it now, until there is an answer that goes to
/// the client.
///
/// # Errors
/// There is none.
pub(super) async fn send(
    case: &Case<'_>,
    choice: Choice,
    mut once: Once,
    account: &mut Account,
) -> Result<Served, Refusal> {
    let mut others = others(case, &choice, account);
    let mut route = route_to(case, choice, account)?;
    loop {
        let elsewhere = others.len() > 0;
        let (answer, gives_way) = send_to(case, &route, elsewhere, &mut once, account).await;
        let gives_way = gives_way || is_refused(case, &route.choice, &answer);
        // Nobody begins anew in a process that ends.
        let next = match gives_way && !case.gate.is_draining() {
            true => Box::pin(admitted_elsewhere(case, &mut others, account)).await,
            false => None,
        };
        let Some(next) = next else {
            let reply = answer?;
            return Ok(Served { reply, route });
        };
        drop(answer);
        route = route_to(case, next, account)?;
    }
}

/// The route, and what finding it took.
fn route_to(case: &Case<'_>, choice: Choice, account: &mut Account) -> Result<Route, Refusal> {
    let started = Instant::now();
    let route = route::route(case, choice);
    account.add_own_time(started);
    route
}

/// Who may serve the request if the choice does not: the model that was asked for, where it is not the choice itself; then
/// its provider's fallbacks. These not where the body is gone once it is sent, or means something at its own provider only.
fn others(case: &Case<'_>, choice: &Choice, account: &Account) -> std::vec::IntoIter<Choice> {
    let gate = case.gate;
    let asked = match choice.why {
        Some(_) => choose::asked(case, account),
        None => choice.clone(),
    };
    let movable = matches!(case.call.body, CallBody::Kept(_))
        && case.call.endpoint.asks_a_model()
        && !case.asked.peek.is_some_and(|peek| peek.hidden_context);
    let names = &gate.providers[asked.provider].settings.fallbacks;
    let fallback = |name: &String| {
        let mut providers = gate.providers.iter();
        let place = providers.position(|provider| provider.settings.name == *name)?;
        Some(asked.at(place))
    };
    let mut others: Vec<Choice> = Vec::new();
    if choice.why.is_some() {
        others.push(asked.clone());
    }
    if movable {
        others.extend(names.iter().filter_map(fallback));
    }
    others.into_iter()
}

/// Whether a provider refuses a request that was changed for another model: then that may be why, and the request goes to
/// the model that was asked for. One that is not there, or not for us, is left alone for a while.
fn is_refused(case: &Case<'_>, choice: &Choice, answer: &Result<Box<Reply>, Refusal>) -> bool {
    let reply = match answer {
        _ if choice.why.is_none() => return false,
        Ok(reply) => reply,
        Err(refusal) => return broke_at_home(case, choice, refusal),
    };
    let status = reply.response.status().as_u16();
    let gate = case.gate;
    if matches!(status, 401 | 403 | 404) {
        let provider = &gate.providers[choice.provider].settings.name;
        let model = choice.model.as_deref().unwrap_or_default();
        tracing::warn!(
            provider,
            status,
            "a model that requests are routed to is refused"
        );
        let now_ms = gate.lanes.now_ms();
        let key = case.key_shown_to(choice.provider);
        gate.known.is_refused(provider, model, key, now_ms);
    }
    // Whatever it says: nothing of it has gone to the client, and an error before the first word is not billed.
    let refused = status >= 400 || matches!(reply.opening.seen, Seen::Error(_));
    if refused {
        gate.metrics.route_refused();
    }
    refused
}

/// Whether a model on the caller's own hardware broke off, as one does for which there is not enough memory: nobody bills
/// what it did till then, so the request can be sent again. Elsewhere it may have been billed.
fn broke_at_home(case: &Case<'_>, choice: &Choice, refusal: &Refusal) -> bool {
    let at_home = case.gate.providers[choice.provider].settings.is_local();
    let broke = matches!(refusal, Refusal::UpstreamClosed | Refusal::UpstreamInvalid);
    at_home && broke
}

/// The next one for whom the budgets have room.
async fn admitted_elsewhere(
    case: &Case<'_>,
    others: &mut std::vec::IntoIter<Choice>,
    account: &mut Account,
) -> Option<Choice> {
    for choice in others {
        let admitted = admit::admit_elsewhere(case, &choice, account).await;
        let to = &case.gate.providers[choice.provider].settings.name;
        match admitted {
            Ok(()) => {
                if choice.provider != case.call.provider {
                    case.gate.metrics.fell_back(to);
                }
                tracing::debug!(to, "going elsewhere");
                return Some(choice);
            }
            Err(refusal) => tracing::debug!(to, why = refusal.code(), "no room elsewhere"),
        }
    }
    None
}

/// Gets the request its turn at one provider, sends it, and sends it again where that is allowed and helps. Tells what
/// came of it, and whether somebody else may do better: `elsewhere` says that there is somebody.
async fn send_to(
    case: &Case<'_>,
    route: &Route,
    elsewhere: bool,
    once: &mut Once,
    account: &mut Account,
) -> (Result<Box<Reply>, Refusal>, bool) {
    let gate = case.gate;
    let started = Instant::now();
    let asked = lineup::line_up(case, &route.choice, account);
    let provider = &gate.providers[route.choice.provider];
    let name = &provider.settings.name;
    if let Ok(mut budget) = provider.retries.lock() {
        budget.count_request(gate.lanes.now_ms());
    }
    account.add_own_time(started);
    let mut tries = 0;
    // What the provider said last: the answer, if there is no other turn in time.
    let mut last: Option<Box<Reply>> = None;
    loop {
        let turn = match &asked.lane {
            Some(lane) => match turn(gate, lane, &asked, elsewhere, account).await {
                Ok(turn) => Some(turn),
                Err(why) => {
                    return match last {
                        Some(reply) => (Ok(own_again(reply, account)), true),
                        None => (Err(busy(name, why)), true),
                    };
                }
            },
            None => None,
        };
        tries += 1;
        // In a box of its own, so that those who wait need not have room for it.
        let tried = Box::pin(attempt(gate, route, &asked, turn, once, account)).await;
        let outcome = tried.outcome;
        let unanswered = |error: SendError| {
            tracing::warn!(provider = %name, error = &error as &dyn std::error::Error, "request not answered");
            refusal(&error, &provider.settings.base_url)
        };
        let Some(judgement) = tried.judgement else {
            account.has_turn(tried.turn);
            return (outcome.map_err(unanswered), false);
        };
        let next = next(gate, route, &asked, judgement, tries);
        let held = match &next {
            Next::GiveUp(given_up) if !elsewhere => {
                pause_of_held(gate, route, &asked, &judgement, given_up)
            }
            Next::GiveUp(_) | Next::RetryIn(_) => None,
        };
        let given_up = match held.map_or(next, Next::RetryIn) {
            Next::GiveUp(given_up) => given_up,
            Next::RetryIn(pause) => {
                gate.metrics.retried(name);
                tracing::debug!(provider = %name, attempt = tries, ?pause, "trying again");
                // Its place is another's meanwhile.
                drop(tried.turn);
                last = outcome.ok();
                account.tries_again();
                account.keeps_company(asked.reads_events);
                let began = Instant::now();
                let goes_on = tokio::select! {
                    () = tokio::time::sleep(pause) => true,
                    () = gate.draining() => false,
                };
                account.has_waited(began.elapsed());
                match last.take_if(|_| !goes_on) {
                    // The process is ending, and nobody asked for a retry so soon.
                    Some(reply) => return (Ok(own_again(reply, account)), false),
                    None => continue,
                }
            }
        };
        account.has_turn(tried.turn);
        let reply = outcome.map(|mut reply| {
            // Where nobody is to try again, tollgate has not spent anything that the client would only repeat.
            let first_and_last = tries == 1 && given_up.why == Why::RetriesSpent;
            if let Some((name, value)) = given_up.marker().filter(|_| !first_and_last) {
                reply.response.headers_mut().insert(name, value);
            }
            reply
        });
        return (reply.map_err(unanswered), judgement.elsewhere);
    }
}

/// The pause after which a request goes back into the line although its retries are spent: the provider is down, or one more
/// failure shows that it is. Then the breaker decides who tries it and when, so that an outage costs even a lone client
/// waiting, up to its deadline, and no failure. `None` where that is not so.
fn pause_of_held(
    gate: &Gate,
    route: &Route,
    asked: &Lineup,
    judgement: &Judgement,
    given_up: &GiveUp,
) -> Option<Duration> {
    let spent = matches!(given_up.why, Why::RetriesSpent | Why::BudgetSpent);
    let is_outage = matches!(judgement.sign, Sign::Failing | Sign::Overloaded);
    let wanted = gate.settings.send.max_retries > 0 && route.body.is_some();
    let failing = asked.lane.as_ref().is_some_and(|lane| lane.is_failing());
    if !(spent && is_outage && wanted && failing) {
        return None;
    }
    let pause = retry::pause(judgement.asked, 1, chance());
    let left = asked.deadline_ms.saturating_sub(gate.lanes.now_ms());
    (pause < Duration::from_millis(left)).then_some(pause)
}

/// The provider's answer, which counts after all.
fn own_again(reply: Box<Reply>, account: &mut Account) -> Box<Reply> {
    account.answered(reply.response.status());
    reply
}

/// What comes after a failed attempt.
fn next(gate: &Gate, route: &Route, asked: &Lineup, judgement: Judgement, tries: u32) -> Next {
    let provider = &gate.providers[route.choice.provider];
    let attempted = Attempted {
        judgement,
        attempts: tries,
        max_retries: match asked.lane {
            Some(_) => gate.settings.send.max_retries,
            None => 0,
        },
        first_byte_out: false,
        repeatable: route.body.is_some(),
        deadline_ms: asked.deadline_ms,
        now_ms: gate.lanes.now_ms(),
        chance: chance(),
    };
    match provider.retries.lock() {
        Ok(mut budget) => retry::next(&attempted, &mut budget),
        Err(_) => Next::GiveUp(GiveUp {
            why: Why::BudgetSpent,
            stop: false,
        }),
    }
}

/// What came of one attempt.
struct Tried {
    outcome: Result<Box<Reply>, SendError>,
    /// What is wrong with it; `None` for an answer.
    judgement: Option<Judgement>,
    /// The turn in which it was made.
    turn: Option<Box<Turn>>,
}

/// Sends the request once, looks how the answer begins, and tells its lane.
async fn attempt(
    gate: &Gate,
    route: &Route,
    asked: &Lineup,
    mut turn: Option<Box<Turn>>,
    once: &mut Once,
    account: &mut Account,
) -> Tried {
    let provider = &gate.providers[route.choice.provider];
    let sent = send_once(gate, provider, route, once, account).await;
    let now_ms = gate.lanes.now_ms();
    let mut news = RateNews::default();
    let (outcome, judgement) = match sent {
        Ok(mut response) => {
            news = RateNews::of_head(response.headers(), now_ms);
            // Before the wait for its body: the client may leave meanwhile, and errors are not billed.
            account.answered(response.status());
            let opening = if asked.lane.is_some() && once.upgrade.is_none() {
                opening::open(&mut response, now_ms, &mut news).await
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
                upgrade: once.upgrade.take(),
                head_at: Instant::now(),
            };
            (Ok(Box::new(reply)), judgement)
        }
        Err(error) => {
            let failed = failed_send(&error, account);
            (Err(error), Some(retry::judge(&failed, &news)))
        }
    };
    if let Some(turn) = &mut turn {
        turn.answered(&news, judgement.as_ref(), chance());
    }
    Tried {
        outcome,
        judgement,
        turn,
    }
}

/// Waits for the request's turn at its provider, but not for one that is down where there is somebody else.
async fn turn(
    gate: &Gate,
    lane: &Arc<LaneCell>,
    asked: &Lineup,
    elsewhere: bool,
    account: &mut Account,
) -> Result<Box<Turn>, NoTurn> {
    let began = Instant::now();
    let mut its_turn = pin!(lane.turn(asked.who(), asked.need, asked.deadline_ms));
    let at_once = poll_fn(|cx| Poll::Ready(its_turn.as_mut().poll(cx))).await;
    if let Poll::Ready(turn) = at_once {
        return turn;
    }
    account.keeps_company(asked.reads_events);
    let turn = tokio::select! {
        biased;
        turn = its_turn => turn,
        () = lane.is_down(), if elsewhere => Err(NoTurn::TooLate { wait: None }),
        // The process is ending: whoever waits is told at once.
        () = gate.draining() => Err(NoTurn::TooLate { wait: None }),
    };
    account.has_waited(began.elapsed());
    turn
}

/// Sends the request once.
async fn send_once(
    gate: &Gate,
    provider: &Provider,
    route: &Route,
    once: &mut Once,
    account: &mut Account,
) -> Result<Response<Incoming>, SendError> {
    let limits = &gate.settings.upstream;
    let left = limits
        .total_timeout
        .map(|total| total.saturating_sub(account.arrived().elapsed()));
    let header_timeout = left.map_or(limits.header_timeout, |left| {
        left.min(limits.header_timeout)
    });
    let mark = account.sent_mark();
    let body = match (&route.body, once.body.take()) {
        (None, Some(body)) => SendBody::passing(body, gate.settings.server.body_timeout, mark),
        // What streams through is sent once only.
        (kept, _) => SendBody::kept(kept.clone().unwrap_or_default(), mark),
    };
    let attempts = &mut account.record_mut().attempts;
    provider
        .upstream
        .send(&route.head, body, header_timeout, attempts)
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
