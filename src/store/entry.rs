//! One running request in the ledger: opened before it is sent, closed with what it used, whichever way it ends.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::event::Event;
use super::frame::{self, Kind};
use super::journal::{Journal, News};
use super::record::{Outcome, Record};
use super::{LedgerFailure, WallClock};

thread_local! {
    /// Frames are encoded here, so that the path allocates nothing for them.
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends an empty buffer.
fn with_buffer<T>(use_it: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    FRAME.with_borrow_mut(|bytes| {
        bytes.clear();
        use_it(bytes)
    })
}

/// Where entries are written.
pub(super) struct Book {
    pub(super) journal: Arc<Journal>,
    pub(super) clock: WallClock,
}

impl Book {
    /// Writes an event down; one that the disk does not take waits in memory, or is given up and counted.
    pub(super) fn event(&self, event: &Event) {
        with_buffer(|bytes| {
            frame::encode(Kind::Event, event.clamped().as_ref(), bytes);
            self.journal.append_event(bytes);
        });
    }
}

/// A request's place in the ledger. Change the record through it; `close` or dropping it writes the record for good.
///
/// An entry that is dropped without `close` while its outcome is still open is recorded as left by the client, with the
/// usage (the estimate) that stands in it: that is what hyper's dropping of a handler means.
pub struct Entry {
    record: Record,
    /// `None` once it is closed.
    book: Option<Arc<Book>>,
}

impl Entry {
    /// Writes that a request begins, with its estimate.
    pub(super) fn begin(book: &Arc<Book>, mut record: Record) -> Result<Self, LedgerFailure> {
        frame::clamp(&mut record);
        let written = with_buffer(|bytes| {
            frame::encode(Kind::Open, &record, bytes);
            book.journal.append(bytes, News::Yes)
        });
        match written {
            Ok(()) => Ok(Self {
                record,
                book: Some(Arc::clone(book)),
            }),
            Err(source) => Err(LedgerFailure {
                record: Box::new(record),
                source,
            }),
        }
    }

    /// Writes the beginning anew, as the record stands now: the request goes to somebody else. What the disk does not take
    /// is not missed, as the first beginning still stands.
    pub fn amend(&mut self) {
        let Some(book) = &self.book else { return };
        frame::clamp(&mut self.record);
        with_buffer(|bytes| {
            frame::encode(Kind::Open, &self.record, bytes);
            book.journal.append(bytes, News::Yes).ok();
        });
    }

    /// An entry whose beginning is not written down: a request that goes on although the ledger cannot be written, or
    /// one that ends as it arrives. Closing it writes it, then or when the disk takes something again.
    pub(super) fn unopened(book: &Arc<Book>, record: Record) -> Self {
        Self {
            record,
            book: Some(Arc::clone(book)),
        }
    }

    /// Writes the record as it stands: one write to the journal (and an fsync if the sync interval is zero). After it
    /// returns, the end of the process loses nothing. Later calls and changes have no effect.
    pub fn close(&mut self) {
        self.close_with(&[]);
    }

    /// As `close`, together with the events that belong to the ending: all in one write, so that a refusal costs no more
    /// than a pass. If the entry is closed already, the events are not written either.
    pub fn close_with(&mut self, events: &[Event]) {
        let Some(book) = self.book.take() else { return };
        if self.record.outcome == Outcome::Open {
            self.record.outcome = Outcome::ClientGone;
        }
        if self.record.finished_unix_ms == 0 {
            self.record.finished_unix_ms = (book.clock)();
        }
        frame::clamp(&mut self.record);
        with_buffer(|bytes| {
            frame::encode(Kind::Close, &self.record, bytes);
            for event in events {
                frame::encode(Kind::Event, event.clamped().as_ref(), bytes);
            }
            book.journal.append_close(bytes);
        });
    }
}

impl Deref for Entry {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.record
    }
}

impl DerefMut for Entry {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.record.id)
            .finish_non_exhaustive()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close();
    }
}
