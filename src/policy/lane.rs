//! One lane: the limits of one provider, credential and model class, and the line of those who wait for them.
//!
//! A request joins the line, and starts when it is its turn and every limit has room for it; it holds a [`Slot`] until its
//! answer has ended. What is decided here: whose turn it is (`line`), how many are in flight (`concurrency`), what the
//! provider still has left and how fast to use it (`gauge`, `climb`, `day`), and how the line goes on after a pause
//! (`recovery`). When to pause, and whether to send again, is decided elsewhere.
//!
//! No clock: every call says what time it is (Unix milliseconds); time that goes back stands still here. Nobody overtakes
//! the one whose turn it is: a large request would never start if small ones took what it waits for.

mod bucket;
mod climb;
mod concurrency;
mod day;
mod feedback;
mod gauge;
mod history;
mod learned;
mod line;
mod news;
mod queue;
mod recovery;
mod rules;
mod standing;
#[cfg(test)]
mod tests;

use concurrency::Concurrency;
use day::Day;
use gauge::{Charge, Gauge, Mark};
use line::Line;
use recovery::Recovery;
use rules::MINUTE_MS;

pub use gauge::{Kind, Source};
pub use learned::{Learned, LearnedRate};
pub use line::Ticket;
pub use news::{Quota, RateNews};
pub use rules::{LaneRules, Limits, Need, PauseReason, Rate, ReserveRule, Used, Verdict, Who};
pub use standing::{BucketStanding, LaneStanding};

use crate::units::Priority;

/// How many gauges there are.
const GAUGES: usize = Kind::ALL.len();

/// A lane. `T` is what the caller gets back when its turn has come.
#[derive(Debug)]
pub struct Lane<T> {
    rules: LaneRules,
    line: Line<T>,
    concurrency: Concurrency,
    /// In the order of [`Kind::ALL`].
    gauges: [Gauge; GAUGES],
    day: Day,
    recovery: Recovery,
    /// Until when the lane rests, in the order of [`PauseReason::ALL`].
    pauses: [u64; PauseReason::ALL.len()],
    /// The lane has rested since something was released.
    rested: bool,
    /// The provider has shown that it does not reserve the output cap.
    reserves_nothing: bool,
    /// When a refusal was last met that nothing explains.
    strike_ms: Option<u64>,
    next_slot: u64,
    now_ms: u64,
}

/// What a request in flight holds. It goes back with [`Lane::finished`], however the request ends; whoever loses it makes
/// the lane narrower by one for ever.
#[derive(Debug)]
#[must_use = "a slot that is dropped is lost to its lane: give it to `finished` or `unsent`"]
pub struct Slot {
    number: u64,
    /// How many were in flight when it started, itself included.
    crowd: u32,
    started_ms: u64,
    charges: [Charge; GAUGES],
    marks: [Mark; GAUGES],
    day_mark: u64,
    /// What is charged is kept, whatever is used.
    kept: bool,
    verdict: Option<Verdict>,
}

impl Slot {
    /// When the request started, in Unix milliseconds.
    pub const fn started_ms(&self) -> u64 {
        self.started_ms
    }
}

/// A request has lined up.
#[derive(Debug)]
pub struct Joined<T> {
    /// Its place.
    pub ticket: Ticket,
    /// Who had to give way, because the line was full.
    pub displaced: Option<T>,
}

/// A request does not line up.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// Its turn would come after its deadline.
    TooLate {
        /// When its turn would come at the earliest, as far as is known now (Unix milliseconds).
        earliest_ms: u64,
        /// What it brought.
        item: T,
    },
    /// The line is full.
    Full {
        /// When a turn would come at the earliest, if there were room.
        earliest_ms: u64,
        /// What it brought.
        item: T,
    },
}

/// Who leaves the line now.
#[derive(Debug)]
pub struct Released<T> {
    /// They start, in this order.
    pub started: Vec<(T, Slot)>,
    /// Their deadline has passed.
    pub expired: Vec<T>,
    /// When to release again, if nothing ends before (Unix milliseconds); `None` if only an end can help.
    pub next_ms: Option<u64>,
}

/// Why the one whose turn it is cannot start yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeldBack {
    /// Until when at least; `None` if something has to end.
    until_ms: Option<u64>,
}

