//! The waiting line at SOFT: low priority waits until its budgets fall, its time is up, or its client leaves.
//!
//! One task, the usher, runs while somebody waits. It tries the first of each session, in the order of their turns,
//! whenever room may have come: when a running request ends, and when a window lets something go. Whoever is admitted
//! gets the reservation itself; if the client has left meanwhile, dropping it gives everything back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use super::gate::Gate;
use super::throttle::{self, Reservation, Wish};
use crate::config::settings::QueueSettings;
use crate::policy::budget::Scopes;
use crate::policy::budgets::{Ask, Denied};
use crate::policy::queue::{FairQueue, Ticket};
use crate::refusal::Refusal;
use crate::units::Priority;

/// Least time between two rounds of the usher: ends of requests in between are looked at together.
const ROUND: Duration = Duration::from_millis(10);

/// A round is followed by a pause this many times as long, so that the usher takes a tenth of one core at most, however many
/// wait …
const PAUSE_TO_ROUND: u32 = 9;

/// … but by none longer than this, as a round may have waited for the ledger.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After so many tries the usher lets others on its thread go on.
const TRIES_AT_ONCE: usize = 64;

/// Longest time between two rounds: the calendar's clock may be set forward meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How many of those who wait are looked at before somebody passes who has just come.
const FIRST_SERVED: usize = 32;

/// The line.
#[derive(Debug)]
pub(super) struct Line {
    max_waiting: usize,
    max_wait: Duration,
    waiting: Mutex<Waiting>,
    /// How many wait, to be read without the lock.
    count: AtomicUsize,
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: FairQueue<Waiter>,
    /// Whether the usher runs.
    ushered: bool,
}

#[derive(Debug)]
struct Waiter {
    wish: Arc<OwnWish>,
    grant: oneshot::Sender<Reservation>,
}

/// A wish that outlives the step that made it.
#[derive(Debug)]
struct OwnWish {
    /// Whose turns it takes: those of one session with the same budgets. Requests of one session for different models
    /// do not hold each other up.
    flow: String,
    session: String,
    key: Option<String>,
    team: Option<String>,
    provider: String,
    model: Option<String>,
    ask: Ask,
    priority: Priority,
}

impl OwnWish {
    fn of(wish: &Wish<'_>) -> Self {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let Scopes {
            session,
            key,
            team,
            provider,
            model,
        } = wish.scopes;
        Self {
            // Names hold no control characters.
            flow: [Some(session), Some(provider), model, key]
                .map(Option::unwrap_or_default)
                .join("\0"),
            session: session.to_owned(),
            key: own(key),
            team: own(team),
            provider: provider.to_owned(),
            model: own(model),
            ask: wish.ask,
            priority: wish.priority,
        }
    }

    fn wish(&self) -> Wish<'_> {
        Wish {
            scopes: Scopes {
                session: &self.session,
                key: self.key.as_deref(),
                team: self.team.as_deref(),
                provider: &self.provider,
                model: self.model.as_deref(),
            },
            ask: self.ask,
            priority: self.priority,
        }
    }
}

/// A place in the line; dropping it leaves the line.
struct Place {
    gate: Arc<Gate>,
    wish: Arc<OwnWish>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        let line = &self.gate.throttle.line;
        let mut waiting = line.lock();
        // Who was served is not there any more.
        let left = waiting.queue.leave(&self.wish.flow, self.ticket);
        line.note(&self.gate, &waiting);
        drop(waiting);
        drop(left);
    }
}

