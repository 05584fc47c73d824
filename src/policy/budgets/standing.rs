//! How full every budget of every live scope is, for status and reports.

use std::sync::Arc;

use super::Budgets;
use super::live::Place;
use crate::policy::budget::{Budget, ScopeKey, ScopeKind};
use crate::policy::throttle::Level;

/// Which scopes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All that are live.
    All,
    /// Those of one kind.
    Kind(ScopeKind),
    /// One of them.
    Scope(ScopeKey),
}

/// How full one budget of one scope is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub budget: Arc<Budget>,
    /// Whose.
    pub scope: ScopeKey,
    /// Booked in its window, in its unit (tokens, atto-dollars, requests).
    pub settled: i128,
    /// Reserved by running requests, in its unit.
    pub reserved: i128,
    /// Its limit, in its unit.
    pub limit: i128,
    /// Its level.
    pub level: Level,
    /// When something leaves its window, or its month ends, in milliseconds from now; `None` if the window is empty.
    pub resets_in_ms: Option<u64>,
}

impl Budgets {
    /// Every budget of the live scopes asked for: by kind and name of the scope, then in the order of the config.
    ///
    /// Scopes that were put away are not live. Everything together always is.
    pub fn standings(&mut self, now_ms: u64, filter: &Filter) -> Vec<Standing> {
        self.tick(now_ms);
        let mut places: Vec<_> = match filter {
            Filter::All => self.live.occupied().collect(),
            Filter::Kind(kind) => {
                let is_kind = |place: &Place| {
                    let scope = self.live.get(*place);
                    scope.is_some_and(|scope| scope.kind == *kind)
                };
                self.live.occupied().filter(is_kind).collect()
            }
            Filter::Scope(key) => {
                let place = self.place_of(key.kind, &key.name);
                place.into_iter().collect()
            }
        };
        places.sort_unstable_by_key(|place| {
            let scope = self.live.get(*place);
            scope.map(|scope| (scope.kind, Arc::clone(&scope.name)))
        });
        let mut standings = Vec::new();
        for place in places {
            let Some(scope) = self.live.get_mut(place) else {
                continue;
            };
            let plan = self.plans.get(scope.plan);
            scope.advance(plan, &self.present, &mut self.changes);
            for (rule, fill) in plan.rules.iter().zip(&scope.fills) {
                let eases_at = scope.counters[rule.window].eases_at(&self.present);
                standings.push(Standing {
                    budget: Arc::clone(&rule.budget),
                    scope: scope.key(),
                    settled: fill.settled,
                    reserved: fill.reserved,
                    limit: rule.budget.limit.amount(),
                    level: fill.level,
                    resets_in_ms: eases_at.map(|at_ms| at_ms.saturating_sub(now_ms)),
                });
            }
        }
        standings
    }
}
