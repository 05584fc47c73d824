//! How many requests are in flight at a time: a fixed limit, or one that is found by additive increase and multiplicative
//! decrease.
//!
//! It rises by one when it was reached and a whole window of answers (as many as the limit) went well; as long as nothing
//! was ever refused, it doubles. A number that was refused is tried again only after a hundred good answers, then two hundred,
//! and so on. A refusal speaks against the number in flight only if as many never went well lately; otherwise it is a
//! rate that was exceeded. One stray overload answer changes nothing; two in a short time lower the limit, once per round.
//! An outage says nothing about the number in flight: what it took away comes back when the breaker opens.

/// Good answers before a number that was refused is tried again, at first and at most.
const PATIENCE: (u32, u32) = (100, 3_200);

/// After so many answers the largest number that went well is looked for anew.
const EPOCH: u32 = 64;

/// The requests in flight, and how many there may be.
#[derive(Debug, Clone)]
pub(super) struct Concurrency {
    pub(super) in_flight: u32,
    /// Of those, the ones that the provider has taken.
    taken: u32,
    /// The limit now; `None` for none.
    pub(super) value: Option<u32>,
    /// A number that was refused.
    pub(super) ceiling: Option<u32>,
    top: Option<u32>,
    learn: bool,
    patience: u32,
    /// Good answers since the limit changed.
    good: u32,
    /// Somebody waited for this limit since it changed.
    wanted: bool,
    /// The most that the provider had taken at the same time, in this epoch and the one before.
    went_well: [u32; 2],
    answers: u32,
    /// Good answers until a stray overload is forgotten.
    strike: Option<u32>,
    /// The limit and the ceiling before overloads lowered it, while that is recent.
    before_overload: Option<(Option<u32>, Option<u32>)>,
    /// Slots before this one belong to a round that has been answered already.
    round: u64,
    /// Slots before this one were in flight when something was refused.
    refused_before: u64,
}

impl Concurrency {
    /// With the most that there may be, and a number to start with, if that is less.
    pub(super) fn new(top: Option<u32>, start: Option<u32>, learn: bool) -> Self {
        let top = top.filter(|top| *top > 0);
        let start = start.filter(|start| *start > 0 && learn);
        Self {
            in_flight: 0,
            taken: 0,
            value: match (top, start) {
                (Some(top), Some(start)) => Some(top.min(start)),
                (top, start) => top.or(start),
            },
            ceiling: None,
            top,
            learn,
            patience: PATIENCE.0,
            good: 0,
            wanted: false,
            went_well: [0; 2],
            answers: 0,
            strike: None,
            before_overload: None,
            round: 0,
            refused_before: 0,
        }
    }

    /// Takes over what was learned before.
    pub(super) fn resume(&mut self, value: Option<u32>, ceiling: Option<u32>) {
        if self.learn {
            let value = value.map(|value| value.clamp(1, self.top.unwrap_or(u32::MAX)));
            self.value = value.or(self.value);
            self.ceiling = ceiling;
        }
    }

    /// Whether one more may start.
    pub(super) fn has_room(&self) -> bool {
        self.value.is_none_or(|limit| self.in_flight < limit)
    }

    /// A request had to wait for one in flight to end.
    pub(super) fn wanted(&mut self) {
        self.wanted = true;
    }

    /// One starts; tells how many are in flight with it.
    pub(super) fn started(&mut self) -> u32 {
        self.in_flight += 1;
        self.in_flight
    }

    /// One has ended; whether the provider had taken it.
    pub(super) fn ended(&mut self, taken: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.taken = self.taken.saturating_sub(u32::from(taken));
    }

    /// The provider has taken one, the `number`th in flight when it started.
    pub(super) fn went_well(&mut self, number: u32, slot: u64) {
        self.taken += 1;
        // Those whose answer has begun are surely there together. Of those in flight when it started some may have ended
        // already, unseen yet; a refusal since then may have been one of them.
        let together = if slot < self.refused_before {
            0
        } else {
            number / 4 * 3
        };
        self.went_well[0] = self.went_well[0].max(self.taken).max(together);
        self.answers += 1;
        if self.answers >= EPOCH {
            self.answers = 0;
            self.went_well = [0, self.went_well[0]];
        }
        if let Some(left) = self.strike {
            self.strike = left.checked_sub(1);
        }
        self.good = self.good.saturating_add(1);
        self.rise();
    }

