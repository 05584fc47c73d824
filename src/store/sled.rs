//! The only file that knows sled.
//!
//! sled 0.34.7 does not fsync on `flush` (Linux), may panic or come up empty where it should report damage, and keeps
//! more in memory than its cache setting says, and may write over a file that it takes for empty; a snapshot that it
//! could not finish (full disk, kill) it takes for damage on the next start. Hence: unfinished snapshots are removed before opening, `sync` flushes and then fsyncs sled's
//! files through handles of our own, every call is fenced against panics, values stay small, and the caller compares
//! what it finds with the journal.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::backend::{Change, Order, Store, Table, Visit};
use super::error::StoreError;
use super::safety::SafetyCopy;

/// sled's page cache. It is no bound on memory, but the less it may keep, the less it keeps.
const CACHE_BYTES: u64 = 1024 * 1024;

/// sled's unit of writing; also the size of each of its write buffers, so it decides the memory of an idle process.
const SEGMENT_BYTES: usize = 256 * 1024;

/// A store in sled.
pub struct SledStore {
    dir: PathBuf,
    tables: [sled::Tree; Table::ALL.len()],
    db: sled::Db,
    /// Last, so that the file is put back when sled has let it go.
    before: SafetyCopy,
}

impl SledStore {
    /// Opens the database in `dir`, or makes it.
    ///
    /// # Errors
    ///
    /// What sled reports, and what it panics with. A database that comes up empty is no error here: the caller knows
    /// better what must be in it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let removed = remove_unfinished_snapshots(dir);
        removed.map_err(|error| StoreError::io("clear the store", &error))?;
        let before = SafetyCopy::of(&dir.join("db"));
        let before = before.map_err(|error| StoreError::io("copy the store", &error))?;
        let (db, tables) = fenced(|| {
            let db = sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE_BYTES)
                .segment_size(SEGMENT_BYTES)
                .mode(sled::Mode::LowSpace)
                .flush_every_ms(None)
                .open()?;
            let tables = [
                db.open_tree(Table::Packs.as_str())?,
                db.open_tree(Table::Sums.as_str())?,
                db.open_tree(Table::Answers.as_str())?,
                db.open_tree(Table::Events.as_str())?,
                db.open_tree(Table::Away.as_str())?,
            ];
            Ok((db, tables))
        })?;
        Ok(Self {
            dir: dir.to_path_buf(),
            tables,
            db,
            before,
        })
    }

    fn table(&self, table: Table) -> &sled::Tree {
        &self.tables[table as usize]
    }
}

/// Runs a call of sled's; a panic becomes an error.
fn fenced<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(StoreError::io("use the store", &error)),
        Ok(Err(error)) => Err(StoreError::Damaged(error.to_string())),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(StoreError::Damaged(format!(
                "the database panicked: {text}"
            )))
        }
    }
}

/// Removes the snapshots that sled was still writing when it ended. The one before stays until a new one is complete,
/// so nothing is lost; but sled would read the unfinished one, as its name sorts last, and report damage.
fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Fsyncs every file of a directory, then the directory itself.
fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
            continue;
        }
        match File::open(&path) {
            Ok(file) => file.sync_data()?,
            // sled replaces its snapshot file; one that has gone needs no sync.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    File::open(dir)?.sync_all()
}

impl Store for SledStore {
    fn accept(&mut self) -> Result<(), StoreError> {
        let removed = self.before.let_go();
        removed.map_err(|error| StoreError::io("remove the store's copy", &error))
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        fenced(|| Ok(self.table(table).get(key)?.map(|value| value.to_vec())))
    }

    fn apply(&mut self, table: Table, changes: Vec<Change>) -> Result<(), StoreError> {
        fenced(|| {
            let mut batch = sled::Batch::default();
            for change in changes {
                match change {
                    Change::Put(key, value) => batch.insert(key, value),
                    Change::Remove(key) => batch.remove(key),
                }
            }
            self.table(table).apply_batch(batch)
        })
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
        fenced(|| {
            let mut range = self.table(table).range::<&[u8], _>(from..to);
            loop {
                let next = match order {
                    Order::Rising => range.next(),
                    Order::Falling => range.next_back(),
                };
                let Some(found) = next else { return Ok(()) };
                let (key, value) = found?;
                if let ControlFlow::Break(()) = visit(&key, &value) {
                    return Ok(());
                }
            }
        })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        fenced(|| self.db.flush())?;
        sync_files(&self.dir).map_err(|error| StoreError::io("sync the store", &error))
    }
}
