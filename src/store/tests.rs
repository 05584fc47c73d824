//! The ledger's promises, without threads: any sequence of beginnings, endings, crashes and failures keeps exactly what
//! was closed. Each test runs against every store.

mod away;
mod events;
mod format;
mod recall;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::backend::{Change, Order, Store, StoreFactory, Table};
use super::directory::Home;
use super::entry::{Book, Entry};
use super::event::{Event, EventKind};
use super::event_query::EventQuery;
use super::memory::MemoryStore;
use super::opening::{self, Opened, Parts};
use super::query::{Dimension, Query};
use super::recall::{Batch, Past, Recall, Recalled, decode};
use super::record::{CostSource, Outcome, Record};
use super::sled::SledStore;
use super::{HOUR_MS, OpenError};
use crate::config::settings::LedgerSettings;
use crate::llm::usage::Provenance;
use crate::policy::budget::Amounts;
use crate::units::{Cost, RequestId};

const NOON: u64 = 1_795_000_000_000;

/// A ledger directory, a store that outlives its process, and a clock.
struct Rig {
    folder: TempDir,
    /// `None` for sled.
    memory: Option<MemoryStore>,
    clock: Arc<AtomicU64>,
    settings: LedgerSettings,
    count: u64,
}

/// An open ledger.
struct Running {
    parts: Parts,
    book: Arc<Book>,
    _home: Home,
}

impl Rig {
    fn new(memory: Option<MemoryStore>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            settings: LedgerSettings {
                dir: folder.path().join("ledger"),
                sync_interval: Duration::from_millis(100),
                keep_records: Duration::from_secs(30 * 86_400),
                keep_sums: Duration::from_secs(400 * 86_400),
                max_bytes: 1 << 30,
                pass_on_failure: false,
            },
            folder,
            memory,
            clock: Arc::new(AtomicU64::new(NOON)),
            count: 0,
        }
    }

    fn both() -> [Self; 2] {
        [Self::new(Some(MemoryStore::default())), Self::new(None)]
    }

    fn factory(&self, home: &Home) -> StoreFactory {
        match self.memory.clone() {
            Some(memory) => Box::new(move || Ok(Box::new(memory.clone()))),
            None => {
                let dir = home.store();
                Box::new(move || Ok(Box::new(SledStore::open(&dir)?)))
            }
        }
    }

    fn open(&self) -> Result<Running, OpenError> {
        let home = Home::open(&self.settings.dir)?;
        let factory = self.factory(&home);
        let clock = Arc::clone(&self.clock);
        let clock: super::WallClock = Arc::new(move || clock.load(Ordering::Relaxed));
        let parts = opening::open(&home, &self.settings, factory, Arc::clone(&clock))?;
        let journal = Arc::clone(&parts.journal);
        Ok(Running {
            parts,
            book: Arc::new(Book { journal, clock }),
            _home: home,
        })
    }

    fn start(&self) -> Running {
        self.open().expect("the ledger opens")
    }

    fn record(&mut self, estimate: u64) -> Record {
        self.count += 1;
        let now = self.clock.load(Ordering::Relaxed);
        let mut record = Record::new(RequestId::new(now, 1, self.count));
        record.session = format!("session {}", self.count % 3);
        record.provider = "anthropic".to_owned();
        record.usage.input = estimate;
        record.provenance = Provenance::Estimated;
        record.cost = Some(Cost::from_attos(i128::from(estimate) * 7));
        record.cost_source = CostSource::Table;
        record
    }

    fn segment(&self, number: u64) -> std::path::PathBuf {
        self.settings.dir.join(format!("journal/{number:012}.log"))
    }
}

impl Running {
    fn begin(&self, record: Record) -> Entry {
        Entry::begin(&self.book, record).expect("the disk has room")
    }

    fn close(&self, mut entry: Entry, input: u64) {
        entry.usage.input = input;
        entry.provenance = Provenance::Reported;
        entry.outcome = Outcome::Complete;
        entry.cost = Some(Cost::from_attos(i128::from(input) * 11));
        entry.close();
    }

    /// Writes an event that is known by a number.
    fn event(&self, number: u64) {
        let mut event = Event::new(EventKind::Refused, (self.book.clock)());
        event.actual_tokens = number;
        self.book.event(&event);
    }