    fn rise(&mut self) {
        let Some(value) = self.value else { return };
        let top = self.top.unwrap_or(u32::MAX);
        if value >= top || !self.wanted || self.good < value {
            return;
        }
        let higher = match self.ceiling {
            None if self.top.is_none() => value.saturating_mul(2),
            Some(ceiling) if value >= ceiling => {
                // What was refused goes well now.
                self.ceiling = None;
                self.patience = PATIENCE.0;
                value.saturating_add(1)
            }
            Some(ceiling) if value + 1 >= ceiling && self.good < self.patience => return,
            None | Some(_) => value.saturating_add(1),
        };
        self.change(higher.min(top));
    }

    fn change(&mut self, value: u32) {
        self.before_overload = None;
        self.value = Some(value.max(1));
        self.good = 0;
        self.wanted = false;
    }

    /// Something was refused, for whatever reason, before the slot with this number.
    pub(super) fn was_refused(&mut self, next_slot: u64) {
        self.refused_before = next_slot;
    }

    /// The provider refused the `number`th in flight, and no rate explains it. Tells whether the number in flight does;
    /// then the limit is lower now.
    pub(super) fn refused(&mut self, number: u32, slot: u64, next_slot: u64) -> bool {
        self.was_refused(next_slot);
        if slot < self.round {
            return true;
        }
        let best = self.went_well[0].max(self.went_well[1]);
        // One alone is not too many.
        if number <= best.max(1) || !(self.learn || self.top.is_some()) {
            return false;
        }
        if self.ceiling.is_some() {
            self.patience = (self.patience * 2).min(PATIENCE.1);
        }
        self.round = next_slot;
        self.ceiling = Some(number);
        let less = (number / 2).max(best);
        self.change(less.min(number - 1));
        true
    }

    /// The provider is overloaded, says the answer to the `number`th in flight.
    pub(super) fn overloaded(&mut self, number: u32, slot: u64, next_slot: u64) {
        if slot < self.round {
            return;
        }
        let limit = self.value.unwrap_or(number).max(1);
        if self.strike.is_none() {
            self.strike = Some(limit.max(10) * 2);
            return;
        }
        if self.value.is_none() && !self.learn {
            return;
        }
        let before = self.before_overload.unwrap_or((self.value, self.ceiling));
        self.round = next_slot;
        self.ceiling = Some(limit);
        self.change(limit - limit.div_ceil(5).min(limit - 1));
        self.before_overload = Some(before);
    }

