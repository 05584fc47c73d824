//! What a report is asked for, and how that is written in the query string of `/api/v1/usage`.
//!
//! `by=model,day&since=MS&until=MS&tz=Europe/Berlin&session=docs&session=api`: a filter given twice admits both values.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::HOUR_MS;
use super::sums::Group;

/// By what a report can be grouped and filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// The session that is charged.
    Session,
    /// The agent inside the session.
    Agent,
    /// The client's key.
    Key,
    /// The key's team.
    Team,
    /// The provider's name.
    Provider,
    /// The model that served.
    Model,
    /// What kind of work it was.
    Task,
    /// How urgent it was.
    Priority,
    /// The client's own label for billing.
    Phase,
    /// How the request ended.
    Outcome,
    /// Why another model served, or would have: `rule:…`, `ladder:…`.
    Rule,
    /// The calendar day in the query's time zone; an hour belongs to the day in which it begins.
    Day,
    /// The hour in the query's time zone.
    Hour,
}

impl Dimension {
    /// Every dimension.
    pub const ALL: [Dimension; 13] = [
        Dimension::Session,
        Dimension::Agent,
        Dimension::Key,
        Dimension::Team,
        Dimension::Provider,
        Dimension::Model,
        Dimension::Task,
        Dimension::Priority,
        Dimension::Phase,
        Dimension::Outcome,
        Dimension::Rule,
        Dimension::Day,
        Dimension::Hour,
    ];

    /// The name used on the command line, in query strings and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dimension::Session => "session",
            Dimension::Agent => "agent",
            Dimension::Key => "key",
            Dimension::Team => "team",
            Dimension::Provider => "provider",
            Dimension::Model => "model",
            Dimension::Task => "task",
            Dimension::Priority => "priority",
            Dimension::Phase => "phase",
            Dimension::Outcome => "outcome",
            Dimension::Rule => "rule",
            Dimension::Day => "day",
            Dimension::Hour => "hour",
        }
    }

    /// Whether it is a part of time; such rows are sorted by it.
    pub const fn is_time(self) -> bool {
        matches!(self, Dimension::Day | Dimension::Hour)
    }

    /// A group's value in this dimension; `None` where the group has none. Times need the query's zone: `Query::label`.
    fn value(self, group: &Group) -> Option<&str> {
        match self {
            Dimension::Session => Some(&group.session),
            Dimension::Agent => group.agent.as_deref(),
            Dimension::Key => group.key.as_deref(),
            Dimension::Team => group.team.as_deref(),
            Dimension::Provider => Some(&group.provider),
            Dimension::Model => group.model.as_deref(),
            Dimension::Task => group.task.as_deref(),
            Dimension::Priority => Some(group.priority.as_str()),
            Dimension::Phase => group.phase.as_deref(),
            Dimension::Outcome => Some(group.outcome.as_str()),
            Dimension::Rule => group.routed_by.as_deref(),
            Dimension::Day | Dimension::Hour => None,
        }
    }
}

impl std::str::FromStr for Dimension {
    type Err = QueryError;
    fn from_str(text: &str) -> Result<Self, QueryError> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| QueryError(format!("{text:?} is no dimension: {} expected", names())))
    }
}

fn names() -> String {
    Dimension::ALL.map(Dimension::as_str).join(", ")
}

/// The query cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(String);

impl QueryError {
    /// Says what is wrong.
    pub(super) const fn new(what: String) -> Self {
        Self(what)
    }
}

/// What a report is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// One row for each combination of these; none for the totals alone.
    pub by: Vec<Dimension>,
    /// From when, in Unix milliseconds. Sums are hourly, so the hour that it lies in counts whole.
    pub since: Option<u64>,
    /// Up to when, in Unix milliseconds. The hour that it lies in counts whole.
    pub until: Option<u64>,
    /// Only these values; several of one dimension admit each of them. Not for times.
    pub filters: Vec<(Dimension, String)>,
    /// The time zone of days and hours.
    pub zone: jiff::tz::TimeZone,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            by: vec![Dimension::Model],
            since: None,
            until: None,
            filters: Vec::new(),
            zone: jiff::tz::TimeZone::UTC,
        }
    }
}

/// What stays as it is in a query string.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');

impl Query {
    /// Whether a group passes the filters.
    pub fn admits(&self, group: &Group) -> bool {
        self.filters.iter().all(|(dimension, _)| {
            self.filters
                .iter()
                .any(|(other, value)| other == dimension && dimension.value(group) == Some(value))
        })
    }

    /// The hours that it covers: first, and first beyond.
    pub fn hours(&self) -> (u32, u32) {
        let hour = |unix_ms: u64| u32::try_from(unix_ms / HOUR_MS).unwrap_or(u32::MAX);
        let first = self.since.map_or(0, hour);
        let beyond = self
            .until
            .map_or(u32::MAX, |until| hour(until.saturating_add(HOUR_MS - 1)));
        (first, beyond)
    }

