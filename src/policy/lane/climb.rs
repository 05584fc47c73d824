//! How fast a lane may go where nobody says it: a rate that rises while all goes well and falls when the provider refuses.
//!
//! A rate rises only while requests wait for it. As long as the provider has never refused anything, where it started is
//! only a guess: it doubles with every round of answers, twice a second at most, so that nobody crawls for long at a provider
//! that tells nothing (the guesses of a lane rise together, for any of them may be far too low). The first refusal halves it,
//! and from then on the limit is searched for between what passed and what was refused: each second half of the way up, and
//! at each refusal half of the rate down. When the two have met, or two refusals have told the limit, it rises in steps of
//! ten seconds: by a fiftieth towards the rate that was refused, and beyond that only after ever longer patience: a limit
//! that was found is probed again after about a hundred requests, then two hundred, and so on. So refusals become ever rarer.
//!
//! Where a limit is known, by the config or from the provider, it is the most; refusals below it mean that somebody else uses
//! the same account, and lower the rate by an eighth. A provider that lets nothing through tells nothing about a rate: that
//! is what pauses are for.
//!
//! A refusal tells more than "less": between two refusals of a provider with a bucket, exactly its limit has passed, for
//! the bucket was empty at both; give or take the one request that came a little too early.

use super::bucket::MILLI;
use super::history::{BIN_MS, History};

/// Time between two steps up.
const STEP_MS: u64 = 10_000;

/// The same while nothing was ever refused: a limit per second is hardly exceeded before its second is over.
const GUESS_STEP_MS: u64 = 500;

/// The same while a limit is searched for.
const SEARCH_STEP_MS: u64 = 1_000;

/// The search is over when the rate is so close to the one that was refused: a sixteenth of it.
const CLOSE: u64 = 16;

/// Requests that must pass before a rate that was refused is tried again, at first and at most.
const PATIENCE: (u32, u32) = (100, 3_200);

/// As much time must pass, at first; it doubles with the requests.
const PATIENCE_MS: u64 = 60_000;

/// Near its limit is what is used of it for so long.
const NEAR_MS: u64 = 5_000;

/// Fewer requests or a shorter time between two refusals tell nothing.
const TELLING: (u64, u64) = (10, 2_000);

/// A rate per window that is being learned, in thousandths.
#[derive(Debug, Clone)]
pub(super) struct Climb {
    /// The rate now; `None` for no limit.
    pub(super) value: Option<u64>,
    /// The guess that it started from, if it did.
    start: u64,
    /// A rate that was refused.
    pub(super) ceiling: Option<u64>,
    /// Never above this: the configured limit, or what the provider says it is.
    top: Option<u64>,
    floor: u64,
    window_ms: u64,
    patience: u32,
    history: History,
    /// Since the last refusal.
    passed: i64,
    requests: u64,
    refused_at_ms: Option<u64>,
    /// Something was refused, and the limit is not found yet.
    searching: bool,
    step_began_ms: u64,
    /// Somebody waited for this rate since the step began.
    wanted: bool,
    /// It has risen as a guess.
    has_risen: bool,
    /// Refusals of slots before this one belong to a refusal that has been answered already.
    round: u64,
}

impl Climb {
    /// Starts at a rate, or without one. `floor` is the least that it falls to; all in thousandths per window.
    pub(super) fn new(value: Option<u64>, floor: u64, window_ms: u64, now_ms: u64) -> Self {
        Self {
            value,
            start: value.unwrap_or(0),
            ceiling: None,
            top: None,
            floor,
            window_ms,
            patience: PATIENCE.0,
            history: History::default(),
            passed: 0,
            requests: 0,
            refused_at_ms: None,
            searching: false,
            step_began_ms: now_ms,
            wanted: false,
            has_risen: false,
            round: 0,
        }
    }

    /// The limit is known now: the rate starts there, and never exceeds it.
    pub(super) fn set_top(&mut self, top: Option<u64>) {
        if self.top == top {
            return;
        }
        // A rate below its top was learned by refusals; it stays in the same proportion.
        self.value = match (self.value, self.top, top) {
            (Some(value), Some(old), Some(new)) if value < old => Some(
                u64::try_from(u128::from(value) * u128::from(new) / u128::from(old.max(1)))
                    .unwrap_or(new),
            ),
            (_, _, Some(new)) => Some(new),
            (value, _, None) => value,
        };
        self.top = top;
        self.ceiling = None;
        self.searching = false;
    }

