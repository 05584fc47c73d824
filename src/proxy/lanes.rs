//! The lanes to the providers: one line, one set of limits and one breaker for each provider, credential and model class.
//!
//! The rules are `policy::lane`'s and `policy::breaker`'s. Here they meet the clock: a request waits for its turn, holds it
//! for as long as its answer runs, and gives it back whatever way it ends. While somebody waits, one task per lane wakes it
//! when time alone opens it; every end and every answer opens it at once.

mod kept;
mod now;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

pub use self::now::{LaneNow, RateNow};
use crate::clock::Clock;
use crate::llm::rate_limits::RateNews;
use crate::policy::breaker::{Breaker, BreakerStanding, FAILURES, Pass};
use crate::policy::lane::{
    Lane, LaneRules, Learned, Need, PauseReason, Refused, Slot, Ticket, Used, Verdict, Who,
};
use crate::policy::retry::{Class, Judgement, Sign, lane_pause};

/// Lanes that are remembered at once; beyond that those with nobody in them are forgotten.
const MOST_LANES: usize = 4_096;

/// How long what was learned of a lane is kept after its last use, in milliseconds: 30 days.
const LEARNED_KEPT_MS: u64 = 30 * 86_400_000;

/// Longest time between two looks at a lane with somebody waiting: the calendar's clock may be set forward meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Shortest time between two looks.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// Time between two looks while a probe is due that the lane's other limits keep back, in milliseconds.
const PROBE_RETRY_MS: u64 = 50;

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Mutex<HashMap<LaneKey, Arc<LaneCell>>>,
    /// What an earlier process has learned of lanes that do not run yet, or this one of lanes that were forgotten.
    learned: Mutex<HashMap<LaneKey, Learned>>,
    clock: Clock,
}

/// Which lane it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LaneKey {
    /// The provider's name.
    pub(super) provider: String,
    /// The credential's fingerprint; empty where none is shown.
    pub(super) credential: String,
    /// The models that share the provider's limits.
    pub(super) class: String,
}

/// One lane.
#[derive(Debug)]
pub(super) struct LaneCell {
    key: LaneKey,
    clock: Clock,
    state: Mutex<State>,
    wake: Notify,
    /// Told when the breaker opens.
    broke: Notify,
}

#[derive(Debug)]
struct State {
    lane: Lane<oneshot::Sender<Box<Turn>>>,
    breaker: Breaker,
    /// Rounds of refusals for the limits in a row: those of requests that were in flight together are one.
    refusals: u32,
    /// When the last round began, in Unix milliseconds.
    refused_at_ms: u64,
    /// Whether the task that wakes the lane runs.
    watched: bool,
}

/// Why a request gets no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// Its turn would come too late, or has not come in time.
    TooLate {
        /// How long it would have to wait at least, as far as is known.
        wait: Option<Duration>,
    },
    /// The line is full of those who need not give way.
    Full,
}

/// A request's turn: what it holds of its lane. Dropping it gives everything back.
#[derive(Debug)]
pub(super) struct Turn {
    cell: Arc<LaneCell>,
    slot: Option<Slot>,
    pass: Option<Pass>,
    /// Whoever it was given to has it; until then it is worth nothing.
    taken: bool,
}

impl Lanes {
    /// No lanes yet. `clock` measures intervals, and reads the moments that providers name.
    /// `dir` is where an earlier process has kept what it learned.
    pub(super) fn new(clock: Clock, dir: &Path) -> Self {
        Self {
            lanes: Mutex::default(),
            learned: Mutex::new(kept::read(dir)),
            clock,
        }
    }

