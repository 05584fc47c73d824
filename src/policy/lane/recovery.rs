//! After a pause: the line goes on as fast as it went before, and not all at once.
//!
//! A lane whose limit is a number in flight, or that has none, would send everything that has gathered in one instant, and
//! be refused again. So starts after a pause are spaced by the usual gap between good answers, a twentieth less, at first;
//! after five seconds (or two answers' length) ever closer, until gaps do not matter any more.

/// Gaps are averaged over about so many answers: they vary, and the rate must be right to a few percent.
const AVERAGED: u64 = 256;

/// Time at the usual rate, at least.
const FLAT_MS: u64 = 5_000;

/// After that, the rate doubles in so much time.
const DOUBLES_MS: u64 = 10_000;

/// Doublings after which it is over.
const LAST_DOUBLING: u64 = 5;

/// Microseconds in a millisecond.
const MICROS: u64 = 1_000;

/// The usual rate, and the pace after a pause.
#[derive(Debug, Clone, Default)]
pub(super) struct Recovery {
    /// Average time between good answers.
    gap_us: Option<u64>,
    /// Gaps that are in the average, up to [`AVERAGED`].
    gaps: u64,
    /// Average length of an answer.
    length_ms: u64,
    last_end_ms: Option<u64>,
    /// Since when the line goes on.
    since_ms: Option<u64>,
    /// When the next one may start.
    next_us: u64,
}

impl Recovery {
    /// A good answer ended, which had taken so long.
    pub(super) fn ended(&mut self, length_ms: u64, now_ms: u64) {
        if let Some(last) = self.last_end_ms.replace(now_ms) {
            let gap = now_ms.saturating_sub(last).saturating_mul(MICROS);
            self.gap_us = Some(average(self.gap_us.unwrap_or(0), gap, self.gaps));
            self.length_ms = average(self.length_ms, length_ms, self.gaps);
            self.gaps = (self.gaps + 1).min(AVERAGED - 1);
        }
    }

    /// Something went wrong: the gap until the next good answer is not a usual one.
    pub(super) fn disturbed(&mut self) {
        self.last_end_ms = None;
    }

    /// A pause is over.
    pub(super) fn begin(&mut self, now_ms: u64) {
        if self.gap_us.is_some() {
            self.since_ms = Some(now_ms);
            self.next_us = now_ms.saturating_mul(MICROS);
        }
    }

    /// It is over: the limits themselves hold the line back.
    pub(super) fn end(&mut self) {
        self.since_ms = None;
    }

    /// Whether the line is still going on after a pause.
    pub(super) fn is_on(&self) -> bool {
        self.since_ms.is_some()
    }

    /// The space between two starts now; `None` when it is over.
    fn space_us(&self, now_ms: u64) -> Option<u64> {
        let passed = now_ms.saturating_sub(self.since_ms?);
        // Where few requests come, gaps say nothing about what is possible: two at a time always are.
        let most = self.length_ms.saturating_mul(MICROS / 2);
        let usual = self.gap_us?.min(most) * 20 / 21;
        let flat = FLAT_MS.max(self.length_ms.saturating_mul(2));
        let rising = passed.saturating_sub(flat);
        let doublings = rising / DOUBLES_MS;
        (doublings < LAST_DOUBLING).then(|| {
            let part = rising % DOUBLES_MS;
            (usual >> doublings) * DOUBLES_MS / (DOUBLES_MS + part)
        })
    }

    /// Milliseconds until the next one may start.
    pub(super) fn wait(&self, now_ms: u64) -> u64 {
        match self.since_ms {
            Some(_) => self.next_us.div_ceil(MICROS).saturating_sub(now_ms),
            None => 0,
        }
    }

    /// One starts.
    pub(super) fn started(&mut self, now_ms: u64) {
        match self.space_us(now_ms) {
            Some(space) => {
                let now_us = now_ms.saturating_mul(MICROS);
                // A timer that is a little late loses nothing.
                let from = self.next_us.max(now_us.saturating_sub(space / 2));
                self.next_us = from.saturating_add(space);
            }
            None => self.end(),
        }
    }
}

/// The average of `count` values, with one more.
const fn average(old: u64, new: u64, count: u64) -> u64 {
    old.saturating_mul(count).saturating_add(new) / (count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten answers a second, each two seconds long.
    fn usual() -> Recovery {
        let mut recovery = Recovery::default();
        for tenth in 0..300 {
            recovery.ended(2_000, tenth * 100);
        }
        recovery
    }

    fn starts(recovery: &mut Recovery, from_ms: u64, to_ms: u64) -> u64 {
        (from_ms..to_ms)
            .map(|now| {
                let mut count = 0;
                while recovery.wait(now) == 0 && count < 1_000 {
                    recovery.started(now);
                    count += 1;
                }
                count
            })
            .sum()
    }

    #[test]
    fn after_a_pause_it_goes_on_at_the_usual_rate_and_then_ever_faster() {
        let mut recovery = usual();
        recovery.disturbed();
        recovery.begin(60_000);
        let first = starts(&mut recovery, 60_000, 65_000);
        assert!((51..=54).contains(&first), "{first}");
        let later = starts(&mut recovery, 75_000, 76_000);
        assert!((19..=25).contains(&later), "{later}");
        starts(&mut recovery, 76_000, 130_000);
        assert!(!recovery.is_on());
    }

    #[test]
    fn the_time_of_a_disturbance_is_no_usual_gap() {
        let mut recovery = usual();
        let before = recovery.gap_us;
        recovery.disturbed();
        recovery.ended(2_000, 90_000);
        assert_eq!(recovery.gap_us, before);
    }

    #[test]
    fn where_few_requests_come_two_at_a_time_are_possible() {
        let mut recovery = Recovery::default();
        for minute in 0..10 {
            recovery.ended(2_000, minute * 60_000);
        }
        recovery.begin(600_000);
        let count = starts(&mut recovery, 600_000, 605_000);
        assert!((5..=7).contains(&count), "{count}");
    }

    #[test]
    fn without_a_past_nothing_is_held_back() {
        let mut recovery = Recovery::default();
        recovery.begin(0);
        assert_eq!(recovery.wait(0), 0);
        assert!(!recovery.is_on());
    }
}
