//! The five levels, and what each means for each priority: the contract's table.
//!
//! | level | fill | low | normal | high | critical |
//! | --- | --- | --- | --- | --- | --- |
//! | NONE | < 70 % | pass | pass | pass | pass |
//! | WARNING | 70–80 % | pass | pass | pass | pass |
//! | SOFT | 80–90 % | wait | pass | pass | pass |
//! | HARD | 90–95 % | refuse | refuse | pass | pass |
//! | CRITICAL | ≥ 95 % | refuse | refuse | refuse | pass |
//!
//! A level rises at its threshold, and falls only when the fill is below the threshold by the hysteresis, so that it does
//! not flutter.

use crate::units::Priority;

/// How full a budget is, in five steps; the order is that of the fill.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Level {
    /// Room for everybody.
    #[default]
    #[n(0)]
    None,
    /// Everybody passes and is warned.
    #[n(1)]
    Warning,
    /// Low priority waits.
    #[n(2)]
    Soft,
    /// Only high and critical priority pass.
    #[n(3)]
    Hard,
    /// Only critical priority passes.
    #[n(4)]
    Critical,
}

impl Level {
    /// Every level, emptiest first.
    pub const ALL: [Level; 5] = [
        Level::None,
        Level::Warning,
        Level::Soft,
        Level::Hard,
        Level::Critical,
    ];

    /// The name used in headers, messages, metrics, events and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Warning => "WARNING",
            Level::Soft => "SOFT",
            Level::Hard => "HARD",
            Level::Critical => "CRITICAL",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a level means for a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Wait until the level falls.
    Wait,
    /// Not now.
    Refuse,
}

/// The table.
pub const fn verdict(level: Level, priority: Priority) -> Verdict {
    match (level, priority) {
        (Level::None | Level::Warning, _) | (_, Priority::Critical) => Verdict::Pass,
        (Level::Soft, Priority::Low) => Verdict::Wait,
        (Level::Soft, Priority::Normal | Priority::High) => Verdict::Pass,
        (Level::Hard, Priority::High) => Verdict::Pass,
        (Level::Hard, Priority::Low | Priority::Normal) => Verdict::Refuse,
        (Level::Critical, Priority::Low | Priority::Normal | Priority::High) => Verdict::Refuse,
    }
}

/// A share of a limit, in millionths: 700,000 is 70 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share(1_000_000);
}

/// The fills at which the levels begin. Rising: warning ≤ soft ≤ hard ≤ critical ≤ 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// WARNING begins here.
    pub warning: Share,
    /// SOFT begins here.
    pub soft: Share,
    /// HARD begins here.
    pub hard: Share,
    /// CRITICAL begins here.
    pub critical: Share,
    /// How far below its threshold the fill must fall for a level to end.
    pub hysteresis: Share,
}

impl Default for Thresholds {
    /// The guide's: 70, 80, 90 and 95 %; two points of hysteresis.
    fn default() -> Self {
        Self {
            warning: Share(700_000),
            soft: Share(800_000),
            hard: Share(900_000),
            critical: Share(950_000),
            hysteresis: Share(20_000),
        }
    }
}

impl Thresholds {
    /// The fill at which a level begins.
    pub const fn begins(&self, level: Level) -> Share {
        match level {
            Level::None => Share(0),
            Level::Warning => self.warning,
            Level::Soft => self.soft,
            Level::Hard => self.hard,
            Level::Critical => self.critical,
        }
    }
}

/// The level of a fill of `filled` out of `limit` (both in the budget's unit), after the level was `before`.
pub fn level_of(filled: i128, limit: i128, before: Level, thresholds: &Thresholds) -> Level {
    let reaches = |level: Level, lowered: u32| {
        let begins = thresholds.begins(level).0.saturating_sub(lowered);
        // filled / limit ≥ begins / 1,000,000, without a division and without overflow for any amount of money.
        at_least(filled, limit, begins)
    };
    Level::ALL
        .into_iter()
        .rev()
        .find(|level| {
            let lowered = if *level <= before {
                thresholds.hysteresis.0
            } else {
                0
            };
            *level == Level::None || reaches(*level, lowered)
        })
        .unwrap_or_default()
}

/// Whether `filled` is at least `millionths` of `limit`, exactly.
fn at_least(filled: i128, limit: i128, millionths: u32) -> bool {
    match (
        filled.checked_mul(1_000_000),
        limit.checked_mul(i128::from(millionths)),
    ) {
        (Some(filled), Some(needed)) => filled >= needed,
        // Beyond 10³² of a unit: whole millionths of the limit are exact enough.
        _ => filled / 1_000_000 >= limit / 1_000_000 * i128::from(millionths) / 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_contracts() {
        use Verdict::{Pass, Refuse, Wait};
        for (level, verdicts) in [
            (Level::None, [Pass, Pass, Pass, Pass]),
            (Level::Warning, [Pass, Pass, Pass, Pass]),
            (Level::Soft, [Wait, Pass, Pass, Pass]),
            (Level::Hard, [Refuse, Refuse, Pass, Pass]),
            (Level::Critical, [Refuse, Refuse, Refuse, Pass]),
        ] {
            assert_eq!(
                Priority::ALL.map(|priority| verdict(level, priority)),
                verdicts,
                "{level}"
            );
        }
    }

    #[test]
    fn levels_begin_exactly_at_their_thresholds() {
        let level = |filled| level_of(filled, 1000, Level::None, &Thresholds::default());
        for (filled, expected) in [
            (0, Level::None),
            (699, Level::None),
            (700, Level::Warning),
            (799, Level::Warning),
            (800, Level::Soft),
            (899, Level::Soft),
            (900, Level::Hard),
            (949, Level::Hard),
            (950, Level::Critical),
            (5000, Level::Critical),
        ] {
            assert_eq!(level(filled), expected, "{filled}");
        }
    }

    #[test]
    fn a_level_falls_only_below_the_hysteresis() {
        let level = |filled, before| level_of(filled, 1000, before, &Thresholds::default());
        assert_eq!(level(799, Level::Soft), Level::Soft);
        assert_eq!(level(780, Level::Soft), Level::Soft);
        assert_eq!(level(779, Level::Soft), Level::Warning);
        assert_eq!(level(779, Level::Critical), Level::Warning);
        assert_eq!(level(935, Level::Critical), Level::Critical);
        assert_eq!(level(929, Level::Critical), Level::Hard);
    }

    #[test]
    fn the_largest_amounts_do_not_overflow() {
        let most = i128::MAX;
        let thresholds = Thresholds::default();
        assert_eq!(
            level_of(most, most, Level::None, &thresholds),
            Level::Critical
        );
        assert_eq!(
            level_of(most / 2, most, Level::None, &thresholds),
            Level::None
        );
    }
}
