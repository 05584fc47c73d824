//! Budgets, requests and engines for the tests of the budget engine.

use jiff::tz::TimeZone;
use tollgate::policy::budget::{Amounts, Budget, Limit, ScopeKey, ScopeKind, Scopes, Window};
use tollgate::policy::budgets::{Ask, Budgets, Filter, Rules, Standing};
use tollgate::policy::calendar::Calendar;
use tollgate::policy::throttle::Thresholds;
use tollgate::units::Cost;

pub(super) const SECOND: u64 = 1000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// Midnight of 15 January 2027 in UTC.
pub(super) const START: u64 = 1_799_971_200_000;

/// A budget as the config writes it: scope `session` or `team:research`, window `hour`, limit `5 usd`.
pub(super) fn budget(name: &str, scope: &str, window: &str, limit: &str) -> Budget {
    let (kind, only) = scope
        .split_once(':')
        .map_or((scope, None), |(kind, only)| (kind, Some(only.to_owned())));
    let (count, unit) = limit.split_once(' ').expect("a number and a unit");
    let whole = || count.parse().expect("a whole number");
    Budget {
        name: name.to_owned(),
        scope: ScopeKind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .expect("a kind of scope"),
        only,
        window: Window::ALL
            .into_iter()
            .find(|known| known.as_str() == window)
            .expect("a window"),
        limit: match unit {
            "tokens" => Limit::Tokens(whole()),
            "requests" => Limit::Requests(whole()),
            _ => Limit::Usd(count.parse().expect("an amount")),
        },
        hard: false,
        counts_cache_reads: false,
    }
}

pub(super) fn hard(budget: Budget) -> Budget {
    Budget {
        hard: true,
        ..budget
    }
}

pub(super) fn rules(budgets: Vec<Budget>) -> Rules {
    Rules {
        budgets,
        thresholds: Thresholds::default(),
        calendar: Calendar::new(TimeZone::UTC),
        max_scopes: 1000,
    }
}

pub(super) fn engine(budgets: Vec<Budget>) -> Budgets {
    Budgets::new(rules(budgets))
}

pub(super) fn engine_for(budgets: Vec<Budget>, max_scopes: usize) -> Budgets {
    Budgets::new(Rules {
        max_scopes,
        ..rules(budgets)
    })
}

/// One request of so many fresh tokens, free of charge.
pub(super) fn tokens(count: u64) -> Amounts {
    Amounts {
        requests: 1,
        fresh_tokens: count,
        ..Amounts::default()
    }
}

/// One request of so much money, without tokens.
pub(super) fn usd(amount: &str) -> Amounts {
    Amounts {
        requests: 1,
        cost: amount.parse::<Cost>().expect("an amount"),
        ..Amounts::default()
    }
}

/// Expected as the worst case.
pub(super) fn ask(amounts: Amounts) -> Ask {
    Ask {
        expected: amounts,
        worst: amounts,
    }
}

/// A request of a session, without key and team.
pub(super) fn of(session: &str) -> Scopes<'_> {
    Scopes {
        session,
        key: None,
        team: None,
        provider: "anthropic",
        model: None,
    }
}

pub(super) fn session(name: &str) -> ScopeKey {
    ScopeKey {
        kind: ScopeKind::Session,
        name: name.to_owned(),
    }
}

/// The only budget of a scope.
pub(super) fn standing(engine: &mut Budgets, key: ScopeKey, now_ms: u64) -> Standing {
    let mut standings = engine.standings(now_ms, &Filter::Scope(key));
    assert_eq!(standings.len(), 1, "one budget");
    standings.remove(0)
}
