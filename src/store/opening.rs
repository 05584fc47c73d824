//! Opening a ledger: what the last process left in the journal is found again, and requests that it left open are
//! booked as interrupted at their estimate.
//!
//! The journal always holds the segment behind the last one that the store has for good, if only an empty one. So a
//! store that came up empty, or lost its end, shows as a gap between its mark and the oldest segment.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::WallClock;
use super::answers::{self, BookedAnswers};
use super::away::{Away, Waiting};
use super::backend::{Order, StoreFactory};
use super::directory::Home;
use super::error::{OpenError, StoreError};
use super::frame::{self, Found, Kind};
use super::journal::{Journal, News};
use super::keeper::{Keeper, SharedAnswers};
use super::pack::{self, Series};
use super::record::{Outcome, Record};
use super::retention::Limits;
use super::segment::SegmentDir;
use super::shelf::{self, Shelf};
use crate::config::settings::LedgerSettings;
use crate::llm::usage::{Provenance, Usage};
use crate::units::RequestId;

/// What opening the ledger found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Whether the ledger was made just now.
    pub created: bool,
    /// Requests found in the journal that the last process had not brought into the store.
    pub recovered: u64,
    /// Requests that were running when the last process ended.
    pub interrupted: u64,
    /// When the newest request of all was booked, in Unix milliseconds; 0 if there is none. A clock that shows an earlier
    /// time has been set back.
    pub newest_unix_ms: u64,
    /// Places in the journal that could not be read.
    pub damage: Vec<Damage>,
}

/// A segment of the journal that could not be read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its number.
    pub segment: u64,
    /// How many bytes hold no request. Everything else in it was read.
    pub bytes: u64,
    /// Where the file is kept for people to look at.
    pub kept: PathBuf,
}

/// A ledger without its threads.
pub(super) struct Parts {
    pub(super) journal: Arc<Journal>,
    pub(super) keeper: Keeper,
    pub(super) answers: SharedAnswers,
    pub(super) waiting: Waiting,
    pub(super) opened: Opened,
}

/// What the segments behind the store's mark hold.
#[derive(Default)]
struct Leftover {
    closed: HashSet<RequestId>,
    /// Encoded records.
    open: HashMap<RequestId, Vec<u8>>,
    answers: BookedAnswers,
    opened: Opened,
}

impl Leftover {
    fn read(&mut self, dir: &SegmentDir, number: u64) -> std::io::Result<()> {
        let segment = dir.read(number)?;
        let damage = frame::walk(&segment.frames, |found, payload| match found {
            Found::Open(id) => {
                self.open.insert(id, payload.to_vec());
            }
            Found::Close(record) => {
                self.opened.recovered += 1;
                let newest = &mut self.opened.newest_unix_ms;
                *newest = record.finished_unix_ms.max(*newest);
                if let Some(key) = answers::key_of(&record) {
                    self.answers.remember(&key);
                }
                self.closed.insert(record.id);
            }
            // The ledger's thread takes it over; nothing depends on it.
            Found::Event(_) => {}
        });
        // A segment of no bytes at all is one that was being made when the process ended.
        let unfinished = segment.frames.is_empty() && dir.size(number) == 0;
        if !damage.is_empty() || !(segment.header_is_whole || unfinished) {
            self.opened.damage.push(Damage {
                segment: number,
                bytes: damage.iter().map(|range| range.len() as u64).sum(),
                kept: dir.keep_damaged(number)?,
            });
        }
        Ok(())
    }
}

/// A request that ended with the process: booked at its estimate, at the time of its arrival.
fn interrupt(mut record: Record) -> Record {
    record.outcome = Outcome::Interrupted;
    record.finished_unix_ms = record.id.unix_ms();
    if record.usage != Usage::default() {
        record.provenance = Provenance::Estimated;
    }
    record
}

