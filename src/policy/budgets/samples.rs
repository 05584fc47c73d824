//! Budgets for the tests of this module.

use crate::policy::budget::{Budget, Limit, ScopeKind, Window};

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
