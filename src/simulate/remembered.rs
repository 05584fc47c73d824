//! OpenAI's answers that can be asked for again, and those that are made in the background: how far they are, and that
//! each is paid for once. The last few hundred, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::reply::Reply;
use super::responses::Status;

/// How many answers are remembered; older ones are forgotten.
const REMEMBERED: usize = 256;

/// How long background work takes unless a latency is asked for.
pub(super) const BACKGROUND_TIME: Duration = Duration::from_millis(50);

/// Answers that can be asked for again.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    inner: Mutex<Store>,
}

#[derive(Debug, Default)]
struct Store {
    by_id: HashMap<String, Entry>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Entry {
    reply: Reply,
    background: bool,
    begun: Instant,
    takes: Duration,
    cancelled: bool,
    /// Whether its usage has been told once; it is paid for once, however often it is asked for.
    booked: bool,
}

impl Entry {
    fn status(&self) -> Status {
        if self.cancelled {
            Status::Cancelled
        } else if self.begun.elapsed() >= self.takes {
            Status::Done
        } else if self.begun.elapsed() >= self.takes / 2 {
            Status::InProgress
        } else {
            Status::Queued
        }
    }
}

/// A remembered answer, as it is now.
#[derive(Debug)]
pub(super) struct Recalled {
    /// The answer.
    pub(super) reply: Reply,
    /// Whether it was asked for in the background.
    pub(super) background: bool,
    /// How far it is.
    pub(super) status: Status,
    /// Whether this is the first time that its usage is told.
    pub(super) books: bool,
}

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an answer that takes this long from now on; `booked` if its usage is told to the one who asks first.
    pub(super) fn remember(&self, reply: Reply, background: bool, takes: Duration, booked: bool) {
        let id = format!("resp_sim{}", reply.id);
        let mut store = self.lock();
        if store.order.len() >= REMEMBERED
            && let Some(oldest) = store.order.pop_front()
        {
            store.by_id.remove(&oldest);
        }
        store.order.push_back(id.clone());
        let entry = Entry {
            reply,
            background,
            begun: Instant::now(),
            takes,
            cancelled: false,
            booked,
        };
        store.by_id.insert(id, entry);
    }

    /// The answer of that id. `streaming` asks for it to its end, whenever that is.
    pub(super) fn recall(&self, id: &str, streaming: bool) -> Option<Recalled> {
        let mut store = self.lock();
        let entry = store.by_id.get_mut(id)?;
        let status = entry.status();
        let told = status == Status::Done || (streaming && status != Status::Cancelled);
        let books = told && !entry.booked;
        entry.booked |= told;
        Some(Recalled {
            reply: entry.reply.clone(),
            background: entry.background,
            status,
            books,
        })
    }

    /// Tokens of a whole conversation up to and including that answer.
    pub(super) fn tokens_before(&self, id: &str) -> u64 {
        self.lock().by_id.get(id).map_or(0, |entry| {
            entry.reply.usage.input + entry.reply.usage.output
        })
    }

    /// Cancels an answer that is not done.
    pub(super) fn cancel(&self, id: &str) {
        if let Some(entry) = self.lock().by_id.get_mut(id)
            && entry.status() != Status::Done
        {
            entry.cancelled = true;
        }
    }

    /// Forgets an answer. Says whether there was one.
    pub(super) fn forget(&self, id: &str) -> bool {
        let mut store = self.lock();
        store.order.retain(|known| known != id);
        store.by_id.remove(id).is_some()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.lock() = Store::default();
    }
}