/// Opens the journal and the store of a directory that is already held.
pub(super) fn open(
    home: &Home,
    settings: &LedgerSettings,
    factory: StoreFactory,
    clock: WallClock,
) -> Result<Parts, OpenError> {
    let dir = SegmentDir::new(home.journal());
    let read_failed = |error| OpenError::io("read", dir.path(), error);
    let store_failed = |error| match error {
        StoreError::Io(kind, text) => OpenError::Io {
            action: "open the store in",
            path: home.store(),
            source: std::io::Error::new(kind, text),
        },
        StoreError::Damaged(what) => OpenError::Damaged {
            dir: home.dir().to_path_buf(),
            what: format!("the store in {}: {what}", home.store().display()),
        },
    };
    let segments = dir.list().map_err(read_failed)?;
    if home.existed && segments.is_empty() {
        return Err(OpenError::Damaged {
            dir: home.dir().to_path_buf(),
            what: format!("its journal in {} is gone", home.journal().display()),
        });
    }
    let mut shelf = factory().and_then(shelf::load).map_err(store_failed)?;
    let applied = shelf.applied();
    if let Some(oldest) = segments.first() {
        shelf::check_continuity(applied, *oldest).map_err(store_failed)?;
    }
    shelf.store.accept().map_err(store_failed)?;

    let mut leftover = Leftover::default();
    for number in &segments {
        if *number > applied {
            leftover.read(&dir, *number).map_err(read_failed)?;
        }
    }
    let active = segments.last().map_or(applied, |last| applied.max(*last)) + 1;
    let journal = Journal::start(
        dir.clone(),
        Box::new(dir.clone()),
        active,
        settings.sync_interval.is_zero(),
    )
    .map_err(|error| OpenError::io("write the journal in", dir.path(), error))?;
    let Leftover {
        closed,
        open,
        answers,
        mut opened,
    } = leftover;
    let mut bytes = Vec::new();
    for (id, payload) in open {
        if closed.contains(&id) {
            continue;
        }
        // Its frame's checksum holds, so it is as it was written; if it cannot be read all the same, its id can.
        let record = minicbor::decode(&payload).unwrap_or_else(|_| Record::new(id));
        let record = interrupt(record);
        opened.newest_unix_ms = record.finished_unix_ms.max(opened.newest_unix_ms);
        frame::encode(Kind::Close, &record, &mut bytes);
        opened.interrupted += 1;
    }
    let journaled = match bytes.is_empty() {
        true => Ok(()),
        false => journal
            .append(&bytes, News::Yes)
            .and_then(|()| journal.sync()),
    };
    journaled.map_err(|error| OpenError::io("write the journal in", dir.path(), error))?;
    // Only now: until the new segment is there, the old ones prove that the store is not empty.
    for number in segments.iter().filter(|number| **number <= applied) {
        dir.remove(*number)
            .map_err(|error| OpenError::io("clear", dir.path(), error))?;
    }

    let newest = newest_packed(&shelf).map_err(store_failed)?;
    opened.newest_unix_ms = newest.max(opened.newest_unix_ms);
    opened.created = !home.existed;
    home.complete()?;
    let journal = Arc::new(journal);
    let answers = Arc::new(Mutex::new(answers));
    let waiting = Waiting::default();
    let mut keeper = Keeper::new(
        Arc::clone(&journal),
        factory,
        clock,
        Limits::of(settings),
        Arc::clone(&answers),
        // Each start has an active segment of its own, and the number only rises.
        Away::new(active, waiting.clone()),
        shelf,
    );
    keeper.recall_answers().map_err(store_failed)?;
    Ok(Parts {
        journal,
        keeper,
        answers,
        waiting,
        opened,
    })
}

/// When the newest packed record was booked.
fn newest_packed(shelf: &Shelf) -> Result<u64, StoreError> {
    let mut newest = 0;
    shelf.store.scan(
        Series::Records.table(),
        &[],
        &[0xFF; 8],
        Order::Falling,
        &mut |key, _| {
            newest = pack::time_of(key);
            std::ops::ControlFlow::Break(())
        },
    )?;
    Ok(newest)
}

impl Parts {
    /// Whether this answer is to be booked now.
    pub(super) fn book_once(answers: &SharedAnswers, answer_id: &str) -> bool {
        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.book_once(answer_id)
    }
}
