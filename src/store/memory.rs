//! A store in memory: the reference for the suite that every store must pass, and a store that can lose what was not
//! synced, as a database does in a crash.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::{Change, Order, Store, Table, Visit};
use super::error::StoreError;

type Tables = [BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()];

#[derive(Debug, Default)]
struct Content {
    synced: Tables,
    /// Batches since the last sync, oldest first.
    unsynced: Vec<(Table, Vec<Change>)>,
    current: Tables,
    failing: bool,
}

/// Tables in memory. Clones share their content.
///
/// As with sled, a handle on which a call has failed fails for ever: it must be opened (cloned) anew.
#[derive(Debug, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
    has_failed: AtomicBool,
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self {
            content: Arc::clone(&self.content),
            has_failed: AtomicBool::new(false),
        }
    }
}

fn change(tables: &mut Tables, table: Table, changes: &[Change]) {
    let table = &mut tables[table as usize];
    for change in changes {
        match change {
            Change::Put(key, value) => {
                table.insert(key.clone(), value.clone());
            }
            Change::Remove(key) => {
                table.remove(key);
            }
        }
    }
}

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn working(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        let content = self.content();
        if content.failing {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(StoreError::Damaged("told to fail".to_owned()));
        }
        Ok(content)
    }

    /// Loses all batches since the last sync but the first `keep` of them.
    pub fn crash(&self, keep: usize) {
        let mut content = self.content();
        let mut tables = content.synced.clone();
        let kept = content.unsynced.iter().take(keep);
        for (table, changes) in kept {
            change(&mut tables, *table, changes);
        }
        content.current = tables;
        content.unsynced.truncate(keep);
    }

    /// From now on every call fails, or works again.
    pub fn set_failing(&self, failing: bool) {
        self.content().failing = failing;
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.working()?.current[table as usize].get(key).cloned())
    }

    fn apply(&mut self, table: Table, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut content = self.working()?;
        change(&mut content.current, table, &changes);
        content.unsynced.push((table, changes));
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let content = self.working()?;
        let mut range = content.current[table as usize]
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let mut see = |(key, value): (&Vec<u8>, &Vec<u8>)| visit(key, value);
        let _: ControlFlow<()> = match order {
            Order::Rising => range.try_for_each(&mut see),
            Order::Falling => range.rev().try_for_each(&mut see),
        };
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut content = self.working()?;
        content.synced = content.current.clone();
        content.unsynced.clear();
        Ok(())
    }
}