    /// It was no overload but an outage.
    pub(super) fn was_an_outage(&mut self) {
        self.strike = None;
        if let Some((value, ceiling)) = self.before_overload.take() {
            self.value = value;
            self.ceiling = ceiling;
            self.good = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(value: u32) -> Concurrency {
        Concurrency::new(None, Some(value), true)
    }

    /// So many are taken at the same time, and end.
    fn well(limit: &mut Concurrency, number: u32) {
        let crowds: Vec<u32> = (0..number).map(|_| limit.started()).collect();
        crowds.iter().for_each(|crowd| limit.went_well(*crowd, 0));
        (0..number).for_each(|_| limit.ended(true));
    }

    /// So many are taken one after another.
    fn one_by_one(limit: &mut Concurrency, number: u32) {
        (0..number).for_each(|_| well(limit, 1));
    }

    #[test]
    fn it_rises_only_when_it_was_reached_and_a_window_went_well() {
        let mut limit = learned(8);
        one_by_one(&mut limit, 100);
        assert_eq!(limit.value, Some(8));
        limit.wanted();
        one_by_one(&mut limit, 1);
        assert_eq!(limit.value, Some(16), "fast, while nothing was refused");
        limit.ceiling = Some(100);
        limit.wanted();
        one_by_one(&mut limit, 15);
        assert_eq!(limit.value, Some(16));
        one_by_one(&mut limit, 1);
        assert_eq!(limit.value, Some(17));
    }

    #[test]
    fn a_number_that_never_went_well_is_too_large_and_one_that_did_is_not() {
        let mut limit = learned(20);
        well(&mut limit, 10);
        assert!(!limit.refused(10, 10, 11), "it is a rate");
        assert_eq!(limit.value, Some(20));
        assert!(limit.refused(11, 11, 14));
        assert_eq!(limit.value, Some(10));
        assert!(limit.refused(13, 13, 14), "of the same round");
        assert_eq!(limit.value, Some(10));
    }

    #[test]
    fn most_of_those_in_flight_with_one_that_is_taken_were_there_too() {
        let mut limit = Concurrency::new(None, None, true);
        (0..12).for_each(|_| _ = limit.started());
        // Answers that come in one piece say nothing before they end.
        limit.went_well(12, 12);
        assert!(!limit.refused(9, 13, 20), "it is a rate");
        assert!(limit.refused(10, 14, 20));
    }

    #[test]
    fn those_in_flight_with_one_that_is_refused_may_not_have_been_there() {
        let mut limit = Concurrency::new(None, None, true);
        (0..80).for_each(|_| _ = limit.started());
        limit.was_refused(81);
        limit.went_well(80, 80);
        assert!(limit.refused(2, 82, 90));
    }

    #[test]
    fn where_a_start_and_a_most_are_given_it_rises_from_one_to_the_other() {
        let mut limit = Concurrency::new(Some(4), Some(1), true);
        assert_eq!(limit.value, Some(1));
        let mut values = Vec::new();
        for _ in 0..20 {
            limit.wanted();
            one_by_one(&mut limit, 1);
            values.extend(limit.value);
        }
        values.dedup();
        assert_eq!(values, [2, 3, 4]);
    }

    #[test]
    fn the_number_that_was_refused_is_tried_ever_less_often() {
        let mut limit = learned(10);
        well(&mut limit, 10);
        limit.refused(11, 11, 12);
        let mut tries = Vec::new();
        for slot in 12..15 {
            let mut good = 0;
            while limit.value == Some(10) {
                limit.wanted();
                one_by_one(&mut limit, 1);
                good += 1;
            }
            tries.push(good);
            limit.refused(11, slot, slot + 1);
            limit.value = Some(10);
        }
        assert_eq!(tries, [100, 200, 400]);
    }

    #[test]
    fn one_stray_overload_changes_nothing_and_a_second_soon_after_does() {
        let mut limit = learned(10);
        limit.overloaded(10, 1, 2);
        assert_eq!(limit.value, Some(10));
        one_by_one(&mut limit, 30);
        limit.overloaded(10, 40, 41);
        assert_eq!(limit.value, Some(10), "the first is forgotten");
        limit.overloaded(10, 41, 50);
        assert_eq!(limit.value, Some(8));
        limit.overloaded(10, 49, 50);
        assert_eq!(limit.value, Some(8), "once per round");
    }

    #[test]
    fn an_outage_takes_nothing_away() {
        let mut limit = learned(20);
        (0..100).for_each(|slot| limit.overloaded(20, slot, slot + 1));
        assert_eq!(limit.value, Some(1));
        limit.was_an_outage();
        assert_eq!((limit.value, limit.ceiling), (Some(20), None));
    }

    #[test]
    fn it_never_falls_below_one_nor_rises_above_what_is_configured() {
        let mut limit = Concurrency::new(Some(4), Some(50), true);
        (0..1_000).for_each(|slot| limit.overloaded(1, slot, slot + 1));
        assert_eq!(limit.value, Some(1));
        for _ in 0..10_000 {
            limit.wanted();
            one_by_one(&mut limit, 1);
        }
        assert_eq!(limit.value, Some(4));
        assert_eq!(Concurrency::new(Some(0), None, true).value, None);
    }
}
