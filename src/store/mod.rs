//! DOWN: the ledger and the only user of the database.
//!
//! ```text
//! request path   Ledger::begin → open frame ──────────────┐
//!                Entry::close  → close frame (and events) ┼→ journal segment (one write(2) each, no fsync)
//!                Ledger::event → event frame ─────────────┘
//! sync thread    sync_data on the active segment, at most `sync_interval` after a write
//! ledger thread  seal segment → import (packs, events, answers, pending sums) → checkpoint (sums + mark, what budgets
//!                put away, fsync) → delete segments → prune; answers reports
//! at start       Ledger::recall → hourly sums, then single requests, for the budgets
//! ```
//!
//! Nothing waits for the database: a stalled or failing store only makes the journal grow. What the database holds can
//! be rebuilt from its last checkpoint and the segments that are still there.

pub mod answers;
pub mod away;
pub mod backend;
mod codec;
pub mod directory;
pub mod entry;
pub mod error;
pub mod event;
pub mod event_query;
mod event_shown;
pub mod frame;
pub mod journal;
pub mod keeper;
pub mod ledger;
pub mod lookup;
pub mod memory;
pub mod opening;
pub mod pack;
pub mod query;
pub mod recall;
pub mod record;
pub mod report;
pub mod retention;
mod safety;
pub mod savings;
pub mod segment;
mod shelf;
mod shown;
pub mod sled;
pub mod sums;
mod threads;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use entry::Entry;
pub use error::{LedgerFailure, OpenError, ReadError, StoreError};
pub use event::{Event, EventKind};
pub use ledger::{Health, Ledger};
pub use opening::Opened;
pub use recall::{Past, Recall, Recalled};

/// The wall clock: Unix milliseconds. Decides hours and retention, never intervals.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;
