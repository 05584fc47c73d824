//! Counters that the budgets have put away, because more scopes are live than may be in memory. Bytes without meaning
//! here, by name.
//!
//! They wait in memory until a checkpoint writes them, so a store that fails loses none; reading looks at both. What was
//! fetched stays until it is put away anew or is too old: whoever asked may be gone before the answer comes, and a
//! counter that nobody has would be spent money forgotten. Each start begins a generation of its own, because budgets
//! are counted anew from the records then; what earlier starts left is pruned.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::HOUR_MS;
use super::backend::{Change, Order, Store, Table};
use super::error::StoreError;
use super::keeper::Keeper;

/// A name and its bytes.
pub type PutAway = (Vec<u8>, Vec<u8>);

/// What waits in memory makes a checkpoint due; beyond four times that nothing more is taken.
pub(super) const CHECKPOINT_BYTES: usize = 4 << 20;
pub(super) const MAX_WAITING_BYTES: usize = 4 * CHECKPOINT_BYTES;

/// Bytes of one value in the store: well below the 4 KiB that a value may have. Longer ones are split.
const CHUNK: usize = 3072;

/// Chunks written in one batch: about half a MiB.
const BATCH: usize = 256;

/// Nothing is left in any window after so long: a calendar month has 31 days, and a day in some zones 25 hours.
const USELESS_AFTER_MS: u64 = 33 * 24 * HOUR_MS;

/// Keys looked at in one step of pruning.
const STEP: usize = 256;

/// Bytes that wait in memory, or on their way to the ledger's thread: its queue must not grow without bound either.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

fn size(entry: &PutAway) -> usize {
    entry.0.len() + entry.1.len()
}

/// The size of some of them.
pub(super) fn size_of(entries: &[PutAway]) -> usize {
    entries.iter().map(size).sum()
}

impl Waiting {
    /// Counts in what is about to be handed over; false if that would be too much.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= MAX_WAITING_BYTES;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    /// Counts out what went to the store, or was not handed over after all.
    pub(super) fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has been put away in this generation.
pub(super) struct Away {
    generation: u64,
    /// Not in the store yet.
    fresh: HashMap<Vec<u8>, Vec<u8>>,
    waiting: Waiting,
    /// Bytes in the store, keys included.
    pub(super) stored_bytes: u64,
    /// Where looking for what is too old goes on.
    sweep: Vec<u8>,
}

impl Away {
    /// An empty one. Generations are never used twice.
    pub(super) fn new(generation: u64, waiting: Waiting) -> Self {
        Self {
            generation,
            fresh: HashMap::new(),
            waiting,
            stored_bytes: 0,
            sweep: Vec::new(),
        }
    }

    /// Whether there is something for the next checkpoint to write.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether that should not wait for its time.
    pub(super) fn is_full(&self) -> bool {
        self.has_fresh() && self.waiting.bytes() > CHECKPOINT_BYTES
    }

    fn put(&mut self, entries: Vec<PutAway>) {
        for (name, bytes) in entries {
            let length = name.len();
            if let Some(old) = self.fresh.insert(name, bytes) {
                self.waiting.give_back(length + old.len());
            }
        }
    }

    /// The key of one chunk: generation, length of the name, name, number of the chunk.
    fn key(&self, name: &[u8], chunk: u16) -> Vec<u8> {
        let mut key = self.generation.to_be_bytes().to_vec();
        key.extend_from_slice(&(name.len() as u32).to_be_bytes());
        key.extend_from_slice(name);
        key.extend_from_slice(&chunk.to_be_bytes());
        key
    }

    fn read(&self, store: &dyn Store, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(first) = store.get(Table::Away, &self.key(name, 0))? else {
            return Ok(None);
        };
        let (chunks, _, part) = split(&first)?;
        let mut whole = part.to_vec();
        for chunk in 1..chunks {
            let next = store.get(Table::Away, &self.key(name, chunk))?;
            let next = next.ok_or_else(|| damaged("a part is missing"))?;
            whole.extend_from_slice(split(&next)?.2);
        }
        Ok(Some(whole))
    }

