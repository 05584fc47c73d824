//! How much the provider has let through lately.

use std::collections::VecDeque;

/// Length of a bin.
pub(super) const BIN_MS: u64 = 1_000;

/// Bins that are kept: a minute.
const BINS: u64 = 60;

/// What was let through, in bins of a second.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Number of the bin since the epoch, and its sum; oldest first.
    bins: VecDeque<(u64, i64)>,
}

impl History {
    /// Adds what was let through now; negative to correct what was added before.
    pub(super) fn add(&mut self, amount: i64, now_ms: u64) {
        let number = now_ms / BIN_MS;
        match self.bins.back_mut() {
            Some((last, sum)) if *last >= number => *sum = sum.saturating_add(amount),
            _ => self.bins.push_back((number, amount)),
        }
        let oldest = number.saturating_sub(BINS);
        while self.bins.front().is_some_and(|(bin, _)| *bin < oldest) {
            self.bins.pop_front();
        }
    }

    /// The highest rate per window (in thousandths) over the time up to now, that long or longer.
    pub(super) fn peak(&self, least_ms: u64, window_ms: u64, now_ms: u64) -> u64 {
        let mut sum: i128 = 0;
        let rates = self.bins.iter().rev().map(|(number, amount)| {
            sum += i128::from(*amount);
            let time_ms = now_ms
                .saturating_sub(number * BIN_MS)
                .max(least_ms)
                .max(BIN_MS);
            sum * i128::from(window_ms) * 1_000 / i128::from(time_ms)
        });
        rates
            .max()
            .and_then(|most| u64::try_from(most.max(0)).ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn the_peak_is_the_busiest_time_up_to_now_that_is_long_enough() {
        let mut history = History::default();
        history.add(60, MINUTE);
        assert_eq!(history.peak(1_000, MINUTE, MINUTE), 3_600_000);
        assert_eq!(history.peak(5_000, MINUTE, MINUTE), 720_000);
        for second in 1..=30 {
            history.add(1, MINUTE + second * 1_000);
        }
        assert_eq!(history.peak(5_000, MINUTE, MINUTE + 30_000), 180_000);
    }

    #[test]
    fn an_hour_of_rest_forgets() {
        let mut history = History::default();
        history.add(1_000, 0);
        history.add(6, 60 * MINUTE);
        assert_eq!(history.peak(5_000, MINUTE, 60 * MINUTE), 72_000);
        history.add(-6, 60 * MINUTE);
        assert_eq!(history.peak(5_000, MINUTE, 60 * MINUTE), 0);
        assert_eq!(History::default().peak(5_000, MINUTE, 0), 0);
    }
}
