//! Clients, a lane and a provider, event by event in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::chance::Chance;
use super::provider::{Provider, Reserved};
use crate::policy::lane::{
    Lane, LaneRules, Need, PauseReason, RateNews, Refused, Slot, Ticket, Used, Verdict, Who,
};
use crate::units::Priority;

/// Time from here to the provider.
const WAY_MS: (u64, u64) = (10, 40);

/// Time to the head of an answer.
const HEAD_MS: u64 = 200;

/// The clients of one session.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) session: &'static str,
    pub(super) agent: &'static str,
    pub(super) priority: Priority,
    /// So many at a time: each sends its next request when its last one has ended.
    pub(super) number: u64,
    /// Rest between two requests.
    pub(super) rest_ms: (u64, u64),
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) input: (u64, u64),
    pub(super) output: (u64, u64),
    pub(super) cap: Option<u64>,
    pub(super) answer_ms: (u64, u64),
    pub(super) patience_ms: u64,
    /// One in so many leaves while it waits or while it is answered.
    pub(super) hangs_up_one_in: u64,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            session: "a",
            agent: "",
            priority: Priority::Normal,
            number: 1,
            rest_ms: (0, 0),
            from_ms: 0,
            to_ms: u64::MAX,
            input: (500, 1_500),
            output: (100, 500),
            cap: Some(1_000),
            answer_ms: (1_000, 3_000),
            patience_ms: 3_600_000,
            hangs_up_one_in: 0,
        }
    }
}

/// What goes wrong at the provider: one in so many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) overloaded_one_in: u64,
    pub(super) failed_one_in: u64,
    /// Accepted and never answered; given up after a minute.
    pub(super) hangs_one_in: u64,
    pub(super) cut_one_in: u64,
    /// Everything fails from then until then.
    pub(super) outage_ms: (u64, u64),
    /// A refusal for limits out of nowhere.
    pub(super) stray_429_one_in: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) sent: Vec<u64>,
    pub(super) refused: Vec<u64>,
    pub(super) served: Vec<Served>,
    pub(super) expired: u64,
    pub(super) not_taken: u64,
    pub(super) left: u64,
    pub(super) given_up: u64,
    pub(super) asked: u64,
    pub(super) still_there: u64,
    pub(super) most_in_flight: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) session: &'static str,
    pub(super) priority: Priority,
    pub(super) asked_ms: u64,
    pub(super) started_ms: u64,
    pub(super) ended_ms: u64,
    pub(super) used: Used,
    /// As the provider charged it.
    pub(super) charged: u64,
}

impl Outcome {
    pub(super) fn refused_per_thousand(&self) -> f64 {
        self.refused.len() as f64 * 1_000.0 / self.sent.len().max(1) as f64
    }

    pub(super) fn sent_between(&self, from_ms: u64, to_ms: u64) -> usize {
        let between = |at: &&u64| (from_ms..to_ms).contains(*at);
        self.sent.iter().filter(between).count()
    }

    pub(super) fn served_between(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &Served> {
        self.served
            .iter()
            .filter(move |served| (from_ms..to_ms).contains(&served.ended_ms))
    }
}

#[derive(Debug)]
struct Call {
    clients: usize,
    asked_ms: u64,
    joined_ms: u64,
    deadline_ms: u64,
    attempts: u32,
    need: Need,
    input: u64,
    output: u64,
    answer_ms: u64,
    ticket: Option<Ticket>,
    slot: Option<Slot>,
    reserved: Option<Reserved>,
    news: RateNews,
    probing: bool,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Ask(usize),
    Again(usize),
    Arrives(usize),
    Head(usize, Answer),
    /// At the provider; the second one is here.
    Ends(usize),
    Ended(usize, bool),
    HangsUp(usize),
    Wake,
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Ok,
    RateLimited,
    Overloaded,
    Failed,
}

/// Opens after five failures in a row; then probes.
#[derive(Debug, Default)]
struct Breaker {
    in_a_row: u32,
    open: bool,
    probes: u32,
    successes: u32,
}

type Watch = Box<dyn Fn(&Lane<usize>)>;

pub(super) struct Traffic {
    pub(super) lane: Lane<usize>,
    pub(super) provider: Provider,
    pub(super) outcome: Outcome,
    clients: Vec<Clients>,
    faults: Faults,
    calls: BTreeMap<usize, Call>,
    next_call: usize,
    events: BinaryHeap<Reverse<(u64, u64, What)>>,
    events_made: u64,
    /// The next time that somebody looks because the lane said so.
    wakes_ms: Option<u64>,
    chance: Chance,
    breaker: Breaker,
    with_breaker: bool,
    /// Estimates are off by up to so many percent.
    pub(super) misjudged_percent: u64,
    /// What must hold after every step.
    pub(super) watch: Watch,
}

impl Traffic {
    pub(super) fn new(rules: LaneRules, provider: Provider, clients: Vec<Clients>) -> Self {
        Self::with(Lane::new(rules, 0), provider, clients, Faults::default(), 1)
    }

