//! Fourth step: what the request may cost, whether its budgets have room for it now, and its place in the ledger.
//!
//! What is expected of the request is reserved on all of its budgets at once, or on none. Low priority may have to wait
//! in line for that; everybody else passes or is refused at once. Only then is the request written into the journal.

use std::sync::Arc;
use std::time::Instant;

use super::account::Account;
use super::ask;
use super::classify::Class;
use super::gate::Gate;
use super::identify::Caller;
use super::line;
use super::parse::{Asked, Call};
use super::throttle::{self, Reservation, Wish};
use crate::config::settings::ThrottleMode;
use crate::llm::wire::Endpoint;
use crate::policy::budget::Scopes;
use crate::policy::throttle::Verdict;
use crate::refusal::Refusal;
use crate::units::Priority;

/// Estimates the request, gets room for it, and writes it into the journal.
///
/// # Errors
/// A budget has no room, the model's price is unknown and must not be, or the ledger cannot be written.
pub(super) async fn admit(
    gate: &Arc<Gate>,
    call: &Call,
    asked: &Asked<'_>,
    caller: &Caller,
    class: &Class,
    account: &mut Account,
) -> Result<(), Refusal> {
    let estimate = ask::estimate(gate, call, asked, caller);
    account.expects(&estimate);
    if gate.throttle.mode != ThrottleMode::Off {
        let provider = &gate.providers[call.provider].settings;
        let scopes = Scopes {
            session: &caller.session.name,
            key: caller.key.as_deref(),
            team: caller.team.as_deref(),
            provider: &provider.name,
            model: asked
                .model
                .map(|model| gate.catalogue.one_name(&provider.catalogue, model)),
        };
        let wish = Wish {
            scopes,
            ask: ask::ask(gate, call, asked, &estimate, &scopes, account)?,
            priority: class.priority,
        };
        let reservation = room(gate, &wish, reads_events(call, asked), account).await?;
        account.holds(reservation, wish.ask);
    }
    account.journal()
}

/// Gets room on all budgets, waiting in line where that is the rule.
async fn room(
    gate: &Arc<Gate>,
    wish: &Wish<'_>,
    reads_events: bool,
    account: &mut Account,
) -> Result<Reservation, Refusal> {
    let mut tried = gate.throttle.try_now(gate, wish).await?;
    let others_wait = wish.priority == Priority::Low && gate.throttle.line.len() > 0;
    if others_wait && let Ok(reservation) = tried {
        // Nobody passes those who wait for the same.
        drop(reservation);
        line::serve_first(gate).await;
        tried = gate.throttle.try_now(gate, wish).await?;
    }
    let level = match &tried {
        Ok(reservation) => reservation.level,
        Err(denied) => denied.level,
    };
    let told = |decision| gate.metrics.admission(wish.priority, level, decision);
    match tried {
        Ok(reservation) => {
            told("pass");
            Ok(reservation)
        }
        Err(denied) if gate.throttle.mode == ThrottleMode::Shadow => {
            told("shadow");
            gate.throttle.overrule(gate, wish, denied).await
        }
        Err(denied) if denied.verdict == Verdict::Wait => {
            told("wait");
            account.waits(&denied, reads_events);
            let started = Instant::now();
            let waited = line::wait(gate, wish, &denied).await;
            account.has_waited(started.elapsed());
            gate.metrics
                .waited(wish.priority, started.elapsed(), waited.is_ok());
            waited
        }
        Err(denied) => {
            told("refuse");
            Err(throttle::refusal(&denied, wish.priority, None, false))
        }
    }
}

/// Whether the client has asked for server-sent events.
fn reads_events(call: &Call, asked: &Asked<'_>) -> bool {
    asked.stream
        && match call.endpoint {
            Endpoint::Messages
            | Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Completions => true,
            // Without it Gemini streams one JSON array, in which a comment has no place.
            Endpoint::GenerateContent => call.target.contains("alt=sse"),
            _ => false,
        }
}
