//! The ledger thread's answers: reports, single records, events. All include everything that was closed before the question.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use minicbor::Decode;

use super::HOUR_MS;
use super::backend::{Order, Table};
use super::error::StoreError;
use super::event::Event;
use super::event_query::EventQuery;
use super::keeper::Keeper;
use super::pack::{self, Series};
use super::query::Query;
use super::record::Record;
use super::report::{Report, Reporter};
use super::savings::{Saver, Savings};
use super::sums::{self, Group, Sum};
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
        let mut reporter = Reporter::new(query);
        self.each_sum(query, &mut |group, sum| reporter.add(group, sum))?;
        Ok(reporter.finish())
    }

    /// Tells from the hourly sums what routing saved.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn savings(&mut self, query: &Query) -> Result<Savings, StoreError> {
        let mut saver = Saver::new(query);
        self.each_sum(query, &mut |group, sum| saver.add(group, sum))?;
        Ok(saver.finish())
    }

    /// Hands out the hourly sums of a query's hours. A group can come twice, as its newest requests are summed apart.
    fn each_sum(
        &mut self,
        query: &Query,
        each: &mut dyn FnMut(&Group, &Sum),
    ) -> Result<(), StoreError> {
        self.take_over()?;
        let (first, beyond) = query.hours();
        self.with_shelf(|shelf| {
            let mut failure = None;
            let mut add = failing(&mut failure, |_, value| {
                let (group, sum) = sums::decode(value)?;
                each(&group, &sum);
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
                each(group, sum);
            }
            Ok(())
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
                for record in pack::unpack::<Record>(value) {
                    let record = record?;
                    if record.id == id {
                        found = Some(record);
                    }
                }
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
        let since = query.since.unwrap_or(0);
        let until = query.until.unwrap_or(u64::MAX);
        let wanted = |record: &Record| {
            (since..until).contains(&record.finished_unix_ms) && query.admits(&Group::of(record))
        };
        let search = Search {
            series: Series::Records,
            since,
            until,
            limit,
        };
        let time = |record: &Record| record.finished_unix_ms;
        self.newest(search, wanted, time, |record| {
            (record.finished_unix_ms, record.id)
        })
    }

    /// The newest events that a query admits, newest first.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn events(&mut self, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
        let search = Search {
            series: Series::Events,
            since: query.since.unwrap_or(0),
            until: query.until.unwrap_or(u64::MAX),
            limit: query.limit,
        };
        let wanted = |event: &Event| query.admits(event);
        let time = |event: &Event| event.at_unix_ms;
        self.newest(search, wanted, time, time)
    }

    /// The newest of a series that are wanted, newest first; of those that are equally new, the last one first.
    fn newest<T: for<'b> Decode<'b, ()>, K: Ord>(
        &mut self,
        search: Search,
        wanted: impl Fn(&T) -> bool,
        time: impl Fn(&T) -> u64,
        order: impl Fn(&T) -> K,
    ) -> Result<Vec<T>, StoreError> {
        self.take_over()?;
        let newest_first = |found: &mut Vec<T>| {
            found.sort_by_key(|one| Reverse(order(one)));
            found.truncate(search.limit);
        };
        self.with_shelf(|shelf| {
            let mut found: Vec<T> = Vec::new();
            // Packs overlap by up to their span: the limit is only reached for good once a pack is older than that.
            let mut enough_before = 0;
            let mut failure = None;
            let mut gather = failing(&mut failure, |key, value| {
                let newest = pack::time_of(key);
                if found.len() >= search.limit && newest < enough_before {
                    return Ok(ControlFlow::Break(()));
                }
                let begin = found.len();
                for one in pack::unpack(value) {
                    let one = one?;
                    if wanted(&one) {
                        found.push(one);
                    }
                }
                found[begin..].reverse();
                if found.len() >= search.limit {
                    newest_first(&mut found);
                    enough_before = found.last().map_or(u64::MAX, &time);
                }
                Ok(ControlFlow::Continue(()))
            });
            shelf.store.scan(
                search.series.table(),
                &pack::time_key(search.since),
                &pack::time_key(search.until.saturating_add(pack::SPAN_MS + 1)),
                Order::Falling,
                &mut gather,
            )?;
            drop(gather);
            newest_first(&mut found);
            failure.map_or(Ok(found), Err)
        })
    }
}

/// Where the newest ones are looked for.
#[derive(Clone, Copy)]
struct Search {
    series: Series,
    /// Unix milliseconds, inclusive.
    since: u64,
    /// Unix milliseconds, exclusive.
    until: u64,
    limit: usize,
}
