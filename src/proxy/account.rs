//! One request's account, from its arrival to its booking. Whatever way the request ends, dropping the account books
//! it: once, with the best figures at hand.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::{HeaderName, Response};

use super::answer::AnswerBody;
use super::gate::Gate;
use crate::config::settings::Settings;
use crate::llm::catalogue::Unpriced;
use crate::llm::pricing::{self, Terms};
use crate::llm::reading::Reading;
use crate::llm::usage::{Provenance, Usage};
use crate::llm::wire::{Billing, Dialect, Endpoint};
use crate::policy::booking::{self, Reached};
use crate::refusal::Refusal;
use crate::store::Entry;
use crate::store::record::{CostSource, Outcome, Record};
use crate::units::RequestId;

/// The header that names the request in answers of every kind.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-tollgate-request-id");

/// One request's account.
#[derive(Debug)]
pub(super) struct Account {
    gate: Arc<Gate>,
    place: Place,
    arrived: Instant,
    /// tollgate's own work so far.
    added: Duration,
    /// What the provider's side is called where prices are looked up; empty before the request has a provider.
    catalogue: String,
    dialect: Dialect,
    endpoint: Endpoint,
    /// What names the fetched work, where the path does (a batch's results).
    fetch_id: Option<String>,
    expected: Usage,
    reached: Reached,
    in_flight: Option<prometheus::IntGauge>,
    settled: bool,
}

/// Where the record is: not yet in the journal, or in it.
#[derive(Debug)]
enum Place {
    Draft(Record),
    Journaled(Entry),
}