    /// Takes over what was learned before.
    pub(super) fn resume(&mut self, value: Option<u64>, ceiling: Option<u64>) {
        let top = self.top.unwrap_or(u64::MAX);
        let value = value.map(|value| value.max(self.floor).min(top));
        self.value = value.or(self.value);
        self.ceiling = ceiling;
        if ceiling.is_some() {
            // It was found by a refusal; what passed since then is not known.
            self.patience = PATIENCE.0 * 2;
            self.refused_at_ms = Some(self.step_began_ms);
        }
    }

    /// A request had to wait for this rate.
    pub(super) fn wanted(&mut self) {
        self.wanted = true;
    }

    /// The provider let a request of this size through, which had started then.
    pub(super) fn passed(&mut self, amount: u64, started_ms: u64, now_ms: u64) {
        self.correct(i64::try_from(amount).unwrap_or(i64::MAX), now_ms);
        self.requests += 1;
        // Whoever lets so much through at once allows as much in a window.
        if self.top.is_none()
            && let Some(value) = self.value
        {
            self.value = Some(value.max(amount.saturating_mul(MILLI)));
        }
        let step_ms = match self.searching {
            _ if self.is_a_guess() => GUESS_STEP_MS,
            true => SEARCH_STEP_MS,
            false => STEP_MS,
        };
        let is_first = self.is_a_guess() && !self.has_risen;
        let is_due = is_first || now_ms.saturating_sub(self.step_began_ms) >= step_ms;
        // What started before the last step says nothing about the rate since.
        if is_due && started_ms >= self.step_began_ms {
            self.step_began_ms = now_ms;
            if std::mem::take(&mut self.wanted) {
                self.step(now_ms);
            }
        }
    }

    /// What passed turns out to be more or less.
    pub(super) fn correct(&mut self, difference: i64, now_ms: u64) {
        self.history.add(difference, now_ms);
        self.passed = self.passed.saturating_add(difference);
    }

    /// There is a rate, and nothing is known of it: neither a limit nor a refusal.
    pub(super) fn is_a_guess(&self) -> bool {
        self.value.is_some()
            && self.top.is_none()
            && self.ceiling.is_none()
            && self.refused_at_ms.is_none()
    }

    /// Whether a refusal most likely means that it is too high: it is a guess that has risen or is about to, or is being
    /// searched for, and is used.
    pub(super) fn is_suspect(&self, now_ms: u64) -> bool {
        let raised = self.is_a_guess() && (self.has_risen || self.wanted);
        raised || (self.searching && (self.wanted || self.is_near(now_ms)))
    }

    /// Whether it was refused lately, and the limit is not found yet.
    pub(super) fn is_searching(&self, now_ms: u64) -> bool {
        let since = now_ms.saturating_sub(self.refused_at_ms.unwrap_or(0));
        self.searching && since < STEP_MS
    }

    fn step(&mut self, now_ms: u64) {
        let Some(value) = self.value else { return };
        let higher = match self.ceiling {
            None if self.is_a_guess() => {
                self.has_risen = true;
                value.saturating_mul(2)
            }
            None => value.saturating_add((value / 12).max(1)),
            Some(ceiling) => {
                let apart = ceiling.saturating_sub(value);
                self.searching &= apart > ceiling / CLOSE;
                let step = if self.searching {
                    apart / 2
                } else {
                    ceiling / 50
                };
                let higher = value.saturating_add(step.max(1));
                if higher > ceiling && !self.patient(now_ms) {
                    return;
                }
                if higher > ceiling.saturating_add(ceiling / 10) {
                    // The limit is another one now.
                    self.ceiling = None;
                    self.patience = PATIENCE.0;
                }
                higher
            }
        };
        self.value = Some(higher.min(self.top.unwrap_or(u64::MAX)));
    }

    fn patient(&self, now_ms: u64) -> bool {
        let times = u64::from(self.patience / PATIENCE.0);
        let since = now_ms.saturating_sub(self.refused_at_ms.unwrap_or(0));
        // A limit that is known is surely right but for others who use it too.
        let enough = if self.top.is_some() { 10 } else { 1 };
        self.requests >= u64::from(self.patience) / enough && since >= PATIENCE_MS * times
    }

    /// Whether four fifths of the rate have been used lately.
    pub(super) fn is_near(&self, now_ms: u64) -> bool {
        let peak = self.history.peak(NEAR_MS, self.window_ms, now_ms);
        self.value.is_some_and(|value| peak >= value / 5 * 4)
    }

