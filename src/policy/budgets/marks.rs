//! The fills of one budget at which its levels begin and end, as whole numbers of its unit.
//!
//! They say the same as [`level_of`](crate::policy::throttle::level_of), which states the rule, but need no
//! multiplication when a request is checked. Nothing at all is never a level, however the thresholds are set.

use crate::policy::throttle::{Level, Thresholds, Verdict, verdict};
use crate::units::Priority;

/// The levels other than NONE, fullest first.
const RISEN: [Level; 4] = [Level::Critical, Level::Hard, Level::Soft, Level::Warning];

/// Smallest fills, in the budget's unit; by [`Level`].
#[derive(Debug)]
pub(super) struct Marks {
    /// At which a level begins.
    begins: [i128; 5],
    /// At which a level that has begun goes on.
    goes_on: [i128; 5],
}

impl Marks {
    /// `limit` is at most 2⁹⁶, so that a share of it can be computed exactly.
    pub(super) fn new(limit: i128, thresholds: &Thresholds) -> Self {
        let smallest = |millionths: u32| {
            let product = limit.saturating_mul(i128::from(millionths));
            (product / 1_000_000 + i128::from(product % 1_000_000 > 0)).max(1)
        };
        let begins = |level| thresholds.begins(level).0;
        let hysteresis = thresholds.hysteresis.0;
        Self {
            begins: Level::ALL.map(|level| smallest(begins(level))),
            goes_on: Level::ALL.map(|level| smallest(begins(level).saturating_sub(hysteresis))),
        }
    }

    /// The level of a fill, after the level was `before`.
    pub(super) fn level(&self, filled: i128, before: Level) -> Level {
        if filled < self.goes_on[Level::Warning as usize] {
            return Level::None;
        }
        RISEN
            .into_iter()
            .find(|level| {
                let marks = if *level <= before {
                    &self.goes_on
                } else {
                    &self.begins
                };
                filled >= marks[*level as usize]
            })
            .unwrap_or_default()
    }

    /// The largest fill with which a budget that is too full for a priority now would let it pass again.
    pub(super) fn passes_at(&self, priority: Priority) -> i128 {
        let too_full = Level::ALL
            .into_iter()
            .find(|level| verdict(*level, priority) != Verdict::Pass);
        too_full.map_or(i128::MAX, |level| self.goes_on[level as usize] - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::budgets::MOST_ATTOS;
    use crate::policy::throttle::{Share, level_of};

    fn any_thresholds() -> impl Strategy<Value = Thresholds> {
        let shares = prop::array::uniform4(1_u32..=1_000_000);
        (shares, any::<u32>()).prop_map(|(mut shares, hysteresis)| {
            shares.sort_unstable();
            let [warning, soft, hard, critical] = shares.map(Share);
            Thresholds {
                warning,
                soft,
                hard,
                critical,
                hysteresis: Share(hysteresis % shares[0]),
            }
        })
    }

    proptest! {
        #[test]
        fn marks_say_what_the_rule_says(
            thresholds in any_thresholds(),
            limit in prop_oneof![1..=30_i128, 1..=1_000_000_i128, 1..MOST_ATTOS],
            millionths in 0..=1_100_000_i128,
            apart in -1..=1_i128,
            before in prop::sample::select(Level::ALL.to_vec()),
        ) {
            let filled = (limit * millionths / 1_000_000 + apart).max(0);
            let marks = Marks::new(limit, &thresholds);
            prop_assert_eq!(marks.level(filled, before), level_of(filled, limit, before, &thresholds));
        }

        #[test]
        fn a_level_does_not_flutter_inside_the_band(
            fills in prop::collection::vec(780_i128..800, 1..50),
            before in prop::sample::select(vec![Level::None, Level::Soft]),
        ) {
            let marks = Marks::new(1000, &Thresholds::default());
            let mut level = marks.level(785, before);
            let first = level;
            for filled in fills {
                level = marks.level(filled, level);
                prop_assert_eq!(level, first);
            }
        }
    }

    #[test]
    fn each_priority_passes_again_below_its_first_closed_level() {
        let marks = Marks::new(1000, &Thresholds::default());
        let passes = Priority::ALL.map(|priority| marks.passes_at(priority));
        assert_eq!(passes, [779, 879, 929, i128::MAX]);
    }

    #[test]
    fn an_empty_budget_has_no_level_even_if_the_band_reaches_down_to_nothing() {
        let thresholds = Thresholds {
            hysteresis: Share(2_000_000),
            ..Thresholds::default()
        };
        let marks = Marks::new(1000, &thresholds);
        assert_eq!(marks.level(1, Level::Critical), Level::Critical);
        assert_eq!(marks.level(0, Level::Critical), Level::None);
    }
}
