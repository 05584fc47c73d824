//! Sums put together into a report: rows, totals, and what in them is estimated or unknown.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::query::{Dimension, Query};
use super::record::{CostSource, Outcome};
use super::sums::{Group, Sum};
use crate::llm::usage::Provenance;
use crate::units::Cost;

/// What some requests add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// All requests.
    pub requests: u64,
    /// Those that ended in an error, a time-out, a cut, a refusal or with the process. A client that left is no failure.
    pub failed: u64,
    /// All prompt tokens.
    pub input: u64,
    /// Part of `input` read from a cache.
    pub cached_read: u64,
    /// Part of `input` written to a cache.
    pub cache_write: u64,
    /// All tokens that the models wrote.
    pub output: u64,
    /// Part of `output` spent on reasoning.
    pub reasoning: u64,
    /// Web searches.
    pub web_searches: u64,
    /// All known costs, in USD. `None` when none is known: that is not zero.
    #[serde(with = "decimal_or_null")]
    pub cost: Option<Cost>,
    /// Part of `cost` that the providers stated themselves, in USD.
    #[serde(with = "decimal")]
    pub stated_cost: Cost,
    /// Part of `cost` at the ceiling price, because the model's own is not known, in USD.
    #[serde(with = "decimal", default)]
    pub assumed_cost: Cost,
    /// Requests with such a cost.
    #[serde(default)]
    pub assumed_cost_requests: u64,
    /// Requests whose cost is not known: `cost` is too low by theirs.
    pub unknown_cost_requests: u64,
    /// Requests whose tokens were estimated.
    pub estimated_requests: u64,
    /// Input and output tokens of those.
    pub estimated_tokens: u64,
    /// Requests whose figures broke off and were completed by an estimate.
    pub partial_requests: u64,
    /// Input and output tokens of those.
    pub partial_tokens: u64,
}

impl Figures {
    fn add(&mut self, group: &Group, sum: &Sum) {
        let usage = &sum.usage;
        let tokens = usage.input.saturating_add(usage.output);
        let requests_if = |condition| if condition { sum.requests } else { 0 };
        let tokens_if = |condition| if condition { tokens } else { 0 };
        let estimated = group.provenance == Provenance::Estimated;
        let partial = group.provenance == Provenance::Partial;
        let assumed = group.cost_source == CostSource::Assumed;
        for (mine, theirs) in [
            (&mut self.requests, sum.requests),
            (&mut self.failed, requests_if(has_failed(group.outcome))),
            (&mut self.input, usage.input),
            (&mut self.cached_read, usage.cached_read),
            (&mut self.cache_write, usage.cache_write),
            (&mut self.output, usage.output),
            (&mut self.reasoning, usage.reasoning),
            (&mut self.web_searches, usage.web_searches),
            (&mut self.assumed_cost_requests, requests_if(assumed)),
            (&mut self.unknown_cost_requests, sum.unknown_cost),
            (&mut self.estimated_requests, requests_if(estimated)),
            (&mut self.estimated_tokens, tokens_if(estimated)),
            (&mut self.partial_requests, requests_if(partial)),
            (&mut self.partial_tokens, tokens_if(partial)),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        // What bills nothing costs nothing; only an unknown price makes an unknown cost.
        let known = sum.cost.or((sum.unknown_cost == 0).then_some(Cost::ZERO));
        let cost = known.unwrap_or_default();
        if known.is_some() {
            self.cost = Some(self.cost.unwrap_or_default() + cost);
        }
        match group.cost_source {
            CostSource::Stated => self.stated_cost += cost,
            CostSource::Assumed => self.assumed_cost += cost,
            CostSource::None | CostSource::Table | CostSource::Unknown => {}
        }
    }
}

/// Whether a request that ended this way counts as failed.
const fn has_failed(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Open
        | Outcome::Complete
        | Outcome::ClientGone
        | Outcome::Pending
        | Outcome::Withdrawn => false,
        Outcome::ProviderError
        | Outcome::StreamError
        | Outcome::UpstreamCut
        | Outcome::TimedOut
        | Outcome::Unreachable
        | Outcome::Refused
        | Outcome::Interrupted => true,
    }
}

/// One row of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// One label for each dimension of the report; `None` where the requests have none.
    pub labels: Vec<Option<String>>,
    /// What they add up to.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// By what the rows are grouped.
    pub by: Vec<Dimension>,
    /// Beginning of the first hour that was asked for, in Unix milliseconds.
    pub since: Option<u64>,
    /// End of the last hour that was asked for, in Unix milliseconds.
    pub until: Option<u64>,
    /// By time where the first dimension is one, else the most expensive first.
    pub rows: Vec<Row>,
    /// All rows added up.
    pub total: Figures,
}

/// Puts a report together, sum by sum.
pub struct Reporter<'a> {
    query: &'a Query,
    rows: HashMap<Vec<Option<String>>, Figures>,
    total: Figures,
}

impl<'a> Reporter<'a> {
    /// Starts an empty report.
    pub fn new(query: &'a Query) -> Self {
        Self {
            query,
            rows: HashMap::new(),
            total: Figures::default(),
        }
    }

    /// Adds a sum, if the query wants it.
    pub fn add(&mut self, group: &Group, sum: &Sum) {
        if !self.query.covers(group) {
            return;
        }
        let labels = self.query.labels(group);
        self.rows.entry(labels).or_default().add(group, sum);
        self.total.add(group, sum);
    }

