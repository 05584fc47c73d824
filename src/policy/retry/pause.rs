//! How long to stay away after a failure: 1, 2, 4 s … up to 60 s with full jitter, on top of what the provider asks for.
//!
//! The jitter goes on top because a wait that everybody was told alike ends for everybody alike: with it alone the whole
//! crowd is back at one instant. So a pause is never shorter than either of the two.

use std::time::Duration;

/// Longest pause. A provider that asks for more is not waited for: its refusal is final for now.
pub const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The backoff after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest backoff.
const LONGEST: Duration = Duration::from_secs(60);
/// Most that is added to the pause of a line.
const LINE_SPREAD: Duration = Duration::from_secs(1);

/// The pause of one request after its `attempts`-th attempt (from 1) failed; `asked` is what the provider asks for. It is
/// at least `asked` and, unless that is longer, at most [`MAX_PAUSE`]. `chance` is a random number from 0 up to 1.
pub fn pause(asked: Option<Duration>, attempts: u32, chance: f64) -> Duration {
    let asked = asked.unwrap_or_default();
    let pause = asked.saturating_add(backoff(attempts).mul_f64(share(chance)));
    pause.min(MAX_PAUSE.max(asked))
}

/// The pause of a whole line after the `refusals`-th refusal in a row (from 1; those of requests that were under way
/// together count once). What was asked for, and a little more; else from half to all of the backoff, since a line that
/// comes back at once was not paused. At most [`MAX_PAUSE`]: a line is never shut for longer on a provider's word.
pub fn lane_pause(asked: Option<Duration>, refusals: u32, chance: f64) -> Duration {
    let chance = share(chance);
    let pause = match asked {
        Some(asked) => asked.saturating_add((asked / 10).min(LINE_SPREAD).mul_f64(chance)),
        None => backoff(refusals).mul_f64((1.0 + chance) / 2.0),
    };
    pause.min(MAX_PAUSE)
}

/// 1, 2, 4, 8, 16, 32, 60, 60 … s.
fn backoff(nth: u32) -> Duration {
    let doublings = nth.saturating_sub(1).min(16);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

/// A chance that is none (NaN, outside 0 to 1) must not panic in the arithmetic.
pub(in crate::policy) fn share(chance: f64) -> f64 {
    if chance.is_nan() {
        0.0
    } else {
        chance.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HALF: f64 = 0.5;

    #[test]
    fn the_backoff_doubles_up_to_a_minute() {
        let pauses = [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX].map(|nth| pause(None, nth, 1.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(None, 3, HALF), Duration::from_secs(2));
        assert_eq!(pause(None, 3, 0.0), Duration::ZERO);
    }

    #[test]
    fn those_who_are_told_the_same_wait_come_back_apart() {
        let asked = Some(Duration::from_millis(7420));
        let early = pause(asked, 1, 0.0);
        let late = pause(asked, 1, 0.999);
        assert_eq!(early, Duration::from_millis(7420));
        assert!(late > early + Duration::from_millis(900));
    }

    #[test]
    fn a_line_without_a_word_from_the_provider_waits_at_least_half_the_backoff() {
        assert_eq!(lane_pause(None, 1, 0.0), Duration::from_millis(500));
        assert_eq!(lane_pause(None, 3, 1.0), Duration::from_secs(4));
        let asked = Some(Duration::from_secs(17));
        assert_eq!(lane_pause(asked, 9, 0.0), Duration::from_secs(17));
        assert_eq!(lane_pause(asked, 9, 1.0), Duration::from_secs(18));
        assert_eq!(lane_pause(Some(Duration::MAX), 1, 1.0), MAX_PAUSE);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_below_what_was_asked_nor_beyond_the_bounds(
            asked_ms in proptest::option::of(0..u64::MAX),
            attempts: u32,
            chance: f64,
        ) {
            let asked = asked_ms.map(Duration::from_millis);
            let least = asked.unwrap_or_default();
            let pause = pause(asked, attempts, chance);
            prop_assert!(pause >= least);
            prop_assert!(pause <= MAX_PAUSE.max(least));
            let line = lane_pause(asked, attempts, chance);
            prop_assert!(line >= least.min(MAX_PAUSE) && line <= MAX_PAUSE);
        }
    }
}