    /// Writes what is fresh. It counts as fresh until `written` says that the store has synced it.
    pub(super) fn write(&mut self, store: &mut dyn Store, now_ms: u64) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        let mut grown = 0_u64;
        let mut shrunk = 0_u64;
        for (name, bytes) in &self.fresh {
            let parts: Vec<&[u8]> = match bytes.is_empty() {
                true => vec![&[]],
                false => bytes.chunks(CHUNK).collect(),
            };
            let count = u16::try_from(parts.len()).map_err(|_| damaged("it is too large"))?;
            for (chunk, part) in (0..count).zip(parts) {
                let key = self.key(name, chunk);
                let mut value = count.to_be_bytes().to_vec();
                value.extend_from_slice(&now_ms.to_be_bytes());
                value.extend_from_slice(part);
                if let Some(old) = store.get(Table::Away, &key)? {
                    shrunk += (key.len() + old.len()) as u64;
                }
                grown += (key.len() + value.len()) as u64;
                changes.push(Change::Put(key, value));
            }
            // All chunks of a name go in one batch.
            if changes.len() >= BATCH {
                store.apply(Table::Away, std::mem::take(&mut changes))?;
            }
        }
        if !changes.is_empty() {
            store.apply(Table::Away, changes)?;
        }
        self.stored_bytes = (self.stored_bytes + grown).saturating_sub(shrunk);
        Ok(())
    }

    /// What was fresh is in the store for good.
    pub(super) fn written(&mut self) {
        let sizes = self
            .fresh
            .drain()
            .map(|(name, bytes)| name.len() + bytes.len());
        self.waiting.give_back(sizes.sum());
        self.fresh.shrink_to(1024);
    }

    /// Removes a little of what earlier generations left and of what is too old. Returns whether there was any.
    pub(super) fn prune(&mut self, store: &mut dyn Store, now_ms: u64) -> Result<bool, StoreError> {
        let mut found = Vec::new();
        let ours = self.generation.to_be_bytes();
        let mut gather = |key: &[u8], _: &[u8]| {
            found.push(Change::Remove(key.to_vec()));
            match found.len() == STEP {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        store.scan(Table::Away, &[], &ours, Order::Rising, &mut gather)?;
        let mut looked = 0;
        let mut last = Vec::new();
        let mut freed = 0;
        let mut gather = |key: &[u8], value: &[u8]| {
            let written = split(value).map_or(0, |(_, written, _)| written);
            if written.saturating_add(USELESS_AFTER_MS) < now_ms {
                freed += (key.len() + value.len()) as u64;
                found.push(Change::Remove(key.to_vec()));
            }
            looked += 1;
            if looked < STEP {
                return ControlFlow::Continue(());
            }
            last = key.to_vec();
            last.push(0);
            ControlFlow::Break(())
        };
        let from = ours.as_slice().max(&self.sweep);
        store.scan(Table::Away, from, &[0xFF; 9], Order::Rising, &mut gather)?;
        self.sweep = last;
        if found.is_empty() {
            return Ok(false);
        }
        store.apply(Table::Away, found)?;
        self.stored_bytes = self.stored_bytes.saturating_sub(freed);
        Ok(true)
    }
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "counters that were put away cannot be read: {what}"
    ))
}

/// Takes a chunk apart: how many there are, when they were written, and its bytes.
fn split(value: &[u8]) -> Result<(u16, u64, &[u8]), StoreError> {
    let parts = value.split_first_chunk::<2>().and_then(|(count, rest)| {
        let (written, bytes) = rest.split_first_chunk::<8>()?;
        Some((
            u16::from_be_bytes(*count),
            u64::from_be_bytes(*written),
            bytes,
        ))
    });
    parts.ok_or_else(|| damaged("a part is cut"))
}

impl Keeper {
    /// Keeps counters in memory until the next checkpoint writes them.
    pub(super) fn put_away(&mut self, entries: Vec<PutAway>) {
        self.away.put(entries);
    }

    /// What has been put away under these names, and is still of use to somebody.
    ///
    /// # Errors
    ///
    /// When one of them must be read from the store and it fails.
    pub(super) fn fetch_away(
        &mut self,
        names: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut found: Vec<Option<Vec<u8>>> = names
            .iter()
            .map(|name| self.away.fresh.get(name).cloned())
            .collect();
        if found.iter().all(Option::is_some) {
            return Ok(found);
        }
        self.with_shelf_and_away(|shelf, away| {
            for (name, found) in names.iter().zip(&mut found) {
                if found.is_none() {
                    *found = away.read(&*shelf.store, name)?;
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}
