//! One token bucket: it refills continuously, and holds no more than its burst.
//!
//! Exact: the level is kept in cells times the window's nanoseconds, so that a refill is one multiplication without a
//! remainder. Time comes in as the duration since some fixed moment.

use std::time::Duration;

use crate::simulate::standing::Window;

/// A bucket with what is in it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    limit: u64,
    window: Duration,
    capacity: i128,
    level: i128,
    at: Duration,
}

fn nanos(duration: Duration) -> i128 {
    duration.as_nanos().try_into().unwrap_or(i128::MAX)
}

impl Bucket {
    /// A full bucket: `limit` cells in every `window`, of which it can save up those of `burst`, but at least one cell.
    pub(super) fn new(limit: u64, window: Duration, burst: Duration, now: Duration) -> Self {
        let capacity = (i128::from(limit) * nanos(burst)).max(nanos(window));
        Self {
            limit,
            window,
            capacity,
            level: capacity,
            at: now,
        }
    }

    fn scaled(&self, cells: u64) -> i128 {
        i128::from(cells) * nanos(self.window)
    }

    fn fill(&mut self, now: Duration) {
        let gained = i128::from(self.limit) * nanos(now.saturating_sub(self.at));
        self.level = (self.level + gained).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// Time until so many cells are there; `None` if they never fit.
    pub(super) fn wait(&mut self, cells: u64, now: Duration) -> Option<Duration> {
        self.fill(now);
        let wanted = self.scaled(cells);
        if wanted > self.capacity {
            return None;
        }
        Some(self.time_for(wanted - self.level))
    }

    /// Time in which so much flows in, rounded up.
    fn time_for(&self, missing: i128) -> Duration {
        let missing = u128::try_from(missing).unwrap_or(0);
        let nanos = missing.div_ceil(u128::from(self.limit));
        Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
    }

    /// Takes cells, into debt if need be.
    pub(super) fn take(&mut self, cells: u64, now: Duration) {
        self.fill(now);
        self.level -= self.scaled(cells);
    }

    /// Charges a request that was refused: into debt, but never into one deeper than a window's cells, since a provider
    /// that counts what came in the last minute forgets it after that.
    pub(super) fn charge_refused(&mut self, cells: u64, now: Duration) {
        self.fill(now);
        let deepest = self.level.min(-self.scaled(self.limit));
        self.level = (self.level - self.scaled(cells)).max(deepest);
    }

    /// Gives cells back. What does not fit is lost.
    pub(super) fn give(&mut self, cells: u64, now: Duration) {
        self.fill(now);
        self.level = (self.level + self.scaled(cells)).min(self.capacity);
    }

    /// What a provider can tell of it.
    pub(super) fn window(&mut self, now: Duration) -> Window {
        self.fill(now);
        let remaining = self.level.max(0) / nanos(self.window).max(1);
        Window {
            limit: self.limit,
            remaining: remaining.try_into().unwrap_or(u64::MAX),
            reset: self.time_for(self.capacity - self.level),
        }
    }

    /// Fills it up at once.
    pub(super) fn refill(&mut self, now: Duration) {
        self.level = self.capacity;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn sixty_a_minute_may_be_one_a_second() {
        let mut bucket = Bucket::new(60, MINUTE, at(1_000), Duration::ZERO);
        assert_eq!(bucket.wait(1, at(0)), Some(Duration::ZERO));
        bucket.take(1, at(0));
        assert_eq!(bucket.wait(1, at(0)), Some(at(1_000)));
        assert_eq!(bucket.wait(1, at(999)), Some(at(1)));
        assert_eq!(bucket.wait(1, at(1_000)), Some(Duration::ZERO));
        // A long pause saves up one, not more.
        assert_eq!(bucket.wait(2, at(600_000)), None);
    }

    #[test]
    fn a_request_that_is_promised_a_moment_fits_at_that_moment_and_not_before() {
        for limit in [1, 7, 50, 999, 30_000] {
            let mut bucket = Bucket::new(limit, MINUTE, MINUTE, Duration::ZERO);
            bucket.take(limit, at(0));
            let wait = bucket.wait(limit / 3 + 1, at(0));
            let moment = wait.expect("less than all fits");
            let before = moment.saturating_sub(Duration::from_nanos(1));
            assert_ne!(
                bucket.clone().wait(limit / 3 + 1, before),
                Some(Duration::ZERO)
            );
            assert_eq!(bucket.wait(limit / 3 + 1, moment), Some(Duration::ZERO));
        }
    }

    #[test]
    fn a_correction_may_go_into_debt_and_what_is_given_back_never_overflows() {
        let mut bucket = Bucket::new(60, MINUTE, MINUTE, Duration::ZERO);
        bucket.take(70, at(0));
        assert_eq!(bucket.window(at(0)).remaining, 0);
        assert_eq!(bucket.wait(1, at(0)), Some(at(11_000)));
        bucket.give(1_000, at(0));
        let window = bucket.window(at(0));
        assert_eq!((window.remaining, window.reset), (60, Duration::ZERO));
    }

    #[test]
    fn refused_requests_are_forgotten_after_a_window() {
        let mut bucket = Bucket::new(60, MINUTE, MINUTE, Duration::ZERO);
        bucket.charge_refused(100, at(0));
        assert_eq!(bucket.wait(1, at(0)), Some(at(41_000)));
        bucket.charge_refused(100, at(0));
        assert_eq!(bucket.wait(1, at(0)), Some(at(61_000)));
    }

    #[test]
    fn time_that_goes_backwards_gives_nothing() {
        let mut bucket = Bucket::new(60, MINUTE, MINUTE, at(10_000));
        bucket.take(60, at(10_000));
        bucket.fill(at(1_000));
        assert_eq!(bucket.window(at(11_000)).remaining, 1);
    }
}