    pub(super) fn with(
        lane: Lane<usize>,
        provider: Provider,
        clients: Vec<Clients>,
        faults: Faults,
        seed: u64,
    ) -> Self {
        let mut traffic = Self {
            lane,
            provider,
            outcome: Outcome::default(),
            clients: Vec::new(),
            faults,
            calls: BTreeMap::new(),
            next_call: 0,
            events: BinaryHeap::new(),
            events_made: 0,
            wakes_ms: None,
            chance: Chance::new(seed),
            breaker: Breaker::default(),
            with_breaker: faults.outage_ms.1 > 0,
            misjudged_percent: 0,
            watch: Box::new(|_| {}),
        };
        for (place, clients) in clients.iter().enumerate() {
            for _ in 0..clients.number {
                let spread = traffic.chance.within(clients.rest_ms);
                traffic.at(clients.from_ms + spread, What::Ask(place));
            }
        }
        traffic.clients = clients;
        traffic
    }

    fn at(&mut self, ms: u64, what: What) {
        self.events_made += 1;
        self.events.push(Reverse((ms, self.events_made, what)));
    }

    pub(super) fn run(mut self, until_ms: u64) -> Outcome {
        self.run_until(until_ms);
        let there = self.calls.values().filter(|call| !call.gone);
        self.outcome.still_there = there.count() as u64;
        self.outcome.most_in_flight = self.provider.most_in_flight;
        self.outcome
    }

    pub(super) fn run_until(&mut self, until_ms: u64) {
        while let Some(Reverse((now, _, what))) = self.events.peek().copied() {
            if now >= until_ms {
                break;
            }
            self.events.pop();
            self.step(now, what);
            self.release(now);
            (self.watch)(&self.lane);
        }
    }

    fn release(&mut self, now: u64) {
        let released = self.lane.release(now);
        for id in released.expired {
            self.outcome.expired += 1;
            self.done(id, now);
        }
        for (id, slot) in released.started {
            self.send(id, slot, now);
        }
        if let Some(next) = released.next_ms {
            assert!(next > now, "woken in the past");
            if self.wakes_ms.is_none_or(|at| next < at || at <= now) {
                self.wakes_ms = Some(next);
                self.at(next, What::Wake);
            }
        }
    }

    fn send(&mut self, id: usize, slot: Slot, now: u64) {
        let way = self.chance.within(WAY_MS);
        self.check_order(id, now);
        let call = self.calls.get_mut(&id).expect("nobody starts twice");
        assert!(call.slot.is_none(), "a request starts once");
        call.slot = Some(slot);
        call.ticket = None;
        self.outcome.sent.push(now);
        self.at(now + way, What::Arrives(id));
    }

    /// Whoever starts, starts in its turn.
    fn check_order(&self, id: usize, now: u64) {
        let call = &self.calls[&id];
        let own = &self.clients[call.clients];
        let aged = |other: &Call| now - other.joined_ms >= 10_000;
        let of_own_priority = |other: &Call| self.clients[other.clients].priority == own.priority;
        let own_has_aged = self
            .calls
            .values()
            .any(|other| other.ticket.is_some() && of_own_priority(other) && aged(other));
        for other in self.calls.values().filter(|other| other.ticket.is_some()) {
            let theirs = &self.clients[other.clients];
            let overtakes = theirs.priority > own.priority;
            assert!(!(overtakes && theirs.priority == Priority::Critical));
            assert!(!overtakes || own_has_aged, "{:?}", own.priority);
            let same = theirs.priority == own.priority
                && (theirs.session, theirs.agent) == (own.session, own.agent);
            assert!(
                !same || other.ticket >= call.ticket,
                "first come, first served"
            );
        }
    }

