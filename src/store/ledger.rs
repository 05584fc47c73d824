//! The ledger as the rest of the program sees it: begin and close requests, ask for reports, shut down.
//!
//! Two threads of its own: one syncs the journal, one talks to the store. They are apart because the store can stall
//! for more than a second, and a power cut must not cost more than the sync interval.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::backend::{Store, StoreFactory};
use super::directory::Home;
use super::entry::Book;
use super::journal::{Journal, JournalHealth};
use super::keeper::{Keeper, LARGE_SEGMENT_BYTES, SharedAnswers};
use super::opening::{self, Opened, Parts};
use super::query::Query;
use super::record::Record;
use super::report::Report;
use super::sled::SledStore;
use super::{Entry, LedgerFailure, OpenError, ReadError, StoreError, WallClock};
use crate::config::settings::LedgerSettings;
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

/// Questions that may wait for the ledger thread.
const WAITING_QUESTIONS: usize = 64;

/// How often the journal is synced when each closing frame is synced by itself: that leaves the opening ones.
const SYNC_OPENS_EVERY: Duration = Duration::from_millis(100);

/// How the ledger is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The journal: what the request path depends on.
    pub journal: JournalHealth,
    /// Why the store takes nothing over at the moment. Requests are still journaled.
    pub store_failure: Option<String>,
}

impl Health {
    /// Whether everything works.
    pub fn is_good(&self) -> bool {
        self.journal.failure.is_none() && self.journal.late == 0 && self.store_failure.is_none()
    }
}

type Reply<T> = oneshot::Sender<Result<T, ReadError>>;

enum Command {
    /// Something was written to the journal.
    Written,
    /// A report is asked for.
    Report(Query, Reply<Report>),
    /// One record is asked for.
    Find(RequestId, Reply<Option<Record>>),
    /// Records are asked for.
    Records(Query, usize, Reply<Vec<Record>>),
    /// The last command.
    Stop,
}

struct Threads {
    sync: JoinHandle<()>,
    keep: JoinHandle<()>,
}

/// The ledger. Cheap to share behind an `Arc`; dropping it without `shutdown` loses nothing, as kill -9 loses nothing.
pub struct Ledger {
    book: Arc<Book>,
    answers: SharedAnswers,
    store_failure: Arc<Mutex<Option<String>>>,
    commands: SyncSender<Command>,
    threads: Mutex<Option<Threads>>,
    home: Mutex<Option<Home>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

impl Ledger {
    /// Opens the ledger in the settings' directory, or makes it.
    ///
    /// # Errors
    ///
    /// When the directory is not ours, is held by another process, is damaged, or cannot be written. Nothing is erased.
    pub fn open(settings: &LedgerSettings, clock: WallClock) -> Result<(Self, Opened), OpenError> {
        let home = Home::open(&settings.dir)?;
        let store = home.store();
        let factory: StoreFactory =
            Box::new(move || Ok(Box::new(SledStore::open(&store)?) as Box<dyn Store>));
        Self::start(home, settings, factory, clock)
    }

    /// Opens the ledger with a store of one's own.
    ///
    /// # Errors
    ///
    /// As `open`.
    pub fn open_with(
        settings: &LedgerSettings,
        factory: StoreFactory,
        clock: WallClock,
    ) -> Result<(Self, Opened), OpenError> {
        Self::start(Home::open(&settings.dir)?, settings, factory, clock)
    }

    fn start(
        home: Home,
        settings: &LedgerSettings,
        factory: StoreFactory,
        clock: WallClock,
    ) -> Result<(Self, Opened), OpenError> {
        let parts = opening::open(&home, settings, factory, Arc::clone(&clock))?;
        let Parts {
            journal,
            keeper,
            answers,
            opened,
        } = parts;
        let (commands, waiting) = sync_channel(WAITING_QUESTIONS);
        let store_failure = Arc::default();
        let interval = match settings.sync_interval.is_zero() {
            true => SYNC_OPENS_EVERY,
            false => settings.sync_interval,
        };
        let threads = start_threads(
            interval,
            &journal,
            keeper,
            (&commands, waiting),
            &store_failure,
        );
        let threads =
            threads.map_err(|error| OpenError::io("start threads for", home.dir(), error))?;
        let ledger = Self {
            book: Arc::new(Book { journal, clock }),
            answers,
            store_failure,
            commands,
            threads: Mutex::new(Some(threads)),
            home: Mutex::new(Some(home)),
        };
        Ok((ledger, opened))
    }