    /// The numbers of all events, newest first.
    fn events(&mut self) -> Vec<u64> {
        let query = EventQuery {
            limit: usize::MAX,
            ..EventQuery::default()
        };
        let events = self.parts.keeper.events(&query).expect("readable");
        events
            .into_iter()
            .map(|event| event.actual_tokens)
            .collect()
    }

    /// What is read back: ids of single requests with what they take, and what the sums take.
    fn recall(
        &mut self,
        since: u64,
        single_since: u64,
    ) -> (Recalled, Vec<(u128, Amounts)>, Amounts) {
        let recall = Recall {
            since_unix_ms: since,
            single_since_unix_ms: single_since,
        };
        let (to, batches) = std::sync::mpsc::sync_channel(1000);
        let done = self.parts.keeper.recall(recall, &to);
        done.expect("the store works");
        to.send(Batch::End(Ok(()))).expect("there is room");
        let (mut singles, mut sums) = (Vec::new(), Amounts::default());
        let recalled = decode(recall, &batches, &mut |past| match past {
            Past::Hour(group, sum) => sums.add(&sum.charges(group)),
            Past::Request(request) => singles.push((request.id.0, request.charges())),
        });
        (recalled.expect("readable"), singles, sums)
    }

    fn save(&mut self) {
        self.parts.keeper.take_over().expect("the store works");
        self.parts.keeper.checkpoint().expect("the store works");
    }

