//! Decides whether a budget lets a request pass, and if not, when it would.
//!
//! The contract's table: the level says pass, wait or refuse for each priority; a request that does not fit is refused,
//! unless it is critical and the budget is not hard. When it would pass is a question of the largest fill at which it
//! does, and of when the windows have fallen to that.

use std::sync::Arc;

use super::plan::Rule;
use super::scope::Fill;
use super::{Ask, Budgets, Found};
use crate::policy::budget::Budget;
use crate::policy::throttle::{Level, Verdict, verdict};
use crate::units::Priority;

/// Why a budget stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its level is too high for the priority.
    Level,
    /// There is too little left of it now.
    DoesNotFit,
    /// The request alone is larger than the limit.
    NeverFits,
}

/// A request that is not let through now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why the deciding budget stands in the way.
    pub why: Why,
    /// Wait, if all that stands in the way is SOFT for low priority; else refuse.
    pub verdict: Verdict,
    /// The request's level: the highest of its budgets.
    pub level: Level,
    /// The budget that decides: of those that stand in the way the one that passes latest.
    pub budget: Arc<Budget>,
    /// Whose budget: `global`, `session docs`, `team research`.
    pub scope: String,
    /// Booked in its window, in its unit (tokens, atto-dollars, requests).
    pub settled: i128,
    /// Reserved by running requests, in its unit.
    pub reserved: i128,
    /// What the request asks for, in its unit.
    pub asked: i128,
    /// Its limit, in its unit.
    pub limit: i128,
    /// When this was asked, in Unix milliseconds.
    pub asked_at_ms: u64,
    /// When the same request would pass if nothing else happened, in milliseconds from then. `None`: only when running
    /// requests end, or never.
    pub passes_in_ms: Option<u64>,
    /// Whether it could pass earlier, or at all, because running requests end.
    pub may_pass_earlier: bool,
}

/// How a budget stands in the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Objection {
    pub(super) why: Why,
    pub(super) verdict: Verdict,
    /// The largest fill with which the request would pass; negative if it never does.
    pub(super) passes_at: i128,
}

impl Rule {
    /// What stands in the way of a request that asks for so much of this budget; `None` lets it pass.
    #[inline]
    pub(super) fn objection(
        &self,
        fill: &Fill,
        asked: i128,
        priority: Priority,
    ) -> Option<Objection> {
        let by_level = verdict(fill.level, priority);
        let must_fit = self.budget.hard || priority != Priority::Critical;
        let fits_at = if must_fit {
            self.limit - asked
        } else {
            i128::MAX
        };
        let fits = fill.filled() <= fits_at;
        if fits && by_level == Verdict::Pass {
            return None;
        }
        let eases_at = match by_level {
            Verdict::Pass => i128::MAX,
            Verdict::Wait | Verdict::Refuse => self.marks.passes_at(priority),
        };
        Some(Objection {
            why: if fits_at < 0 {
                Why::NeverFits
            } else if eases_at < fits_at {
                Why::Level
            } else {
                Why::DoesNotFit
            },
            verdict: if fits { by_level } else { Verdict::Refuse },
            passes_at: fits_at.min(eases_at),
        })
    }
}

/// A budget that stands in the way of a request.
struct Obstacle<'a> {
    found: &'a Found<'a>,
    rule: &'a Rule,
    fill: Fill,
    asked: i128,
    why: Why,
    /// When the request would pass (Unix milliseconds); `None` if the reservations alone are too much, or never.
    passes_at_ms: Option<u64>,
}

impl Obstacle<'_> {
    /// How long it stands in the way, to be compared with others.
    fn lasts(&self) -> (bool, u64) {
        let passes_at_ms = self.passes_at_ms.unwrap_or(u64::MAX);
        (self.why == Why::NeverFits, passes_at_ms)
    }
}