    /// Keeps what has been learned for the next process.
    ///
    /// # Errors
    /// The file cannot be written.
    fn keep(&self, dir: &Path) -> std::io::Result<()> {
        let mut all = self
            .learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        {
            let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, cell) in lanes.iter() {
                all.insert(key.clone(), cell.lock().lane.learned());
            }
        }
        self.bound(&mut all);
        if all.is_empty() {
            return Ok(());
        }
        kept::write(dir, all.into_iter().collect())
    }

    /// Now, as the lanes see it, in Unix milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// The lane of that name, made if there is none yet.
    pub(super) fn of(&self, key: LaneKey, rules: impl FnOnce() -> LaneRules) -> Arc<LaneCell> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lanes.get(&key) {
            return Arc::clone(known);
        }
        if lanes.len() >= MOST_LANES {
            self.put_away(&mut lanes);
        }
        let now_ms = self.clock.unix_ms();
        let cell = Arc::new(LaneCell {
            key: key.clone(),
            clock: self.clock.clone(),
            state: Mutex::new(State {
                lane: match self.recalled(&key) {
                    Some(learned) => Lane::with_learned(rules(), &learned, now_ms),
                    None => Lane::new(rules(), now_ms),
                },
                breaker: Breaker::new(now_ms),
                refusals: 0,
                refused_at_ms: 0,
                watched: false,
            }),
            wake: Notify::new(),
            broke: Notify::new(),
        });
        lanes.insert(key, Arc::clone(&cell));
        cell
    }

    /// Forgets the lanes that nobody uses or is about to use, but not what they have learned.
    fn put_away(&self, lanes: &mut HashMap<LaneKey, Arc<LaneCell>>) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|key, cell| {
            let state = cell.lock();
            let unused = state.lane.is_idle() && Arc::strong_count(cell) == 1;
            if unused {
                learned.insert(key.clone(), state.lane.learned());
            }
            !unused
        });
        self.bound(&mut learned);
    }

    /// Of what was learned the newest stays: credentials come and go.
    fn bound(&self, learned: &mut HashMap<LaneKey, Learned>) {
        let oldest_ms = self.clock.unix_ms().saturating_sub(LEARNED_KEPT_MS);
        learned.retain(|_, learned| learned.at_ms >= oldest_ms);
        if learned.len() > MOST_LANES {
            let mut moments: Vec<u64> = learned.values().map(|learned| learned.at_ms).collect();
            moments.sort_unstable();
            let oldest_ms = moments[moments.len() - MOST_LANES];
            learned.retain(|_, learned| learned.at_ms >= oldest_ms);
        }
    }

    fn recalled(&self, key: &LaneKey) -> Option<Learned> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.remove(key)
    }

    /// How all lanes stand, by provider and class.
    pub(super) fn standings(&self) -> Vec<LaneNow> {
        let cells: Vec<Arc<LaneCell>> = {
            let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.values().cloned().collect()
        };
        let mut standings: Vec<LaneNow> = cells.iter().map(|cell| cell.standing()).collect();
        standings.sort_by(|a, b| {
            (&a.provider, &a.class, &a.credential).cmp(&(&b.provider, &b.class, &b.credential))
        });
        standings
    }
}

impl LaneCell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// The turn comes too late, or the line is full.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line; a turn that was given meanwhile goes back.
    pub(super) async fn turn(
        self: &Arc<Self>,
        who: Who<'_>,
        need: Need,
        deadline_ms: u64,
    ) -> Result<Box<Turn>, NoTurn> {
        let (give, given) = oneshot::channel();
        let now_ms = self.clock.unix_ms();
        let joined = self.lock().lane.join(who, need, deadline_ms, give, now_ms);
        let ticket = match joined {
            // Whoever had to give way learns it by its sender being gone.
            Ok(joined) => joined.ticket,
            Err(Refused::TooLate { earliest_ms, .. }) => {
                let wait = Duration::from_millis(earliest_ms.saturating_sub(now_ms));
                return Err(NoTurn::TooLate { wait: Some(wait) });
            }
            Err(Refused::Full { .. }) => return Err(NoTurn::Full),
        };
        let place = Place { cell: self, ticket };
        self.open();
        let turn = given.await;
        drop(place);
        // Without a turn its sender was dropped: the deadline has passed, or somebody more urgent took the place.
        let mut turn = turn.map_err(|_| NoTurn::TooLate { wait: None })?;
        turn.taken = true;
        Ok(turn)
    }

    /// Whether the breaker is open or half open, or opens with the next failure.
    pub(super) fn is_failing(&self) -> bool {
        match self.lock().breaker.standing() {
            BreakerStanding::Closed { failures, .. } => failures + 1 >= FAILURES,
            _ => true,
        }
    }

    /// Done when the breaker is open, or half open, so that only single requests pass.
    pub(super) async fn is_down(&self) {
        loop {
            let broke = self.broke.notified();
            tokio::pin!(broke);
            broke.as_mut().enable();
            if !matches!(
                self.lock().breaker.standing(),
                BreakerStanding::Closed { .. }
            ) {
                return;
            }
            broke.await;
        }
    }

    /// Lets go whoever may start now, and sees to it that the rest is looked at in time.
    fn open(self: &Arc<Self>) {
        let mut state = self.lock();
        let (turns, expired) = self.released(&mut state).0;
        let waits = !state.lane.is_empty();
        let watch = waits && !state.watched;
        state.watched |= waits;
        drop(state);
        // Outside the lock: what nobody takes comes back to this lane.
        drop(expired);
        for (give, turn) in turns {
            drop(give.send(turn));
        }
        if watch {
            tokio::spawn(watch_over(Arc::clone(self)));
        } else if waits {
            self.wake.notify_one();
        }
    }

    #[expect(
        clippy::type_complexity,
        reason = "taken apart at once by both callers"
    )]
    fn released(
        self: &Arc<Self>,
        state: &mut State,
    ) -> (
        (
            Vec<(oneshot::Sender<Box<Turn>>, Box<Turn>)>,
            Vec<oneshot::Sender<Box<Turn>>>,
        ),
        Option<u64>,
    ) {
        let now_ms = self.clock.unix_ms();
        let mut turns = Vec::new();
        let mut next_ms = None;
        let closed = matches!(state.breaker.standing(), BreakerStanding::Closed { .. });
        if !closed && !state.lane.is_empty() {
            // Single requests try the provider; the line waits for what comes of it.
            match state.breaker.ask(now_ms) {
                Ok(pass) => match state.lane.probe(now_ms) {
                    Some((give, slot)) => turns.push((give, self.turn_of(slot, Some(pass)))),
                    None => {
                        // Another pause or limit keeps it back.
                        state.breaker.unanswered(pass);
                        next_ms = Some(now_ms + PROBE_RETRY_MS);
                    }
                },
                Err(again_ms) => next_ms = Some(again_ms),
            }
        }
        state.lane.resume(PauseReason::BreakerOpen);
        match state.breaker.standing() {
            BreakerStanding::Closed { .. } => {}
            BreakerStanding::Open { next_probe_ms, .. } => {
                let until = next_probe_ms.max(now_ms + 1);
                state.lane.pause(until, PauseReason::BreakerOpen);
            }
            // What comes of a probe may be known at any moment.
            BreakerStanding::HalfOpen { .. } => {
                state.lane.pause(u64::MAX, PauseReason::BreakerOpen);
            }
        }
        let released = state.lane.release(now_ms);
        for (give, slot) in released.started {
            let pass = state.breaker.ask(now_ms).ok();
            turns.push((give, self.turn_of(slot, pass)));
        }
        let next_ms = match (next_ms, released.next_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        ((turns, released.expired), next_ms)
    }

    /// Boxed, so that those who wait need not have room for it.
    fn turn_of(self: &Arc<Self>, slot: Slot, pass: Option<Pass>) -> Box<Turn> {
        Box::new(Turn {
            cell: Arc::clone(self),
            slot: Some(slot),
            pass,
            taken: false,
        })
    }

    fn standing(&self) -> LaneNow {
        let now_ms = self.clock.unix_ms();
        let state = self.lock();
        LaneNow::of(
            &self.key,
            &state.lane.standing(now_ms),
            &state.breaker.standing(),
            now_ms,
        )
    }
}

