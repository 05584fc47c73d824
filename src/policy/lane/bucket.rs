//! A token bucket that refills continuously, takes more than it has where it is told to, and takes things back.
//!
//! Exact: the level counts in parts so small that a millisecond's refill is a whole number, so nothing is lost to rounding
//! however often it is looked at. Time that goes back changes nothing.

/// Rates are in thousandths.
pub(super) const MILLI: u64 = 1_000;

/// Amounts beyond this are as good as no limit; so no product here overflows.
pub(super) const MOST: u64 = 1_000_000_000_000_000;

/// No window and no rest is longer: 34 years.
const LONGEST_MS: u64 = 1 << 40;

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Refill in a window, in thousandths.
    rate_milli: u64,
    window_ms: u64,
    /// In parts: one is 1 / (`window_ms` · 1,000).
    level: i128,
    /// Refilling stops here, in parts.
    full: i128,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket that holds `holds_milli` thousandths.
    pub(super) fn new(rate_milli: u64, window_ms: u64, holds_milli: u64, now_ms: u64) -> Self {
        let mut bucket = Self {
            rate_milli: 0,
            window_ms: window_ms.clamp(1, LONGEST_MS),
            level: i128::MAX,
            full: 0,
            at_ms: now_ms,
        };
        bucket.change(rate_milli, holds_milli);
        bucket
    }

    fn parts(&self, amount: u64) -> i128 {
        i128::from(amount.min(MOST)) * i128::from(self.window_ms) * i128::from(MILLI)
    }

    /// Refills up to now.
    pub(super) fn advance(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms).min(LONGEST_MS);
        self.at_ms = self.at_ms.max(now_ms);
        // What was given back beyond the rim stays; the refill alone never passes it.
        if self.level < self.full {
            let refill = i128::from(passed) * i128::from(self.rate_milli);
            self.level = (self.level + refill).min(self.full);
        }
    }

    /// Changes the rate and what it holds; what is in it stays, up to the rim.
    pub(super) fn change(&mut self, rate_milli: u64, holds_milli: u64) {
        let most = MOST * MILLI;
        self.rate_milli = rate_milli.min(most);
        self.full = i128::from(holds_milli.min(most)) * i128::from(self.window_ms);
        self.level = self.level.min(self.full);
    }

    /// Takes an amount, also one that is not there. The debt stays below what two windows of the largest rate pay.
    pub(super) fn take(&mut self, amount: u64) {
        let deepest = -2 * self.parts(MOST);
        self.level = (self.level - self.parts(amount)).max(deepest);
    }

    /// Loses what would have come in beyond the rim in some time, as if it were full until then.
    pub(super) fn lose_what_runs_over_in(&mut self, ms: u64) {
        let coming = i128::from(ms.min(LONGEST_MS)) * i128::from(self.rate_milli);
        self.level = self.level.min(self.full - coming.min(self.full));
    }

    /// Gives an amount back, up to the rim.
    pub(super) fn give(&mut self, amount: u64) {
        self.level = (self.level + self.parts(amount)).min(self.full.max(self.level));
    }

    /// Gives an amount back, past the rim if need be, but not past `most`.
    pub(super) fn give_up_to(&mut self, amount: u64, most: u64) {
        let most = self.parts(most).max(self.full).max(self.level);
        self.level = (self.level + self.parts(amount)).min(most);
    }

    /// Milliseconds until an amount is there if nothing is taken; for an amount that it cannot hold, until it is full.
    /// `None` for never.
    pub(super) fn wait_for(&self, amount: u64) -> Option<u64> {
        self.wait(self.parts(amount).min(self.full))
    }

    /// Milliseconds until an amount has come in beyond what is there, also one that it cannot hold: for one request after
    /// another. `None` for never.
    pub(super) fn wait_for_all(&self, amount: u64) -> Option<u64> {
        self.wait(self.parts(amount))
    }

    fn wait(&self, parts: i128) -> Option<u64> {
        let missing = parts - self.level;
        if missing <= 0 {
            return Some(0);
        }
        let rate = i128::from(self.rate_milli);
        (rate > 0).then(|| u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX))
    }

    /// What is there, in whole numbers, rounded down; negative for a debt.
    pub(super) fn level(&self) -> i64 {
        let one = self.parts(1);
        let whole = self.level.div_euclid(one);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// What refills in some time, in whole numbers, rounded up.
    pub(super) fn refill_in(&self, ms: u64) -> u64 {
        let parts = i128::from(ms.min(LONGEST_MS)) * i128::from(self.rate_milli);
        let one = self.parts(1);
        u64::try_from((parts + one - 1) / one).unwrap_or(u64::MAX)
    }

    /// Lowers the level to at most an amount.
    pub(super) fn lower_to(&mut self, amount: i64) {
        self.level = self.level.min(self.signed_parts(amount));
    }

    /// Raises the level to at least an amount, up to the rim.
    pub(super) fn raise_to(&mut self, amount: i64) {
        let raised = self.signed_parts(amount).min(self.full);
        self.level = self.level.max(raised);
    }

    fn signed_parts(&self, amount: i64) -> i128 {
        let most = MOST as i64;
        i128::from(amount.clamp(-most, most)) * self.parts(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    impl Bucket {
        fn has(&self, amount: u64) -> bool {
            self.wait_for(amount) == Some(0)
        }
    }

    #[test]
    fn refills_continuously_and_exactly() {
        let mut bucket = Bucket::new(7 * MILLI, MINUTE, 7 * MILLI, 0);
        bucket.take(7);
        assert_eq!(bucket.wait_for(1), Some(8_572), "60,000 / 7, rounded up");
        bucket.advance(8_571);
        assert!(!bucket.has(1));
        bucket.advance(8_572);
        assert!(bucket.has(1));
        for now in 8_573..=60_000 {
            bucket.advance(now);
        }
        assert!(bucket.has(7), "whatever was looked at in between");
    }

    #[test]
    fn what_it_cannot_hold_has_room_when_it_is_full() {
        let mut bucket = Bucket::new(60 * MILLI, MINUTE, 10 * MILLI, 0);
        assert!(bucket.has(1_000));
        bucket.take(1);
        assert_eq!(bucket.wait_for(1_000), Some(1_000));
        assert_eq!(bucket.wait_for_all(1_000), Some(991_000));
    }

    #[test]
    fn a_debt_is_paid_before_anything_passes() {
        let mut bucket = Bucket::new(60 * MILLI, MINUTE, 2 * MILLI, 0);
        bucket.take(12);
        assert_eq!((bucket.level(), bucket.wait_for(0)), (-10, Some(10_000)));
        bucket.give(100);
        assert_eq!(bucket.level(), 2);
        bucket.give_up_to(100, 60);
        assert_eq!(bucket.level(), 60);
        bucket.advance(50_000);
        assert_eq!(bucket.level(), 60, "the refill does not pass the rim");
    }

    #[test]
    fn without_a_rate_nothing_comes_back_and_nothing_overflows() {
        let mut bucket = Bucket::new(0, MINUTE, u64::MAX, 0);
        bucket.take(u64::MAX);
        assert_eq!(bucket.wait_for(1), None);
        let mut bucket = Bucket::new(u64::MAX, u64::MAX, u64::MAX, 0);
        bucket.take(u64::MAX);
        bucket.advance(u64::MAX);
        bucket.give(u64::MAX);
        assert!(bucket.has(u64::MAX));
        for _ in 0..100 {
            bucket.take(u64::MAX);
            bucket.lower_to(i64::MIN);
        }
        bucket.raise_to(i64::MAX);
        assert!(bucket.has(u64::MAX));
    }

    proptest! {
        /// What passes in any time is at most what it holds and what has come in.
        #[test]
        fn no_more_passes_than_it_holds_and_what_came_in(
            rate in 1_u64..100_000, holds in 1_u64..100_000, steps in prop::collection::vec((0_u64..5_000, 1_u64..50), 1..200)
        ) {
            let mut bucket = Bucket::new(rate, MINUTE, holds * MILLI, 0);
            let (mut now, mut passed) = (0_u64, 0_u64);
            for (rest, amount) in steps {
                now += rest;
                bucket.advance(now);
                if amount <= holds && bucket.has(amount) {
                    bucket.take(amount);
                    passed += amount;
                } else if amount <= holds {
                    let wait = bucket.wait_for(amount).expect("the rate is not zero");
                    let mut later = bucket;
                    later.advance(now + wait - 1);
                    prop_assert!(!later.has(amount), "refused until the promised moment");
                    later.advance(now + wait);
                    prop_assert!(later.has(amount), "admitted at it");
                }
                prop_assert!(u128::from(passed) * 60_000_000 <= u128::from(holds) * 60_000_000 + u128::from(now) * u128::from(rate));
            }
        }
    }
}
