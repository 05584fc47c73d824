//! The ledger thread's work: takes sealed segments over into the store, and lets them go once that is durable.
//!
//! What fails is tried again later; until then the journal keeps everything.

use std::sync::{Arc, Mutex, PoisonError};

use super::answers::{BookedAnswers, REMEMBER_MS};
use super::away::Away;
use super::backend::{Order, StoreFactory, Table};
use super::error::StoreError;
use super::frame::{self, Kind};
use super::journal::{Journal, News};
use super::shelf::{self, Shelf};
use super::{WallClock, retention::Limits};

/// A segment of this size is sealed at once, without waiting for its second to pass.
pub const LARGE_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Sums in memory, or segments on disk, that make a checkpoint due before its time.
const MAX_PENDING_SUMS: usize = 4096;
const MAX_PENDING_SEGMENTS: u64 = 16;

/// After this much was written the next start would have to read it all again; opening the store once more at the end
/// makes sled take a snapshot instead (measured: 64 ms against 17 ms for 300,000 records).
const SNAPSHOT_AFTER_BYTES: u64 = 8 * 1024 * 1024;

/// What the journal may hold while the store takes nothing; then new requests are refused.
const BACKLOG_BYTES: u64 = 512 * 1024 * 1024;

/// The answers that have been booked, shared with the request path.
pub type SharedAnswers = Arc<Mutex<BookedAnswers>>;

/// Owns the store.
pub struct Keeper {
    journal: Arc<Journal>,
    factory: StoreFactory,
    pub(super) clock: WallClock,
    pub(super) limits: Limits,
    answers: SharedAnswers,
    pub(super) away: Away,
    /// The store, or why there is none now.
    shelf: Result<Shelf, StoreError>,
}

impl Keeper {
    pub(super) fn new(
        journal: Arc<Journal>,
        factory: StoreFactory,
        clock: WallClock,
        limits: Limits,
        answers: SharedAnswers,
        away: Away,
        shelf: Shelf,
    ) -> Self {
        Self {
            journal,
            factory,
            clock,
            limits,
            answers,
            away,
            shelf: Ok(shelf),
        }
    }

    /// Opens the store anew if it failed before.
    fn open_shelf(&mut self) {
        if self.shelf.is_ok() {
            return;
        }
        self.shelf = (self.factory)()
            .and_then(shelf::load)
            .and_then(|mut shelf| {
                let segments = self.journal.dir().list();
                let segments =
                    segments.map_err(|error| StoreError::io("list the journal", &error))?;
                let oldest = segments.first().copied().unwrap_or(u64::MAX);
                shelf::check_continuity(shelf.applied(), oldest)?;
                shelf.store.accept()?;
                Ok(shelf)
            });
    }

    /// Runs `work` on the store. If it fails, the store is dropped (it may be in any state) and opened anew the next
    /// time; what was in memory comes back from the journal.
    pub(super) fn with_shelf<T>(
        &mut self,
        work: impl FnOnce(&mut Shelf) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with_shelf_and_away(|shelf, _| work(shelf))
    }

    /// The same, with what was put away, which no failure of the store touches.
    pub(super) fn with_shelf_and_away<T>(
        &mut self,
        work: impl FnOnce(&mut Shelf, &mut Away) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.open_shelf();
        let shelf = self.shelf.as_mut().map_err(|error| error.clone())?;
        let result = work(shelf, &mut self.away);
        if let Err(error) = &result {
            self.shelf = Err(error.clone());
        }
        result
    }

    /// Seals the active segment if there is news in it and takes all sealed segments over.
    ///
    /// # Errors
    ///
    /// When the store or the journal fails. Nothing is lost then; the next call tries again.
    pub fn take_over(&mut self) -> Result<(), StoreError> {
        let journal = Arc::clone(&self.journal);
        let answers = Arc::clone(&self.answers);
        self.open_shelf();
        let store_works = self.shelf.as_ref().map(|_| ()).map_err(Clone::clone);
        // Without a store, segments are not sealed every second: they would pile up.
        if store_works.is_ok() || journal.active_bytes() > LARGE_SEGMENT_BYTES {
            // A disk that has no room for another segment may have room in this one: the journal tells by itself.
            journal.rotate(false).ok();
        }
        let taken = store_works.and_then(|()| {
            self.with_shelf(|shelf| {
                for number in shelf.imported + 1..journal.active_number() {
                    // No checkpoint in between: it would repeat requests as open behind segments, not yet imported,
                    // in which they are closed. The backlog's own bound bounds the sums that pile up here.
                    shelf.import(&journal, number, &answers)?;
                }
                Ok(())
            })
        });
        journal.set_stalled(taken.is_err() && self.backlog_bytes() > BACKLOG_BYTES);
        taken
    }