    /// What it covers, in Unix milliseconds: the beginning of the first hour and the end of the last one, where they were
    /// asked for.
    pub fn covered(&self) -> (Option<u64>, Option<u64>) {
        let (first, beyond) = self.hours();
        let since = self.since.map(|_| u64::from(first) * HOUR_MS);
        (since, self.until.map(|_| u64::from(beyond) * HOUR_MS))
    }

    /// Whether a group lies in its hours and passes its filters.
    pub fn covers(&self, group: &Group) -> bool {
        let (first, beyond) = self.hours();
        (first..beyond).contains(&group.hour) && self.admits(group)
    }

    /// A group's labels, one for each dimension by which is grouped.
    pub fn labels(&self, group: &Group) -> Vec<Option<String>> {
        let by = self.by.iter();
        by.map(|dimension| self.label(*dimension, group)).collect()
    }

    /// A group's label in a dimension; `None` where it has none.
    pub fn label(&self, dimension: Dimension, group: &Group) -> Option<String> {
        if !dimension.is_time() {
            return dimension.value(group).map(str::to_owned);
        }
        let begins = jiff::Timestamp::from_second(i64::from(group.hour) * 3600).ok()?;
        let begins = begins.to_zoned(self.zone.clone());
        Some(match dimension {
            Dimension::Day => begins.date().to_string(),
            _ => begins.strftime("%Y-%m-%d %H:%M").to_string(),
        })
    }

    /// Reads a query string, without the `?`. Rows are by model if it does not say otherwise.
    ///
    /// # Errors
    ///
    /// For unknown names, dimensions, zones, and times that are not numbers.
    pub fn from_query_string(text: &str) -> Result<Self, QueryError> {
        Self::default().read(text)
    }

    /// Reads a query string over this query: what it does not name stays.
    ///
    /// # Errors
    ///
    /// As `from_query_string`.
    pub fn read(self, text: &str) -> Result<Self, QueryError> {
        let mut query = self;
        for pair in pairs(text) {
            let (name, value) = pair?;
            match name {
                "by" => {
                    query.by = value
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::parse)
                        .collect::<Result<_, _>>()?;
                }
                "since" => query.since = Some(unix_ms(name, &value)?),
                "until" => query.until = Some(unix_ms(name, &value)?),
                "tz" => {
                    query.zone = jiff::tz::TimeZone::get(&value)
                        .map_err(|_| QueryError(format!("{value:?} is no time zone")))?;
                }
                _ => {
                    let dimension: Dimension = name.parse().map_err(|_| {
                        QueryError(format!(
                            "{name:?} is unknown: by, since, until, tz, {} expected",
                            names()
                        ))
                    })?;
                    if dimension.is_time() {
                        return Err(QueryError(format!(
                            "{name} is no filter: use since and until"
                        )));
                    }
                    query.filters.push((dimension, value));
                }
            }
        }
        Ok(query)
    }

    /// Writes the query string that `from_query_string` reads. A zone without a name becomes UTC.
    pub fn to_query_string(&self) -> String {
        let by: Vec<_> = self.by.iter().map(|dimension| dimension.as_str()).collect();
        let mut text = format!("by={}", by.join(","));
        let mut add = |name: &str, value: &str| {
            text.push_str(&format!("&{name}={}", plain(value)));
        };
        if let Some(since) = self.since {
            add("since", &since.to_string());
        }
        if let Some(until) = self.until {
            add("until", &until.to_string());
        }
        if let Some(zone) = self.zone.iana_name() {
            add("tz", zone);
        }
        for (dimension, value) in &self.filters {
            add(dimension.as_str(), value);
        }
        text
    }
}

/// The names and decoded values of a query string.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Result<(&str, String), QueryError>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8();
        let value = value.map_err(|_| QueryError(format!("{name} is not UTF-8")))?;
        Ok((name, value.into_owned()))
    })
}

/// A value as it is written in a query string.
pub(super) fn plain(value: &str) -> impl std::fmt::Display {
    utf8_percent_encode(value, PLAIN)
}

/// Reads a moment of a query string.
pub(super) fn unix_ms(name: &str, value: &str) -> Result<u64, QueryError> {
    value
        .parse()
        .map_err(|_| QueryError(format!("{name} is not a number of Unix milliseconds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_query_string() {
        let query = Query {
            by: vec![Dimension::Day, Dimension::Session],
            since: Some(5),
            until: Some(7),
            filters: vec![
                (Dimension::Session, "a&b=c d+é".to_owned()),
                (Dimension::Model, "claude-opus-4.5".to_owned()),
            ],
            zone: jiff::tz::TimeZone::get("Europe/Berlin").expect("a known zone"),
        };
        let text = query.to_query_string();
        assert!(text.is_ascii());
        assert_eq!(Query::from_query_string(&text), Ok(query));
        assert_eq!(Query::from_query_string(""), Ok(Query::default()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("by=colour", "\"colour\" is no dimension"),
            ("since=yesterday", "since is not a number"),
            ("tz=Mars/Base", "\"Mars/Base\" is no time zone"),
            ("sesion=x", "\"sesion\" is unknown"),
            ("day=2026-01-01", "day is no filter"),
        ] {
            let error = Query::from_query_string(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
