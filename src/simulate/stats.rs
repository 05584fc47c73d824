//! What the simulated provider did: how every request ended and which usage really went out.
//!
//! Tests hold this against the proxy's ledger. Nothing of a request's or an answer's content is kept, and nothing goes
//! to disk. A [`Ticket`] stands for one request from its head to its end; dropping it early is the client leaving.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

use super::limits::Permit;
use super::timeline::{Moment, Timeline};
use crate::llm::usage::Usage;
use crate::llm::wire::Endpoint;
use crate::units::Cost;

/// How many different paths are counted; what comes after is counted together, so that nobody can fill the memory.
const MAX_PATHS: usize = 1_000;

/// How many forgotten entries are held for reuse.
const MAX_SPARE: usize = 64;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// All of the answer was handed to the connection.
    Complete,
    /// Answered with an error status.
    Error,
    /// Torn down in mid-answer, as asked.
    Cut,
    /// Ended cleanly before its end, as asked.
    EndedEarly,
    /// Ended by an error event, as asked.
    ErrorEvent,
    /// Connection closed without an answer, as asked.
    Dropped,
    /// The client left first.
    ClientGone,
}

impl Outcome {
    const ALL: [Outcome; 7] = [
        Outcome::Complete,
        Outcome::Error,
        Outcome::Cut,
        Outcome::EndedEarly,
        Outcome::ErrorEvent,
        Outcome::Dropped,
        Outcome::ClientGone,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Error => "error",
            Outcome::Cut => "cut",
            Outcome::EndedEarly => "ended_early",
            Outcome::ErrorEvent => "error_event",
            Outcome::Dropped => "dropped",
            Outcome::ClientGone => "client_gone",
        }
    }
}

/// Sums of one endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    in_flight: u64,
    ended: [u64; Outcome::ALL.len()],
    /// What complete answers used, whether or not they said so.
    used: Usage,
    /// What complete answers said.
    reported: Usage,
}

/// One request that has ended. Its memory serves another request once it is forgotten: giving it back and asking for it
/// again took a sixth of the simulator's time.
#[derive(Debug, Default)]
struct Finished {
    id: String,
    method: Method,
    path: String,
    endpoint: &'static str,
    header_names: String,
    outcome: Option<Outcome>,
    elapsed_ms: u64,
    seen: Seen,
}

/// What is learned about a request on its way.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Status of the answer; 0 before there is one.
    pub(super) status: u16,
    /// The model asked for; empty where there is none.
    pub(super) model: String,
    /// Whether the answer is a stream.
    pub(super) stream: bool,
    /// Bytes of the request's body.
    pub(super) body_bytes: u64,
    /// What the answer uses if it comes to its end; `None` for what is free.
    pub(super) usage: Option<Usage>,
    /// Whether the final figures have gone out.
    pub(super) usage_sent: bool,
    /// The cost that the answer states itself.
    pub(super) cost: Option<Cost>,
    /// Frames of the stream that have gone out.
    pub(super) frames_sent: u64,
    /// Output tokens in them.
    pub(super) tokens_sent: u64,
}

#[derive(Debug)]
struct Inner {
    since: Instant,
    by_path: BTreeMap<String, u64>,
    endpoints: BTreeMap<&'static str, Totals>,
    finished: VecDeque<Box<Finished>>,
    /// Forgotten ones, for reuse.
    spare: VecDeque<Box<Finished>>,
    timeline: Timeline,
}

impl Inner {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            by_path: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            finished: VecDeque::new(),
            spare: VecDeque::new(),
            timeline: Timeline::new(),
        }
    }
}

/// The counts of one simulator.
#[derive(Debug)]
pub(super) struct Stats {
    inner: Mutex<Inner>,
    keep: usize,
}

