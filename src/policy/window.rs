//! Counts what was used in a window: the last minute, hour or day (rolling), or the calendar month.
//!
//! A rolling window is cut into sixtieths that are aligned to the epoch. A sixtieth counts until all of it lies outside
//! the window: usage is never forgotten early, and late by at most 1/60 of the window. Nothing runs in the background:
//! what has left is dropped when the counter is looked at.

use super::budget::{Amounts, Window};
use super::calendar::Month;
use crate::units::Cost;

/// Sixtieths of a rolling window.
const SLOTS: u64 = 60;

/// The latest instant that windows can tell from later ones: in the year 2106, where the number of a slot of one second
/// ends.
pub const LAST_MS: u64 = u32::MAX as u64 * 1000;

/// No usage.
const NOTHING: Amounts = Amounts {
    requests: 0,
    fresh_tokens: 0,
    cached_tokens: 0,
    cost: Cost::ZERO,
};

/// The present, as every window needs it. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// Unix milliseconds, at most [`LAST_MS`].
    pub now_ms: u64,
    /// The calendar month of that instant.
    pub month: Month,
}

/// What was used in one window.
#[derive(Debug, Clone)]
pub enum Counter {
    /// In the last minute, hour or day.
    Rolling(Rolling),
    /// In the calendar month: apart, because it is larger and seldom.
    Monthly(Box<Monthly>),
}

impl Counter {
    /// Counts over a window; nothing was used yet.
    pub fn new(window: Window) -> Self {
        match window.rolling_ms() {
            Some(length_ms) => Self::Rolling(Rolling {
                slot_ms: length_ms / SLOTS,
                slots: Vec::new(),
            }),
            None => Self::Monthly(Box::new(Monthly {
                begins_ms: 0,
                total: NOTHING,
            })),
        }
    }

    /// Forgets what lies wholly outside the window now.
    pub fn advance(&mut self, present: &Present) {
        match self {
            Self::Rolling(rolling) => rolling.advance(present.now_ms),
            Self::Monthly(monthly) => monthly.advance(present.month),
        }
    }

    /// Adds what was used at an instant, which is not after the present; `false` if that has already left the window.
    pub fn add(&mut self, at_ms: u64, used: &Amounts, present: &Present) -> bool {
        match self {
            Self::Rolling(rolling) => rolling.add(at_ms, used, present.now_ms),
            Self::Monthly(monthly) => monthly.add(at_ms, used, present.month),
        }
    }

    /// The measured sum of what is left in the window, as of the last time it was advanced.
    pub fn sum(&self, measure: impl Fn(&Amounts) -> i128) -> i128 {
        match self {
            Self::Rolling(rolling) => {
                let slots = rolling.slots.iter().map(|slot| measure(&slot.amounts()));
                slots.fold(0, i128::saturating_add)
            }
            Self::Monthly(monthly) => measure(&monthly.total),
        }
    }

    /// When something leaves the window for the first time (Unix milliseconds); `None` if nothing is left in it.
    pub fn eases_at(&self, present: &Present) -> Option<u64> {
        match self {
            Self::Rolling(rolling) => {
                let oldest = rolling.slots.first()?;
                Some(rolling.leaves_at(oldest.number))
            }
            Self::Monthly(monthly) => (monthly.total != NOTHING).then_some(present.month.ends_ms),
        }
    }

    /// The first instant (Unix milliseconds) at which the measured sum is at most `most`, if nothing is added: the present
    /// if it is already. `None` if `most` is negative.
    pub fn falls_to(
        &self,
        most: i128,
        measure: impl Fn(&Amounts) -> i128,
        present: &Present,
    ) -> Option<u64> {
        if most < 0 {
            return None;
        }
        Some(match self {
            Self::Rolling(rolling) => rolling
                .last_to_leave(most, measure)
                .map_or(present.now_ms, |slot| rolling.leaves_at(slot)),
            Self::Monthly(monthly) if measure(&monthly.total) <= most => present.now_ms,
            Self::Monthly(_) => present.month.ends_ms,
        })
    }

    /// Bytes on the heap.
    pub const fn heap_bytes(&self) -> usize {
        match self {
            Self::Rolling(rolling) => rolling.slots.capacity() * size_of::<Slot>(),
            Self::Monthly(_) => size_of::<Monthly>(),
        }
    }
}

/// What was used in the last minute, hour or day.
#[derive(Debug, Clone)]
pub struct Rolling {
    /// Length of a sixtieth, in milliseconds.
    slot_ms: u64,
    /// The sixtieths in which something was used, oldest first.
    slots: Vec<Slot>,
}