    /// The report.
    pub fn finish(self) -> Report {
        let (since, until) = self.query.covered();
        let rows = self.rows.into_iter();
        let mut rows: Vec<Row> = rows
            .map(|(labels, figures)| Row { labels, figures })
            .collect();
        let by_time = self.query.by.first().is_some_and(|first| first.is_time());
        rows.sort_by(|a, b| {
            let tokens = |row: &Row| row.figures.input.saturating_add(row.figures.output);
            let dearest = (b.figures.cost, tokens(b)).cmp(&(a.figures.cost, tokens(a)));
            let time = if by_time {
                a.labels.first().cmp(&b.labels.first())
            } else {
                std::cmp::Ordering::Equal
            };
            time.then(dearest).then_with(|| a.labels.cmp(&b.labels))
        });
        Report {
            by: self.query.by.clone(),
            since,
            until,
            rows,
            total: Figures {
                cost: match self.total.requests {
                    0 => Some(Cost::ZERO),
                    _ => self.total.cost,
                },
                ..self.total
            },
        }
    }
}

pub(super) mod decimal {
    //! An amount as a decimal string: JSON numbers would pass through binary floats.
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Cost;

    pub(in crate::store) fn serialize<S: Serializer>(
        cost: &Cost,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(cost)
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Cost, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

pub(super) mod decimal_or_null {
    //! The same, or null for an amount that is not known.
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Cost;

    pub(in crate::store) fn serialize<S: Serializer>(
        cost: &Option<Cost>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match cost {
            Some(cost) => serializer.collect_str(cost),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Cost>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let cost = text.map(|text| text.parse().map_err(D::Error::custom));
        cost.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Record;
    use crate::units::RequestId;

    fn record(session: &str, hour: u64, cost: i128) -> Record {
        let mut record = Record::new(RequestId(0));
        record.session = session.to_owned();
        record.finished_unix_ms = hour * super::super::HOUR_MS;
        record.outcome = Outcome::Complete;
        record.provenance = Provenance::Reported;
        record.usage.input = 10;
        record.cost = Some(Cost::from_attos(cost));
        record.cost_source = CostSource::Table;
        record
    }

    fn report(query: &Query, records: &[Record]) -> Report {
        let mut reporter = Reporter::new(query);
        for record in records {
            reporter.add(&Group::of(record), &Sum::of(record));
        }
        reporter.finish()
    }

    #[test]
    fn rows_are_the_dearest_first_and_add_up_exactly() {
        let query = Query {
            by: vec![Dimension::Session],
            ..Query::default()
        };
        let records = [record("a", 1, 1), record("b", 2, 5), record("a", 3, 2)];
        let report = report(&query, &records);
        let rows = report.rows.iter();
        let rows: Vec<_> = rows
            .map(|row| (row.labels[0].as_deref(), row.figures.cost.map(Cost::attos)))
            .collect();
        assert_eq!(rows, [(Some("b"), Some(5)), (Some("a"), Some(3))]);
        assert_eq!(report.total.cost, Some(Cost::from_attos(8)));
        assert_eq!(report.total.input, 30);
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone_that_is_asked_for() {
        let mut query = Query {
            by: vec![Dimension::Day],
            zone: jiff::tz::TimeZone::get("Europe/Berlin").expect("a known zone"),
            ..Query::default()
        };
        let records = [record("a", 22, 1), record("a", 23, 2)];
        let days = |report: Report| -> Vec<_> {
            report
                .rows
                .into_iter()
                .map(|row| row.labels[0].clone().expect("a day"))
                .collect()
        };
        assert_eq!(days(report(&query, &records)), ["1970-01-01", "1970-01-02"]);
        query.zone = jiff::tz::TimeZone::UTC;
        assert_eq!(days(report(&query, &records)), ["1970-01-01"]);
    }

    #[test]
    fn the_hours_of_both_ends_count_whole() {
        let hour = super::super::HOUR_MS;
        let query = Query {
            since: Some(hour + 5),
            until: Some(2 * hour + 1),
            ..Query::default()
        };
        let records: Vec<_> = (0..5).map(|hour| record("a", hour, 1)).collect();
        let report = report(&query, &records);
        assert_eq!(report.total.requests, 2);
        assert_eq!((report.since, report.until), (Some(hour), Some(3 * hour)));
    }

    #[test]
    fn what_is_estimated_unknown_or_failed_is_told_apart() {
        let mut unknown = record("a", 1, 0);
        unknown.cost = None;
        unknown.cost_source = CostSource::Unknown;
        unknown.provenance = Provenance::Estimated;
        unknown.outcome = Outcome::Interrupted;
        let mut stated = record("a", 1, 4);
        stated.cost_source = CostSource::Stated;
        stated.provenance = Provenance::Partial;
        stated.usage.output = 3;
        let mut assumed = record("a", 1, 16);
        assumed.cost_source = CostSource::Assumed;
        let unknown_alone = report(&Query::default(), std::slice::from_ref(&unknown));
        assert_eq!(unknown_alone.total.cost, None, "unknown is not zero");
        assert_eq!(report(&Query::default(), &[]).total.cost, Some(Cost::ZERO));
        let records = [unknown, stated, record("a", 1, 1), assumed];
        let report = report(&Query::default(), &records);
        let total = report.total;
        assert_eq!((total.requests, total.failed), (4, 1));
        assert_eq!((total.estimated_requests, total.estimated_tokens), (1, 10));
        assert_eq!((total.partial_requests, total.partial_tokens), (1, 13));
        assert_eq!(total.unknown_cost_requests, 1);
        assert_eq!(total.cost, Some(Cost::from_attos(21)));
        assert_eq!(total.stated_cost, Cost::from_attos(4));
        assert_eq!(total.assumed_cost_requests, 1);
        assert_eq!(total.assumed_cost, Cost::from_attos(16));
        let json = serde_json::to_string(&report).expect("a report is JSON");
        assert!(json.contains(r#""cost":"0.000000000000000021""#), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).ok(), Some(report));
    }
}
