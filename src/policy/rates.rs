//! Counts requests for the rates that policies allow: in any 60 seconds, in any 60 minutes.
//!
//! Windows slide in sixtieths that are aligned to the epoch: a request counts until its whole sixtieth lies outside the
//! window, so it never leaves early, and late by at most 1/60 of the window. Time that goes back frees nothing.
//!
//! What is counted is a subject: each key of a tier, a team as a whole, a single key. All rates of a request are checked
//! and counted in one step, or none is. A request that something later refuses has been counted: it was a request. After
//! a restart counting starts anew, unless past requests are recalled.
//!
//! Memory is bounded: subjects whose windows are empty are dropped as requests come (two are looked at for each), and
//! beyond [`MAX_SUBJECTS`] strangers share one count for each policy, which is stricter than one for each.

use std::collections::HashMap;
use std::sync::Arc;

use super::budget::Window;
use super::rules::{Applied, Holder, Violation};

/// How many subjects are counted apart at once. One takes about 300 bytes, and at most 1.3 KB with a request in every
/// sixtieth.
pub const MAX_SUBJECTS: usize = 100_000;

/// The latest time that is told from later ones: in the year 2106, where the number of a second's slot ends.
const LAST_MS: u64 = u32::MAX as u64 * 1_000;

/// Sixtieths of a window.
const SLOTS: u64 = 60;

/// How many subjects are looked at for each request, to drop those that are idle.
const LOOKED_AT: usize = 2;

/// Where there is no key to tell callers apart.
const NO_KEY: &str = "default";

/// The counts of every subject.
#[derive(Debug)]
pub struct Rates {
    places: HashMap<Arc<str>, usize>,
    subjects: Vec<Subject>,
    max_subjects: usize,
    /// The next subject to look at.
    hand: usize,
    /// The latest time that was told.
    latest_ms: u64,
    /// The name that is looked up; kept for its memory.
    name: String,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(MAX_SUBJECTS)
    }
}

impl Rates {
    /// Nothing counted yet. At most so many subjects are counted apart.
    pub fn new(max_subjects: usize) -> Self {
        Self {
            places: HashMap::new(),
            subjects: Vec::new(),
            max_subjects,
            hand: 0,
            latest_ms: 0,
            name: String::new(),
        }
    }

    /// Checks a request of `key` against the rates of its policies, and counts it in all of them if all allow it.
    ///
    /// # Errors
    ///
    /// The rate that lets the request pass latest. Nothing was counted.
    pub fn pass(
        &mut self,
        policies: &[Applied<'_>],
        key: Option<&str>,
        now_ms: u64,
    ) -> Result<(), TooMany> {
        self.latest_ms = self.latest_ms.max(now_ms.min(LAST_MS));
        let now_ms = self.latest_ms;
        self.drop_idle(now_ms);
        let mut worst: Option<TooMany> = None;
        for (policy, applied) in policies.iter().enumerate() {
            for (window, limit) in limits(applied) {
                let subject = self.subject(applied, key);
                let rolling = subject.rolling(window);
                rolling.advance(now_ms);
                if rolling.total < limit {
                    continue;
                }
                let found = TooMany {
                    policy,
                    window,
                    limit,
                    passes_in_ms: rolling.falls_below(limit).map(|at_ms| at_ms - now_ms),
                };
                // Never is later than any time.
                let late = |found: &TooMany| found.passes_in_ms.unwrap_or(u64::MAX);
                if worst
                    .as_ref()
                    .is_none_or(|worst| late(&found) > late(worst))
                {
                    worst = Some(found);
                }
            }
        }
        if let Some(worst) = worst {
            return Err(worst);
        }
        self.count(policies, key, now_ms);
        Ok(())
    }

    /// Counts a request of the past, as the ledger has it.
    pub fn recall(&mut self, policies: &[Applied<'_>], key: Option<&str>, at_ms: u64, now_ms: u64) {
        self.latest_ms = self.latest_ms.max(now_ms.min(LAST_MS));
        self.count(policies, key, at_ms.min(self.latest_ms));
    }

    /// How many subjects are counted.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    fn count(&mut self, policies: &[Applied<'_>], key: Option<&str>, at_ms: u64) {
        let now_ms = self.latest_ms;
        for applied in policies {
            for (window, _) in limits(applied) {
                let rolling = self.subject(applied, key).rolling(window);
                rolling.advance(now_ms);
                rolling.add(at_ms, now_ms);
            }
        }
    }

    /// The counts that a policy's rates go by for a caller.
    fn subject(&mut self, applied: &Applied<'_>, key: Option<&str>) -> &mut Subject {
        let each = match applied.holder {
            Holder::Tier => Some(key.unwrap_or(NO_KEY)),
            Holder::Team | Holder::Key => None,
        };
        let place = self.place(applied, each).unwrap_or_else(|| {
            if each.is_some() && self.subjects.len() >= self.max_subjects {
                // One for each policy beyond the bound; policies are few.
                self.place(applied, None).unwrap_or_else(|| self.add())
            } else {
                self.add()
            }
        });
        &mut self.subjects[place]
    }

    fn place(&mut self, applied: &Applied<'_>, each: Option<&str>) -> Option<usize> {
        self.name.clear();
        // No name has a control character.
        for part in [
            applied.holder.table(),
            "\0",
            applied.name,
            "\0",
            each.unwrap_or_default(),
        ] {
            self.name.push_str(part);
        }
        self.places.get(self.name.as_str()).copied()
    }

    /// Adds the subject that was looked up last.
    fn add(&mut self) -> usize {
        let name: Arc<str> = self.name.as_str().into();
        let place = self.subjects.len();
        self.places.insert(Arc::clone(&name), place);
        self.subjects.push(Subject {
            name,
            minute: Rolling::of(Window::Minute),
            hour: Rolling::of(Window::Hour),
        });
        place
    }

    fn drop_idle(&mut self, now_ms: u64) {
        for _ in 0..LOOKED_AT.min(self.subjects.len()) {
            self.hand %= self.subjects.len();
            let subject = &mut self.subjects[self.hand];
            subject.minute.advance(now_ms);
            subject.hour.advance(now_ms);
            if subject.minute.slots.is_empty() && subject.hour.slots.is_empty() {
                self.forget(self.hand);
            } else {
                self.hand += 1;
            }
            if self.subjects.is_empty() {
                return;
            }
        }
    }

    fn forget(&mut self, place: usize) {
        let gone = self.subjects.swap_remove(place);
        self.places.remove(&gone.name);
        if let Some(moved) = self.subjects.get(place) {
            self.places.insert(Arc::clone(&moved.name), place);
        }
    }
}

/// A rate that a request would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// Which of the policies.
    pub policy: usize,
    /// Over which time.
    pub window: Window,
    /// How many requests it allows.
    pub limit: u64,
    /// After how many milliseconds the same request passes, if nothing else happens; `None` for never.
    pub passes_in_ms: Option<u64>,
}