/// A place in a lane's line; dropping it leaves the line.
struct Place<'a> {
    cell: &'a Arc<LaneCell>,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.cell.lock().lane.leave(self.ticket);
        if left.is_some() {
            // Who stood behind a large request may be able to start at once.
            self.cell.wake.notify_one();
        }
    }
}

/// Opens a lane when time alone lets somebody go, until nobody waits.
async fn watch_over(cell: Arc<LaneCell>) {
    loop {
        let next_ms = {
            let mut state = cell.lock();
            let ((turns, expired), next_ms) = cell.released(&mut state);
            if state.lane.is_empty() {
                state.watched = false;
            }
            let empty = state.lane.is_empty();
            drop(state);
            drop(expired);
            for (give, turn) in turns {
                drop(give.send(turn));
            }
            if empty {
                return;
            }
            next_ms
        };
        let now_ms = cell.clock.unix_ms();
        let rest = next_ms.map_or(LONGEST_REST, |next| {
            Duration::from_millis(next.saturating_sub(now_ms))
        });
        tokio::select! {
            () = sleep(rest.clamp(SHORTEST_REST, LONGEST_REST)) => {}
            () = cell.wake.notified() => {}
        }
    }
}

impl Turn {
    /// What came of the request so far, as soon as its answer's head is there or will not come. `failed` is `None` for a
    /// good answer.
    pub(super) fn answered(&mut self, news: &RateNews, failed: Option<&Judgement>, chance: f64) {
        let sign = failed.map_or(Sign::Well, |judgement| judgement.sign);
        let verdict = match sign {
            Sign::Well => Verdict::Ok,
            Sign::RateLimited => Verdict::RateLimited,
            Sign::Overloaded => Verdict::Overloaded,
            Sign::Failing | Sign::Untold => Verdict::Failed,
        };
        let now_ms = self.cell.clock.unix_ms();
        let mut state = self.cell.lock();
        if let Some(pass) = self.pass.take() {
            state.breaker.answered(pass, sign, now_ms, chance);
            if !matches!(state.breaker.standing(), BreakerStanding::Closed { .. }) {
                self.cell.broke.notify_waiters();
            }
        }
        if let Some(slot) = &mut self.slot
            && sign != Sign::Untold
        {
            state.lane.answered(slot, news, verdict, now_ms);
        }
        let pauses = failed
            .filter(|judgement| matches!(judgement.class, Class::Transient { pauses_lane: true }));
        match pauses {
            Some(judgement) => {
                let started_ms = self.slot.as_ref().map_or(now_ms, Slot::started_ms);
                if started_ms >= state.refused_at_ms {
                    state.refusals = state.refusals.saturating_add(1);
                    state.refused_at_ms = now_ms;
                }
                let pause = lane_pause(judgement.asked, state.refusals, chance);
                let until = now_ms.saturating_add(millis(pause));
                state.lane.pause(until, PauseReason::RateLimited);
            }
            None if sign == Sign::Well => state.refusals = 0,
            None => {}
        }
        drop(state);
        self.cell.open();
    }

