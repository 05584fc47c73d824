//! Requests per day.
//!
//! A configured limit holds in any 24 hours, counted in sixtieths of a day: a request counts until its whole sixtieth is a
//! day old. So it holds whenever the provider's day begins, and in a day of 25 hours but for its last one. Where the
//! provider says what is left of a day, that rules instead. The day's allowance is not paced.

use std::collections::VecDeque;

use super::news::Quota;

/// A day.
const DAY_MS: u64 = 86_400_000;

/// A sixtieth of a day.
const SLOT_MS: u64 = DAY_MS / 60;

/// The requests of the last day.
#[derive(Debug, Clone)]
pub(super) struct Day {
    configured: Option<u64>,
    start: Option<u64>,
    /// Number of the sixtieth since the epoch, and how many started in it; oldest first.
    slots: VecDeque<(u64, u64)>,
    /// Started in all, for ever.
    started: u64,
    told: Option<Told>,
    /// Tokens per day are used up until then.
    tokens_back_ms: u64,
}

/// What the provider said is left.
#[derive(Debug, Clone, Copy)]
struct Told {
    left: u64,
    /// When there will be more.
    more_at_ms: u64,
}

impl Day {
    /// With the configured limit, or else one that holds until the provider says how many there are.
    pub(super) fn new(configured: Option<u64>, start: Option<u64>) -> Self {
        Self {
            configured: configured.filter(|limit| *limit > 0),
            start: start.filter(|limit| *limit > 0),
            slots: VecDeque::new(),
            started: 0,
            told: None,
            tokens_back_ms: 0,
        }
    }

    /// The limit of its own, if there is one.
    pub(super) fn limit(&self) -> Option<u64> {
        let start = self.start.filter(|_| self.told.is_none());
        self.configured.or(start)
    }

    /// How many started in the last day.
    pub(super) fn used(&self) -> u64 {
        self.slots.iter().map(|(_, count)| count).sum()
    }

    /// Started in all: what a request keeps to tell what came after it.
    pub(super) fn mark(&self) -> u64 {
        self.started
    }

    /// Forgets what is a day old.
    pub(super) fn advance(&mut self, now_ms: u64) {
        while self
            .slots
            .front()
            .is_some_and(|(slot, _)| leaves_at(*slot) <= now_ms)
        {
            self.slots.pop_front();
        }
        if let Some(told) = &mut self.told
            && told.left == 0
            && told.more_at_ms <= now_ms
        {
            // One, whose answer will tell.
            told.left = 1;
            told.more_at_ms = u64::MAX;
        }
    }

    /// When so many more requests may have started, and the next one may (Unix milliseconds).
    pub(super) fn ready_at(&self, ahead: u64, now_ms: u64) -> u64 {
        let told = match self.told {
            Some(told) if told.left == 0 => told.more_at_ms,
            _ => now_ms,
        };
        told.max(self.own_ready_at(ahead, now_ms))
            .max(self.tokens_back_ms)
            .max(now_ms)
    }

    fn own_ready_at(&self, ahead: u64, now_ms: u64) -> u64 {
        let Some(limit) = self.limit() else {
            return now_ms;
        };
        // All that must have left before `ahead` and one more fit; who comes after a whole day has to wait for those
        // before it, at least a day.
        let mut over = (self.used() + 1)
            .saturating_add(ahead % limit)
            .saturating_sub(limit);
        let days = ahead / limit * DAY_MS;
        for (slot, count) in &self.slots {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(*count);
            if over == 0 {
                return leaves_at(*slot).saturating_add(days);
            }
        }
        now_ms
            .saturating_add(days)
            .saturating_add(if over > 0 { DAY_MS } else { 0 })
    }

    /// A request starts.
    pub(super) fn take(&mut self, now_ms: u64) {
        self.started += 1;
        let number = now_ms / SLOT_MS;
        match self.slots.back_mut() {
            Some((last, count)) if *last >= number => *count += 1,
            _ => self.slots.push_back((number, 1)),
        }
        if let Some(told) = &mut self.told {
            told.left = told.left.saturating_sub(1);
            if told.left == 0 && told.more_at_ms == u64::MAX {
                // Its answer is worth waiting for, but not for ever.
                told.more_at_ms = now_ms.saturating_add(60_000);
            }
        }
    }

    /// A request that was counted last has not been sent after all.
    pub(super) fn give_back(&mut self) {
        if let Some((_, count)) = self.slots.back_mut() {
            *count = count.saturating_sub(1);
        }
    }

