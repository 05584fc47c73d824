//! `[budgets.NAME]`: who may spend what.

use super::names;
use crate::config::layers::BUDGETS;
use crate::config::lookup::Lookup;
use crate::config::named::ScopeName;
use crate::policy::budget::Budget;

pub(super) fn budgets(lookup: &mut Lookup<'_>) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for name in names::usable(lookup, &BUDGETS, "budget", |_| None) {
        let key = |key: &str| format!("budgets.{name}.{key}");
        let ScopeName { kind, only } = lookup.ask(&key("scope"));
        let budget = Budget {
            name: name.clone(),
            scope: kind,
            only,
            window: lookup.ask(&key("window")),
            limit: lookup.ask(&key("limit")),
            hard: lookup.ask_or(&key("hard"), false, false),
            counts_cache_reads: lookup.ask_or(&key("count_cache_reads"), false, false),
        };
        if lookup.ask_or(&key("enabled"), true, true) {
            budgets.push(budget);
        }
    }
    budgets
}