impl<T> Lane<T> {
    /// A lane of which nothing is known but its rules: its provider's buckets are full.
    pub fn new(rules: LaneRules, now_ms: u64) -> Self {
        let limits = rules.limits;
        let start = if rules.learn {
            rules.start
        } else {
            Limits::default()
        };
        let second = limits.requests_per_second;
        let gauge = |kind, configured, start, window_ms| {
            Gauge::new(kind, configured, start, window_ms, now_ms)
        };
        let minute = |kind, configured: Option<u64>, start: Option<u64>| {
            gauge(kind, configured, start, MINUTE_MS)
        };
        let gauges = [
            gauge(
                Kind::RequestsPerSecond,
                second.map(|rate| rate.amount),
                start.requests_per_second.map(|rate| rate.amount),
                second
                    .or(start.requests_per_second)
                    .map_or(1_000, |rate| rate.per_ms),
            ),
            minute(
                Kind::Requests,
                limits.requests_per_minute,
                start.requests_per_minute,
            ),
            minute(
                Kind::Tokens,
                limits.tokens_per_minute,
                start.tokens_per_minute,
            ),
            minute(
                Kind::InputTokens,
                limits.input_tokens_per_minute,
                start.input_tokens_per_minute,
            ),
            minute(
                Kind::OutputTokens,
                limits.output_tokens_per_minute,
                start.output_tokens_per_minute,
            ),
        ];
        Self {
            rules,
            line: Line::new(),
            concurrency: Concurrency::new(limits.concurrency, start.concurrency, rules.learn),
            gauges,
            day: Day::new(limits.requests_per_day, start.requests_per_day),
            recovery: Recovery::default(),
            pauses: [0; PauseReason::ALL.len()],
            rested: false,
            reserves_nothing: false,
            strike_ms: None,
            next_slot: 0,
            now_ms,
        }
    }

    /// A lane that goes on where an earlier one stopped, as far as its rules allow it.
    pub fn with_learned(rules: LaneRules, learned: &Learned, now_ms: u64) -> Self {
        let mut lane = Self::new(rules, now_ms);
        lane.day.resume(&learned.day, now_ms);
        lane.concurrency
            .resume(learned.concurrency, learned.concurrency_ceiling);
        lane.reserves_nothing = rules.learn && learned.reserves_nothing;
        let passed_ms = now_ms.saturating_sub(learned.at_ms);
        for (gauge, rate) in lane.gauges.iter_mut().zip(&learned.rates) {
            gauge.resume(rate, rules.learn, passed_ms);
        }
        lane
    }

    /// What to put away.
    pub fn learned(&self) -> Learned {
        Learned {
            at_ms: self.now_ms,
            concurrency: self.concurrency.value,
            concurrency_ceiling: self.concurrency.ceiling,
            rates: self.gauges.iter().map(Gauge::learned).collect(),
            reserves_nothing: self.reserves_nothing,
            day: self.day.slots(),
        }
    }

    /// A request lines up. Call [`release`](Self::release) next.
    ///
    /// # Errors
    /// Its deadline (Unix milliseconds) comes before its turn can, or the line is full of those who need not give way.
    pub fn join(
        &mut self,
        who: Who<'_>,
        need: Need,
        deadline_ms: u64,
        item: T,
        now_ms: u64,
    ) -> Result<Joined<T>, Refused<T>> {
        self.advance(now_ms);
        let earliest_ms = self.earliest(&who, &need);
        if earliest_ms >= deadline_ms {
            return Err(Refused::TooLate { earliest_ms, item });
        }
        let mut displaced = None;
        if self.line.len() >= self.rules.max_waiting {
            let Some(gives_way) = self.line.gives_way_to(&who) else {
                return Err(Refused::Full { earliest_ms, item });
            };
            displaced = self.leave(gives_way);
        }
        let now_ms = self.now_ms;
        let ticket = self.line.push(&who, need, deadline_ms, item, now_ms);
        Ok(Joined { ticket, displaced })
    }

