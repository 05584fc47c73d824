//! Which events are asked for, and how that is written in the query string of `/api/v1/events`.
//!
//! `since=MS&until=MS&kind=refused&session=docs&budget=global-usd-month&limit=100`: a filter given twice admits both
//! values.

use super::event::{Event, EventKind};
use super::query::{QueryError, pairs, plain, unix_ms};

/// How many events an answer holds unless another number is asked for.
pub const DEFAULT_LIMIT: usize = 100;

/// The most events in one answer: a few MiB.
pub const MAX_LIMIT: usize = 10_000;

/// What is asked for. The newest events come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// From when, in Unix milliseconds, inclusive.
    pub since: Option<u64>,
    /// Up to when, in Unix milliseconds, exclusive.
    pub until: Option<u64>,
    /// Only these kinds; all of them if there are none.
    pub kinds: Vec<EventKind>,
    /// Only of these sessions.
    pub sessions: Vec<String>,
    /// Only of these budgets or rules.
    pub rules: Vec<String>,
    /// At most so many.
    pub limit: usize,
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            kinds: Vec::new(),
            sessions: Vec::new(),
            rules: Vec::new(),
            limit: DEFAULT_LIMIT,
        }
    }
}

/// Whether a value passes a filter.
fn passes(filter: &[String], value: Option<&String>) -> bool {
    filter.is_empty() || value.is_some_and(|value| filter.contains(value))
}

impl EventQuery {
    /// Whether an event is asked for.
    pub fn admits(&self, event: &Event) -> bool {
        let since = self.since.unwrap_or(0);
        let until = self.until.unwrap_or(u64::MAX);
        (since..until).contains(&event.at_unix_ms)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && passes(&self.sessions, event.session.as_ref())
            && passes(&self.rules, event.rule.as_ref())
    }

    /// Reads a query string, without the `?`.
    ///
    /// # Errors
    ///
    /// For unknown names and kinds, times that are not numbers, and limits that are too large.
    pub fn from_query_string(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for pair in pairs(text) {
            let (name, value) = pair?;
            match name {
                "since" => query.since = Some(unix_ms(name, &value)?),
                "until" => query.until = Some(unix_ms(name, &value)?),
                "kind" => {
                    let kind = value.parse();
                    query
                        .kinds
                        .push(kind.map_err(|error| QueryError::new(format!("{error}")))?);
                }
                "session" => query.sessions.push(value),
                "budget" => query.rules.push(value),
                "limit" => query.limit = limit(&value).map_err(QueryError::new)?,
                _ => {
                    return Err(QueryError::new(format!(
                        "{name:?} is unknown: since, until, kind, session, budget, limit expected"
                    )));
                }
            }
        }
        Ok(query)
    }

    /// Writes the query string that `from_query_string` reads.
    pub fn to_query_string(&self) -> String {
        let mut text = format!("limit={}", self.limit);
        let mut add = |name: &str, value: &str| {
            text.push_str(&format!("&{name}={}", plain(value)));
        };
        for (name, moment) in [("since", self.since), ("until", self.until)] {
            if let Some(moment) = moment {
                add(name, &moment.to_string());
            }
        }
        self.kinds
            .iter()
            .for_each(|kind| add("kind", kind.as_str()));
        self.sessions.iter().for_each(|name| add("session", name));
        self.rules.iter().for_each(|name| add("budget", name));
        text
    }
}

/// The answer of `/api/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Events {
    /// The newest first.
    pub events: Vec<Event>,
}

/// Reads a number of events.
///
/// # Errors
///
/// What is not a number between 1 and `MAX_LIMIT`, in words.
pub fn limit(text: &str) -> Result<usize, String> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("limit {text:?} is no number from 1 to {MAX_LIMIT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_query_string() {
        let query = EventQuery {
            since: Some(5),
            until: Some(7),
            kinds: vec![EventKind::Refused, EventKind::LevelChanged],
            sessions: vec!["a&b=c d+é".to_owned()],
            rules: vec!["session-usd-hour".to_owned()],
            limit: 9,
        };
        let text = query.to_query_string();
        assert!(text.is_ascii());
        assert_eq!(EventQuery::from_query_string(&text), Ok(query));
        assert_eq!(EventQuery::from_query_string(""), Ok(EventQuery::default()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("kind=party", "\"party\" is no kind of event"),
            ("since=yesterday", "since is not a number"),
            ("limit=0", "limit \"0\" is no number"),
            ("limit=10001", "from 1 to 10000"),
            ("team=x", "\"team\" is unknown"),
        ] {
            let error = EventQuery::from_query_string(text).expect_err(text);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn filters_admit_what_they_name() {
        let mut event = Event::new(EventKind::Refused, 10);
        event.session = Some("docs".to_owned());
        event.rule = Some("global-usd-month".to_owned());
        let admits = |text: &str| {
            let query = EventQuery::from_query_string(text).expect("readable");
            query.admits(&event)
        };
        assert!(admits(""));
        assert!(admits("kind=waited&kind=refused&session=docs&since=10"));
        assert!(!admits("kind=waited"));
        assert!(!admits("session=api"));
        assert!(!admits("budget=session-usd-hour"));
        assert!(!admits("until=10"));
        assert!(!admits("since=11"));
    }
}