    fn step(&mut self, now: u64, what: What) {
        match what {
            What::Ask(clients) => self.ask(clients, now),
            What::Again(id) => self.line_up(id, now),
            What::Arrives(id) => self.arrives(id, now),
            What::Head(id, answer) => self.head(id, answer, now),
            What::Ends(id) => self.ends(id, now),
            What::Ended(id, whole) => self.ended(id, whole, now),
            What::HangsUp(id) => self.hangs_up(id, now),
            What::Wake => {}
            What::Probe => self.probe(now),
        }
    }

    fn ask(&mut self, place: usize, now: u64) {
        let clients = self.clients[place].clone();
        if now >= clients.to_ms {
            return;
        }
        let input = self.chance.within(clients.input);
        let cap = clients.cap.unwrap_or(u64::MAX);
        let output = self.chance.within(clients.output).min(cap);
        let off = self.misjudged_percent;
        let percent = self.chance.within((100 - off, 100 + off));
        let need = Need {
            input_tokens: input * percent / 100,
            output_cap: clients.cap,
            expected_output: u64::midpoint(clients.output.0, clients.output.1),
        };
        let id = self.next_call;
        self.next_call += 1;
        self.outcome.asked += 1;
        let call = Call {
            clients: place,
            asked_ms: now,
            joined_ms: now,
            deadline_ms: now.saturating_add(clients.patience_ms),
            attempts: 0,
            need,
            input,
            output,
            answer_ms: self.chance.within(clients.answer_ms),
            ticket: None,
            slot: None,
            reserved: None,
            news: RateNews::default(),
            probing: false,
            gone: false,
        };
        self.calls.insert(id, call);
        if self.chance.one_in(clients.hangs_up_one_in) {
            let after = self.chance.within((0, 20_000));
            self.at(now + after, What::HangsUp(id));
        }
        self.line_up(id, now);
    }

    fn line_up(&mut self, id: usize, now: u64) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let clients = &self.clients[call.clients];
        let who = Who {
            priority: clients.priority,
            session: clients.session,
            agent: clients.agent,
        };
        match self.lane.join(who, call.need, call.deadline_ms, id, now) {
            Ok(joined) => {
                call.ticket = Some(joined.ticket);
                call.joined_ms = now;
                if let Some(other) = joined.displaced {
                    self.outcome.not_taken += 1;
                    self.done(other, now);
                }
            }
            Err(Refused::TooLate { item, .. } | Refused::Full { item, .. }) => {
                assert_eq!(item, id);
                self.outcome.not_taken += 1;
                self.done(id, now);
            }
        }
    }

    /// A call is over: its client goes on to its next one.
    fn done(&mut self, id: usize, now: u64) {
        let call = self.calls.remove(&id).expect("a call is over once");
        let rest = self.clients[call.clients].rest_ms;
        let rest = self.chance.within(rest).max(1);
        self.at(now + rest, What::Ask(call.clients));
    }

