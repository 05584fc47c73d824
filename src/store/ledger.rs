//! The ledger as the rest of the program sees it: begin and close requests, ask for reports, shut down.
//!
//! Two threads of its own: one syncs the journal, one talks to the store. They are apart because the store can stall
//! for more than a second, and a power cut must not cost more than the sync interval.

use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::away::{self, PutAway, Waiting};
use super::backend::{Store, StoreFactory};
use super::directory::Home;
use super::entry::Book;
use super::event::Event;
use super::event_query::EventQuery;
use super::journal::JournalHealth;
use super::keeper::SharedAnswers;
use super::opening::{self, Opened, Parts};
use super::query::Query;
use super::recall::{self, Past, Recall, Recalled};
use super::record::Record;
use super::report::Report;
use super::savings::Savings;
use super::sled::SledStore;
use super::threads::{Command, Reply, Threads, start_threads};
use super::{Entry, LedgerFailure, OpenError, ReadError, WallClock};
use crate::config::settings::LedgerSettings;
use crate::units::RequestId;

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

/// The ledger. Cheap to share behind an `Arc`; dropping it without `shutdown` loses nothing, as kill -9 loses nothing.
pub struct Ledger {
    book: Arc<Book>,
    answers: SharedAnswers,
    /// What was put away and is not in the store yet.
    waiting: Waiting,
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
            waiting,
            opened,
        } = parts;
        let (commands, questions) = sync_channel(WAITING_QUESTIONS);
        let store_failure = Arc::default();
        let interval = match settings.sync_interval.is_zero() {
            true => SYNC_OPENS_EVERY,
            false => settings.sync_interval,
        };
        let threads = start_threads(
            interval,
            &journal,
            keeper,
            (&commands, questions),
            &store_failure,
        );
        let threads =
            threads.map_err(|error| OpenError::io("start threads for", home.dir(), error))?;
        let ledger = Self {
            book: Arc::new(Book { journal, clock }),
            answers,
            waiting,
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

    /// A place for a request whose beginning is not written down; see `Entry::close`.
    pub fn entry_unopened(&self, record: Record) -> Entry {
        Entry::unopened(&self.book, record)
    }

    /// Writes an event down: one write to the journal. It fails no request: what the disk does not take waits in memory,
    /// and what does not fit there is counted. An event that belongs to a request's ending goes with
    /// `Entry::close_with`.
    pub fn event(&self, event: &Event) {
        self.book.event(event);
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

    /// Tells what routing saved, including everything closed before the call.
    ///
    /// # Errors
    ///
    /// As `report`.
    pub async fn savings(&self, query: Query) -> Result<Savings, ReadError> {
        let answer = self.ask(|reply| Command::Savings(query, reply))?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    /// As `savings`, for callers outside of any async runtime.
    ///
    /// # Errors
    ///
    /// As `report`.
    ///
    /// # Panics
    ///
    /// Inside an async runtime.
    pub fn savings_blocking(&self, query: Query) -> Result<Savings, ReadError> {
        let answer = self.ask(|reply| Command::Savings(query, reply))?;
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

    /// The newest events that a query admits, newest first, including everything written before the call.
    ///
    /// # Errors
    ///
    /// As `report`.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<Event>, ReadError> {
        let answer = self.ask(|reply| Command::Events(query, reply))?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    /// As `events`, for callers outside of any async runtime.
    ///
    /// # Errors
    ///
    /// As `report`.
    ///
    /// # Panics
    ///
    /// Inside an async runtime.
    pub fn events_blocking(&self, query: EventQuery) -> Result<Vec<Event>, ReadError> {
        let answer = self.ask(|reply| Command::Events(query, reply))?;
        answer.blocking_recv().unwrap_or(Err(ReadError::Closed))
    }

    /// Reads back what was booked: hourly sums up to a border, single requests behind it, each request in exactly one of
    /// the two. Includes what a process that was killed left in the journal, and the requests that opening booked as
    /// interrupted. Blocks; meant for the time before serving, as what is booked meanwhile may or may not be included.
    ///
    /// # Errors
    ///
    /// As `report`. Then some may have been handed out already.
    pub fn recall(
        &self,
        recall: Recall,
        each: &mut dyn FnMut(Past<'_>),
    ) -> Result<Recalled, ReadError> {
        let (to, batches) = sync_channel(recall::WAITING_BATCHES);
        self.send(Command::Recall(recall, to))?;
        recall::decode(recall, &batches, each)
    }

    /// Puts counters away, each under its name, in the place of what was there under it. Never blocks.
    ///
    /// # Errors
    ///
    /// When the ledger is behind or shut down, everything comes back, and the caller keeps it.
    pub fn put_away(&self, counters: Vec<PutAway>) -> Result<(), Vec<PutAway>> {
        let bytes = away::size_of(&counters);
        if !self.waiting.take(bytes) {
            return Err(counters);
        }
        let back = match self.commands.try_send(Command::PutAway(counters)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => back,
        };
        self.waiting.give_back(bytes);
        match back {
            Command::PutAway(counters) => Err(counters),
            _ => unreachable!("what could not be sent comes back"),
        }
    }

    /// What this process has put away under these names, in their order; `None` where there is nothing. Sees every
    /// `put_away` before it. What is fetched stays until it is put away anew, so nothing is lost with an asker who goes.
    ///
    /// # Errors
    ///
    /// As `report`.
    pub async fn fetch_away(&self, names: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, ReadError> {
        let answer = self.ask(|reply| Command::FetchAway(names, reply))?;
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    fn send(&self, command: Command) -> Result<(), ReadError> {
        self.commands
            .try_send(command)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => ReadError::Busy,
                TrySendError::Disconnected(_) => ReadError::Closed,
            })
    }

    fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<oneshot::Receiver<Result<T, ReadError>>, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        Ok(answer)
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
