//! The store and what is known of it: how far it reaches, and what was taken over but is not in it for good.
//!
//! Marks make it exact, each changed in the same batch as what it counts: the packs' marks (segment, and number of
//! records or events of it that are packed) with every group of packs, the sums' mark (last segment applied) with the
//! sums. Whatever the store forgets in a crash is redone from segments that are still there, and nothing is done twice.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use super::answers;
use super::backend::{Change, Store, Table};
use super::error::StoreError;
use super::frame::{self, Found};
use super::journal::Journal;
use super::keeper::SharedAnswers;
use super::pack::{self, Pack, Packer, PacksMark, Series};
use super::sums::{self, Group, PendingSums, Sum, SumsMark};
use crate::units::RequestId;

/// Packs written in one batch: half a MiB.
const BATCH_PACKS: usize = 512;

/// The store, and what is known of it.
pub(super) struct Shelf {
    pub(super) store: Box<dyn Store>,
    pub(super) packs: PacksMark,
    pub(super) events: PacksMark,
    pub(super) sums: SumsMark,
    /// Sums of imported segments that are not in the store yet.
    pub(super) pending: PendingSums,
    /// The last segment taken over.
    pub(super) imported: u64,
    /// Requests that were open at the end of `imported`: their frames, to be repeated before their segment goes.
    pub(super) opens: HashMap<RequestId, Vec<u8>>,
    /// Bytes of packs written since the store was opened.
    pub(super) written: u64,
}

/// Reads the marks of a store that has just been opened.
pub(super) fn load(store: Box<dyn Store>) -> Result<Shelf, StoreError> {
    let damaged =
        |error: minicbor::decode::Error| StoreError::Damaged(format!("a mark is damaged: {error}"));
    let read = |table, key| store.get(table, key);
    let packs_mark = |series: Series| -> Result<PacksMark, StoreError> {
        match read(series.table(), pack::MARK_KEY)? {
            Some(bytes) => minicbor::decode(&bytes).map_err(damaged),
            None => Ok(PacksMark::default()),
        }
    };
    let (packs, events) = (packs_mark(Series::Records)?, packs_mark(Series::Events)?);
    let sums: SumsMark = match read(Table::Sums, sums::MARK_KEY)? {
        Some(bytes) => minicbor::decode(&bytes).map_err(damaged)?,
        None => SumsMark::default(),
    };
    if packs.segment < sums.applied {
        return Err(StoreError::Damaged(format!(
            "its sums reach segment {} but its records only {}",
            sums.applied, packs.segment
        )));
    }
    Ok(Shelf {
        store,
        packs,
        events,
        sums,
        pending: PendingSums::new(),
        imported: sums.applied,
        opens: HashMap::new(),
        written: 0,
    })
}

/// Tells a store that has lost what it had: the segments behind its mark must still be there.
pub(super) fn check_continuity(applied: u64, oldest_segment: u64) -> Result<(), StoreError> {
    if oldest_segment > applied + 1 {
        let what = if applied == 0 {
            "came up empty".to_owned()
        } else {
            format!("reaches only segment {applied}")
        };
        return Err(StoreError::Damaged(format!(
            "it {what}, but the journal goes on at segment {oldest_segment}"
        )));
    }
    Ok(())
}

/// The packs of one segment's records, or of its events, as they are found.
struct Gathering {
    packer: Packer,
    packs: Vec<Pack>,
    seen: u64,
    /// How many of the first ones are packed already.
    packed: u64,
}

impl Gathering {
    fn new(mark: &PacksMark, number: u64) -> Self {
        let packed = match mark.segment.cmp(&number) {
            Ordering::Less => 0,
            Ordering::Equal => mark.records,
            Ordering::Greater => u64::MAX,
        };
        Self {
            packer: Packer::new(number, packed),
            packs: Vec::new(),
            seen: 0,
            packed,
        }
    }

    fn add(&mut self, unix_ms: u64, payload: &[u8]) {
        self.seen += 1;
        if self.seen > self.packed {
            self.packs.extend(self.packer.add(unix_ms, payload));
        }
    }

    fn finish(mut self) -> Vec<Pack> {
        self.packs.extend(self.packer.finish());
        self.packs
    }
}

impl Shelf {
    /// The last segment whose records are in the sums for good.
    pub(super) fn applied(&self) -> u64 {
        self.sums.applied
    }

    /// How far the packs of a series reach.
    pub(super) fn mark(&mut self, series: Series) -> &mut PacksMark {
        match series {
            Series::Records => &mut self.packs,
            Series::Events => &mut self.events,
        }
    }

