//! One request's account, from its arrival to its booking. Whatever way the request ends, dropping the account books
//! it: once, with the best figures at hand.

mod ending;
mod moving;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::{HeaderMap, HeaderName};

use super::ask::Estimate;
use super::book;
use super::gate::Gate;
use super::hold::Hold;
use super::lanes::Turn;
use super::routed::Routing;
use super::throttle::Reservation;
use crate::config::settings::Settings;
use crate::llm::estimate;
use crate::llm::reading::Reading;
use crate::llm::usage::Usage;
use crate::llm::wire::{Billing, Dialect, Endpoint};
use crate::policy::booking::{self, Reached};
use crate::policy::budget::Amounts;
use crate::policy::budgets::{Ask, Denied, Outgrown};
use crate::policy::client::Client;
use crate::refusal::Refusal;
use crate::store::Entry;
use crate::store::record::{Outcome, Record};
use crate::units::{Priority, RequestId};
use crate::upstream::SentMark;

/// The header that names the request in answers of every kind.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-tollgate-request-id");

/// What takes less is no wait: getting a turn that is free takes some microseconds.
const WAIT_WORTH_TELLING: Duration = Duration::from_millis(1);

/// One request's account.
#[derive(Debug)]
pub(super) struct Account {
    gate: Arc<Gate>,
    place: Place,
    arrived: Instant,
    /// tollgate's own work so far.
    added: Duration,
    /// Place of the provider in the gate's list, once it is known.
    provider: Option<usize>,
    endpoint: Endpoint,
    /// Which program asks: decides how it is refused.
    client: Client,
    /// What names the fetched work, where the path does (a batch's results).
    fetched: Option<String>,
    /// What it is taken to use, as learned.
    expected: Usage,
    /// Its input tokens as the prompt's size alone says.
    input_by_size: u64,
    /// What it holds of its budgets.
    reservation: Option<Reservation>,
    /// Its turn at the provider.
    turn: Option<Box<Turn>>,
    /// When so many bytes of output have been seen, the reservation is looked at again.
    look_again_at_bytes: u64,
    /// Whether the provider's own figure for the input has been held against the reservation.
    input_seen: bool,
    /// What it had to wait for.
    waited_for: Option<Box<Denied>>,
    /// The priority that was asked for, where it may not have that.
    asked_priority: Option<Priority>,
    /// It broke a rule, and passed because of the mode.
    would_violate: bool,
    /// Tells whoever holds the client's connection that the request waits.
    hold: Option<Arc<Hold>>,
    /// What was decided about its model, and the conversation it belongs to.
    routing: Option<Routing>,
    /// Set by the body when it begins to leave.
    sent: SentMark,
    /// The answer's head, once it has come: whether it is one that is billed.
    answered: Option<Reached>,
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
            provider: None,
            endpoint: Endpoint::Other,
            client: Client::default(),
            fetched: None,
            expected: Usage::default(),
            input_by_size: 0,
            reservation: None,
            turn: None,
            look_again_at_bytes: 0,
            input_seen: false,
            waited_for: None,
            asked_priority: None,
            would_violate: false,
            hold: None,
            routing: None,
            sent: SentMark::default(),
            answered: None,
            settled: false,
        }
    }

    /// The request was only imagined: nothing of it is counted or written down.
    pub(super) fn is_forgotten(&mut self) {
        self.settled = true;
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
    pub(super) fn belongs_to(&mut self, place: usize, endpoint: Endpoint) {
        self.provider = Some(place);
        self.endpoint = endpoint;
        let provider = &self.gate.providers[place];
        provider.in_flight.inc();
        let name = provider.settings.name.clone();
        let record = self.record_mut();
        record.provider = name;
        endpoint.as_str().clone_into(&mut record.endpoint);
    }

    /// Notes which program asks.
    pub(super) fn asked_by(&mut self, headers: &HeaderMap) {
        self.client = Client::of(headers);
    }

    /// Notes what names the work that is fetched.
    pub(super) fn fetches(&mut self, id: &str) {
        self.fetched = Some(id.to_owned());
    }

    /// The wire format in which the client understands an error. Before the path says whose the request is: that of
    /// the most widely spoken format.
    fn dialect(&self) -> Dialect {
        let provider = self
            .provider
            .map(|place| self.gate.providers[place].settings.dialect);
        self.endpoint
            .dialect()
            .or(provider)
            .unwrap_or(Dialect::OpenAi)
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Adds to the time that tollgate itself spent on the request.
    pub(super) fn add_own_time(&mut self, since: Instant) {
        self.added += since.elapsed();
    }

    /// Notes what the request is taken to use: booked if nobody sees its answer.
    pub(super) fn expects(&mut self, estimate: &Estimate) {
        (self.expected, self.input_by_size) = (estimate.expected, estimate.input_by_size);
        let gate = Arc::clone(&self.gate);
        if let Some(place) = self.provider
            && self.endpoint.billing() == Billing::ByTokens
        {
            let provider = &gate.providers[place];
            book::estimate(&gate, provider, estimate.expected, self.record_mut());
        }
    }

    /// Takes over what was reserved for the request: from now on it is given back whatever way the request ends.
    pub(super) fn holds(&mut self, reservation: Reservation, ask: Ask) {
        let record = self.record_mut();
        let waited = record.queued_us > 0;
        if !waited {
            record.level = reservation.level;
        }
        if let Some(fullest) = &reservation.fullest {
            record
                .decided_by
                .get_or_insert_with(|| fullest.name.clone());
        }
        record.reserved_tokens = ask.expected.fresh_tokens;
        record.reserved_cost = Some(ask.expected.cost).filter(|_| !record.flags.price_unknown);
        if let Some(denied) = &reservation.overruled {
            record.flags.shadow = true;
            record
                .decided_by
                .get_or_insert_with(|| denied.budget.name.clone());
        }
        self.look_again_at_bytes = estimate::bytes_of_output(self.expected.output);
        self.reservation = Some(reservation);
    }

    /// The request may not be as urgent as it asked to be.
    pub(super) fn is_capped(&mut self, asked: Priority) {
        self.record_mut().flags.priority_capped = true;
        self.asked_priority = Some(asked);
    }

    /// The request breaks a rule in a mode in which nothing is refused.
    pub(super) fn would_violate(&mut self, rule: String) {
        let record = self.record_mut();
        record.flags.shadow = true;
        record.decided_by = Some(rule);
        self.would_violate = true;
    }

    /// Whoever holds the client's connection wants to know when the request has to wait.
    pub(super) fn hold_with(&mut self, hold: &Arc<Hold>) {
        self.hold = Some(Arc::clone(hold));
    }

    /// The request has to wait in line. `reads_events`: its client asked for server-sent events.
    pub(super) fn waits(&mut self, denied: &Denied, reads_events: bool) {
        let record = self.record_mut();
        record.level = denied.level;
        record.decided_by = Some(denied.budget.name.clone());
        self.waited_for = Some(Box::new(denied.clone()));
        self.keeps_company(reads_events);
    }

    /// From now on the request waits; its client is kept company if it reads server-sent events and the config says so.
    pub(super) fn keeps_company(&self, reads_events: bool) {
        if let Some(hold) = self.hold.as_ref().filter(|_| reads_events) {
            hold.begin(self.record(), self.endpoint);
        }
    }

    /// Whether a client that reads server-sent events hears of its waiting.
    pub(super) fn can_keep_company(&self) -> bool {
        self.hold.is_some()
    }

    /// What the request is taken to use.
    pub(super) fn expected(&self) -> &Usage {
        &self.expected
    }

    /// Takes over the request's turn at the provider, which goes back when the answer has ended.
    pub(super) fn has_turn(&mut self, turn: Option<Box<Turn>>) {
        self.turn = turn;
    }

    /// The request is sent again: nothing of what came before counts.
    pub(super) fn tries_again(&mut self) {
        self.sent = SentMark::default();
        self.answered = None;
        self.record_mut().status = 0;
    }

    /// The request has waited so long.
    pub(super) fn has_waited(&mut self, waited: Duration) {
        if waited >= WAIT_WORTH_TELLING {
            self.record_mut().queued_us += micros(waited);
        }
        if let Some(hold) = &self.hold {
            hold.end();
        }
    }

    /// Looks whether a running answer has outgrown what was reserved for it; then the reservation grows.
    ///
    /// # Errors
    /// A hard budget has no room for more: the answer must end here.
    pub(super) fn follow(&mut self, reading: &Reading) -> Result<(), Outgrown> {
        let input_news = !self.input_seen && reading.usage.is_some();
        if reading.output_bytes < self.look_again_at_bytes && !input_news {
            return Ok(());
        }
        let Some(reserved) = self.reservation.as_ref().map(Reservation::reserved) else {
            return Ok(());
        };
        self.input_seen |= input_news;
        let seen = booking::so_far(&self.expected, reading);
        let gate = Arc::clone(&self.gate);
        let Some(provider) = self.provider.map(|place| &gate.providers[place]) else {
            return Ok(());
        };
        let ahead = Usage {
            output: booking::room_ahead(seen.output).max(self.expected.output),
            ..seen
        };
        let outgrown =
            seen.output > self.expected.output || seen.fresh() > reserved.expected.fresh_tokens;
        if outgrown {
            let cost = book::cost_of(&gate, provider, self.record(), &ahead).unwrap_or_default();
            let more = Amounts::of_request(&ahead, cost).max(&reserved.expected);
            let ask = Ask {
                expected: more,
                worst: more.max(&reserved.worst),
            };
            if let Some(reservation) = &mut self.reservation {
                reservation.grow(&ask)?;
            }
            self.expected.output = ahead.output;
        }
        self.look_again_at_bytes = estimate::bytes_of_output(ahead.output);
        Ok(())
    }

    /// Puts the request into the journal with its estimate: from now on not even a crash loses it.
    ///
    /// # Errors
    /// When the ledger cannot be written and the config says to refuse then.
    pub(super) fn journal(&mut self) -> Result<(), Refusal> {
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
                self.place = Place::Journaled(self.gate.ledger.entry_unopened(*failure.record));
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

    /// The mark that the body sets when it begins to leave: from then on the provider may be at work, so a request whose
    /// answer nobody sees is booked at its estimate.
    pub(super) fn sent_mark(&self) -> SentMark {
        self.sent.clone()
    }

    /// An answer's head has come. An error status is not billed, unless the answer states usage all the same.
    pub(super) fn answered(&mut self, status: http::StatusCode) {
        self.record_mut().status = status.as_u16();
        let failed = status.is_client_error() || status.is_server_error();
        self.answered = Some(if failed {
            Reached::NotServed
        } else {
            Reached::Answer
        });
    }
}

impl Drop for Account {
    /// An account that nobody settled belongs to a client that left.
    fn drop(&mut self) {
        self.settle(self.abandoned(), &Reading::default());
        if let Some(place) = self.provider {
            self.gate.providers[place].in_flight.dec();
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
