//! The calendar's clock: Unix milliseconds. The system's in the program, a manual one in tests.
//!
//! Intervals are measured with `std::time::Instant` where they are taken; this clock is for dates and windows, because
//! monotonic time stops while a laptop sleeps. The program's clock never goes back: budgets' windows and the order of
//! the ledger stand on it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A source of Unix milliseconds, cheap to clone.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> u64 + Send + Sync>,
    ahead: Option<Arc<Ahead>>,
}

/// How far the clock is ahead of the time since the process started, in milliseconds. It only grows.
#[derive(Debug)]
struct Ahead {
    started: Instant,
    offset_ms: AtomicI64,
}

impl Ahead {
    /// The time that is at least `wall_ms`, and has gone on at its pace since any earlier answer.
    fn at_least(&self, wall_ms: u64) -> u64 {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let wall = i64::try_from(wall_ms).unwrap_or(i64::MAX);
        let offset = wall.saturating_sub(since);
        let offset = self
            .offset_ms
            .fetch_max(offset, Ordering::Relaxed)
            .max(offset);
        u64::try_from(since.saturating_add(offset)).unwrap_or_default()
    }
}

impl Clock {
    /// The system's clock, made steady.
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
        .steady()
    }

    /// Any other source, for tests.
    pub fn from_fn(unix_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            source: Arc::new(unix_ms),
            ahead: None,
        }
    }

    /// The same clock, but never going back: when its source is set back, it goes on from where it was at the usual
    /// pace. Where the source goes forward (after a sleep, or set right), it follows at once.
    #[must_use]
    pub fn steady(self) -> Self {
        let ahead = Arc::new(Ahead {
            started: Instant::now(),
            offset_ms: AtomicI64::new(i64::MIN / 2),
        });
        let (wall, kept) = (self.source, Arc::clone(&ahead));
        Self {
            source: Arc::new(move || kept.at_least(wall())),
            ahead: Some(ahead),
        }
    }

    /// Makes a steady clock begin no earlier than a moment that has been seen before: the newest in the ledger, so that
    /// setting the clock back between two runs frees no budget either.
    pub fn not_before(&self, unix_ms: u64) {
        if let Some(ahead) = &self.ahead {
            ahead.at_least(unix_ms);
        }
    }

    /// Now, in Unix milliseconds.
    pub fn unix_ms(&self) -> u64 {
        (self.source)()
    }

    /// The source as a plain function, for parts that take one.
    pub fn source(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        Arc::clone(&self.source)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    const DAY_MS: u64 = 86_400_000;

    fn manual(start_ms: u64) -> (Arc<AtomicU64>, Clock) {
        let wall = Arc::new(AtomicU64::new(start_ms));
        let read = Arc::clone(&wall);
        let clock = Clock::from_fn(move || read.load(Ordering::Relaxed)).steady();
        (wall, clock)
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_where_it_was() {
        let (wall, clock) = manual(10 * DAY_MS);
        let before = clock.unix_ms();
        wall.store(9 * DAY_MS, Ordering::Relaxed);
        let after = clock.unix_ms();
        assert!(
            after >= before && after < before + 60_000,
            "{before} {after}"
        );
    }

    #[test]
    fn a_clock_that_is_set_forward_is_followed_at_once() {
        let (wall, clock) = manual(10 * DAY_MS);
        clock.unix_ms();
        wall.store(11 * DAY_MS, Ordering::Relaxed);
        assert!(clock.unix_ms() >= 11 * DAY_MS);
    }

    #[test]
    fn a_clock_starts_no_earlier_than_what_has_been_seen() {
        let (_wall, clock) = manual(10 * DAY_MS);
        clock.not_before(12 * DAY_MS);
        assert!(clock.unix_ms() >= 12 * DAY_MS);
        clock.not_before(11 * DAY_MS);
        assert!(clock.unix_ms() >= 12 * DAY_MS);
    }
}
