//! How many retries a provider gets: a share of the requests that it was sent lately, so that a provider in trouble is
//! asked less and not more, and always a few, so that a lone request may still be tried again.
//!
//! A retry beyond the share is not lost: it is booked for the next moment at which there is room. The promise: when a
//! retry begins, no more than the share of the window that ends then, plus the floor, have begun in it, itself included.

use std::collections::VecDeque;

/// Length of the window, in cells of a second.
const WINDOW_SECONDS: u64 = 30;

/// Furthest ahead that a retry is booked, in seconds: a pause, and then waiting for room.
const HORIZON_SECONDS: u64 = 3600 + 4 * WINDOW_SECONDS;

/// The retry budget of one provider. Needs 16 bytes for each second in which something happens or is booked.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// Retries allowed per hundred first attempts.
    percent: u32,
    /// Retries allowed in any window.
    floor: u32,
    /// What happened in the window, and what is booked ahead: oldest first, no second twice.
    cells: VecDeque<Cell>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    second: u64,
    requests: u32,
    retries: u32,
}

impl Default for RetryBudget {
    /// A fifth of the requests of half a minute, and ten.
    fn default() -> Self {
        Self::new(20, 10)
    }
}

impl RetryBudget {
    /// `percent` retries for each hundred requests and, in any case, `floor` of them (at least 1) in half a minute.
    pub fn new(percent: u32, floor: u32) -> Self {
        Self {
            percent,
            floor: floor.max(1),
            cells: VecDeque::new(),
        }
    }

    /// Counts a first attempt.
    pub fn count_request(&mut self, now_ms: u64) {
        self.forget(now_ms / 1000);
        let cell = self.cell(now_ms / 1000);
        cell.requests = cell.requests.saturating_add(1);
    }

    /// Books a retry at `earliest_ms` or, if the provider had its share by then, at the next second with room for it.
    /// Gives the moment, or `None` and books nothing if there is no room until `latest_ms`.
    pub fn book_retry(&mut self, now_ms: u64, earliest_ms: u64, latest_ms: u64) -> Option<u64> {
        let now = now_ms / 1000;
        self.forget(now);
        let first = earliest_ms / 1000;
        let last = (latest_ms / 1000).min(now.saturating_add(HORIZON_SECONDS));
        let second = (first..=last).find(|second| self.has_room(*second))?;
        self.cell(second).retries += 1;
        // At the same point of the second as asked for, so that those who wait for one second do not meet at its start.
        let at_ms = (second * 1000).saturating_add(earliest_ms % 1000);
        Some(at_ms.min(latest_ms).max(earliest_ms))
    }

    /// Retries that may begin right now.
    pub fn room(&self, now_ms: u64) -> u32 {
        let (allowed, booked) = self.window(now_ms / 1000);
        u32::try_from(allowed.saturating_sub(booked)).unwrap_or(u32::MAX)
    }

    /// Whether one more in `second` breaks no promise, nor that of a retry which is booked for later.
    fn has_room(&self, second: u64) -> bool {
        let later = self.between(
            second.saturating_add(1),
            second.saturating_add(WINDOW_SECONDS),
        );
        let later = later
            .filter(|cell| cell.retries > 0)
            .map(|cell| cell.second);
        std::iter::once(second).chain(later).all(|end| {
            let (allowed, booked) = self.window(end);
            booked < allowed
        })
    }

    /// How many retries the window that ends with this second allows, and how many are booked in it.
    fn window(&self, end: u64) -> (u64, u64) {
        let (mut requests, mut retries) = (0_u64, 0_u64);
        let after = end.saturating_add(1);
        for cell in self.between(after.saturating_sub(WINDOW_SECONDS), after) {
            requests += u64::from(cell.requests);
            retries += u64::from(cell.retries);
        }
        let share = requests * u64::from(self.percent) / 100;
        (share + u64::from(self.floor), retries)
    }

    /// The cells from one second up to, but without, another.
    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Cell> {
        let at = |second| self.cells.partition_point(|cell| cell.second < second);
        self.cells.range(at(from)..at(to))
    }

