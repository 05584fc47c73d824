//! What becomes of decisions for people: events in the ledger, counts, lines in the log. Nothing is decided here.

use std::time::Duration;

use super::gate::Gate;
use crate::policy::budget::ScopeKind;
use crate::policy::budgets::{Changes, Denied};
use crate::refusal::{BudgetRefusal, Refusal};
use crate::store::event::{Event, EventKind, Unit};
use crate::store::record::{Outcome, Record};
use crate::units::Priority;

/// A reservation is far off when it differs from the use by more than this factor …
const FAR_OFF_FACTOR: u64 = 4;

/// … and by more than so many tokens.
const FAR_OFF_TOKENS: u64 = 10_000;

/// Budgets have come to other levels.
pub(super) fn levels_changed(gate: &Gate, changes: &Changes) {
    for change in &changes.changes {
        let (budget, scope) = (&change.budget, &change.scope);
        gate.metrics.level_changed(&budget.name, change.to);
        let session = (scope.kind == ScopeKind::Session).then(|| scope.name.clone());
        gate.ledger.event(&Event {
            session,
            rule: Some(budget.name.clone()),
            scope: Some(scope.to_string()),
            unit: Some(Unit::of(budget.limit)),
            level: Some(change.to),
            from_level: Some(change.from),
            settled: Some(change.filled),
            limit: Some(change.limit),
            ..Event::new(EventKind::LevelChanged, change.at_ms)
        });
        // The guide's alerts: going up is worth a warning, coming down is news.
        let (from, to) = (change.from, change.to);
        if to > from {
            tracing::warn!(budget = %budget.name, %scope, %from, %to, "a budget's level rises");
        } else {
            tracing::info!(budget = %budget.name, %scope, %from, %to, "a budget's level falls");
        }
    }
    if changes.dropped > 0 {
        tracing::warn!(
            dropped = changes.dropped,
            "too many level changes at once; these are in no event"
        );
    }
}

/// An event about one request.
fn about(record: &Record, at_ms: u64, kind: EventKind) -> Event {
    Event {
        session: Some(record.session.clone()),
        key: record.key.clone(),
        team: record.team.clone(),
        priority: Some(record.priority),
        request: Some(record.id),
        model: record.requested_model.clone(),
        level: Some(record.level),
        waited_ms: record.queued_us / 1_000,
        ..Event::new(kind, at_ms)
    }
}

/// The events that a refusal leaves, written together with the request's record.
pub(super) fn refused(record: &mut Record, refusal: &Refusal, now_ms: u64) -> Option<Event> {
    match refusal {
        Refusal::Budget(why) => {
            record.level = why.level;
            record.decided_by = Some(why.budget.name.clone());
            Some(by_budget(record, why, now_ms))
        }
        Refusal::PolicyViolation { rule, .. } => {
            record.decided_by = Some(rule.clone());
            Some(Event {
                rule: Some(rule.clone()),
                ..about(record, now_ms, EventKind::PolicyViolation)
            })
        }
        Refusal::UnknownPrice { .. } => {
            record.decided_by = Some("throttle.unknown_price".to_owned());
            Some(about(record, now_ms, EventKind::UnknownPrice))
        }
        Refusal::Unbounded { budget, .. } => {
            record.decided_by = Some(budget.clone());
            Some(Event {
                rule: Some(budget.clone()),
                ..about(record, now_ms, EventKind::Refused)
            })
        }
        _ => None,
    }
}

fn by_budget(record: &Record, why: &BudgetRefusal, now_ms: u64) -> Event {
    Event {
        rule: Some(why.budget.name.clone()),
        scope: Some(why.scope.clone()),
        unit: Some(Unit::of(why.budget.limit)),
        settled: Some(why.settled),
        reserved: Some(why.reserved),
        asked: Some(why.asked),
        limit: Some(why.limit),
        passes_at_unix_ms: why.passes_at_unix_ms.unwrap_or_default(),
        waited_ms: why.waited.map_or(0, millis),
        ..about(record, now_ms, EventKind::Refused)
    }
}

/// What there is to tell of an ended request besides its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    /// A budget would have refused it in mode `on`.
    pub(super) overruled: Option<&'a Denied>,
    /// What it had to wait for.
    pub(super) waited_for: Option<&'a Denied>,
    /// A rule would have.
    pub(super) would_violate: bool,
    /// The priority that it asked for, where it may not have that.
    pub(super) asked_priority: Option<Priority>,
}

/// The events that an ended request leaves, written together with its record.
pub(super) fn ended(record: &Record, about_it: &Ended<'_>) -> Vec<Event> {
    let Ended {
        overruled,
        waited_for,
        would_violate,
        asked_priority,
    } = *about_it;
    let now_ms = record.finished_unix_ms;
    let mut events = Vec::new();
    if would_violate {
        events.push(Event {
            rule: record.decided_by.clone(),
            shadow: true,
            ..about(record, now_ms, EventKind::PolicyViolation)
        });
    }
    if let Some(denied) = overruled {
        events.push(Event {
            shadow: true,
            ..stood_in_the_way(denied, about(record, now_ms, EventKind::Refused))
        });
    }
    if let Some(denied) = waited_for.filter(|_| record.outcome != Outcome::Refused) {
        let waited = about(record, now_ms, EventKind::Waited);
        events.push(stood_in_the_way(denied, waited));
    }
    if asked_priority.is_some() {
        events.push(Event {
            asked_priority,
            ..about(record, now_ms, EventKind::PriorityCapped)
        });
    }
    if record.flags.price_unknown || record.flags.price_assumed {
        events.push(Event {
            actual_tokens: record.usage.fresh(),
            actual_cost: record.cost,
            ..about(record, now_ms, EventKind::UnknownPrice)
        });
    }
    let (expected, actual) = (record.reserved_tokens, record.usage.fresh());
    if is_far_off(expected, actual) {
        events.push(Event {
            expected_tokens: expected,
            actual_tokens: actual,
            expected_cost: record.reserved_cost,
            actual_cost: record.cost,
            ..about(record, now_ms, EventKind::EstimateOff)
        });
    }
    events
}

/// The same event with the budget that stood in the request's way.
fn stood_in_the_way(denied: &Denied, event: Event) -> Event {
    Event {
        rule: Some(denied.budget.name.clone()),
        scope: Some(denied.scope.clone()),
        unit: Some(Unit::of(denied.budget.limit)),
        settled: Some(denied.settled),
        reserved: Some(denied.reserved),
        asked: Some(denied.asked),
        limit: Some(denied.limit),
        ..event
    }
}

fn is_far_off(expected: u64, actual: u64) -> bool {
    let (less, more) = (expected.min(actual), expected.max(actual));
    more - less > FAR_OFF_TOKENS && more / FAR_OFF_FACTOR > less
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_and_manifold_differences_are_far_off() {
        assert!(!is_far_off(100, 5_000), "manifold, but small");
        assert!(!is_far_off(100_000, 60_000), "large, but not manifold");
        assert!(is_far_off(1_000, 50_000));
        assert!(is_far_off(50_000, 0));
    }
}