    /// Takes a sealed segment over.
    ///
    /// # Errors
    ///
    /// When the segment cannot be read or the store fails.
    pub(super) fn import(
        &mut self,
        journal: &Journal,
        number: u64,
        answers: &SharedAnswers,
    ) -> Result<(), StoreError> {
        let segment = journal
            .dir()
            .read(number)
            .map_err(|error| StoreError::io(&format!("read segment {number}"), &error))?;
        let mut records = Gathering::new(&self.packs, number);
        let mut events = Gathering::new(&self.events, number);
        let mut booked = Vec::new();
        let mut sums = PendingSums::new();
        let mut closed = HashSet::new();
        let opens = &mut self.opens;
        frame::walk(&segment.frames, |found, payload| {
            let record = match found {
                // A repeated open frame may stand behind the closing one of the same segment.
                Found::Open(id) if closed.contains(&id) => return,
                Found::Open(id) => {
                    opens.insert(id, payload.to_vec());
                    return;
                }
                Found::Event(event) => {
                    events.add(event.at_unix_ms, payload);
                    return;
                }
                Found::Close(record) => record,
            };
            closed.insert(record.id);
            opens.remove(&record.id);
            sums.entry(Group::of(&record))
                .or_default()
                .add(&Sum::of(&record));
            booked.extend(answers::key_of(&record));
            records.add(record.finished_unix_ms, payload);
        });
        self.remember(booked, answers)?;
        self.put_packs(Series::Records, number, &records.finish())?;
        if self.packs.segment < number {
            // A segment without records leaves its mark too, so that the packs' and the sums' can be compared.
            let mark = PacksMark {
                segment: number,
                records: 0,
                ..self.packs
            };
            self.apply_packs(Series::Records, mark, Vec::new())?;
        }
        self.put_packs(Series::Events, number, &events.finish())?;
        for (group, sum) in sums {
            self.pending.entry(group).or_default().add(&sum);
        }
        self.imported = number;
        Ok(())
    }

    fn remember(
        &mut self,
        booked: Vec<Vec<u8>>,
        answers: &SharedAnswers,
    ) -> Result<(), StoreError> {
        if booked.is_empty() {
            return Ok(());
        }
        {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            booked.iter().for_each(|key| answers.remember(key));
        }
        let puts = booked.into_iter();
        let puts = puts.map(|key| Change::Put(key, Vec::new())).collect();
        self.store.apply(Table::Answers, puts)
    }

    fn put_packs(&mut self, series: Series, number: u64, packs: &[Pack]) -> Result<(), StoreError> {
        for group in packs.chunks(BATCH_PACKS) {
            let before = *self.mark(series);
            let mut mark = before;
            mark.segment = number;
            let mut changes = Vec::with_capacity(group.len() + 1);
            for pack in group {
                mark.records = pack.records;
                mark.packs += 1;
                mark.bytes += (pack.key.len() + pack.value.len()) as u64;
                changes.push(Change::Put(pack.key.clone(), pack.value.clone()));
            }
            self.written += mark.bytes - before.bytes;
            self.apply_packs(series, mark, changes)?;
        }
        Ok(())
    }

    /// Changes packs and their mark at once.
    pub(super) fn apply_packs(
        &mut self,
        series: Series,
        mark: PacksMark,
        mut changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let bytes = minicbor::to_vec(mark).expect("encoding into memory cannot fail");
        changes.push(Change::Put(pack::MARK_KEY.to_vec(), bytes));
        self.store.apply(series.table(), changes)?;
        *self.mark(series) = mark;
        Ok(())
    }

    /// Changes sums and their mark at once.
    pub(super) fn apply_sums(
        &mut self,
        mark: SumsMark,
        mut changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let bytes = minicbor::to_vec(mark).expect("encoding into memory cannot fail");
        changes.push(Change::Put(sums::MARK_KEY.to_vec(), bytes));
        self.store.apply(Table::Sums, changes)?;
        self.sums = mark;
        Ok(())
    }

    /// Adds the pending sums to the stored ones.
    pub(super) fn apply_pending(&mut self) -> Result<(), StoreError> {
        let mut mark = self.sums;
        let mut changes = Vec::with_capacity(self.pending.len() + 1);
        for (group, sum) in &self.pending {
            let key = group.key();
            let mut whole = *sum;
            if let Some(stored) = self.store.get(Table::Sums, &key)? {
                whole.add(&sums::decode(&stored)?.1);
                mark.bytes = mark.bytes.saturating_sub((key.len() + stored.len()) as u64);
            }
            let value = sums::encode(group, &whole);
            mark.bytes += (key.len() + value.len()) as u64;
            changes.push(Change::Put(key, value));
        }
        mark.applied = self.imported;
        self.apply_sums(mark, changes)?;
        self.pending.clear();
        Ok(())
    }
}
