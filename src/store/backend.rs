//! What the ledger asks of a database: ordered tables, atomic batches, and a sync that is one.
//!
//! Only the ledger thread calls it. Values stay at or below 4 KiB.

use std::ops::ControlFlow;

use super::error::StoreError;

/// The separate key spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Single records, packed.
    Packs,
    /// Hourly sums.
    Sums,
    /// Background answers that have been booked.
    Answers,
    /// Throttle events, packed.
    Events,
    /// Counters of scopes that were put away, of this start and earlier ones.
    Away,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 5] = [
        Table::Packs,
        Table::Sums,
        Table::Answers,
        Table::Events,
        Table::Away,
    ];

    /// Its name on disk.
    pub const fn as_str(self) -> &'static str {
        match self {
            Table::Packs => "packs",
            Table::Sums => "sums",
            Table::Answers => "answers",
            Table::Events => "events",
            Table::Away => "away",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key's value.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key.
    Remove(Vec<u8>),
}

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Rising,
    /// Largest key first.
    Falling,
}

/// Called for each key and value of a scan; breaks off when it has seen enough.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// A database.
///
/// Batches of one table are atomic and survive the end of the process in the order in which they were applied; none is
/// sure to survive a power cut before `sync` has returned. Every method fails with what the database said.
pub trait Store: Send {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Applies all changes or none.
    fn apply(&mut self, table: Table, changes: Vec<Change>) -> Result<(), StoreError>;
    /// Visits the keys from `from` (inclusive) to `to` (exclusive).
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: Visit<'_>,
    ) -> Result<(), StoreError>;
    /// What came up is what must be there. Until then a store that keeps a copy of its files from before it was opened
    /// puts them back when it is dropped.
    fn accept(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Makes everything that was applied survive a power cut.
    fn sync(&mut self) -> Result<(), StoreError>;
}

/// Opens a store anew: at start, and after it has failed.
pub type StoreFactory = Box<dyn Fn() -> Result<Box<dyn Store>, StoreError> + Send>;
