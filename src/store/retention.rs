//! What is kept how long: single records and events, then sums, and never more than the bound. The oldest go first.
//! Events have an eighth of the bound for themselves, so that no storm of refusals drives out the records.
//!
//! Done in small steps, each one atomic batch with its mark, so that neither memory nor the batch grows.

use std::ops::ControlFlow;
use std::time::Duration;

use super::HOUR_MS;
use super::answers::REMEMBER_MS;
use super::backend::{Change, Order, Table};
use super::error::StoreError;
use super::keeper::Keeper;
use super::pack::{self, PacksMark, Series};
use super::shelf::Shelf;
use super::sums::{self, SumsMark};
use crate::config::settings::LedgerSettings;

/// Keys removed in one step.
const STEP: usize = 256;

/// sled's files are this many times larger than what they hold (measured in `benches/ledger.rs`), so the bound for the
/// store becomes a smaller bound for what is in it.
const FILE_BYTES_PER_LIVE_BYTE: u64 = 2;

/// The part of the bound that events may take.
const EVENTS_SHARE: u64 = 8;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Age of the oldest single record or event, in milliseconds.
    pub records_ms: u64,
    /// Age of the oldest sum, in milliseconds.
    pub sums_ms: u64,
    /// Bytes of everything.
    pub live_bytes: u64,
    /// Bytes of all events.
    pub events_bytes: u64,
}

impl Limits {
    /// The limits that the settings ask for.
    pub fn of(settings: &LedgerSettings) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let live_bytes = settings.max_bytes / FILE_BYTES_PER_LIVE_BYTE;
        Self {
            records_ms: ms(settings.keep_records),
            sums_ms: ms(settings.keep_sums),
            live_bytes,
            events_bytes: live_bytes / EVENTS_SHARE,
        }
    }
}

/// The oldest keys below `to`, at most a step of them and no more than `enough` bytes, with their sizes.
fn oldest(
    shelf: &Shelf,
    table: Table,
    to: &[u8],
    enough: u64,
) -> Result<(Vec<Change>, u64), StoreError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    shelf
        .store
        .scan(table, &[], to, Order::Rising, &mut |key, value| {
            if found.len() == STEP || bytes >= enough {
                return ControlFlow::Break(());
            }
            bytes += (key.len() + value.len()) as u64;
            found.push(Change::Remove(key.to_vec()));
            ControlFlow::Continue(())
        })?;
    Ok((found, bytes))
}

fn drop_packs(
    shelf: &mut Shelf,
    series: Series,
    to: &[u8],
    enough: u64,
) -> Result<bool, StoreError> {
    let (found, bytes) = oldest(shelf, series.table(), to, enough)?;
    let Some(Change::Remove(last)) = found.last() else {
        return Ok(false);
    };
    let before = *shelf.mark(series);
    let mark = PacksMark {
        bytes: before.bytes.saturating_sub(bytes),
        packs: before.packs.saturating_sub(found.len() as u64),
        pruned_unix_ms: before.pruned_unix_ms.max(pack::time_of(last)),
        ..before
    };
    shelf.apply_packs(series, mark, found)?;
    Ok(true)
}

fn drop_sums(shelf: &mut Shelf, to: &[u8], enough: u64) -> Result<bool, StoreError> {
    let (found, bytes) = oldest(shelf, Table::Sums, to, enough)?;
    if found.is_empty() {
        return Ok(false);
    }
    let mark = SumsMark {
        bytes: shelf.sums.bytes.saturating_sub(bytes),
        ..shelf.sums
    };
    shelf.apply_sums(mark, found)?;
    Ok(true)
}

impl Keeper {
    /// Removes a little of what is too old or too much. Returns whether there was anything to remove.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn prune(&mut self) -> Result<bool, StoreError> {
        let now = (self.clock)();
        let limits = self.limits;
        self.with_shelf_and_away(|shelf, away| {
            let old_packs = pack::time_key(now.saturating_sub(limits.records_ms));
            let old_hour = now.saturating_sub(limits.sums_ms) / HOUR_MS;
            let old_sums = sums::hour_key(u32::try_from(old_hour).unwrap_or(u32::MAX));
            let mut pruned = drop_packs(shelf, Series::Records, &old_packs, u64::MAX)?;
            pruned |= drop_packs(shelf, Series::Events, &old_packs, u64::MAX)?;
            pruned |= drop_sums(shelf, &old_sums, u64::MAX)?;
            pruned |= away.prune(&mut *shelf.store, now)?;

            let excess = shelf.events.bytes.saturating_sub(limits.events_bytes);
            if excess > 0 {
                pruned |= drop_packs(shelf, Series::Events, &[0xFF; 8], excess)?;
            }
            let parts = [
                shelf.packs.bytes,
                shelf.sums.bytes,
                shelf.events.bytes,
                away.stored_bytes,
            ];
            let live = parts.into_iter().fold(0_u64, u64::saturating_add);
            let excess = live.saturating_sub(limits.live_bytes);
            if excess > 0 {
                pruned |= drop_packs(shelf, Series::Records, &[0xFF; 8], excess)?
                    || drop_sums(shelf, &[0xFF; 4], excess)?;
            }

            let forgotten = now.saturating_sub(REMEMBER_MS).to_be_bytes();
            let (found, _) = oldest(shelf, Table::Answers, &forgotten, u64::MAX)?;
            if !found.is_empty() {
                shelf.store.apply(Table::Answers, found)?;
                pruned = true;
            }
            Ok(pruned)
        })
    }
}