    /// The cell of a second, made if there is none yet.
    fn cell(&mut self, second: u64) -> &mut Cell {
        let at = self.cells.partition_point(|cell| cell.second < second);
        if self.cells.get(at).is_none_or(|cell| cell.second != second) {
            let cell = Cell {
                second,
                requests: 0,
                retries: 0,
            };
            self.cells.insert(at, cell);
        }
        &mut self.cells[at]
    }

    /// Drops what no window from now on contains; and, when the wall clock was set back, what lies too far ahead.
    fn forget(&mut self, now: u64) {
        while let Some(first) = self.cells.front()
            && first.second.saturating_add(WINDOW_SECONDS) <= now
        {
            self.cells.pop_front();
        }
        while let Some(last) = self.cells.back()
            && last.second > now.saturating_add(HORIZON_SECONDS)
        {
            self.cells.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_MS: u64 = WINDOW_SECONDS * 1000;

    #[test]
    fn a_lone_request_may_be_tried_again() {
        let mut budget = RetryBudget::default();
        budget.count_request(5_000);
        for retry in 0..3 {
            assert_eq!(budget.book_retry(5_000 + retry, 6_000, 60_000), Some(6_000));
        }
    }

    #[test]
    fn retries_beyond_the_share_wait_for_room_or_are_refused_by_the_deadline() {
        let mut budget = RetryBudget::new(20, 1);
        for _ in 0..10 {
            budget.count_request(0);
        }
        // The floor and a fifth of ten.
        for left in [3, 2, 1] {
            assert_eq!(budget.room(1_500), left);
            assert_eq!(budget.book_retry(500, 1_500, 20_000), Some(1_500));
        }
        assert_eq!(budget.room(1_500), 0);
        assert_eq!(budget.book_retry(500, 1_500, 20_000), None);
        // Those of second 1 leave the window with second 31, and the requests have left it before.
        assert_eq!(budget.book_retry(500, 1_500, 90_000), Some(31_500));
        assert_eq!(budget.book_retry(500, 1_500, 90_000), Some(61_500));
        assert_eq!(budget.book_retry(500, 1_500, 90_000), None);
        // New requests make room again.
        for _ in 0..5 {
            budget.count_request(2_000);
        }
        assert_eq!(budget.book_retry(2_000, 2_500, 2_900), Some(2_500));
    }

    #[test]
    fn what_is_past_takes_no_memory() {
        let mut budget = RetryBudget::default();
        for second in 0..10_000 {
            budget.count_request(second * 1000);
        }
        assert!(budget.cells.len() <= WINDOW_SECONDS as usize);
        // Set back, the clock finds nothing that is in its way for long.
        budget.count_request(0);
        assert_eq!(budget.cells.len(), 1);
    }

    proptest! {
        /// Whatever is asked for in which order: when a retry begins, the window that ends then holds no more than its
        /// share.
        #[test]
        fn the_budget_is_never_exceeded(
            percent in 0..100_u32,
            floor in 1..5_u32,
            steps in proptest::collection::vec((any::<bool>(), 0..4_000_u64, 0..20_000_u64), 1..120),
        ) {
            let mut budget = RetryBudget::new(percent, floor);
            let (mut now, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (request, step, pause) in steps {
                now += step;
                if request {
                    budget.count_request(now);
                    requests.push(now);
                } else if let Some(at) = budget.book_retry(now, now + pause, now + 100_000) {
                    prop_assert!(at >= now + pause && at <= now + 100_999);
                    retries.push(at);
                }
            }
            for end in &retries {
                // Counted by seconds, as the budget does.
                let end = end / 1000;
                let inside = |at: &&u64| *at / 1000 <= end && end - *at / 1000 < WINDOW_SECONDS;
                let begun = retries.iter().filter(inside).count() as u64;
                let sent = requests.iter().filter(inside).count() as u64;
                prop_assert!(begun <= u64::from(floor) + sent * u64::from(percent) / 100);
            }
        }

        #[test]
        fn no_time_panics(times in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..20)) {
            let mut budget = RetryBudget::default();
            for (now, earliest, latest) in times {
                budget.count_request(now);
                if let Some(at) = budget.book_retry(now, earliest, latest) {
                    prop_assert!(at >= earliest);
                }
                budget.room(now.wrapping_add(WINDOW_MS));
            }
        }
    }
}
