//! The request path's half of the ledger: append a frame to the active segment with one write, and nothing else.
//!
//! A frame that the disk did not take whole is cut away again before the next one, so that a full disk never makes
//! later frames unreadable. Closing frames and events that could not be written wait in memory, bounded, and are tried
//! again.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::segment::{HEADER, SegmentDir, SegmentFile, SegmentMaker};

/// Closing frames kept in memory while the disk takes none: about 2 MiB, twice that with their events.
const MAX_LATE: usize = 8192;

/// Events by themselves kept likewise. They have their own bound, so that they never take the place of a request.
const MAX_LATE_EVENTS: usize = 1024;

/// Whether a frame brings news, or repeats an open frame so that its old segment can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A request began or ended: the segment is worth sealing.
    Yes,
    /// A repetition.
    No,
}

struct Active {
    number: u64,
    file: Arc<dyn SegmentFile>,
    /// Bytes of whole frames, with the header.
    length: u64,
    /// The file is longer than `length`, and cutting it failed.
    torn: bool,
    /// Whether a frame with news was written.
    news: bool,
    /// Whether something was written since the last sync.
    dirty: bool,
    /// Closing frames that wait for the disk.
    late: VecDeque<Vec<u8>>,
    /// Closing frames that were given up; on the next start these requests are found as interrupted.
    lost: u64,
    /// Events that wait for the disk.
    late_events: VecDeque<Vec<u8>>,
    /// Events that were given up.
    lost_events: u64,
    /// Why the last write failed, until the disk takes a frame again.
    failure: Option<String>,
    /// Why the last sync failed.
    sync_failure: Option<String>,
}

/// How the journal is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalHealth {
    /// The last failure to write or sync, until one succeeds.
    pub failure: Option<String>,
    /// Ended requests that wait in memory for the disk.
    pub late: usize,
    /// Ended requests whose exact figures were given up.
    pub lost: u64,
    /// Events that were given up.
    pub lost_events: u64,
}

/// The journal. Shared by all requests, the sync thread and the ledger thread.
pub struct Journal {
    dir: SegmentDir,
    maker: Box<dyn SegmentMaker>,
    /// Whether each closing frame is synced before `close` returns.
    sync_each: bool,
    active: Mutex<Active>,
    /// Wakes the sync thread.
    written: Condvar,
    stopping: AtomicBool,
    /// Segments pile up because the store takes none: no new requests.
    stalled: AtomicBool,
}

/// How often a disk that took nothing is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

impl Active {
    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.truncate(self.length)?;
            self.torn = false;
        }
        let mut done = 0;
        while done < frame.len() {
            let wrote = match self.file.append(&frame[done..]) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            match wrote {
                Ok(count) => done += count,
                Err(error) => {
                    self.torn = done > 0 && self.file.truncate(self.length).is_err();
                    self.failure = Some(error.to_string());
                    return Err(error);
                }
            }
        }
        self.length += frame.len() as u64;
        self.failure = None;
        Ok(())
    }
}