    /// What the provider says about its day, in an answer to the request that started as number `mark`.
    pub(super) fn hear(&mut self, quota: &Quota, mark: u64, now_ms: u64) {
        let Some(left) = quota.remaining else { return };
        let after = self.started.saturating_sub(mark);
        self.told = Some(Told {
            left: left.saturating_sub(after),
            more_at_ms: now_ms.saturating_add(back_in(quota)),
        });
    }

    /// What the provider says about its tokens of the day.
    pub(super) fn hear_tokens(&mut self, quota: &Quota, now_ms: u64) {
        self.tokens_back_ms = match quota.remaining {
            Some(0) => now_ms.saturating_add(back_in(quota)),
            Some(_) => 0,
            None => self.tokens_back_ms,
        };
    }

    /// The requests of the last day, to be put away.
    pub(super) fn slots(&self) -> Vec<(u64, u64)> {
        self.slots.iter().copied().collect()
    }

    /// Takes over what was put away, unless it is not in order.
    pub(super) fn resume(&mut self, slots: &[(u64, u64)], now_ms: u64) {
        let number = now_ms / SLOT_MS;
        if slots.is_sorted_by(|(older, _), (newer, _)| older < newer)
            && slots.last().is_none_or(|(last, _)| *last <= number)
        {
            self.slots = slots.iter().copied().collect();
            self.advance(now_ms);
        }
    }
}

/// When all of a sixtieth is a day old.
const fn leaves_at(slot: u64) -> u64 {
    slot.saturating_add(61).saturating_mul(SLOT_MS)
}

/// After how long one more may pass when nothing is left: a day's allowance that refills continuously lets one through
/// after its share of the day; one that does not, when it resets.
fn back_in(quota: &Quota) -> u64 {
    let share = quota.limit.filter(|limit| *limit > 0);
    let share = share.map(|limit| (DAY_MS / limit).max(1_000));
    let resets = quota
        .resets_in
        .map(|resets| u64::try_from(resets.as_millis()).unwrap_or(u64::MAX));
    match (share, resets) {
        (Some(share), Some(resets)) => share.min(resets.max(1_000)),
        (share, resets) => share.or(resets).unwrap_or(60_000),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_24_hours_have_more_than_the_limit() {
        let mut day = Day::new(Some(50), None);
        let mut starts: Vec<u64> = Vec::new();
        let mut now = DAY_MS * 100 + 12_345;
        while starts.len() < 400 {
            day.advance(now);
            let at = day.ready_at(0, now);
            if at > now {
                now = at;
                continue;
            }
            day.take(now);
            starts.push(now);
            now += 60_000 * (1 + starts.len() as u64 % 7);
        }
        for pair in starts.windows(51) {
            let apart = pair[50] - pair[0];
            assert!(apart >= DAY_MS, "{apart}");
            assert!(apart <= DAY_MS + SLOT_MS + 60_000 * 8 * 50, "{apart}");
        }
    }

    #[test]
    fn who_is_far_back_in_the_line_is_told_how_many_days_it_takes() {
        let mut day = Day::new(Some(10), None);
        assert_eq!(day.ready_at(9, 5), 5);
        day.take(5);
        assert_eq!(day.ready_at(8, 5), 5);
        assert_eq!(day.ready_at(9, 5), 61 * SLOT_MS);
        assert_eq!(day.ready_at(19, 5), 61 * SLOT_MS + DAY_MS);
    }

    #[test]
    fn what_the_provider_says_is_left_counts_down_with_what_started_since() {
        let mut day = Day::new(None, Some(3));
        let mark = day.mark();
        day.take(0);
        day.take(0);
        let quota = |remaining, resets: u64| Quota {
            limit: Some(14_400),
            remaining: Some(remaining),
            resets_in: Some(Duration::from_secs(resets)),
            window: None,
        };
        day.hear(&quota(5, 80_000), mark + 1, 0);
        assert_eq!((day.limit(), day.ready_at(0, 0)), (None, 0));
        (0..4).for_each(|_| day.take(0));
        assert_eq!(day.ready_at(0, 0), 6_000, "one refills in a 14,400th");
        day.advance(6_000);
        assert_eq!(day.ready_at(0, 6_000), 6_000);
        day.take(6_000);
        assert!(day.ready_at(0, 6_000) > 6_000, "one, and then its answer");
        day.hear_tokens(&quota(0, 2), 6_000);
        assert_eq!(day.ready_at(0, 6_000), 66_000);
    }
}