impl Line {
    pub(super) fn new(settings: &QueueSettings) -> Self {
        Self {
            max_waiting: settings.max_waiting,
            max_wait: settings.max_wait,
            waiting: Mutex::default(),
            count: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, gate: &Gate, waiting: &Waiting) {
        let count = waiting.queue.len();
        self.count.store(count, Ordering::Relaxed);
        gate.metrics.waiting(Priority::Low, count);
    }

    /// A running request has ended.
    pub(super) fn room_may_have_come(&self) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.room.notify_one();
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn join(
        &self,
        gate: &Arc<Gate>,
        wish: &Wish<'_>,
    ) -> Option<(Place, oneshot::Receiver<Reservation>)> {
        let (grant, granted) = oneshot::channel();
        let own = Arc::new(OwnWish::of(wish));
        let waiter = Waiter {
            wish: Arc::clone(&own),
            grant,
        };
        let mut waiting = self.lock();
        if waiting.queue.len() >= self.max_waiting {
            return None;
        }
        let weight = wish.ask.expected.fresh_tokens;
        let ticket = waiting.queue.push(&own.flow, weight, waiter);
        self.note(gate, &waiting);
        if !std::mem::replace(&mut waiting.ushered, true) {
            tokio::spawn(usher(Arc::clone(gate)));
        }
        self.room.notify_one();
        let place = Place {
            gate: Arc::clone(gate),
            wish: own,
            ticket,
        };
        Some((place, granted))
    }
}

/// Waits until a request that was denied for now is admitted.
///
/// # Errors
/// Its time is up, the line is full, waiting is known not to help in time, or the process is ending.
///
/// # Cancel safety
/// Dropping the future leaves the line; what was granted meanwhile is given back.
pub(super) async fn wait(
    gate: &Arc<Gate>,
    wish: &Wish<'_>,
    denied: &Denied,
) -> Result<Reservation, Refusal> {
    let line = &gate.throttle.line;
    let refuse =
        |denied: &Denied, waited, full| throttle::refusal(denied, wish.priority, waited, full);
    if !throttle::waiting_may_help(denied, line.max_wait) {
        return Err(refuse(denied, None, false));
    }
    let started = Instant::now();
    let Some((place, granted)) = line.join(gate, wish) else {
        return Err(refuse(denied, None, true));
    };
    let granted = tokio::select! {
        granted = granted => granted.ok(),
        () = sleep(line.max_wait) => None,
        () = gate.draining() => None,
    };
    drop(place);
    if let Some(reservation) = granted {
        return Ok(reservation);
    }
    match gate.throttle.try_now(gate, wish).await? {
        Ok(reservation) => Ok(reservation),
        Err(denied) => Err(refuse(&denied, Some(started.elapsed()), false)),
    }
}

/// Before somebody passes who has just come: those who have waited and could pass as well. Only the first few, because this
/// is on the way of a request; the usher looks at the rest.
pub(super) async fn serve_first(gate: &Arc<Gate>) {
    let line = &gate.throttle.line;
    let heads = copied(line.lock().queue.heads().take(FIRST_SERVED));
    serve(gate, line, &heads).await;
}

/// Serves the line until nobody waits.
async fn usher(gate: Arc<Gate>) {
    let line = &gate.throttle.line;
    loop {
        let began = Instant::now();
        let rest = round(&gate, line).await;
        let pause = began.elapsed() * PAUSE_TO_ROUND;
        let pause = pause.clamp(ROUND, LONGEST_PAUSE);
        {
            let mut waiting = line.lock();
            if waiting.queue.is_empty() {
                waiting.ushered = false;
                return;
            }
        }
        sleep(pause).await;
        tokio::select! {
            () = line.room.notified() => {}
            () = sleep(rest.saturating_sub(pause)) => {}
        }
    }
}

/// Somebody's place, and what they wish.
type Head = (Ticket, Arc<OwnWish>);

fn copied<'a>(heads: impl IntoIterator<Item = (Ticket, &'a Waiter)>) -> Vec<Head> {
    let copy = |(ticket, waiter): (Ticket, &Waiter)| (ticket, Arc::clone(&waiter.wish));
    heads.into_iter().map(copy).collect()
}

/// Tries the first of each flow, and then the next ones of those that were served, until nobody more is admitted. Says when
/// the next one will pass by itself.
async fn round(gate: &Arc<Gate>, line: &Line) -> Duration {
    let mut rest = LONGEST_REST;
    let mut heads = copied(line.lock().queue.heads());
    while !heads.is_empty() {
        let (served, passes) = serve(gate, line, &heads).await;
        rest = rest.min(passes);
        heads = copied(line.lock().queue.heads_of(served.into_iter()));
    }
    rest
}

/// Tries some of those who wait. Gives the flows of those that were served, and says when the first of the others will pass
/// by itself.
async fn serve<'a>(gate: &Arc<Gate>, line: &Line, heads: &'a [Head]) -> (Vec<&'a str>, Duration) {
    let mut rest = LONGEST_REST;
    let mut served = Vec::new();
    for (tries, (ticket, wish)) in heads.iter().enumerate() {
        if tries % TRIES_AT_ONCE == TRIES_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        match gate.throttle.try_now(gate, &wish.wish()).await {
            Ok(Ok(reservation)) => {
                let mut waiting = line.lock();
                let waiter = waiting.queue.serve(&wish.flow, *ticket);
                line.note(gate, &waiting);
                drop(waiting);
                served.push(&*wish.flow);
                if let Some(waiter) = waiter {
                    // A client that has just left: the reservation comes back, and goes.
                    drop(waiter.grant.send(reservation));
                }
            }
            Ok(Err(denied)) => {
                let passes = denied.passes_in_ms.map(Duration::from_millis);
                rest = rest.min(passes.unwrap_or(LONGEST_REST));
            }
            // The ledger's failure is told where it is met; it may work again the next time.
            Err(_) => {}
        }
    }
    (served, rest)
}