impl Journal {
    /// Starts a journal with a new active segment.
    ///
    /// # Errors
    ///
    /// When the segment cannot be made.
    pub fn start(
        dir: SegmentDir,
        maker: Box<dyn SegmentMaker>,
        number: u64,
        sync_each: bool,
    ) -> io::Result<Self> {
        let file = maker.create(number)?;
        Ok(Self {
            dir,
            maker,
            sync_each,
            active: Mutex::new(Active {
                number,
                file,
                length: HEADER,
                torn: false,
                news: false,
                dirty: false,
                late: VecDeque::new(),
                lost: 0,
                late_events: VecDeque::new(),
                lost_events: 0,
                failure: None,
                sync_failure: None,
            }),
            written: Condvar::new(),
            stopping: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
        })
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments' directory.
    pub fn dir(&self) -> &SegmentDir {
        &self.dir
    }

    /// Appends an opening frame, or repeats one.
    ///
    /// # Errors
    ///
    /// When the disk does not take it, or (for news) the store has fallen too far behind.
    pub fn append(&self, frame: &[u8], news: News) -> io::Result<()> {
        if news == News::Yes && self.stalled.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the journal is at its limit because the store takes nothing over",
            ));
        }
        let mut active = self.active();
        active.write(frame)?;
        active.news |= news == News::Yes;
        self.mark_dirty(active);
        Ok(())
    }

    /// Appends an event's frame; if the disk does not take it, keeps it for later. While the store is too far behind,
    /// events are given up: the journal has room for requests alone then.
    pub fn append_event(&self, frame: &[u8]) {
        let mut active = self.active();
        if self.stalled.load(Ordering::Relaxed) {
            active.lost_events += 1;
            return;
        }
        match active.write(frame) {
            Ok(()) => active.news = true,
            Err(_) if active.late_events.len() < MAX_LATE_EVENTS => {
                active.late_events.push_back(frame.to_vec());
            }
            Err(_) => active.lost_events += 1,
        }
        self.mark_dirty(active);
    }

    /// Appends a closing frame, and those of the events that belong to it; if the disk does not take them, keeps them for
    /// later.
    pub fn append_close(&self, frame: &[u8]) {
        let mut active = self.active();
        if active.write(frame).is_err() {
            if active.late.len() < MAX_LATE {
                active.late.push_back(frame.to_vec());
            } else {
                active.lost += 1;
            }
            self.mark_dirty(active);
            return;
        }
        active.news = true;
        if !self.sync_each {
            self.mark_dirty(active);
            return;
        }
        let file = Arc::clone(&active.file);
        drop(active);
        if let Err(error) = file.sync() {
            let mut active = self.active();
            active.sync_failure = Some(error.to_string());
            self.mark_dirty(active);
        }
    }

    fn mark_dirty(&self, mut active: MutexGuard<'_, Active>) {
        let was_clean = !std::mem::replace(&mut active.dirty, true);
        drop(active);
        if was_clean {
            self.written.notify_one();
        }
    }

    /// Writes the frames that wait in memory, as far as the disk takes them: ended requests first.
    pub fn write_late(&self) {
        loop {
            let mut active = self.active();
            let next = active.late.front().or(active.late_events.front());
            let Some(frame) = next.cloned() else { return };
            if active.write(&frame).is_err() {
                return;
            }
            if active.late.pop_front().is_none() {
                active.late_events.pop_front();
            }
            active.news = true;
            active.dirty = true;
        }
    }

    /// After a failed write, looks whether the disk takes something again. Without it a ledger that refuses requests
    /// would never see the write that could clear its failure.
    fn probe(&self) {
        let mut active = self.active();
        if active.failure.is_none() {
            return;
        }
        const ROOM: [u8; 4096] = [0; 4096];
        let has_room = matches!(active.file.append(&ROOM), Ok(written) if written == ROOM.len());
        active.torn = active.file.truncate(active.length).is_err();
        if has_room && !active.torn {
            active.failure = None;
        }
    }

    /// Makes everything written so far survive a power cut.
    ///
    /// # Errors
    ///
    /// What the disk said; also kept for `health`.
    pub fn sync(&self) -> io::Result<()> {
        let file = {
            let mut active = self.active();
            active.dirty = false;
            Arc::clone(&active.file)
        };
        let synced = file.sync();
        let mut active = self.active();
        active.sync_failure = synced.as_ref().err().map(ToString::to_string);
        active.dirty |= synced.is_err();
        synced
    }

    /// Seals the active segment and starts the next one, if there is news in it. Only the ledger thread calls it.
    /// Returns the sealed segment's number.
    ///
    /// # Errors
    ///
    /// When the next segment cannot be made: then the active one stays.
    pub fn rotate(&self, even_without_news: bool) -> io::Result<Option<u64>> {
        let sealed = {
            let active = self.active();
            if !active.news && !even_without_news {
                return Ok(None);
            }
            active.number
        };
        let file = self.maker.create(sealed + 1)?;
        let old = {
            let mut active = self.active();
            if active.torn {
                // What remains is told as damage by the import; the frames before it are whole.
                active.file.truncate(active.length).ok();
                active.torn = false;
            }
            active.number = sealed + 1;
            active.length = HEADER;
            active.news = false;
            std::mem::replace(&mut active.file, file)
        };
        if let Err(error) = old.sync() {
            self.active().sync_failure = Some(error.to_string());
        }
        Ok(Some(sealed))
    }

    /// Bytes of the active segment.
    pub fn active_bytes(&self) -> u64 {
        self.active().length
    }

    /// Number of the active segment.
    pub fn active_number(&self) -> u64 {
        self.active().number
    }

    /// Refuses new requests, or takes them again.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// How it is doing.
    pub fn health(&self) -> JournalHealth {
        let active = self.active();
        JournalHealth {
            failure: active
                .failure
                .clone()
                .or_else(|| active.sync_failure.clone()),
            late: active.late.len(),
            lost: active.lost,
            lost_events: active.lost_events,
        }
    }

    /// The sync thread: syncs within `interval` after something was written, then tells that there is news; sleeps
    /// while nothing is written.
    pub fn sync_until_stopped(&self, interval: Duration, written: impl Fn()) {
        // The sync itself takes time too: half of the interval is left for it.
        let pause = (interval / 2).max(Duration::from_millis(1));
        loop {
            let active = self.active();
            let waiting = self.written.wait_while(active, |active| {
                !active.dirty
                    && active.late.is_empty()
                    && active.late_events.is_empty()
                    && active.failure.is_none()
                    && !self.stopping.load(Ordering::Relaxed)
            });
            let failing = waiting.is_ok_and(|active| active.failure.is_some());
            let pause = if failing {
                PROBE_EVERY.max(pause)
            } else {
                pause
            };
            if !self.stopping.load(Ordering::Relaxed) {
                let active = self.active();
                let paused = self
                    .written
                    .wait_timeout_while(active, pause, |_| !self.stopping.load(Ordering::Relaxed));
                drop(paused);
            }
            self.write_late();
            self.probe();
            // A failure is kept for `health`, and the next round tries again.
            self.sync().ok();
            written();
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Ends the sync thread after one more sync.
    pub fn stop(&self) {
        let active = self.active();
        self.stopping.store(true, Ordering::Relaxed);
        drop(active);
        self.written.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::store::event::{Event, EventKind};
    use crate::store::frame::{self, Found, Kind};
    use crate::store::record::Record;
    use crate::units::RequestId;

    /// A disk with room for some bytes: it takes what fits and refuses the rest, as a full disk does.
    struct SmallDisk {
        dir: SegmentDir,
        room: Arc<AtomicUsize>,
    }

    struct SmallFile {
        file: Arc<dyn SegmentFile>,
        room: Arc<AtomicUsize>,
    }

    impl SegmentMaker for SmallDisk {
        fn create(&self, number: u64) -> io::Result<Arc<dyn SegmentFile>> {
            Ok(Arc::new(SmallFile {
                file: self.dir.create(number)?,
                room: Arc::clone(&self.room),
            }))
        }
    }

    impl SegmentFile for SmallFile {
        fn append(&self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.load(Ordering::Relaxed);
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let wrote = self.file.append(&bytes[..bytes.len().min(room)])?;
            self.room.fetch_sub(wrote, Ordering::Relaxed);
            Ok(wrote)
        }
        fn truncate(&self, length: u64) -> io::Result<()> {
            self.file.truncate(length)
        }
        fn sync(&self) -> io::Result<()> {
            self.file.sync()
        }
    }

    fn closing(number: u128) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(Kind::Close, &Record::new(RequestId(number)), &mut bytes);
        bytes
    }

    fn ids(dir: &SegmentDir) -> (Vec<u128>, usize) {
        let mut ids = Vec::new();
        let segment = dir.read(1).expect("the segment is there");
        let damage = frame::walk(&segment.frames, |found, _| match found {
            Found::Open(id) => ids.push(id.0),
            Found::Close(record) => ids.push(record.id.0),
            Found::Event(event) => ids.push(u128::from(event.at_unix_ms)),
        });
        (ids, damage.len())
    }

    #[test]
    fn a_full_disk_refuses_new_requests_keeps_ended_ones_and_recovers() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = SegmentDir::new(folder.path().to_path_buf());
        let room = Arc::new(AtomicUsize::new(closing(1).len() * 2 + 7));
        let disk = SmallDisk {
            dir: dir.clone(),
            room: Arc::clone(&room),
        };
        let journal = Journal::start(dir.clone(), Box::new(disk), 1, false).expect("room enough");
        journal.append_close(&closing(1));
        journal.append_close(&closing(2));
        journal.append_close(&closing(3));
        let refused = journal.append(&closing(4), News::Yes);
        assert_eq!(
            refused.map_err(|error| error.kind()),
            Err(io::ErrorKind::StorageFull)
        );
        assert_eq!(
            ids(&dir),
            (vec![1, 2], 0),
            "the half frame has been cut away"
        );
        let health = journal.health();
        assert_eq!((health.late, health.lost), (1, 0));
        assert!(health.failure.is_some());

        room.store(1 << 20, Ordering::Relaxed);
        journal.write_late();
        assert!(journal.append(&closing(4), News::Yes).is_ok());
        assert_eq!(ids(&dir), (vec![1, 2, 3, 4], 0));
        assert_eq!(journal.health(), JournalHealth::default());
    }

    fn event(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let event = Event::new(EventKind::Refused, number);
        frame::encode(Kind::Event, &event, &mut bytes);
        bytes
    }

    #[test]
    fn events_wait_for_a_full_disk_behind_ended_requests_and_never_in_their_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = SegmentDir::new(folder.path().to_path_buf());
        let room = Arc::<AtomicUsize>::default();
        let disk = SmallDisk {
            dir: dir.clone(),
            room: Arc::clone(&room),
        };
        let journal = Journal::start(dir.clone(), Box::new(disk), 1, false).expect("room enough");
        for number in 0..MAX_LATE_EVENTS as u64 + 2 {
            journal.append_event(&event(1000 + number));
        }
        journal.append_close(&closing(1));
        let health = journal.health();
        assert_eq!((health.late, health.lost, health.lost_events), (1, 0, 2));
        room.store(1 << 20, Ordering::Relaxed);
        journal.write_late();
        let (ids, damage) = ids(&dir);
        assert_eq!((ids.len(), damage), (1 + MAX_LATE_EVENTS, 0));
        assert_eq!(ids[..3], [1, 1000, 1001]);
        assert!(journal.health().failure.is_none());
    }

    #[test]
    fn what_waits_in_memory_is_bounded_and_what_is_given_up_is_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = SegmentDir::new(folder.path().to_path_buf());
        let disk = SmallDisk {
            dir: dir.clone(),
            room: Arc::default(),
        };
        let journal = Journal::start(dir, Box::new(disk), 1, false).expect("room enough");
        for number in 0..MAX_LATE as u128 + 3 {
            journal.append_close(&closing(number));
        }
        let health = journal.health();
        assert_eq!((health.late, health.lost), (MAX_LATE, 3));
    }

    #[test]
    fn a_journal_at_its_limit_refuses_new_requests_but_takes_their_ends() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = SegmentDir::new(folder.path().to_path_buf());
        let journal =
            Journal::start(dir.clone(), Box::new(dir.clone()), 1, false).expect("a journal");
        journal.set_stalled(true);
        assert!(journal.append(&closing(1), News::Yes).is_err());
        journal.append_close(&closing(2));
        journal.append_event(&event(9));
        assert_eq!(ids(&dir), (vec![2], 0));
        assert_eq!(journal.health().lost_events, 1);
        journal.set_stalled(false);
        assert!(journal.append(&closing(3), News::Yes).is_ok());
    }

    #[test]
    fn a_segment_without_news_is_not_sealed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = SegmentDir::new(folder.path().to_path_buf());
        let journal =
            Journal::start(dir.clone(), Box::new(dir.clone()), 1, false).expect("a journal");
        journal
            .append(&closing(1), News::No)
            .expect("the disk has room");
        assert_eq!(journal.rotate(false).expect("room"), None);
        journal
            .append(&closing(2), News::Yes)
            .expect("the disk has room");
        assert_eq!(journal.rotate(false).expect("room"), Some(1));
        assert_eq!(dir.list().expect("readable"), [1, 2]);
    }
}