impl Rolling {
    fn advance(&mut self, now_ms: u64) {
        let left = |slot: &Slot| self.leaves_at(slot.number) <= now_ms;
        let gone = self.slots.partition_point(left);
        self.slots.drain(..gone);
        if self.slots.is_empty() {
            self.slots = Vec::new();
        }
    }

    fn add(&mut self, at_ms: u64, used: &Amounts, now_ms: u64) -> bool {
        let number = u32::try_from(at_ms / self.slot_ms).unwrap_or(u32::MAX);
        if self.leaves_at(number) <= now_ms {
            return false;
        }
        // The newest slot is nearly always the right one, or the one before it.
        let place = self.slots.iter().rposition(|slot| slot.number <= number);
        match place {
            Some(place) if self.slots[place].number == number => self.slots[place].add(used),
            _ => {
                if self.slots.len() == self.slots.capacity() {
                    // Most sessions are short, and there are many: grow by halves, not by doubling.
                    self.slots.reserve_exact(2 + self.slots.len() / 2);
                }
                let place = place.map_or(0, |place| place + 1);
                self.slots.insert(place, Slot::new(number, used));
            }
        }
        true
    }

    /// When all of a slot lies outside the window: a window after the slot's end.
    const fn leaves_at(&self, number: u32) -> u64 {
        (number as u64 + 1 + SLOTS) * self.slot_ms
    }

    /// The newest slot that has to leave before the measured rest is at most `most`; `None` if it is already.
    fn last_to_leave(&self, most: i128, measure: impl Fn(&Amounts) -> i128) -> Option<u32> {
        let mut newer: i128 = 0;
        let slot = self.slots.iter().rev().find(|slot| {
            newer = newer.saturating_add(measure(&slot.amounts()));
            newer > most
        })?;
        Some(slot.number)
    }

    /// The slots as they are put away.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Amounts)> {
        self.slots.iter().map(|slot| (slot.number, slot.amounts()))
    }

    /// Puts back slots that were put away; `false`, and nothing is changed, unless they rise.
    #[must_use]
    pub fn refill(&mut self, slots: &[(u32, Amounts)]) -> bool {
        let rise = slots.is_sorted_by(|(older, _), (newer, _)| older < newer);
        if rise {
            let slots = slots.iter();
            self.slots = slots
                .map(|(number, used)| Slot::new(*number, used))
                .collect();
        }
        rise
    }
}

/// What was used in a calendar month.
#[derive(Debug, Clone, Copy)]
pub struct Monthly {
    /// First instant of the month, in Unix milliseconds.
    pub begins_ms: u64,
    /// What was used in it.
    pub total: Amounts,
}

impl Monthly {
    const fn advance(&mut self, month: Month) {
        if self.begins_ms != month.begins_ms {
            self.begins_ms = month.begins_ms;
            self.total = NOTHING;
        }
    }

    fn add(&mut self, at_ms: u64, used: &Amounts, month: Month) -> bool {
        self.advance(month);
        let counts = at_ms >= self.begins_ms;
        if counts {
            self.total.add(used);
        }
        counts
    }
}

/// What was used in one sixtieth of a window, in 40 bytes: there are many of them.
///
/// Tokens that reach the largest number stay there, which is no less than any limit. So do requests; four thousand
/// million in a second are out of reach.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Slot {
    attos: i128,
    fresh_tokens: u64,
    cached_tokens: u64,
    requests: u32,
    /// Which sixtieth since the epoch.
    number: u32,
}

impl Slot {
    fn new(number: u32, used: &Amounts) -> Self {
        Self {
            attos: used.cost.attos(),
            fresh_tokens: used.fresh_tokens,
            cached_tokens: used.cached_tokens,
            requests: u32::try_from(used.requests).unwrap_or(u32::MAX),
            number,
        }
    }

    fn add(&mut self, used: &Amounts) {
        let mut sum = self.amounts();
        sum.add(used);
        *self = Self::new(self.number, &sum);
    }