    fn backlog_bytes(&self) -> u64 {
        let dir = self.journal.dir();
        let segments = dir.list().unwrap_or_default();
        segments.into_iter().map(|number| dir.size(number)).sum()
    }

    /// Whether something was taken over, or put away, that is not in the store for good.
    pub fn has_unsaved(&self) -> bool {
        self.unsaved_segments() > 0 || self.away.has_fresh()
    }

    fn unsaved_segments(&self) -> u64 {
        let shelf = self.shelf.as_ref();
        shelf.map_or(0, |shelf| shelf.imported - shelf.sums.applied)
    }

    /// Whether a checkpoint should not wait for its time.
    pub fn is_full(&self) -> bool {
        // While the store fails nothing is, or it would be tried without a pause.
        self.shelf.as_ref().is_ok_and(|shelf| {
            self.unsaved_segments() >= MAX_PENDING_SEGMENTS
                || shelf.pending.len() > MAX_PENDING_SUMS
                || self.away.is_full()
        })
    }

    /// Brings the sums and what was put away into the store, makes all of it durable, and deletes the segments that it
    /// holds.
    ///
    /// # Errors
    ///
    /// When the store or the journal fails. The segments stay.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        let journal = Arc::clone(&self.journal);
        let now = (self.clock)();
        self.with_shelf_and_away(|shelf, away| save(shelf, away, &journal, now))
    }

    /// Lets the store go, so that the next start finds it quickly.
    pub fn close(self) {
        let written = self.shelf.as_ref().map_or(0, |shelf| shelf.written);
        drop(self.shelf);
        if written > SNAPSHOT_AFTER_BYTES {
            // Everything is durable already: a failure here costs the next start some milliseconds.
            if let Ok(mut reopened) = (self.factory)() {
                reopened.accept().ok();
            }
        }
    }

    /// Fills the set of booked answers from the store.
    pub(super) fn recall_answers(&mut self) -> Result<(), StoreError> {
        let answers = Arc::clone(&self.answers);
        let since = (self.clock)().saturating_sub(REMEMBER_MS);
        self.with_shelf(|shelf| {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.store.scan(
                Table::Answers,
                &since.to_be_bytes(),
                &[0xFF; 9],
                Order::Rising,
                &mut |key, _| {
                    answers.remember(key);
                    std::ops::ControlFlow::Continue(())
                },
            )
        })
    }
}

fn save(
    shelf: &mut Shelf,
    away: &mut Away,
    journal: &Journal,
    now_ms: u64,
) -> Result<(), StoreError> {
    let taken_over = shelf.imported > shelf.applied();
    if !taken_over && !away.has_fresh() {
        return Ok(());
    }
    away.write(&mut *shelf.store, now_ms)?;
    if !taken_over {
        shelf.store.sync()?;
        away.written();
        return Ok(());
    }
    let failed = |error| StoreError::io("write the journal", &error);
    let mut bytes = Vec::new();
    for payload in shelf.opens.values() {
        bytes.clear();
        frame::wrap(Kind::Open, payload, &mut bytes);
        journal.append(&bytes, News::No).map_err(failed)?;
    }
    if !shelf.opens.is_empty() {
        journal.sync().map_err(failed)?;
    }
    let done = shelf.applied() + 1..=shelf.imported;
    shelf.apply_pending()?;
    shelf.store.sync()?;
    away.written();
    for number in done {
        let removed = journal.dir().remove(number);
        removed.map_err(|error| StoreError::io("delete a segment", &error))?;
    }
    Ok(())
}