impl Budgets {
    /// Says which budget decides that a request does not pass, and when it would. `None` if nothing stands in its way.
    pub(super) fn denied(
        &self,
        found: &[Option<Found<'_>>],
        ask: &Ask,
        priority: Priority,
        level: Level,
        now_ms: u64,
    ) -> Option<Denied> {
        let mut decides: Option<Obstacle<'_>> = None;
        let mut verdict = Verdict::Pass;
        // When it would pass if there were no reservations; the largest number for never.
        let mut unreserved_at_ms = 0;
        for found in found.iter().flatten().filter(|found| found.objects) {
            let plan = self.plans.get(found.plan);
            let scope = found.place.and_then(|place| self.live.get(place));
            for (place, rule) in plan.rules.iter().enumerate() {
                let asked = rule.asked(ask);
                let fill = scope.map(|scope| scope.fills[place]).unwrap_or_default();
                let objection = (asked > 0)
                    .then(|| rule.objection(&fill, asked, priority))
                    .flatten();
                let Some(objection) = objection else { continue };
                let falls_to = |most| {
                    let counter = &scope?.counters[rule.window];
                    counter.falls_to(most, |used| rule.share_of(used), &self.present)
                };
                verdict = verdict.max(objection.verdict);
                let passes_at_ms = falls_to(objection.passes_at.saturating_sub(fill.reserved));
                let unreserved = if fill.reserved == 0 {
                    passes_at_ms
                } else {
                    falls_to(objection.passes_at)
                };
                unreserved_at_ms = unreserved_at_ms.max(unreserved.unwrap_or(u64::MAX));
                let obstacle = Obstacle {
                    found,
                    rule,
                    fill,
                    asked,
                    why: objection.why,
                    passes_at_ms,
                };
                if decides
                    .as_ref()
                    .is_none_or(|longest| obstacle.lasts() > longest.lasts())
                {
                    decides = Some(obstacle);
                }
            }
        }
        let decides = decides?;
        Some(Denied {
            why: decides.why,
            verdict,
            level,
            budget: Arc::clone(&decides.rule.budget),
            scope: decides.found.key().to_string(),
            settled: decides.fill.settled,
            reserved: decides.fill.reserved,
            asked: decides.asked,
            limit: decides.rule.budget.limit.amount(),
            asked_at_ms: now_ms,
            passes_in_ms: decides
                .passes_at_ms
                .map(|at_ms| at_ms.saturating_sub(now_ms)),
            may_pass_earlier: unreserved_at_ms < decides.passes_at_ms.unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::budget::ScopeKind;
    use crate::policy::budgets::plan::Plans;
    use crate::policy::budgets::samples::budget;
    use crate::policy::throttle::Thresholds;

    /// What budgets of 1000 tokens, ordinary and hard, object to a request of 10.
    fn objections(settled: i128, level: Level, asked: i128) -> [[Option<Objection>; 4]; 2] {
        [false, true].map(|hard| {
            let mut budget = budget("b", "global", "hour", "1000 tokens");
            budget.hard = hard;
            let plans = Plans::new(vec![budget], &Thresholds::default());
            let id = plans.of(ScopeKind::Global, "").expect("a budget");
            let fill = Fill {
                settled,
                reserved: 0,
                level,
            };
            Priority::ALL.map(|priority| plans.get(id).rules[0].objection(&fill, asked, priority))
        })
    }

    fn verdicts(objections: [Option<Objection>; 4]) -> [Verdict; 4] {
        objections.map(|objection| objection.map_or(Verdict::Pass, |objection| objection.verdict))
    }

    #[test]
    fn the_table_of_levels_is_the_contracts() {
        use Verdict::{Pass, Refuse, Wait};
        for (settled, level, expected) in [
            (0, Level::None, [Pass; 4]),
            (700, Level::Warning, [Pass; 4]),
            (800, Level::Soft, [Wait, Pass, Pass, Pass]),
            (900, Level::Hard, [Refuse, Refuse, Pass, Pass]),
            (950, Level::Critical, [Refuse, Refuse, Refuse, Pass]),
        ] {
            for objections in objections(settled, level, 10) {
                assert_eq!(verdicts(objections), expected, "{level}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_passes_only_if_critical_and_not_hard() {
        use Verdict::{Pass, Refuse};
        for asked in [301, 1001] {
            let [ordinary, hard] = objections(700, Level::Warning, asked);
            assert_eq!(verdicts(ordinary), [Refuse, Refuse, Refuse, Pass]);
            assert_eq!(verdicts(hard), [Refuse; 4]);
        }
        let [ordinary, hard] = objections(700, Level::Warning, 300);
        assert_eq!(
            [ordinary, hard],
            [[None; 4]; 2],
            "the last token may be used"
        );
    }

    #[test]
    fn the_reason_is_what_lasts_longest() {
        let why = |settled, level, asked| {
            let [ordinary, _] = objections(settled, level, asked);
            ordinary[1].map(|objection| (objection.why, objection.passes_at))
        };
        assert_eq!(why(900, Level::Hard, 10), Some((Why::Level, 879)));
        assert_eq!(why(900, Level::Hard, 120), Some((Why::Level, 879)));
        assert_eq!(why(900, Level::Hard, 121), Some((Why::DoesNotFit, 879)));
        assert_eq!(why(900, Level::Hard, 300), Some((Why::DoesNotFit, 700)));
        assert_eq!(why(0, Level::None, 1000), None);
        assert_eq!(why(0, Level::None, 1001), Some((Why::NeverFits, -1)));
    }
}
