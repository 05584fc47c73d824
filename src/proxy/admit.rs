//! Fourth step: what the request may cost, whether its budgets have room for it now, and its place in the ledger.
//!
//! What is expected of the request is reserved on all of its budgets at once, or on none. Low priority may have to wait
//! in line for that; everybody else passes or is refused at once. Only then is the request written into the journal.

use std::sync::Arc;
use std::time::Instant;

use super::account::Account;
use super::ask::{self, Estimate};
use super::case::{Case, Choice};
use super::choose::{self, Menu};
use super::gate::Gate;
use super::line;
use super::throttle::{self, Reservation, Wish};
use crate::config::settings::ThrottleMode;
use crate::policy::budget::Scopes;
use crate::policy::budgets::Denied;
use crate::policy::throttle::Verdict;
use crate::refusal::Refusal;
use crate::units::Priority;

/// Chooses who serves the request: the first on the menu that its budgets admit. Where they admit none, it is with the
/// model that was asked for that it waits or is refused. Then it is written into the journal.
///
/// # Errors
/// A budget has no room, the model's price is unknown and must not be, or the ledger cannot be written.
pub(super) async fn admit(
    case: &Case<'_>,
    menu: Menu,
    account: &mut Account,
) -> Result<Choice, Refusal> {
    let mode = case.gate.throttle.mode;
    let choice = if menu.shadow || menu.choices.len() == 1 {
        None
    } else if mode == ThrottleMode::On {
        first_admitted(case, &menu, account).await?
    } else {
        let made = |choice: &Choice| choose::made(case, choice, account);
        menu.choices.iter().find_map(made)
    };
    let choice = choice.or_else(|| menu.asked().cloned());
    let choice = choice.unwrap_or_else(|| Choice::asked(case.call, case.asked));
    account.is_served_by(case, &menu, &choice);
    if !account.is_admitted() {
        let estimate = ask::estimate(case, &choice);
        account.expects(&estimate);
        if mode != ThrottleMode::Off {
            let wish = wish(case, &choice, &estimate, account)?;
            let reservation = room(case.gate, &wish, case.reads_events(), account).await?;
            account.holds(reservation, wish.ask);
        }
    }
    account.journal()?;
    Ok(match choice.why {
        Some(_) => choice,
        None => choose::asked(case, account),
    })
}

/// The first on the menu that the budgets admit now.
async fn first_admitted(
    case: &Case<'_>,
    menu: &Menu,
    account: &mut Account,
) -> Result<Option<Choice>, Refusal> {
    for choice in &menu.choices {
        let Some(choice) = choose::made(case, choice, account) else {
            continue;
        };
        let estimate = ask::estimate(case, &choice);
        // An unknown price, say, is no reason to refuse what another model can do.
        let Ok(wish) = wish(case, &choice, &estimate, account) else {
            continue;
        };
        if let Ok(reservation) = now(case.gate, &wish).await? {
            case.gate
                .metrics
                .admission(wish.priority, reservation.level, "pass");
            let ask = wish.ask;
            account.goes_to(&choice);
            account.expects(&estimate);
            account.holds(reservation, ask);
            return Ok(Some(choice));
        }
    }
    Ok(None)
}

/// The same for a request that was admitted already, and goes to somebody else after what came of it so far: what it held
/// goes back, and it does not wait. If it gets no room, nothing else changes.
///
/// # Errors
/// A budget has no room for it there, or its price there is unknown and must not be.
pub(super) async fn admit_elsewhere(
    case: &Case<'_>,
    choice: &Choice,
    account: &mut Account,
) -> Result<(), Refusal> {
    let gate = case.gate;
    let estimate = ask::estimate(case, choice);
    if gate.throttle.mode == ThrottleMode::Off {
        account.moves_to(choice);
        account.expects(&estimate);
    } else {
        let wish = wish(case, choice, &estimate, account)?;
        account.lets_go();
        let reservation = match gate.throttle.try_now(gate, &wish).await? {
            Ok(reservation) => reservation,
            Err(denied) if gate.throttle.mode == ThrottleMode::Shadow => {
                gate.throttle.overrule(gate, &wish, denied).await?
            }
            Err(denied) => {
                return Err(throttle::refusal(&denied, wish.priority, None, false));
            }
        };
        account.moves_to(choice);
        account.expects(&estimate);
        account.holds(reservation, wish.ask);
    }
    account.amend();
    Ok(())
}

/// What stands in the way of admitting the request now if this is chosen; it is not admitted.
pub(super) async fn denial(
    case: &Case<'_>,
    choice: &Choice,
    account: &mut Account,
) -> Option<String> {
    let estimate = ask::estimate(case, choice);
    let wish = match wish(case, choice, &estimate, account) {
        Ok(wish) => wish,
        Err(refusal) => return Some(refusal.message()),
    };
    let tried = case.gate.throttle.try_now(case.gate, &wish).await;
    match tried {
        Ok(Ok(_)) => None,
        Ok(Err(denied)) if denied.verdict == Verdict::Wait => Some(format!(
            "it would wait in line for budget {} (level {})",
            denied.budget.name,
            denied.level.as_str()
        )),
        Ok(Err(denied)) => Some(throttle::refusal(&denied, wish.priority, None, false).message()),
        Err(refusal) => Some(refusal.message()),
    }
}

/// Whose budgets the request takes from if this is chosen.
pub(super) fn scopes<'a>(case: &Case<'a>, choice: &'a Choice) -> Scopes<'a> {
    let (gate, caller) = (case.gate, case.caller);
    let provider = &gate.providers[choice.provider].settings;
    let one_name = |model| gate.catalogue.one_name(&provider.catalogue, model);
    Scopes {
        session: &caller.session.name,
        key: caller.key.as_deref(),
        team: caller.team.as_deref(),
        provider: &provider.name,
        model: choice.model.as_deref().map(one_name),
    }
}

/// What the request wants of its budgets if this is chosen.
fn wish<'a>(
    case: &Case<'a>,
    choice: &'a Choice,
    estimate: &Estimate,
    account: &mut Account,
) -> Result<Wish<'a>, Refusal> {
    let scopes = scopes(case, choice);
    Ok(Wish {
        scopes,
        ask: ask::ask(case, choice, estimate, &scopes, account)?,
        priority: case.class.priority,
    })
}

/// Gets room on all budgets if there is room now, and nobody waits for the same.
async fn now(
    gate: &Arc<Gate>,
    wish: &Wish<'_>,
) -> Result<Result<Reservation, Box<Denied>>, Refusal> {
    let tried = gate.throttle.try_now(gate, wish).await?;
    let others_wait = wish.priority == Priority::Low && gate.throttle.line.len() > 0;
    match tried {
        Ok(reservation) if others_wait => {
            // Nobody passes those who wait for the same.
            drop(reservation);
            line::serve_first(gate).await;
            gate.throttle.try_now(gate, wish).await
        }
        tried => Ok(tried),
    }
}

/// Gets room on all budgets, waiting in line where that is the rule.
async fn room(
    gate: &Arc<Gate>,
    wish: &Wish<'_>,
    reads_events: bool,
    account: &mut Account,
) -> Result<Reservation, Refusal> {
    let tried = now(gate, wish).await?;
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