impl Account {
    /// Opens an account for a request that has just arrived.
    pub(super) fn open(gate: &Arc<Gate>) -> Self {
        Self {
            place: Place::Draft(Record::new(gate.next_id())),
            gate: Arc::clone(gate),
            arrived: Instant::now(),
            added: Duration::ZERO,
            catalogue: String::new(),
            // Until the path says whose it is, errors look like those of the most widely spoken format.
            dialect: Dialect::OpenAi,
            endpoint: Endpoint::Other,
            fetch_id: None,
            expected: Usage::default(),
            reached: Reached::NotServed,
            in_flight: None,
            settled: false,
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.record().id
    }

    pub(super) fn arrived(&self) -> Instant {
        self.arrived
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// How a request ends whose answer nobody takes any more: its client left, or this process is ending.
    pub(super) fn abandoned(&self) -> Outcome {
        if self.gate.tasks.is_cut() {
            Outcome::Interrupted
        } else {
            Outcome::ClientGone
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.gate.settings
    }

    pub(super) fn record(&self) -> &Record {
        match &self.place {
            Place::Draft(record) => record,
            Place::Journaled(entry) => entry,
        }
    }

    pub(super) fn record_mut(&mut self) -> &mut Record {
        match &mut self.place {
            Place::Draft(record) => record,
            Place::Journaled(entry) => entry,
        }
    }

    /// Notes whose request it is: from here on it counts as that provider's.
    pub(super) fn belongs_to(&mut self, provider: &super::gate::Provider, endpoint: Endpoint) {
        let in_flight = self.gate.metrics.in_flight(&provider.settings.name);
        in_flight.inc();
        self.in_flight = Some(in_flight);
        self.catalogue.clone_from(&provider.settings.catalogue);
        self.endpoint = endpoint;
        self.dialect = endpoint.dialect().unwrap_or(provider.settings.dialect);
        let record = self.record_mut();
        record.provider.clone_from(&provider.settings.name);
        endpoint.as_str().clone_into(&mut record.endpoint);
    }

    /// Notes what names the work that is fetched.
    pub(super) fn fetches(&mut self, path: &str) {
        self.fetch_id = Some(path.to_owned());
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Adds to the time that tollgate itself spent on the request.
    pub(super) fn add_own_time(&mut self, since: Instant) {
        self.added += since.elapsed();
    }

    /// Puts the request into the journal with its estimate: from now on not even a crash loses it.
    ///
    /// # Errors
    /// When the ledger cannot be written and the config says to refuse then.
    pub(super) fn admit(&mut self, expected: Usage) -> Result<(), Refusal> {
        self.expected = expected;
        if self.endpoint.billing() == Billing::ByTokens {
            let reading = Reading {
                usage: Some(expected),
                ..Reading::default()
            };
            self.write_down(expected, Provenance::Estimated, &reading);
        }
        let Place::Draft(record) = &mut self.place else {
            return Ok(());
        };
        let empty = Record::new(record.id);
        let draft = std::mem::replace(record, empty);
        match self.gate.ledger.begin(draft) {
            Ok(entry) => {
                self.place = Place::Journaled(entry);
                Ok(())
            }
            Err(failure) if self.gate.settings.ledger.pass_on_failure => {
                self.gate.metrics.unrecorded();
                self.place = Place::Journaled(Entry::unrecorded(*failure.record));
                Ok(())
            }
            Err(failure) => {
                tracing::error!(
                    error = &failure.source as &dyn std::error::Error,
                    "the ledger cannot be written"
                );
                self.place = Place::Draft(*failure.record);
                Err(Refusal::LedgerUnavailable)
            }
        }
    }

    /// The request is on its way: if nobody sees its answer, it is booked at its estimate.
    pub(super) fn sent(&mut self) {
        self.reached = Reached::Sent;
    }

    /// An answer's head has come.
    pub(super) fn answered(&mut self, status: http::StatusCode) {
        self.record_mut().status = status.as_u16();
        let failed = status.is_client_error() || status.is_server_error();
        self.reached = if failed {
            Reached::NotServed
        } else {
            Reached::Answer
        };
    }

    /// Answers the request ourselves, and books that.
    pub(super) fn refuse(mut self, refusal: &Refusal) -> Response<AnswerBody> {
        self.gate.metrics.refused(refusal);
        let mut response = AnswerBody::response(
            refusal.status(),
            "application/json",
            refusal.body(self.dialect, self.id()),
        );
        let headers = response.headers_mut();
        for (name, value) in refusal.headers() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(REQUEST_ID, request_id_value(self.id()));
        let record = self.record_mut();
        record.status = refusal.status().as_u16();
        record.error = Some(refusal.code().to_owned());
        let outcome = match refusal {
            Refusal::UpstreamTimeout { .. } | Refusal::BodyTimeout { .. } => Outcome::TimedOut,
            Refusal::Unreachable { .. } | Refusal::TlsFailed { .. } => Outcome::Unreachable,
            Refusal::UpstreamClosed | Refusal::UpstreamInvalid => Outcome::UpstreamCut,
            _ => Outcome::Refused,
        };
        // A connection that never came about, or broke before an answer, has cost nothing that we know of; one that
        // was given up after waiting may have cost everything.
        if !matches!(refusal, Refusal::UpstreamTimeout { .. }) {
            self.reached = Reached::NotServed;
        }
        self.settle(outcome, &Reading::default());
        response
    }

    /// Ends the account: books what the request used, counts it, writes it down. Only the first call does anything.
    pub(super) fn settle(&mut self, outcome: Outcome, reading: &Reading) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.book(reading);
        let (total, added) = (self.arrived.elapsed(), self.added);
        let record = self.record_mut();
        record.outcome = outcome;
        record.total_us = micros(total);
        record.added_us = micros(added);
        if let Some(error) = &reading.error {
            record.error = error.code.clone().or_else(|| error.kind.clone());
        }
        if reading.unreadable && self.endpoint.billing() != Billing::Free {
            self.gate.metrics.unreadable(&self.record().provider);
        }
        // A path that belongs to nobody (a browser's icon, a scanner) is counted as a refusal, and is no request.
        if self.record().provider.is_empty() {
            return;
        }
        let record = self.record();
        let model = record
            .model
            .as_deref()
            .or(record.requested_model.as_deref());
        let known = model.and_then(|model| self.gate.catalogue.resolve(&self.catalogue, model));
        let label = known.map_or("other", |known| &*known.id);
        self.gate
            .metrics
            .ended(record, self.endpoint.as_str(), label);
        match &mut self.place {
            Place::Journaled(entry) => entry.close(),
            Place::Draft(record) => {
                // Refused before admission: it is kept all the same. If the ledger fails, its own health tells.
                let empty = Record::new(record.id);
                let draft = std::mem::replace(record, empty);
                if let Ok(mut entry) = self.gate.ledger.begin(draft) {
                    entry.close();
                }
            }
        }
    }

    /// Decides what the request used, and writes that and its cost into the record.
    fn book(&mut self, reading: &Reading) {
        // Fetching the result of background work, or a batch's results, books once, however often it is fetched.
        let fetched = matches!(
            self.endpoint,
            Endpoint::ResponseFetch | Endpoint::BatchResults
        );
        if fetched && !self.fetch_books(reading) {
            return self.write_down(Usage::default(), Provenance::None, reading);
        }
        let billing = self.endpoint.billing();
        let (usage, provenance) = booking::book(billing, self.reached, &self.expected, reading);
        match provenance {
            Provenance::None | Provenance::Reported => self.write_down(usage, provenance, reading),
            Provenance::Partial | Provenance::Estimated => {
                let completed = Reading {
                    usage: Some(usage),
                    side: Vec::new(),
                    ..reading.clone()
                };
                self.write_down(usage, provenance, &completed);
            }
        }
    }

    /// Whether this fetch is the one that books the work. Only background work is booked when it is fetched; other
    /// answers were booked when they were asked for.
    fn fetch_books(&mut self, reading: &Reading) -> bool {
        let id = match self.endpoint {
            Endpoint::ResponseFetch if reading.background => reading.answer_id.clone(),
            Endpoint::BatchResults => self.fetch_id.clone(),
            _ => None,
        };
        let Some(id) = id.filter(|_| reading.complete || reading.usage.is_none()) else {
            return false;
        };
        if reading.total().is_none() || !self.gate.ledger.book_once(&id) {
            return false;
        }
        self.record_mut().answer_id = Some(id);
        true
    }

    /// Writes usage, provenance and cost into the record.
    fn write_down(&mut self, usage: Usage, provenance: Provenance, reading: &Reading) {
        let record = match &mut self.place {
            Place::Draft(record) => record,
            Place::Journaled(entry) => entry,
        };
        if reading.model.is_some() {
            record.model.clone_from(&reading.model);
        }
        record.service_tier.clone_from(&reading.service_tier);
        record.usage = usage;
        record.provenance = provenance;
        (record.cost, record.table_cost, record.cost_source) = (None, None, CostSource::None);
        if provenance == Provenance::None {
            return;
        }
        let terms = Terms {
            provider: &self.catalogue,
            model: record.requested_model.as_deref().unwrap_or_default(),
            at_unix_ms: record.id.unix_ms(),
            ..Terms::default()
        };
        let priced = pricing::price_reading(&self.gate.catalogue, &terms, reading);
        record.cost = priced.cost();
        record.table_cost = priced.table.ok();
        record.cost_source = match (priced.stated, &priced.table) {
            (Some(_), _) => CostSource::Stated,
            (None, Ok(_)) => CostSource::Table,
            (None, Err(why)) => {
                let model = record
                    .model
                    .as_deref()
                    .or(record.requested_model.as_deref());
                self.gate.unknown_models().say_once(
                    &record.provider,
                    model.unwrap_or("(none)"),
                    *why,
                );
                CostSource::Unknown
            }
        };
    }
}

impl Drop for Account {
    /// An account that nobody settled belongs to a client that left.
    fn drop(&mut self) {
        self.settle(self.abandoned(), &Reading::default());
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.dec();
        }
    }
}

/// A request id as a header's value.
pub(super) fn request_id_value(id: RequestId) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).expect("base 32 letters can stand in a header")
}

/// A duration in whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Remembers which models without a price were already spoken of.
#[derive(Debug, Default)]
pub(super) struct UnknownModels(Mutex<HashSet<(String, String)>>);

/// Clients choose model names, so the memory of them is bounded.
const MAX_UNKNOWN_MODELS: usize = 1_000;

impl UnknownModels {
    fn say_once(&self, provider: &str, model: &str, why: Unpriced) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MAX_UNKNOWN_MODELS && said.insert((provider.to_owned(), model.to_owned())) {
            drop(said);
            tracing::warn!(provider, model, %why, "cost unknown, tokens are counted; a price goes under [[models]]");
        }
    }
}