    /// The answer has ended. `used` is what the provider counted, where that is known.
    pub(super) fn finished(mut self, used: Option<&Used>) {
        self.give_back(used);
    }

    fn give_back(&mut self, used: Option<&Used>) {
        let (slot, pass) = (self.slot.take(), self.pass.take());
        if slot.is_none() && pass.is_none() {
            return;
        }
        let now_ms = self.cell.clock.unix_ms();
        let mut state = self.cell.lock();
        if let Some(pass) = pass {
            state.breaker.unanswered(pass);
        }
        match slot {
            Some(slot) if self.taken => state.lane.finished(slot, used, now_ms),
            Some(slot) => state.lane.unsent(slot, now_ms),
            None => {}
        }
        drop(state);
        self.cell.open();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back(None);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::lane::Limits;
    use crate::units::Priority;

    const WHO: Who<'_> = Who {
        priority: Priority::Normal,
        session: "s",
        agent: "",
    };

    fn lane(limits: Limits) -> (Lanes, Arc<LaneCell>) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let lanes = Lanes::new(Clock::system(), dir.path());
        let key = LaneKey {
            provider: "p".into(),
            credential: String::new(),
            class: "m".into(),
        };
        let rules = LaneRules {
            limits,
            ..LaneRules::default()
        };
        let cell = lanes.of(key, || rules);
        (lanes, cell)
    }

    #[test]
    fn lanes_that_nobody_uses_make_room_and_what_they_learned_stays_for_a_while() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let now = Arc::new(std::sync::atomic::AtomicU64::new(1_795_176_000_000));
        let source = Arc::clone(&now);
        let clock = Clock::from_fn(move || source.load(std::sync::atomic::Ordering::Relaxed));
        let lanes = Lanes::new(clock, dir.path());
        let key = |number: usize| LaneKey {
            provider: "p".into(),
            credential: format!("key-{number}"),
            class: "m".into(),
        };
        let start = Limits {
            concurrency: Some(7),
            ..Limits::default()
        };
        let rules = LaneRules {
            start,
            ..LaneRules::default()
        };
        let held = lanes.of(key(0), || rules);
        for number in 1..=MOST_LANES {
            lanes.of(key(number), || rules);
        }
        let kept = lanes.lanes.lock().expect("no panic").len();
        assert!(kept <= 2, "{kept}: the one in use, and the newest");
        assert!(Arc::ptr_eq(&held, &lanes.of(key(0), || rules)));
        let learned = |lanes: &Lanes| lanes.learned.lock().expect("no panic").len();
        assert!(learned(&lanes) > MOST_LANES - 10);
        assert!(lanes.recalled(&key(5)).is_some());
        now.fetch_add(LEARNED_KEPT_MS + 1, std::sync::atomic::Ordering::Relaxed);
        lanes.keep(dir.path()).expect("a writable folder");
        let later = Lanes::new(Clock::system(), dir.path());
        assert!(learned(&later) <= 2, "{}", learned(&later));
    }

    #[tokio::test]
    async fn a_turn_that_comes_when_its_client_has_left_takes_nothing_of_the_limits() {
        let (_lanes, cell) = lane(Limits {
            concurrency: Some(1),
            requests_per_day: Some(2),
            ..Limits::default()
        });
        let need = Need::default();
        let first = cell.turn(WHO, need, u64::MAX).await.expect("it is free");
        {
            let mut second = std::pin::pin!(cell.turn(WHO, need, u64::MAX));
            let polled = first_look(second.as_mut()).await;
            assert!(polled.is_none(), "it waits");
            first.finished(None);
            // The second has got the turn, and leaves before it looks.
        }
        assert_eq!(cell.lock().lane.standing(0).day, Some((1, 2)));
        let third = cell.turn(WHO, need, u64::MAX).await;
        assert!(third.is_ok(), "one of the day is left");
    }

    /// What a future gives at the first look.
    async fn first_look<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