    fn hangs_up(&mut self, id: usize, now: u64) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(ticket) = call.ticket.take() {
            assert_eq!(self.lane.leave(ticket), Some(id));
            self.outcome.left += 1;
            self.done(id, now);
        } else if let Some(slot) = call.slot.take() {
            // The provider goes on for a while.
            self.lane.finished(slot, None, now);
            call.gone = true;
            self.outcome.left += 1;
        }
    }

    fn arrives(&mut self, id: usize, now: u64) {
        let faults = self.faults;
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let outage = (faults.outage_ms.0..faults.outage_ms.1).contains(&now);
        let way = self.chance.within(WAY_MS);
        if outage || self.chance.one_in(faults.overloaded_one_in) {
            return self.at(now + way, What::Head(id, Answer::Overloaded));
        }
        if self.chance.one_in(faults.failed_one_in) {
            return self.at(now + way, What::Head(id, Answer::Failed));
        }
        if self.chance.one_in(faults.stray_429_one_in) {
            self.outcome.refused.push(now);
            return self.at(now + way, What::Head(id, Answer::RateLimited));
        }
        call.reserved = self.provider.admit(&call.need, call.input, now);
        call.news = self.provider.news(now);
        if call.reserved.is_none() {
            self.outcome.refused.push(now);
            return self.at(now + way, What::Head(id, Answer::RateLimited));
        }
        if self.chance.one_in(faults.hangs_one_in) {
            return self.at(now + 60_000, What::Head(id, Answer::Failed));
        }
        let answer_ms = call.answer_ms;
        self.at(
            now + way + HEAD_MS.min(answer_ms),
            What::Head(id, Answer::Ok),
        );
        self.at(now + answer_ms, What::Ends(id));
    }

    fn head(&mut self, id: usize, answer: Answer, now: u64) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let verdict = match answer {
            Answer::Ok => Verdict::Ok,
            Answer::RateLimited => Verdict::RateLimited,
            Answer::Overloaded => Verdict::Overloaded,
            Answer::Failed => Verdict::Failed,
        };
        if let Some(slot) = &mut call.slot {
            self.lane.answered(slot, &call.news, verdict, now);
        }
        if answer != Answer::Ok {
            // A request that hung until now has not used its output.
            if let Some(reserved) = call.reserved.take() {
                let used = Used {
                    input_tokens: call.input,
                    output_tokens: 0,
                };
                self.provider.end(reserved, &used, now);
            }
            if let Some(slot) = call.slot.take() {
                self.lane.finished(slot, None, now);
            }
        }
        self.judge(id, verdict, now);
        if answer == Answer::Ok {
            return;
        }
        let call = self.calls.get_mut(&id).expect("it is still there");
        if call.gone {
            return self.done(id, now);
        }
        call.attempts += 1;
        let attempts = call.attempts;
        if attempts > 12 {
            self.outcome.given_up += 1;
            return self.done(id, now);
        }
        let pause = 1_000 << attempts.min(6);
        let pause = self.chance.within((pause / 2, pause));
        if verdict == Verdict::RateLimited {
            self.lane.pause(now + 1_000, PauseReason::RateLimited);
            self.line_up(id, now);
        } else {
            self.at(now + pause, What::Again(id));
        }
    }

    fn judge(&mut self, id: usize, verdict: Verdict, now: u64) {
        if !self.with_breaker {
            return;
        }
        let call = self.calls.get_mut(&id).expect("it is still there");
        let probed = std::mem::take(&mut call.probing);
        let breaker = &mut self.breaker;
        match verdict {
            Verdict::Ok => {
                breaker.in_a_row = 0;
                if breaker.open && probed {
                    breaker.successes += 1;
                    if breaker.successes >= 2 {
                        *breaker = Breaker::default();
                        self.lane.resume(PauseReason::BreakerOpen);
                    } else {
                        self.at(now, What::Probe);
                    }
                }
            }
            Verdict::Overloaded | Verdict::Failed => {
                breaker.in_a_row += 1;
                if probed {
                    breaker.probes += 1;
                    breaker.successes = 0;
                    let next = now + (1_000 << breaker.probes.min(2));
                    self.at(next, What::Probe);
                } else if breaker.in_a_row == 5 && !breaker.open {
                    breaker.open = true;
                    self.lane.pause(u64::MAX, PauseReason::BreakerOpen);
                    self.at(now + 1_000, What::Probe);
                }
            }
            Verdict::RateLimited => {}
        }
    }

    fn probe(&mut self, now: u64) {
        if !self.breaker.open {
            return;
        }
        match self.lane.probe(now) {
            Some((id, slot)) => {
                self.send(id, slot, now);
                self.calls.get_mut(&id).expect("just sent").probing = true;
            }
            None => self.at(now + 200, What::Probe),
        }
    }

    fn ends(&mut self, id: usize, now: u64) {
        let call = self.calls.get_mut(&id).expect("it is still there");
        let cut = self.chance.one_in(self.faults.cut_one_in);
        if cut {
            call.output /= 2;
        }
        let used = Used {
            input_tokens: call.input,
            output_tokens: call.output,
        };
        if let Some(reserved) = call.reserved.take() {
            self.provider.end(reserved, &used, now);
        }
        let way = self.chance.within(WAY_MS);
        self.at(now + way, What::Ended(id, !cut));
    }

    fn ended(&mut self, id: usize, whole: bool, now: u64) {
        let call = self.calls.get_mut(&id).expect("it is still there");
        let used = Used {
            input_tokens: call.input,
            output_tokens: call.output,
        };
        if let Some(slot) = call.slot.take() {
            let clients = &self.clients[call.clients];
            self.outcome.served.push(Served {
                session: clients.session,
                priority: clients.priority,
                asked_ms: call.asked_ms,
                started_ms: slot.started_ms(),
                ended_ms: now,
                used,
                charged: call.input + call.need.output_cap.unwrap_or(call.output),
            });
            self.lane.finished(slot, whole.then_some(&used), now);
        }
        self.done(id, now);
    }
}