    /// A request leaves the line without having started; `None` if it is not there any more.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.line.leave(ticket).map(|waiting| waiting.item)
    }

    /// Lets go whoever may start now, and whoever waited in vain. To be called after every other call that changes
    /// something, and at `next_ms`.
    pub fn release(&mut self, now_ms: u64) -> Released<T> {
        self.advance(now_ms);
        let mut released = Released {
            started: Vec::new(),
            expired: Vec::new(),
            next_ms: None,
        };
        while let Some((deadline_ms, ticket)) = self.line.deadline() {
            if deadline_ms > self.now_ms {
                released.next_ms = Some(deadline_ms);
                break;
            }
            released.expired.extend(self.leave(ticket));
        }
        let wake = |released: &mut Released<T>, at_ms: u64| {
            released.next_ms = Some(released.next_ms.map_or(at_ms, |next| next.min(at_ms)));
        };
        if let Some(until_ms) = self.rests_until(&PauseReason::ALL) {
            if !self.line.is_empty() && until_ms < u64::MAX {
                wake(&mut released, until_ms);
            }
            return released;
        }
        self.go_on();
        while let Some((ticket, waiting)) = self.line.first(self.now_ms) {
            let charges = self.charges(&waiting.need);
            if let Some(held_back) = self.held_back(&charges) {
                self.note_wait(&charges, held_back);
                if let Some(until_ms) = held_back.until_ms {
                    wake(&mut released, until_ms);
                }
                break;
            }
            released.started.extend(self.start(ticket, charges));
        }
        if self.line.is_empty() {
            released.next_ms = None;
        }
        released
    }

    /// Lets one start although the breaker is open, to try the provider. Other pauses and limits hold.
    pub fn probe(&mut self, now_ms: u64) -> Option<(T, Slot)> {
        self.advance(now_ms);
        let others = [PauseReason::RateLimited, PauseReason::Overloaded];
        if self.rests_until(&others).is_some() {
            return None;
        }
        let (ticket, waiting) = self.line.first(self.now_ms)?;
        let charges = self.charges(&waiting.need);
        if self.held_back(&charges).is_some() {
            return None;
        }
        self.start(ticket, charges)
    }

    /// The lane rests until then (Unix milliseconds), if it does not already rest longer for that reason. Whoever waits,
    /// waits; afterwards the line goes on at the usual rate. `u64::MAX` is until [`resume`](Self::resume): then nobody
    /// is turned away for it, for it may end at any moment.
    pub fn pause(&mut self, until_ms: u64, why: PauseReason) {
        let until = &mut self.pauses[why as usize];
        *until = until_ms.max(*until);
        self.rested = true;
        self.recovery.disturbed();
        if why == PauseReason::BreakerOpen {
            self.concurrency.was_an_outage();
        }
    }

    /// The lane does not rest for that reason any more.
    pub fn resume(&mut self, why: PauseReason) {
        self.pauses[why as usize] = 0;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.concurrency.in_flight == 0
    }

    /// How the lane stands.
    pub fn standing(&self, now_ms: u64) -> LaneStanding {
        let now_ms = now_ms.max(self.now_ms);
        let bucket = |gauge: &Gauge| {
            let (limit, source) = gauge.limit()?;
            let mirror = gauge.mirror.map(|mut mirror| {
                mirror.advance(now_ms);
                mirror.level()
            });
            Some(BucketStanding {
                kind: gauge.kind,
                limit,
                window_ms: gauge.window_ms,
                source,
                left: mirror,
            })
        };
        let pauses = PauseReason::ALL.into_iter().zip(self.pauses);
        LaneStanding {
            in_flight: self.concurrency.in_flight,
            concurrency: self.concurrency.value,
            waiting: Priority::ALL.map(|priority| self.line.waiting(priority)),
            buckets: self.gauges.iter().filter_map(bucket).collect(),
            day: self.day.limit().map(|limit| (self.day.used(), limit)),
            pauses: pauses.filter(|(_, until)| *until > now_ms).collect(),
            recovering: self.recovery.is_on(),
        }
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        for gauge in &mut self.gauges {
            gauge.advance(self.now_ms);
        }
        self.day.advance(self.now_ms);
    }

    /// Until when the lane rests for one of these reasons; `None` if it does not.
    fn rests_until(&self, reasons: &[PauseReason]) -> Option<u64> {
        let until = reasons.iter().map(|reason| self.pauses[*reason as usize]);
        until.max().filter(|until| *until > self.now_ms)
    }

    fn breaker_is_open(&self) -> bool {
        self.rests_until(&[PauseReason::BreakerOpen]).is_some()
    }

    /// After a rest: nothing that was saved up meanwhile is sent at once.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.rested) {
            self.gauges.iter_mut().for_each(Gauge::spend_savings);
            // While a limit is searched for, the rate has just been lowered, and no gap is a usual one yet.
            if !self
                .gauges
                .iter()
                .any(|gauge| gauge.climb.is_searching(self.now_ms))
            {
                self.recovery.begin(self.now_ms);
            }
        }
    }

    /// What a request is charged by each gauge.
    fn charges(&self, need: &Need) -> [Charge; GAUGES] {
        let expected = need.output();
        let cap = need.output_cap.unwrap_or(expected);
        let (hold, expect) = match self.rules.reserve {
            _ if self.reserves_nothing => (expected, expected),
            ReserveRule::CapCorrected => (cap, expected),
            ReserveRule::CapKept => (cap, cap),
            ReserveRule::Nothing => (expected, expected),
        };
        let with_input = |output: u64| need.input_tokens.saturating_add(output);
        Kind::ALL.map(|kind| {
            let (hold, expect) = match kind {
                Kind::RequestsPerSecond | Kind::Requests => (1, 1),
                Kind::Tokens => (with_input(hold), with_input(expect)),
                Kind::InputTokens => (need.input_tokens, need.input_tokens),
                Kind::OutputTokens => (hold, expect),
            };
            Charge { hold, expect }
        })
    }

    /// Why a request cannot start now; `None` if it can.
    fn held_back(&mut self, charges: &[Charge; GAUGES]) -> Option<HeldBack> {
        if !self.concurrency.has_room() {
            // The limit itself spaces the starts from here on.
            self.recovery.end();
            return Some(HeldBack { until_ms: None });
        }
        let day_ms = self.day.ready_at(0, self.now_ms) - self.now_ms;
        let mut wait_ms = day_ms.max(self.recovery.wait(self.now_ms));
        for (gauge, charge) in self.gauges.iter().zip(charges) {
            let Some(wait) = gauge.wait(*charge) else {
                return Some(HeldBack { until_ms: None });
            };
            wait_ms = wait_ms.max(wait);
        }
        (wait_ms > 0).then(|| HeldBack {
            until_ms: Some(self.now_ms.saturating_add(wait_ms)),
        })
    }

    /// The limit that keeps somebody waiting may rise, if it is only a guess.
    fn note_wait(&mut self, charges: &[Charge; GAUGES], held_back: HeldBack) {
        let Some(until_ms) = held_back.until_ms else {
            self.concurrency.wanted();
            return;
        };
        let mut for_a_guess = false;
        for (gauge, charge) in self.gauges.iter_mut().zip(charges) {
            if gauge.wait(*charge) == Some(until_ms - self.now_ms) {
                for_a_guess |= gauge.climb.is_a_guess();
                gauge.climb.wanted();
            }
        }
        if for_a_guess {
            // The next one would hold the line back as soon as this one has risen.
            let guesses = self.gauges.iter_mut().map(|gauge| &mut gauge.climb);
            let guesses = guesses.filter(|climb| climb.is_a_guess());
            guesses.for_each(|climb| climb.wanted());
        }
    }

    fn start(&mut self, ticket: Ticket, charges: [Charge; GAUGES]) -> Option<(T, Slot)> {
        let waiting = self.line.serve(ticket, self.now_ms)?;
        let number = self.next_slot;
        self.next_slot += 1;
        self.day.take(self.now_ms);
        self.recovery.started(self.now_ms);
        let mut slot = Slot {
            number,
            crowd: self.concurrency.started(),
            started_ms: self.now_ms,
            charges,
            marks: [Mark::default(); GAUGES],
            day_mark: self.day.mark(),
            kept: self.rules.reserve == ReserveRule::CapKept && !self.reserves_nothing,
            verdict: None,
        };
        let held = slot.charges.iter_mut().zip(&mut slot.marks);
        for (gauge, (charge, mark)) in self.gauges.iter_mut().zip(held) {
            (*charge, *mark) = gauge.take(*charge);
        }
        Some((waiting.item, slot))
    }

    /// When a request's turn would come at the earliest.
    fn earliest(&self, who: &Who<'_>, need: &Need) -> u64 {
        let ahead = self.line.ahead_of(who, need);
        let known_end = self.pauses.iter().filter(|until| **until < u64::MAX);
        let rest_ms = known_end.max().map_or(0, |until| *until);
        let waits = self.gauges.iter().filter_map(|gauge| {
            gauge.wait_behind(match gauge.kind {
                Kind::RequestsPerSecond | Kind::Requests => ahead.requests,
                Kind::Tokens => ahead.input_tokens.saturating_add(ahead.output_tokens),
                Kind::InputTokens => ahead.input_tokens,
                Kind::OutputTokens => ahead.output_tokens,
            })
        });
        let wait_ms = waits.max().unwrap_or(0);
        self.day
            .ready_at(ahead.requests, self.now_ms)
            .max(rest_ms)
            .max(self.now_ms.saturating_add(wait_ms))
    }
}
