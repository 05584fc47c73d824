//! The ledger thread's answers: reports, single records. All include everything that was closed before the question.

use std::ops::ControlFlow;

use super::HOUR_MS;
use super::backend::{Order, Table};
use super::error::StoreError;
use super::keeper::Keeper;
use super::pack;
use super::query::Query;
use super::record::Record;
use super::report::{Report, Reporter};
use super::sums::{self, Group};
use crate::units::RequestId;

/// How long before its arrival a record may be booked: the wall clock can be set back.
const BEFORE_ARRIVAL_MS: u64 = HOUR_MS / 6;

/// How long after its arrival a record is looked for.
const AFTER_ARRIVAL_MS: u64 = 48 * HOUR_MS;

/// Turns a visitor that can fail into one that breaks off at the first failure and keeps it.
fn failing<'a>(
    failure: &'a mut Option<StoreError>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'a,
) -> impl FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a {
    move |key, value| match visit(key, value) {
        Ok(flow) => flow,
        Err(error) => {
            *failure = Some(error);
            ControlFlow::Break(())
        }
    }
}

impl Keeper {
    /// Answers a query from the hourly sums.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn report(&mut self, query: &Query) -> Result<Report, StoreError> {
        self.take_over()?;
        self.with_shelf(|shelf| {
            let mut reporter = Reporter::new(query);
            let (first, beyond) = reporter.hours();
            let mut failure = None;
            let mut add = failing(&mut failure, |_, value| {
                let (group, sum) = sums::decode(value)?;
                reporter.add(&group, &sum);
                Ok(ControlFlow::Continue(()))
            });
            shelf.store.scan(
                Table::Sums,
                &sums::hour_key(first),
                &sums::hour_key(beyond),
                Order::Rising,
                &mut add,
            )?;
            drop(add);
            if let Some(failure) = failure {
                return Err(failure);
            }
            for (group, sum) in &shelf.pending {
                reporter.add(group, sum);
            }
            Ok(reporter.finish())
        })
    }

    /// Finds one request, unless it ran for more than two days or is no longer kept.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn find(&mut self, id: RequestId) -> Result<Option<Record>, StoreError> {
        self.take_over()?;
        let arrived = id.unix_ms();
        self.with_shelf(|shelf| {
            let mut found = None;
            let mut failure = None;
            let mut look = failing(&mut failure, |_, value| {
                found = pack::unpack(value)?
                    .into_iter()
                    .find(|record| record.id == id);
                Ok(match found {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                })
            });
            shelf.store.scan(
                Table::Packs,
                &pack::time_key(arrived.saturating_sub(BEFORE_ARRIVAL_MS)),
                &pack::time_key(arrived.saturating_add(AFTER_ARRIVAL_MS)),
                Order::Rising,
                &mut look,
            )?;
            drop(look);
            failure.map_or(Ok(found), Err)
        })
    }

    /// The newest records that a query admits, booked from its `since` (inclusive) to its `until` (exclusive), newest
    /// first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn records(&mut self, query: &Query, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.take_over()?;
        let since = query.since.unwrap_or(0);
        let until = query.until.unwrap_or(u64::MAX);
        let wanted = |record: &Record| {
            (since..until).contains(&record.finished_unix_ms) && query.admits(&Group::of(record))
        };
        self.with_shelf(|shelf| {
            let mut records = Vec::new();
            // Packs overlap by up to their span: the limit is only reached for good once a pack is older than that.
            let mut enough_before = 0;
            let mut failure = None;
            let mut gather = failing(&mut failure, |key, value| {
                let newest = pack::time_of(key);
                if records.len() >= limit && newest < enough_before {
                    return Ok(ControlFlow::Break(()));
                }
                records.extend(pack::unpack(value)?.into_iter().filter(&wanted));
                if records.len() >= limit {
                    newest_first(&mut records, limit);
                    enough_before = records
                        .last()
                        .map_or(u64::MAX, |oldest: &Record| oldest.finished_unix_ms);
                }
                Ok(ControlFlow::Continue(()))
            });
            shelf.store.scan(
                Table::Packs,
                &pack::time_key(since),
                &pack::time_key(until.saturating_add(pack::SPAN_MS + 1)),
                Order::Falling,
                &mut gather,
            )?;
            drop(gather);
            newest_first(&mut records, limit);
            failure.map_or(Ok(records), Err)
        })
    }
}

fn newest_first(records: &mut Vec<Record>, limit: usize) {
    records.sort_by_key(|record| std::cmp::Reverse((record.finished_unix_ms, record.id)));
    records.truncate(limit);
}
