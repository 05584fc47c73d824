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

/// Longest time between two rounds: the calendar's clock may be set forward meanwhile.
const LONGEST_REST: Duration = Duration::from_secs(5);

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
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        let line = &self.gate.throttle.line;
        let mut waiting = line.lock();
        // Who was served is not there any more.
        let left = waiting.queue.leave(self.ticket);
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
        let waiter = Waiter {
            wish: Arc::new(OwnWish::of(wish)),
            grant,
        };
        let mut waiting = self.lock();
        if waiting.queue.len() >= self.max_waiting {
            return None;
        }
        let weight = wish.ask.expected.fresh_tokens;
        let ticket = waiting.queue.push(wish.scopes.session, "", weight, waiter);
        self.note(gate, &waiting);
        if !std::mem::replace(&mut waiting.ushered, true) {
            tokio::spawn(usher(Arc::clone(gate)));
        }
        self.room.notify_one();
        let place = Place {
            gate: Arc::clone(gate),
            ticket,
        };
        Some((place, granted))
    }
}

/// Waits until the request is admitted: one that was denied for now, or one that found others waiting before it.
///
/// # Errors
/// Its time is up, the line is full, waiting is known not to help in time, or the process is ending.
///
/// # Cancel safety
/// Dropping the future leaves the line; what was granted meanwhile is given back.
pub(super) async fn wait(
    gate: &Arc<Gate>,
    wish: &Wish<'_>,
    tried: Result<Reservation, Box<Denied>>,
) -> Result<Reservation, Refusal> {
    let line = &gate.throttle.line;
    let refuse = |denied: &Denied, waited, full| {
        throttle::refusal(gate, denied, wish.priority, waited, full)
    };
    let started = Instant::now();
    let joined = match tried {
        // Nobody passes those who wait: what was held goes back, and the usher gives it to whose turn it is.
        Ok(reservation) => match line.join(gate, wish) {
            Some(joined) => {
                drop(reservation);
                joined
            }
            None => return Ok(reservation),
        },
        Err(denied) if !throttle::waiting_may_help(&denied, line.max_wait) => {
            return Err(refuse(&denied, None, false));
        }
        Err(denied) => match line.join(gate, wish) {
            Some(joined) => joined,
            None => return Err(refuse(&denied, None, true)),
        },
    };
    let (place, granted) = joined;
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

/// Serves the line until nobody waits.
async fn usher(gate: Arc<Gate>) {
    let line = &gate.throttle.line;
    loop {
        let rest = round(&gate, line).await;
        {
            let mut waiting = line.lock();
            if waiting.queue.is_empty() {
                waiting.ushered = false;
                return;
            }
        }
        sleep(ROUND).await;
        tokio::select! {
            () = line.room.notified() => {}
            () = sleep(rest.saturating_sub(ROUND)) => {}
        }
    }
}

/// Tries the first of each session until nobody more is admitted. Says when the next one will pass by itself.
async fn round(gate: &Arc<Gate>, line: &Line) -> Duration {
    loop {
        let heads: Vec<(Ticket, Arc<OwnWish>)> = line
            .lock()
            .queue
            .heads()
            .map(|(ticket, waiter)| (ticket, Arc::clone(&waiter.wish)))
            .collect();
        let mut rest = LONGEST_REST;
        let mut served = false;
        for (ticket, wish) in heads {
            match gate.throttle.try_now(gate, &wish.wish()).await {
                Ok(Ok(reservation)) => {
                    served = true;
                    let mut waiting = line.lock();
                    let waiter = waiting.queue.serve(ticket);
                    line.note(gate, &waiting);
                    drop(waiting);
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
        if !served {
            return rest;
        }
    }
}