    /// The rate that was refused: the one now, unless much less was used.
    fn known(&self, now_ms: u64) -> u64 {
        let used = self.history.peak(BIN_MS, self.window_ms, now_ms);
        match self.value {
            Some(value) if self.top.is_some() => value,
            // Not below where it started: a stray refusal in a quiet hour says nothing about the busy ones.
            Some(value) => value.min(used.saturating_mul(2).max(self.start)),
            None => used,
        }
    }

    /// The provider refused a request. `slot` and `next_slot` number it and the next one that will start: of all that
    /// were in flight together one refusal counts.
    pub(super) fn refused(&mut self, slot: u64, next_slot: u64, now_ms: u64) {
        if slot < self.round {
            return;
        }
        self.round = next_slot;
        if self.refused_at_ms.is_some() && self.requests == 0 {
            return;
        }
        if self.value.is_none() && self.known(now_ms) == 0 {
            // Nothing has ever passed: that is no rate of one a minute, but something else, for which there are pauses.
            return;
        }
        let since = self.refused_at_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        let known = self.known(now_ms);
        let was_found = since.is_some() && !self.searching;
        let (value, ceiling) = match (self.top, since) {
            (Some(top), _) => ((known - known / 8).max(top / 8), top),
            (None, Some(since_ms)) if since_ms >= TELLING.1 && self.requests >= TELLING.0 => {
                let passed = u128::from(self.passed.max(0).unsigned_abs());
                let rate = passed * u128::from(self.window_ms) * u128::from(MILLI);
                let rate = u64::try_from(rate / u128::from(since_ms)).unwrap_or(u64::MAX);
                self.searching = false;
                (rate - rate / 50, rate.saturating_add(rate / self.requests))
            }
            (None, None) => {
                self.searching = true;
                (known / 2, known)
            }
            (None, Some(_)) if self.searching => (known / 2, known),
            (None, Some(_)) => (known - known / 5, known),
        };
        // Whatever was measured, it was too much.
        let less = known - known / 32;
        self.value = Some(value.min(less).max(self.floor));
        self.ceiling = Some(ceiling.max(self.floor));
        if was_found {
            self.patience = (self.patience * 2).min(PATIENCE.1);
        }
        self.passed = 0;
        self.requests = 0;
        self.refused_at_ms = Some(now_ms);
        self.step_began_ms = now_ms;
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn climbing(per_minute: u64) -> Climb {
        Climb::new(Some(per_minute * MILLI), MILLI, MINUTE, 0)
    }

    /// Lets one pass a second, each wanted, until a second.
    fn run(climb: &mut Climb, from: u64, to: u64) {
        for second in from..to {
            climb.wanted();
            climb.passed(1, second * 1_000, second * 1_000);
        }
    }

    #[test]
    fn a_guess_doubles_with_every_round_of_answers_while_somebody_waits_for_it() {
        let mut climb = climbing(50);
        for second in 0..100 {
            climb.passed(1, second * 1_000, second * 1_000);
        }
        assert_eq!(climb.value, Some(50_000), "nobody waited");
        run(&mut climb, 100, 105);
        assert_eq!(climb.value, Some(1_600_000), "five rounds");
        climb.wanted();
        climb.passed(1, 103_999, 105_000);
        assert_eq!(climb.value, Some(1_600_000), "of the round before");
        for tenth in 1_050..1_060 {
            climb.wanted();
            climb.passed(1, tenth * 100, tenth * 100);
        }
        assert_eq!(climb.value, Some(6_400_000), "twice a second at most");
    }

    #[test]
    fn a_guess_that_rises_is_suspect_and_so_is_a_rate_that_is_searched_for_and_used() {
        let mut climb = climbing(50);
        assert!(!climb.is_suspect(0));
        run(&mut climb, 0, 3);
        assert!(climb.is_suspect(5_000));
        climb.refused(3, 4, 5_000);
        assert!(!climb.is_suspect(20_000), "not used");
        climb.wanted();
        assert!(climb.is_suspect(20_000));
        climb.searching = false;
        assert!(!climb.is_suspect(20_000), "found");
    }

    #[test]
    fn after_the_first_refusal_the_limit_is_searched_for_by_halves() {
        let mut climb = climbing(1_600);
        climb.refused(1, 2, 0);
        climb.refused(1, 2, 0);
        assert_eq!(climb.value, Some(800_000), "one refusal of a round counts");
        run(&mut climb, 0, 2);
        assert_eq!(climb.value, Some(1_200_000));
        run(&mut climb, 2, 5);
        assert_eq!(climb.value, Some(1_532_000), "close to what was refused");
        run(&mut climb, 5, 14);
        assert_eq!(
            climb.value,
            Some(1_532_000),
            "found: not within ten seconds"
        );
    }

    #[test]
    fn a_stray_refusal_in_a_quiet_hour_takes_no_more_than_half_of_the_first_guess() {
        let mut climb = climbing(50);
        run(&mut climb, 0, 5);
        climb.passed(1, 3_600_000, 3_600_000);
        climb.refused(6, 7, 3_659_000);
        assert_eq!(climb.value, Some(25_000));
        assert_eq!(climb.ceiling, Some(50_000));
    }

    #[test]
    fn refusals_soon_after_another_halve_the_rate_until_it_passes() {
        let mut climb = climbing(2_400);
        for slot in 0..3 {
            climb.refused(slot, slot + 1, slot * 1_500);
            climb.passed(20, slot * 1_500, slot * 1_500);
        }
        assert_eq!(climb.value, Some(300_000));
    }

    #[test]
    fn what_passed_between_two_refusals_is_the_limit() {
        let mut climb = climbing(600);
        climb.passed(1, 0, 0);
        climb.refused(1, 2, 1_000);
        climb.value = Some(70_000);
        run(&mut climb, 1, 61);
        climb.refused(70, 71, 61_000);
        let value = climb.value.expect("there is a rate");
        assert!((58_000..=59_000).contains(&value), "{value}");
    }

    #[test]
    fn a_rate_that_was_refused_is_tried_ever_less_often() {
        let mut climb = climbing(60);
        climb.refused(1, 2, 0);
        climb.ceiling = Some(60_000);
        climb.value = Some(58_000);
        let mut tried = Vec::new();
        let (mut slot, mut second) = (2, 0);
        while tried.len() < 4 {
            second += 1;
            slot += 1;
            climb.wanted();
            climb.passed(1, second * 1_000, second * 1_000);
            if climb.value > Some(60_500) {
                tried.push(second);
                climb.refused(slot, slot + 1, second * 1_000);
            }
        }
        let gaps: Vec<u64> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            gaps.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2),
            "{gaps:?}"
        );
    }

    #[test]
    fn a_known_limit_is_never_exceeded_and_comes_back_after_a_refusal() {
        let mut climb = climbing(60);
        climb.set_top(Some(600_000));
        assert_eq!(climb.value, Some(600_000));
        run(&mut climb, 0, 100);
        assert_eq!(climb.value, Some(600_000));
        climb.refused(100, 101, 100_000);
        assert_eq!(climb.value, Some(525_000));
        run(&mut climb, 100, 600);
        assert_eq!(climb.value, Some(600_000));
        climb.refused(1_000, 1_001, 600_000);
        climb.set_top(Some(60_000));
        assert_eq!(climb.value, Some(52_500), "in the same proportion");
    }

    #[test]
    fn refusals_without_end_say_nothing_about_a_rate() {
        let mut climb = climbing(1_000);
        climb.set_top(Some(1_000_000));
        for slot in 0..1_000 {
            climb.refused(slot, slot + 1, slot * 20_000);
        }
        assert_eq!(climb.value, Some(875_000));
    }

    #[test]
    fn refusals_before_anything_has_passed_make_no_rate() {
        let mut climb = Climb::new(None, MILLI, MINUTE, 0);
        for slot in 0..10 {
            climb.refused(slot, slot + 1, slot * 20_000);
        }
        assert_eq!(climb.value, None);
        climb.passed(1, 200_000, 200_000);
        climb.refused(11, 12, 200_000);
        assert!(climb.value.is_some());
    }

    #[test]
    fn a_rate_does_not_fall_below_its_floor() {
        let mut climb = climbing(1_000);
        for slot in 0..1_000 {
            climb.passed(0, slot * 5_000, slot * 5_000);
            climb.refused(slot, slot + 1, slot * 5_000);
        }
        assert_eq!(climb.value, Some(MILLI));
    }

    #[test]
    fn one_large_request_that_passes_shows_that_the_limit_is_as_large() {
        let mut climb = climbing(30_000);
        climb.passed(200_000, 0, 0);
        assert_eq!(climb.value, Some(200_000 * MILLI));
    }
}