    /// Every record and its input tokens, from the packs; fails if the hourly sums say something else.
    fn everything(&mut self) -> BTreeMap<u128, (Outcome, u64)> {
        let keeper = &mut self.parts.keeper;
        let records = keeper
            .records(&Query::default(), usize::MAX)
            .expect("readable");
        let report = keeper.report(&Query::default()).expect("readable");
        let cost: Cost = records.iter().filter_map(|record| record.cost).sum();
        let input: u64 = records.iter().map(|record| record.usage.input).sum();
        let total = report.total;
        assert_eq!(
            (total.requests, total.input, total.cost),
            (records.len() as u64, input, Some(cost)),
            "sums and records agree"
        );
        let counted = keeper.with_shelf_and_away(|shelf, away| {
            for (table, beyond, mark) in [
                (Table::Packs, [0xFF; 8].as_slice(), shelf.packs.bytes),
                (Table::Events, [0xFF; 8].as_slice(), shelf.events.bytes),
                (Table::Away, [0xFF; 8].as_slice(), away.stored_bytes),
                (Table::Sums, [0xFF; 4].as_slice(), shelf.sums.bytes),
            ] {
                let mut bytes = 0;
                let mut add = |key: &[u8], value: &[u8]| {
                    bytes += (key.len() + value.len()) as u64;
                    ControlFlow::Continue(())
                };
                let all = Order::Rising;
                shelf.store.scan(table, &[], beyond, all, &mut add)?;
                assert_eq!(mark, bytes, "{table:?} are counted right");
            }
            Ok(())
        });
        counted.expect("the store works");
        let charged = records.iter().fold(Amounts::default(), |mut sum, record| {
            sum.add(&record.charges());
            sum
        });
        // Whatever the border, each request is either in a sum or single.
        for single_since in [0, NOON, NOON + HOUR_MS, NOON + 5 * HOUR_MS, u64::MAX] {
            let (recalled, singles, mut total) = self.recall(0, single_since);
            let border = recalled.border_unix_ms;
            let mut newer = records
                .iter()
                .filter(|record| record.finished_unix_ms >= border)
                .map(|record| (record.id.0, record.charges()))
                .collect::<Vec<_>>();
            let mut found = singles.clone();
            newer.sort_unstable_by_key(|(id, _)| *id);
            found.sort_unstable_by_key(|(id, _)| *id);
            assert_eq!(found, newer, "every single request, once");
            singles.iter().for_each(|(_, takes)| total.add(takes));
            assert_eq!(total, charged, "with a border at {border}");
        }
        let count = records.len();
        let all: BTreeMap<_, _> = records
            .into_iter()
            .map(|record| (record.id.0, (record.outcome, record.usage.input)))
            .collect();
        assert_eq!(all.len(), count, "no request is there twice");
        all
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin(u64),
    Close(usize, u64),
    Leave(usize),
    Event(bool),
    TakeOver,
    Checkpoint,
    /// The process dies; of the store's batches since its last sync this share survives.
    Crash(u8),
    /// The store fails until the next step of this kind.
    ToggleStore,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..1000_u64).prop_map(Step::Begin),
        6 => (0..100_usize, 0..1000_u64).prop_map(|(which, tokens)| Step::Close(which, tokens)),
        1 => (0..100_usize).prop_map(Step::Leave),
        3 => any::<bool>().prop_map(Step::Event),
        2 => Just(Step::TakeOver),
        2 => Just(Step::Checkpoint),
        1 => any::<u8>().prop_map(Step::Crash),
        1 => Just(Step::ToggleStore),
        1 => (0..2 * HOUR_MS).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn keeps_exactly_what_was_closed(mut rig: Rig, steps: Vec<Step>) {
    let mut running = rig.start();
    let mut open: Vec<Entry> = Vec::new();
    let mut expected = BTreeMap::new();
    let mut events = Vec::new();
    let mut failing = false;
    for step in steps {
        match step {
            Step::Begin(estimate) => {
                let record = rig.record(estimate);
                open.push(running.begin(record));
            }
            Step::Close(which, tokens) if !open.is_empty() => {
                let entry = open.swap_remove(which % open.len());
                expected.insert(entry.id.0, (Outcome::Complete, tokens));
                running.close(entry, tokens);
            }
            Step::Leave(which) if !open.is_empty() => {
                let entry = open.swap_remove(which % open.len());
                expected.insert(entry.id.0, (Outcome::ClientGone, entry.usage.input));
            }
            // With the ending of a request that was refused, or by itself.
            Step::Event(true) => {
                let record = rig.record(0);
                let mut entry = Entry::unopened(&running.book, record);
                entry.outcome = Outcome::Refused;
                entry.cost = None;
                let mut event = Event::new(EventKind::Refused, rig.clock.load(Ordering::Relaxed));
                event.actual_tokens = events.len() as u64;
                events.push(event.actual_tokens);
                expected.insert(entry.id.0, (Outcome::Refused, 0));
                entry.close_with(&[event]);
            }
            Step::Event(false) => {
                running.event(events.len() as u64);
                events.push(events.len() as u64);
            }
            Step::Close(..) | Step::Leave(_) => {}
            // While the store is told to fail these fail too; nothing may depend on them.
            Step::TakeOver => drop(running.parts.keeper.take_over()),
            Step::Checkpoint => drop(running.parts.keeper.checkpoint()),
            Step::Crash(share) => {
                for entry in open.drain(..) {
                    expected.insert(entry.id.0, (Outcome::Interrupted, entry.usage.input));
                    std::mem::forget(entry);
                }
                drop(running);
                if let Some(memory) = &rig.memory {
                    memory.set_failing(false);
                    memory.crash(usize::from(share) % 16);
                }
                failing = false;
                running = rig.start();
            }
            Step::ToggleStore => {
                failing = !failing;
                if let Some(memory) = &rig.memory {
                    memory.set_failing(failing);
                }
            }
            Step::Wait(ms) => {
                rig.clock.fetch_add(ms, Ordering::Relaxed);
            }
        }
    }
    if let Some(memory) = &rig.memory {
        memory.set_failing(false);
    }
    assert_eq!(running.everything(), expected);
    events.reverse();
    assert_eq!(running.events(), events, "every event once, in order");
    for entry in open {
        std::mem::forget(entry);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_sequence_of_crashes_keeps_exactly_what_was_closed(steps in steps()) {
        keeps_exactly_what_was_closed(Rig::new(Some(MemoryStore::default())), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn so_does_any_sequence_of_restarts_on_sled(steps in steps()) {
        keeps_exactly_what_was_closed(Rig::new(None), steps);
    }
}

#[test]
fn a_request_is_interrupted_once_at_its_estimate_however_often_the_process_dies() {
    for mut rig in Rig::both() {
        let record = rig.record(321);
        let running = rig.start();
        std::mem::forget(running.begin(record));
        drop(running);
        let mut found = Vec::new();
        for _ in 0..3 {
            let mut running = rig.start();
            found.push(running.parts.opened.interrupted);
            running.parts.keeper.take_over().expect("the store works");
        }
        assert_eq!(found, [1, 0, 0]);
        let mut running = rig.start();
        let all: Vec<_> = running.everything().into_values().collect();
        assert_eq!(all, [(Outcome::Interrupted, 321)]);
        let report = running.parts.keeper.report(&Query::default());
        assert_eq!(report.expect("readable").total.estimated_tokens, 321);
    }
}

#[test]
fn a_request_that_runs_through_many_checkpoints_is_still_known_after_a_crash() {
    for mut rig in Rig::both() {
        let long = rig.record(5);
        let mut running = rig.start();
        std::mem::forget(running.begin(long));
        for _ in 0..3 {
            let record = rig.record(1);
            running.close(running.begin(record), 2);
            running.save();
        }
        assert!(!rig.segment(1).exists(), "its first segment has gone");
        drop(running);
        assert_eq!(rig.start().parts.opened.interrupted, 1);
    }
}

#[test]
fn a_flipped_or_missing_byte_of_the_journal_costs_one_frame_and_is_told() {
    let mut rig = Rig::new(Some(MemoryStore::default()));
    let running = rig.start();
    for _ in 0..4 {
        let record = rig.record(1);
        running.close(running.begin(record), 2);
    }
    drop(running);
    let whole = fs::read(rig.segment(1)).expect("readable");
    let fresh = rig.folder.path().join("fresh");
    copy_dir(&rig.settings.dir, &fresh);
    for place in (0..whole.len()).step_by(7) {
        for cut in [false, true] {
            fs::remove_dir_all(&rig.settings.dir).expect("removable");
            copy_dir(&fresh, &rig.settings.dir);
            let mut bytes = whole.clone();
            if cut {
                bytes.truncate(place);
            } else {
                bytes[place] ^= 0x10;
            }
            fs::write(rig.segment(1), &bytes).expect("writable");
            rig.memory.as_ref().expect("in memory").crash(0);
            let mut running = rig.start();
            let Opened { damage, .. } = running.parts.opened.clone();
            let kept = running.everything();
            let complete = |all: &BTreeMap<_, (Outcome, u64)>| {
                all.values()
                    .filter(|(outcome, _)| *outcome == Outcome::Complete)
                    .count()
            };
            if cut {
                // Eight frames of about the same length, then a header of 16 bytes before them.
                let frame = (whole.len() - 16) as f64 / 8.0;
                let before = ((place as f64 - 16.0) / frame / 2.0 - 0.1).max(0.0) as usize;
                assert!(complete(&kept) >= before, "cut at {place}");
            } else {
                assert_eq!(damage.len(), 1, "flipped at {place}");
                assert!(complete(&kept) >= 3, "flipped at {place}");
                assert_eq!(fs::read(&damage[0].kept).ok(), Some(bytes));
            }
        }
    }
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("writable");
        }
    }
}

#[test]
fn a_store_that_comes_up_empty_or_lost_its_end_is_refused_and_nothing_is_erased() {
    for mut rig in Rig::both() {
        let mut running = rig.start();
        for _ in 0..2 {
            let record = rig.record(1);
            running.close(running.begin(record), 2);
            running.save();
        }
        drop(running);
        let error = match &rig.memory {
            Some(_) => {
                rig.memory = Some(MemoryStore::default());
                rig.open()
            }
            None => {
                let store = rig.settings.dir.join("store");
                fs::rename(&store, rig.folder.path().join("away")).expect("movable");
                rig.open()
            }
        };
        let error = error.err().expect("refused").to_string();
        assert!(error.contains("is damaged"), "{error}");
        assert!(error.contains("came up empty"), "{error}");
        assert!(rig.segment(3).exists());
    }
}

#[test]
fn a_journal_that_is_gone_is_refused() {
    let rig = Rig::new(None);
    drop(rig.start());
    fs::remove_file(rig.segment(1)).expect("removable");
    let error = rig.open().err().expect("refused").to_string();
    assert!(
        error.contains("journal") && error.contains("is gone"),
        "{error}"
    );
}

#[test]
fn damage_in_the_databases_file_is_reported_or_harmless_but_never_a_wrong_number() {
    let mut rig = Rig::new(None);
    let mut running = rig.start();
    for _ in 0..300 {
        let record = rig.record(1);
        running.close(running.begin(record), 2);
    }
    running.save();
    let expected = running.everything();
    drop(running);
    let fresh = rig.folder.path().join("fresh");
    copy_dir(&rig.settings.dir, &fresh);
    let file = rig.settings.dir.join("store/db");
    let length = fs::metadata(&file).expect("there").len() as usize;
    let mut reported = 0;
    for place in (0..length).step_by(length / 40) {
        fs::remove_dir_all(&rig.settings.dir).expect("removable");
        copy_dir(&fresh, &rig.settings.dir);
        let mut bytes = fs::read(&file).expect("readable");
        bytes[place] ^= 0x40;
        fs::write(&file, &bytes).expect("writable");
        match rig.open() {
            Err(error) => {
                assert!(error.to_string().contains("damaged"), "{error}");
                reported += 1;
            }
            Ok(mut running) => {
                let keeper = &mut running.parts.keeper;
                let records = keeper.records(&Query::default(), usize::MAX);
                let report = keeper.report(&Query::default());
                if records.is_err() || report.is_err() {
                    reported += 1;
                    continue;
                }
                assert_eq!(running.everything(), expected, "flipped at {place}");
            }
        }
    }
    assert!(reported > 0, "some of the flips hit what is in use");
}

#[test]
fn a_snapshot_that_the_database_could_not_finish_is_no_damage() {
    // On a full disk sled left an empty `.generating` file, and reported corruption ever after.
    let mut rig = Rig::new(None);
    let mut running = rig.start();
    let record = rig.record(1);
    running.close(running.begin(record), 2);
    running.save();
    drop(running);
    let unfinished = rig
        .settings
        .dir
        .join("store/snap.FFFFFFFF00000000.generating");
    fs::write(&unfinished, "").expect("writable");
    assert_eq!(rig.start().everything().len(), 1);
    assert!(!unfinished.exists());
}

#[test]
fn what_is_too_old_goes_in_steps_and_the_counts_stay_right() {
    for mut rig in Rig::both() {
        rig.settings.keep_records = Duration::from_secs(3600);
        rig.settings.keep_sums = Duration::from_secs(2 * 3600);
        let mut running = rig.start();
        for _ in 0..50 {
            for _ in 0..20 {
                let record = rig.record(1);
                running.close(running.begin(record), 2);
            }
            rig.clock.fetch_add(100_000, Ordering::Relaxed);
        }
        running.save();
        while running.parts.keeper.prune().expect("the store works") {}
        let now = rig.clock.load(Ordering::Relaxed);
        let records = running.parts.keeper.records(&Query::default(), usize::MAX);
        let records = records.expect("readable");
        assert_eq!(records.len(), 36 * 20);
        assert!(
            records
                .iter()
                .all(|record| now - record.finished_unix_ms <= 3_600_000)
        );
        let report = running
            .parts
            .keeper
            .report(&Query::default())
            .expect("readable");
        assert_eq!(report.total.requests, 1000, "sums are kept longer");

        rig.clock.fetch_add(4 * HOUR_MS, Ordering::Relaxed);
        while running.parts.keeper.prune().expect("the store works") {}
        let live = running
            .parts
            .keeper
            .with_shelf(|shelf| Ok((shelf.packs, shelf.sums)));
        let (packs, sums) = live.expect("the store works");
        assert_eq!((packs.bytes, packs.packs, sums.bytes), (0, 0, 0));
        assert!(running.everything().is_empty());
    }
}

#[test]
fn a_full_store_gives_up_its_oldest_records_and_keeps_the_sums() {
    let mut rig = Rig::new(Some(MemoryStore::default()));
    rig.settings.max_bytes = 100_000;
    let mut running = rig.start();
    for _ in 0..2000 {
        let record = rig.record(1);
        running.close(running.begin(record), 2);
        rig.clock.fetch_add(10, Ordering::Relaxed);
    }
    running.save();
    while running.parts.keeper.prune().expect("the store works") {}
    let live = running
        .parts
        .keeper
        .with_shelf(|shelf| Ok(shelf.packs.bytes + shelf.sums.bytes));
    let live = live.expect("the store works");
    assert!((25_000..=50_000).contains(&live), "{live} bytes");
    let records = running
        .parts
        .keeper
        .records(&Query::default(), usize::MAX)
        .expect("readable");
    assert_eq!(records[0].id.0 & 0xFFFF, 2000, "the newest is there");
    let report = running
        .parts
        .keeper
        .report(&Query::default())
        .expect("readable");
    assert_eq!(report.total.requests, 2000);
}

#[test]
fn an_answer_booked_before_a_crash_is_not_booked_again() {
    for mut rig in Rig::both() {
        for saved in [false, true] {
            let mut running = rig.start();
            let id = format!("resp_{saved}");
            let receipt = format!("receipt_{saved}");
            assert!(Parts::book_once(&running.parts.answers, &id));
            let record = rig.record(1);
            let mut entry = running.begin(record);
            entry.answer_id = Some(id.clone());
            running.close(entry, 2);
            let record = rig.record(1);
            let mut entry = running.begin(record);
            entry.answer_id = Some(receipt.clone());
            entry.outcome = Outcome::Pending;
            entry.close();
            if saved {
                running.save();
            }
            drop(running);
            let running = rig.start();
            assert!(!Parts::book_once(&running.parts.answers, &id));
            assert!(Parts::book_once(&running.parts.answers, &receipt));
        }
    }
}

#[test]
fn single_records_are_found_by_id_by_filter_and_newest_first() {
    for mut rig in Rig::both() {
        let mut running = rig.start();
        let mut ids = Vec::new();
        for number in 0..200 {
            let record = rig.record(1);
            ids.push(record.id);
            running.close(running.begin(record), number);
            rig.clock.fetch_add(1000, Ordering::Relaxed);
        }
        let keeper = &mut running.parts.keeper;
        let found = keeper.find(ids[77]).expect("readable").expect("there");
        assert_eq!((found.id, found.usage.input), (ids[77], 77));
        assert_eq!(
            keeper.find(RequestId::new(NOON, 9, 9)).expect("readable"),
            None
        );
        let query = Query {
            since: Some(NOON + 10_000),
            until: Some(NOON + 100_000),
            filters: vec![(Dimension::Session, "session 1".to_owned())],
            ..Query::default()
        };
        let records = keeper.records(&query, 3).expect("readable");
        let inputs: Vec<_> = records.iter().map(|record| record.usage.input).collect();
        assert_eq!(inputs, [99, 96, 93]);
    }
}

#[test]
fn every_store_keeps_order_applies_batches_and_survives_reopening() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let memory = MemoryStore::default();
    let stores: [&dyn Fn() -> Box<dyn Store>; 2] = [&|| Box::new(memory.clone()), &|| {
        Box::new(SledStore::open(folder.path()).expect("it opens"))
    }];
    for open in stores {
        let mut store = open();
        let puts = (0..100_u8)
            .map(|n| Change::Put(vec![n], vec![n; 30]))
            .collect();
        store.apply(Table::Packs, puts).expect("it works");
        let changes = vec![Change::Remove(vec![50]), Change::Put(vec![51], vec![7])];
        store.apply(Table::Packs, changes).expect("it works");
        store.sync().expect("it works");
        drop(store);
        let store = open();
        let scan = |order, stop_after: usize| {
            let mut keys = Vec::new();
            let mut visit = |key: &[u8], _: &[u8]| {
                keys.push(key[0]);
                match keys.len() == stop_after {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            let scanned = store.scan(Table::Packs, &[48], &[53], order, &mut visit);
            scanned.expect("it works");
            keys
        };
        assert_eq!(scan(Order::Rising, 9), [48, 49, 51, 52]);
        assert_eq!(scan(Order::Falling, 2), [52, 51]);
        assert_eq!(
            store.get(Table::Packs, &[51]).expect("it works"),
            Some(vec![7])
        );
        assert_eq!(store.get(Table::Packs, &[50]).expect("it works"), None);
        assert_eq!(store.get(Table::Sums, &[51]).expect("it works"), None);
        let nothing = store.scan(Table::Packs, &[9], &[3], Order::Rising, &mut |_, _| {
            unreachable!("an empty range has no keys")
        });
        assert!(nothing.is_ok());
    }
}