impl TooMany {
    /// As the violation of a rule of `policies`, which are those that were checked.
    pub fn violation(&self, policies: &[Applied<'_>]) -> Option<Violation> {
        let (limit, window) = (self.limit, self.window.as_str());
        let when = match self.passes_in_ms {
            // Upwards: who comes back at the time that was told must pass.
            Some(wait_ms) => format!("the next one passes in {} s", wait_ms.div_ceil(1_000)),
            None => "none passes".to_owned(),
        };
        let key = match self.window {
            Window::Minute => "requests_per_minute",
            Window::Hour | Window::Day | Window::Month => "requests_per_hour",
        };
        let message =
            format!("{limit} requests per {window} are allowed, and as many were sent; {when}");
        Some(policies.get(self.policy)?.violated(key, message))
    }
}

/// The rates of a policy.
fn limits(applied: &Applied<'_>) -> impl Iterator<Item = (Window, u64)> + use<> {
    let policy = applied.policy;
    [
        (Window::Minute, policy.requests_per_minute),
        (Window::Hour, policy.requests_per_hour),
    ]
    .into_iter()
    .filter_map(|(window, limit)| Some((window, limit?)))
}

/// Whose requests are counted.
#[derive(Debug)]
struct Subject {
    name: Arc<str>,
    minute: Rolling,
    hour: Rolling,
}

impl Subject {
    fn rolling(&mut self, window: Window) -> &mut Rolling {
        match window {
            Window::Minute => &mut self.minute,
            Window::Hour | Window::Day | Window::Month => &mut self.hour,
        }
    }
}

/// The requests of the last minute or hour.
#[derive(Debug)]
struct Rolling {
    /// The sixtieths in which there were any, oldest first.
    slots: Vec<Slot>,
    total: u64,
    slot_ms: u32,
}

/// The requests of a sixtieth.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Which one since the epoch. That of a second ends in the year 2106.
    number: u32,
    count: u32,
}

impl Rolling {
    const fn of(window: Window) -> Self {
        Self {
            slots: Vec::new(),
            total: 0,
            slot_ms: match window {
                Window::Minute => 1_000,
                Window::Hour | Window::Day | Window::Month => 60_000,
            },
        }
    }

    fn number(&self, at_ms: u64) -> u32 {
        u32::try_from(at_ms / u64::from(self.slot_ms)).unwrap_or(u32::MAX)
    }

    /// When all of a slot lies outside the window: a window after the slot's end.
    fn leaves_at(&self, number: u32) -> u64 {
        (u64::from(number) + 1 + SLOTS) * u64::from(self.slot_ms)
    }

    fn advance(&mut self, now_ms: u64) {
        let gone = self
            .slots
            .partition_point(|slot| self.leaves_at(slot.number) <= now_ms);
        if gone == 0 {
            return;
        }
        self.total -= self
            .slots
            .drain(..gone)
            .map(|slot| u64::from(slot.count))
            .sum::<u64>();
        if self.slots.is_empty() {
            self.slots = Vec::new();
        }
    }

    fn add(&mut self, at_ms: u64, now_ms: u64) {
        let number = self.number(at_ms);
        if self.leaves_at(number) <= now_ms {
            return;
        }
        let place = self.slots.partition_point(|slot| slot.number < number);
        match self.slots.get_mut(place) {
            Some(slot) if slot.number == number => {
                // Four thousand million requests in a second are out of reach.
                let Some(count) = slot.count.checked_add(1) else {
                    return;
                };
                slot.count = count;
            }
            _ => self.slots.insert(place, Slot { number, count: 1 }),
        }
        self.total += 1;
    }

    /// When fewer than `limit` requests are left in the window (Unix milliseconds); `None` for never. The limit is
    /// reached now.
    fn falls_below(&self, limit: u64) -> Option<u64> {
        let mut newer = 0_u64;
        let last_to_leave = self.slots.iter().rev().find(|slot| {
            newer += u64::from(slot.count);
            newer >= limit
        });
        (limit > 0).then_some(self.leaves_at(last_to_leave?.number))
    }
}

#[cfg(test)]
mod tests;