    fn amounts(self) -> Amounts {
        Amounts {
            requests: u64::from(self.requests),
            fresh_tokens: self.fresh_tokens,
            cached_tokens: self.cached_tokens,
            cost: Cost::from_attos(self.attos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day in 2027, at the beginning of an hour.
    const START: u64 = 1_800_000_000_000;
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const MONTH: Month = Month {
        begins_ms: START - HOUR,
        ends_ms: START + HOUR,
    };

    fn at(now_ms: u64) -> Present {
        Present {
            now_ms,
            month: MONTH,
        }
    }

    fn tokens(fresh_tokens: u64) -> Amounts {
        Amounts {
            fresh_tokens,
            ..NOTHING
        }
    }

    fn measured(used: &Amounts) -> i128 {
        i128::from(used.fresh_tokens)
    }

    fn seen(counter: &mut Counter, now_ms: u64) -> i128 {
        counter.advance(&at(now_ms));
        counter.sum(measured)
    }

    #[test]
    fn what_there_is_many_of_is_small() {
        assert_eq!(size_of::<Slot>(), 40);
        assert_eq!(size_of::<Counter>(), 32);
    }

    #[test]
    fn usage_counts_for_its_window_and_at_most_a_sixtieth_longer() {
        for window in [Window::Minute, Window::Hour, Window::Day] {
            let length = window.rolling_ms().expect("a rolling window");
            for offset in [0, 1, length / 120, length / 60 - 1] {
                let mut counter = Counter::new(window);
                let spent = START + offset;
                counter.add(spent, &tokens(7), &at(spent));
                let leaves = counter.eases_at(&at(spent)).expect("something is in it");
                assert!(leaves > spent + length, "{window:?}: never early");
                assert!(leaves <= spent + length + length / 60, "{window:?}: late");
                assert_eq!(seen(&mut counter, leaves - 1), 7);
                assert_eq!(seen(&mut counter, leaves), 0);
                assert_eq!(counter.eases_at(&at(leaves)), None);
            }
        }
    }

    #[test]
    fn slots_leave_one_after_another() {
        let mut counter = Counter::new(Window::Hour);
        for (minute, amount) in [(0, 1), (1, 10), (1, 20), (30, 100)] {
            let now = START + minute * MINUTE;
            counter.add(now, &tokens(amount), &at(now));
        }
        let now = START + 30 * MINUTE;
        let falls_to = |most| counter.falls_to(most, measured, &at(now));
        assert_eq!(falls_to(131), Some(now));
        assert_eq!(falls_to(130), Some(START + 61 * MINUTE));
        assert_eq!(falls_to(129), Some(START + 62 * MINUTE));
        assert_eq!(falls_to(100), Some(START + 62 * MINUTE));
        assert_eq!(falls_to(0), Some(START + 91 * MINUTE));
        assert_eq!(falls_to(-1), None);
        for (minute, expected) in [(60, 131), (61, 130), (62, 100), (90, 100), (91, 0)] {
            assert_eq!(seen(&mut counter, START + minute * MINUTE), expected);
        }
    }

    #[test]
    fn late_news_goes_to_its_own_time() {
        let mut counter = Counter::new(Window::Hour);
        let now = START + 40 * MINUTE;
        for (minute, amount) in [(20, 1), (10, 2), (30, 4), (20, 8)] {
            assert!(counter.add(START + minute * MINUTE, &tokens(amount), &at(now)));
        }
        assert!(!counter.add(now - 62 * MINUTE, &tokens(1000), &at(now)));
        assert_eq!(counter.sum(measured), 15, "what has left is not new");
        for (minute, expected) in [(70, 15), (71, 13), (81, 4), (91, 0)] {
            assert_eq!(seen(&mut counter, START + minute * MINUTE), expected);
        }
    }

    #[test]
    fn tokens_that_reach_the_largest_number_stay_there() {
        let mut counter = Counter::new(Window::Minute);
        for _ in 0..2 {
            counter.add(START, &tokens(u64::MAX - 1), &at(START));
        }
        assert_eq!(seen(&mut counter, START), i128::from(u64::MAX));
        let now = START + 30_000;
        counter.add(now, &tokens(5), &at(now));
        assert_eq!(seen(&mut counter, START + 61_000), 5);
    }

    #[test]
    fn a_month_counts_until_it_ends() {
        let mut counter = Counter::new(Window::Month);
        counter.add(START, &tokens(5), &at(START));
        counter.add(MONTH.begins_ms, &tokens(2), &at(START));
        assert!(!counter.add(MONTH.begins_ms - 1, &tokens(100), &at(START)));
        assert_eq!(counter.sum(measured), 7);
        assert_eq!(counter.eases_at(&at(START)), Some(MONTH.ends_ms));
        assert_eq!(counter.falls_to(7, measured, &at(START)), Some(START));
        assert_eq!(
            counter.falls_to(6, measured, &at(START)),
            Some(MONTH.ends_ms)
        );
        let next = Present {
            now_ms: MONTH.ends_ms,
            month: Month {
                begins_ms: MONTH.ends_ms,
                ends_ms: MONTH.ends_ms + HOUR,
            },
        };
        counter.advance(&next);
        assert_eq!(counter.eases_at(&next), None);
        assert_eq!(counter.sum(measured), 0);
    }

    #[test]
    fn the_end_of_time_is_no_error() {
        let mut counter = Counter::new(Window::Minute);
        counter.add(LAST_MS, &tokens(1), &at(LAST_MS));
        assert_eq!(seen(&mut counter, LAST_MS), 1);
    }
}