    /// Writes down that a request begins, with its estimate, before it is sent. One write to the journal, no fsync.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; the record comes back with the failure.
    pub fn begin(&self, record: Record) -> Result<Entry, LedgerFailure> {
        Entry::begin(&self.book, record)
    }

    /// Whether the answer of background work is to be booked now: true once for each id (within a day).
    pub fn book_once(&self, answer_id: &str) -> bool {
        Parts::book_once(&self.answers, answer_id)
    }

    /// Writes where this process listens, so that the command line finds it. Removed at shutdown.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn announce(&self, address: SocketAddr) -> std::io::Result<()> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        home.as_mut().map_or(Ok(()), |home| home.announce(address))
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        let failure = self.store_failure.lock();
        Health {
            journal: self.book.journal.health(),
            store_failure: failure.unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Answers a query, including everything closed before the call.
    ///
    /// # Errors
    ///
    /// When the store fails, too many questions wait, or the ledger is shut down.
    pub async fn report(&self, query: Query) -> Result<Report, ReadError> {
        let answer = self.ask(|reply| Command::Report(query, reply))?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    /// As `report`, for callers outside of any async runtime.
    ///
    /// # Errors
    ///
    /// As `report`.
    ///
    /// # Panics
    ///
    /// Inside an async runtime.
    pub fn report_blocking(&self, query: Query) -> Result<Report, ReadError> {
        let answer = self.ask(|reply| Command::Report(query, reply))?;
        answer.blocking_recv().unwrap_or(Err(ReadError::Closed))
    }

    /// Finds one request that has ended.
    ///
    /// # Errors
    ///
    /// As `report`.
    pub async fn find(&self, id: RequestId) -> Result<Option<Record>, ReadError> {
        let answer = self.ask(|reply| Command::Find(id, reply))?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    /// The newest requests that a query admits, newest first; its `since` and `until` count to the millisecond here.
    ///
    /// # Errors
    ///
    /// As `report`.
    pub async fn records(&self, query: Query, limit: usize) -> Result<Vec<Record>, ReadError> {
        let answer = self.ask(|reply| Command::Records(query, limit, reply))?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<oneshot::Receiver<Result<T, ReadError>>, ReadError> {
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send(command(reply)) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(ReadError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(ReadError::Closed),
        }
    }

    /// Takes everything into the store, makes it durable and lets the directory go. Entries that are closed later are
    /// still journaled, and found by the next start. Returns false if that took longer than `patience`: nothing is lost
    /// then either, the next start does the rest.
    pub fn shutdown(&self, patience: Duration) -> bool {
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Threads { sync, keep }) = threads else {
            return true;
        };
        let give_up = Instant::now() + patience;
        self.book.journal.stop();
        let mut stop = Command::Stop;
        while let Err(TrySendError::Full(again)) = self.commands.try_send(stop) {
            if Instant::now() > give_up {
                return false;
            }
            stop = again;
            thread::sleep(Duration::from_millis(1));
        }
        while !(sync.is_finished() && keep.is_finished()) {
            if Instant::now() > give_up {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        drop(
            self.home
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        true
    }
}

fn start_threads(
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
                Ok(Command::Find(id, reply)) => {
                    let answer = self.keeper.find(id);
                    reply.send(self.answer(answer)).ok();
                }
                Ok(Command::Records(query, limit, reply)) => {
                    let answer = self.keeper.records(&query, limit);
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
