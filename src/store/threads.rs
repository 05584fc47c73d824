//! The ledger's two threads: one syncs the journal; the other talks to the store, when it is due or when it is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::away::PutAway;
use super::event::Event;
use super::event_query::EventQuery;
use super::journal::Journal;
use super::keeper::{Keeper, LARGE_SEGMENT_BYTES};
use super::query::Query;
use super::recall::{Batch, Recall};
use super::record::Record;
use super::report::Report;
use super::savings::Savings;
use super::{ReadError, StoreError};
use crate::units::RequestId;

/// How long after the first news a segment is sealed and taken over.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(1);

/// How long after taking something over the sums and the store are made durable.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(10);

/// How long after a failure the store is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often an idle ledger looks for what has become too old.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Steps of pruning in a row before other work gets its turn.
const PRUNE_STEPS: usize = 16;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ReadError>>;

/// What the ledger thread is told or asked.
pub(super) enum Command {
    /// Something was written to the journal.
    Written,
    /// A report is asked for.
    Report(Query, Reply<Report>),
    /// It is asked what routing saved.
    Savings(Query, Reply<Savings>),
    /// One record is asked for.
    Find(RequestId, Reply<Option<Record>>),
    /// Records are asked for.
    Records(Query, usize, Reply<Vec<Record>>),
    /// Events are asked for.
    Events(EventQuery, Reply<Vec<Event>>),
    /// What was booked before this start is read back.
    Recall(Recall, SyncSender<Batch>),
    /// Counters are put away.
    PutAway(Vec<PutAway>),
    /// Counters are fetched by their names.
    FetchAway(Vec<Vec<u8>>, Reply<Vec<Option<Vec<u8>>>>),
    /// The last command.
    Stop,
}

/// Both threads.
pub(super) struct Threads {
    pub(super) sync: JoinHandle<()>,
    pub(super) keep: JoinHandle<()>,
}

/// Starts both threads.
pub(super) fn start_threads(
    interval: Duration,
    journal: &Arc<Journal>,
    keeper: Keeper,
    (commands, waiting): (&SyncSender<Command>, Receiver<Command>),
    store_failure: &Arc<Mutex<Option<String>>>,
) -> std::io::Result<Threads> {
    // At most one such command waits, so that they never crowd out the questions.
    let told = Arc::new(AtomicBool::new(false));
    let (synced, commands, tell) = (Arc::clone(journal), commands.clone(), Arc::clone(&told));
    let sync = thread::Builder::new()
        .name("ledger-sync".to_owned())
        .spawn(move || {
            synced.sync_until_stopped(interval, || {
                if !tell.swap(true, Ordering::Relaxed)
                    && commands.try_send(Command::Written).is_err()
                {
                    tell.store(false, Ordering::Relaxed);
                }
            });
        })?;
    let (journal, failure) = (Arc::clone(journal), Arc::clone(store_failure));
    let keep = thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || KeeperThread::new(keeper, journal, told, failure).run(&waiting))?;
    Ok(Threads { sync, keep })
}

/// When the ledger thread does what.
struct KeeperThread {
    keeper: Keeper,
    journal: Arc<Journal>,
    /// Whether `Command::Written` waits.
    told: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<String>>>,
    take_over: Option<Instant>,
    checkpoint: Option<Instant>,
    prune: Instant,
}

impl KeeperThread {
    fn new(
        keeper: Keeper,
        journal: Arc<Journal>,
        told: Arc<AtomicBool>,
        failure: Arc<Mutex<Option<String>>>,
    ) -> Self {
        Self {
            keeper,
            journal,
            told,
            failure,
            // The last process may have left something.
            take_over: Some(Instant::now()),
            checkpoint: None,
            prune: Instant::now() + TAKE_OVER_AFTER,
        }
    }

    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let due = [self.take_over, self.checkpoint].into_iter().flatten();
            let due = due.fold(self.prune, Instant::min);
            match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Command::Written) => {
                    self.told.store(false, Ordering::Relaxed);
                    let due = self.take_over;
                    let due = due.unwrap_or_else(|| Instant::now() + TAKE_OVER_AFTER);
                    let much = self.journal.active_bytes() > LARGE_SEGMENT_BYTES;
                    self.take_over = Some(if much { Instant::now() } else { due });
                }
                // The asker may have gone; then the answer goes nowhere.
                Ok(Command::Report(query, reply)) => {
                    let answer = self.keeper.report(&query);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Savings(query, reply)) => {
                    let answer = self.keeper.savings(&query);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Find(id, reply)) => {
                    let answer = self.keeper.find(id);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Records(query, limit, reply)) => {
                    let answer = self.keeper.records(&query, limit);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Events(query, reply)) => {
                    let answer = self.keeper.events(&query);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Recall(recall, to)) => {
                    let done = self.keeper.recall(recall, &to);
                    to.send(Batch::End(self.answer(done))).ok();
                }
                Ok(Command::PutAway(counters)) => self.keeper.put_away(counters),
                Ok(Command::FetchAway(names, reply)) => {
                    let answer = self.keeper.fetch_away(&names);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Stop) => {
                    let done = self.keeper.take_over();
                    let done = done.and_then(|()| self.keeper.checkpoint());
                    self.note(&done);
                    self.keeper.close();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.work(Instant::now());
        }
    }

    fn work(&mut self, now: Instant) {
        if self.take_over.is_some_and(|due| due <= now) {
            self.take_over = None;
            let done = self.keeper.take_over();
            if !self.note(&done) {
                self.take_over = Some(now + RETRY_AFTER);
            }
        }
        if self.keeper.has_unsaved() && self.checkpoint.is_none() {
            self.checkpoint = Some(now + CHECKPOINT_AFTER);
        }
        if self.checkpoint.is_some_and(|due| due <= now) || self.keeper.is_full() {
            self.checkpoint = None;
            let done = self.keeper.checkpoint();
            if !self.note(&done) {
                self.take_over = Some(now + RETRY_AFTER);
            }
            self.prune = now;
        }
        if self.prune <= now {
            self.prune = now + PRUNE_EVERY;
            for _ in 0..PRUNE_STEPS {
                let done = self.keeper.prune();
                if !self.note(&done) || matches!(done, Ok(false)) {
                    return;
                }
            }
            self.prune = now + TAKE_OVER_AFTER;
        }
    }

    /// Keeps the outcome for `health`; returns whether it was good.
    fn note<T>(&self, done: &Result<T, StoreError>) -> bool {
        let failure = done.as_ref().err().map(ToString::to_string);
        let good = failure.is_none();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        good
    }

    fn answer<T>(&self, answer: Result<T, StoreError>) -> Result<T, ReadError> {
        self.note(&answer);
        Ok(answer?)
    }
}
