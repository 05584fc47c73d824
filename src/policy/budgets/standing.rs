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
        let places: Vec<_> = match filter {
            Filter::All => self.live.occupied().collect(),
            Filter::Kind(kind) => self.live.of_kind(*kind).collect(),
            Filter::Scope(key) => {
                let place = self.place_of(key.kind, &key.name);
                place.into_iter().collect()
            }
        };
        let mut standings = self.standings_at(now_ms, &places);
        sort(&mut standings);
        standings
    }

    /// Every budget of some of the live scopes, in no order, and where the next piece begins; `None` if there is none. For
    /// callers who let others have the engine in between: what comes and goes meanwhile may be in no piece, or in two.
    pub fn standings_from(
        &mut self,
        now_ms: u64,
        from: usize,
        most_scopes: usize,
    ) -> (Vec<Standing>, Option<usize>) {
        let end = self.live.places().min(from.saturating_add(most_scopes));
        let places: Vec<_> = (from..end).map(|place| place as Place).collect();
        let next = (end < self.live.places()).then_some(end);
        (self.standings_at(now_ms, &places), next)
    }

    fn standings_at(&mut self, now_ms: u64, places: &[Place]) -> Vec<Standing> {
        self.tick(now_ms);
        let mut standings = Vec::new();
        for place in places {
            let Some(scope) = self.live.get_mut(*place) else {
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

/// Brings standings into the order in which they are told: those of one scope stay in the order of the config. Of a scope
/// that is there twice, the first counts.
pub fn sort(standings: &mut Vec<Standing>) {
    standings.sort_by(|a, b| a.scope.cmp(&b.scope));
    let mut kept: Vec<Standing> = Vec::with_capacity(standings.len());
    // Where the budgets of the scope that is being looked at begin.
    let mut first = 0;
    let mut again = false;
    for standing in standings.drain(..) {
        match kept.get(first) {
            Some(begun) if begun.scope == standing.scope => {
                again |= Arc::ptr_eq(&begun.budget, &standing.budget);
            }
            _ => (first, again) = (kept.len(), false),
        }
        if !again {
            kept.push(standing);
        }
    }
    *standings = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::budget::{Amounts, Scopes};
    use crate::policy::budgets::Rules;
    use crate::policy::budgets::samples::budget;
    use crate::policy::calendar::Calendar;
    use crate::policy::throttle::Thresholds;

    const NOW: u64 = 1_800_000_000_000;

    fn engine(sessions: usize) -> Budgets {
        let mut engine = Budgets::new(Rules {
            budgets: vec![
                budget("all", "global", "hour", "10 tokens"),
                budget("hour", "session", "hour", "10 tokens"),
                budget("day", "session", "day", "10 tokens"),
            ],
            thresholds: Thresholds::default(),
            calendar: Calendar::new(jiff::tz::TimeZone::UTC),
            max_scopes: usize::MAX,
        });
        let used = Amounts {
            fresh_tokens: 1,
            ..Amounts::default()
        };
        for number in 0..sessions {
            let scopes = Scopes {
                session: &format!("s{:05}", (number * 7) % sessions),
                key: None,
                team: None,
                provider: "p",
                model: None,
            };
            engine.recall(&scopes, &used, NOW, NOW);
        }
        engine
    }

    #[test]
    fn pieces_make_up_the_whole() {
        let mut engine = engine(100);
        let whole = engine.standings(NOW, &Filter::All);
        assert_eq!(whole.len(), 1 + 2 * 100);
        let names = whole.iter().map(|standing| &*standing.budget.name);
        assert_eq!(
            names.take(4).collect::<Vec<_>>(),
            ["all", "hour", "day", "hour"]
        );
        for most in [1, 7, 100, 1_000] {
            let (mut pieces, mut next) = (Vec::new(), Some(0));
            while let Some(from) = next {
                let (piece, then) = engine.standings_from(NOW, from, most);
                assert!(piece.len() <= 2 * most);
                pieces.extend(piece);
                next = then;
            }
            sort(&mut pieces);
            assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn a_scope_that_is_in_two_pieces_is_told_once() {
        let mut engine = engine(3);
        let whole = engine.standings(NOW, &Filter::All);
        let mut twice = [whole.clone(), whole.clone()].concat();
        sort(&mut twice);
        assert_eq!(twice, whole);
    }

    #[test]
    fn one_kind_is_found_without_the_others() {
        let mut engine = engine(5);
        assert_eq!(
            engine
                .standings(NOW, &Filter::Kind(ScopeKind::Global))
                .len(),
            1
        );
        assert_eq!(
            engine
                .standings(NOW, &Filter::Kind(ScopeKind::Session))
                .len(),
            10
        );
        assert_eq!(
            engine.standings(NOW, &Filter::Kind(ScopeKind::Team)).len(),
            0
        );
    }
}