impl Stats {
    /// Keeps the last `keep` requests.
    pub(super) fn new(keep: usize) -> Self {
        Self {
            inner: Mutex::new(Inner::new()),
            keep,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain counts: a panic elsewhere leaves them usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    pub(super) fn open(self: &Arc<Self>, id: &str, endpoint: Endpoint, head: &Parts) -> Ticket {
        let path = head.uri.path();
        let mut inner = self.lock();
        inner.timeline.note(Moment::Arrived);
        inner
            .endpoints
            .entry(endpoint.as_str())
            .or_default()
            .in_flight += 1;
        if let Some(count) = inner.by_path.get_mut(path) {
            *count += 1;
        } else {
            let room = inner.by_path.len() < MAX_PATHS;
            let key = if room { path } else { "(other)" };
            *inner.by_path.entry(key.to_owned()).or_default() += 1;
        }
        let mut request = inner.spare.pop_back().unwrap_or_default();
        drop(inner);
        for text in [
            &mut request.id,
            &mut request.path,
            &mut request.header_names,
            &mut request.seen.model,
        ] {
            text.clear();
        }
        request.id.push_str(id);
        request.path.push_str(path);
        for name in head.headers.keys() {
            request.header_names.push_str(name.as_str());
            request.header_names.push('\n');
        }
        request.method = head.method.clone();
        request.endpoint = endpoint.as_str();
        let model = std::mem::take(&mut request.seen.model);
        Ticket {
            stats: Arc::clone(self),
            started: Instant::now(),
            request: Some(request),
            permit: None,
            seen: Seen {
                model,
                ..Seen::default()
            },
        }
    }

    fn close(&self, outcome: Outcome, mut request: Box<Finished>) {
        request.outcome = Some(outcome);
        let mut inner = self.lock();
        let totals = inner.endpoints.entry(request.endpoint).or_default();
        totals.in_flight = totals.in_flight.saturating_sub(1);
        totals.ended[outcome as usize] += 1;
        let status = request.seen.status;
        if let (Outcome::Complete, Some(usage)) = (outcome, &request.seen.usage) {
            totals.used.add(usage);
            if request.seen.usage_sent {
                totals.reported.add(usage);
            }
        }
        match (outcome, status) {
            (Outcome::Complete, _) => inner.timeline.note(Moment::Completed),
            (_, 429) => inner.timeline.note(Moment::Refused),
            _ => inner.timeline.note(Moment::Failed),
        }
        inner.finished.push_back(request);
        if inner.finished.len() > self.keep
            && let Some(oldest) = inner.finished.pop_front()
            && inner.spare.len() < MAX_SPARE
        {
            inner.spare.push_back(oldest);
        }
    }

    /// Forgets everything but what is in flight.
    pub(super) fn reset(&self) {
        let mut inner = self.lock();
        let mut fresh = Inner::new();
        for (endpoint, totals) in &inner.endpoints {
            if totals.in_flight > 0 {
                let kept = Totals {
                    in_flight: totals.in_flight,
                    ..Totals::default()
                };
                fresh.endpoints.insert(endpoint, kept);
            }
        }
        *inner = fresh;
    }

    /// The sums, as `GET /_simulate/stats` shows them.
    pub(super) fn summary(&self) -> Value {
        let inner = self.lock();
        let mut all = Totals::default();
        let mut endpoints = serde_json::Map::new();
        for (name, totals) in &inner.endpoints {
            endpoints.insert((*name).to_owned(), totals.to_json());
            all.in_flight += totals.in_flight;
            for (sum, count) in all.ended.iter_mut().zip(totals.ended) {
                *sum += count;
            }
            all.used.add(&totals.used);
            all.reported.add(&totals.reported);
        }
        let mut summary = all.to_json();
        summary["since_ms"] = json!(inner.since.elapsed().as_millis() as u64);
        summary["paths"] = json!(inner.by_path);
        summary["endpoints"] = Value::Object(endpoints);
        summary
    }

    /// What happened when, as `GET /_simulate/timeline` shows it.
    pub(super) fn timeline(&self) -> Value {
        self.lock().timeline.to_json()
    }

    /// The last `last` requests that ended, oldest first; only the one of that id if one is given.
    pub(super) fn requests(&self, last: usize, id: Option<&str>) -> Value {
        let inner = self.lock();
        let skip = inner.finished.len().saturating_sub(last);
        inner
            .finished
            .iter()
            .skip(skip)
            .filter(|request| id.is_none_or(|id| request.id == id))
            .map(|request| request.to_json())
            .collect()
    }
}

impl Totals {
    fn to_json(self) -> Value {
        let mut fields = json!({
            "requests": self.in_flight + self.ended.iter().sum::<u64>(),
            "in_flight": self.in_flight,
            "used": usage_json(&self.used),
            "reported": usage_json(&self.reported),
        });
        for outcome in Outcome::ALL {
            fields[outcome.as_str()] = json!(self.ended[outcome as usize]);
        }
        fields
    }
}

impl Finished {
    fn to_json(&self) -> Value {
        let seen = &self.seen;
        json!({
            "id": self.id,
            "method": self.method.as_str(),
            "path": self.path,
            "endpoint": self.endpoint,
            "model": seen.model,
            "status": seen.status,
            "stream": seen.stream,
            "outcome": self.outcome.map(Outcome::as_str),
            "usage": seen.usage.as_ref().map(usage_json),
            "usage_sent": seen.usage_sent,
            "cost": seen.cost.map(|cost| cost.to_string()),
            "frames_sent": seen.frames_sent,
            "tokens_sent": seen.tokens_sent,
            "body_bytes": seen.body_bytes,
            "elapsed_ms": self.elapsed_ms,
            "header_names": self.header_names.lines().collect::<Vec<_>>(),
        })
    }
}

/// Usage in the normal form: input with everything of the cache, output with reasoning.
fn usage_json(usage: &Usage) -> Value {
    json!({
        "input": usage.input,
        "cached": usage.cached_read,
        "cache_write": usage.cache_write,
        "cache_write_1h": usage.cache_write_1h,
        "output": usage.output,
        "reasoning": usage.reasoning,
    })
}

/// One request in flight. Dropped without an end, it is counted as left by its client.
#[derive(Debug)]
pub(super) struct Ticket {
    stats: Arc<Stats>,
    started: Instant,
    request: Option<Box<Finished>>,
    /// Its place within the limits.
    permit: Option<Permit>,
    /// What has been learned so far.
    pub(super) seen: Seen,
}

impl Ticket {
    /// The request was let through, and holds its place until it ends.
    pub(super) fn admitted(&mut self, permit: Option<Permit>) {
        self.permit = permit;
        self.stats.lock().timeline.note(Moment::Accepted);
    }

    /// The request has ended in this way. Later calls change nothing.
    pub(super) fn end(&mut self, outcome: Outcome) {
        // The place is free before the client can know of the end.
        if let Some(permit) = self.permit.take() {
            let written = match (outcome, &self.seen.usage) {
                (Outcome::Complete, Some(usage)) => usage.output,
                _ => self.seen.tokens_sent,
            };
            permit.settle(written);
        }
        if let Some(mut request) = self.request.take() {
            request.elapsed_ms = self.started.elapsed().as_millis() as u64;
            request.seen = std::mem::take(&mut self.seen);
            self.stats.close(outcome, request);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Outcome::ClientGone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(stats: &Arc<Stats>, path: &str) -> Ticket {
        let (head, ()) = http::Request::post(path)
            .header("x-a", "1")
            .body(())
            .expect("a fixed head")
            .into_parts();
        stats.open(&format!("id of {path}"), Endpoint::Messages, &head)
    }

    #[test]
    fn only_complete_answers_add_their_usage_and_only_reported_usage_is_reported() {
        let stats = Arc::new(Stats::new(10));
        for (outcome, sent) in [
            (Outcome::Complete, true),
            (Outcome::Complete, false),
            (Outcome::Cut, true),
        ] {
            let mut ticket = open(&stats, "/a");
            ticket.seen.usage = Some(Usage {
                input: 3,
                output: 2,
                ..Usage::default()
            });
            ticket.seen.usage_sent = sent;
            ticket.end(outcome);
        }
        let summary = stats.summary();
        assert_eq!(summary["endpoints"]["messages"]["used"]["input"], 6);
        assert_eq!(summary["reported"]["output"], 2);
        assert_eq!(
            (&summary["complete"], &summary["cut"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn a_ticket_dropped_is_a_client_gone_and_no_longer_in_flight() {
        let stats = Arc::new(Stats::new(10));
        let ticket = open(&stats, "/a");
        assert_eq!(stats.summary()["in_flight"], 1);
        drop(ticket);
        let summary = stats.summary();
        assert_eq!(
            (&summary["in_flight"], &summary["client_gone"]),
            (&json!(0), &json!(1))
        );
        assert_eq!(
            stats.requests(9, Some("id of /a"))[0]["header_names"],
            json!(["x-a"])
        );
    }

    #[test]
    fn memory_is_bounded_in_requests_and_paths() {
        let stats = Arc::new(Stats::new(3));
        for number in 0..MAX_PATHS + 50 {
            open(&stats, &format!("/{number}")).end(Outcome::Complete);
        }
        assert_eq!(
            stats.requests(usize::MAX, None).as_array().map(Vec::len),
            Some(3)
        );
        let summary = stats.summary();
        assert_eq!(summary["paths"]["(other)"], 50);
        assert_eq!(summary["complete"], MAX_PATHS + 50);
    }

    #[test]
    fn a_reset_keeps_what_is_in_flight_right() {
        let stats = Arc::new(Stats::new(3));
        let mut running = open(&stats, "/a");
        stats.reset();
        assert_eq!(stats.summary()["in_flight"], 1);
        running.end(Outcome::Complete);
        assert_eq!(stats.summary()["in_flight"], 0);
    }
}
