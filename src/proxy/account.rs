//! One request's account, from its arrival to its booking. Whatever way the request ends, dropping the account books
//! it: once, with the best figures at hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::{HeaderMap, HeaderName, Response};

use super::answer::AnswerBody;
use super::ask::Estimate;
use super::book::{self, About};
use super::case::{Case, Choice};
use super::choose::{Menu, Talk};
use super::gate::{Gate, Provider};
use super::headers;
use super::hold::Hold;
use super::lanes::Turn;
use super::routed::Routing;
use super::telling::{self, Ended};
use super::throttle::Reservation;
use crate::config::settings::Settings;
use crate::llm::estimate;
use crate::llm::reading::Reading;
use crate::llm::usage::{Provenance, Usage};
use crate::llm::wire::{Billing, Dialect, Endpoint};
use crate::policy::booking::{self, Reached};
use crate::policy::budget::Amounts;
use crate::policy::budgets::{Ask, Denied, Outgrown};
use crate::policy::client::Client;
use crate::policy::lane::Used;
use crate::policy::session::DEFAULT_SESSION;
use crate::refusal::{Audience, Refusal};
use crate::store::Entry;
use crate::store::event::Event;
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

    /// Gives back what the request holds of its budgets and of its provider.
    pub(super) fn lets_go(&mut self) {
        self.reservation = None;
        self.turn = None;
    }

    /// Whether it was admitted.
    pub(super) fn is_admitted(&self) -> bool {
        self.reservation.is_some()
    }

    /// Notes what was decided about who serves the request, for the record and for the conversation's next request.
    pub(super) fn is_served_by(&mut self, case: &Case<'_>, menu: &Menu, choice: &Choice) {
        let decided = match menu.shadow {
            true => menu.choices.first().unwrap_or(choice),
            false => choice,
        };
        if choice.why.is_some() {
            self.goes_to(choice);
        }
        self.routing = Routing::of(case, menu, decided);
        if let Some(why) = &decided.why {
            let gate = Arc::clone(&self.gate);
            let provider = &gate.providers[decided.provider].settings.name;
            let model = decided.model.as_deref().unwrap_or_default();
            let record = self.record_mut();
            record.routed_to = Some(if decided.provider == case.call.provider {
                model.to_owned()
            } else {
                format!("{provider}/{model}")
            });
            record.routed_by = Some(why.clone());
            record.flags.route_shadow = menu.shadow;
        }
    }

    /// The conversation that the request belongs to, where its model may change.
    pub(super) fn talk(&self) -> Option<&Talk> {
        self.routing.as_ref().map(Routing::talk)
    }

    /// The request goes to somebody else after what came of it so far: from here on it counts as theirs.
    pub(super) fn moves_to(&mut self, choice: &Choice) {
        self.goes_to(choice);
        self.tries_again();
        if choice.why.is_none() && self.record().routed_by.is_some() {
            let record = self.record_mut();
            if !record.flags.route_shadow {
                // It went another way after all.
                (record.routed_by, record.routed_to) = (None, None);
            }
        }
        if let Some(routing) = &mut self.routing {
            routing.goes_elsewhere(&self.gate, choice.provider);
        }
    }

    /// From here on the request counts as that provider's and model's.
    pub(super) fn goes_to(&mut self, choice: &Choice) {
        let gate = Arc::clone(&self.gate);
        let provider = &gate.providers[choice.provider];
        if let Some(place) = self.provider.replace(choice.provider) {
            gate.providers[place].in_flight.dec();
        }
        provider.in_flight.inc();
        let record = self.record_mut();
        let name = provider.settings.name.clone();
        let before = std::mem::replace(&mut record.provider, name);
        let asked = record.requested_provider.get_or_insert(before);
        if *asked == record.provider {
            record.requested_provider = None;
        }
        record.sent_model = choice
            .model
            .clone()
            .filter(|model| record.requested_model.as_ref() != Some(model));
    }

    /// Writes down where the request goes now, in case this process does not see its end.
    pub(super) fn amend(&mut self) {
        if let Place::Journaled(entry) = &mut self.place {
            entry.amend();
        }
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

    fn reached(&self) -> Reached {
        let unanswered = if self.sent.is_set() {
            Reached::Sent
        } else {
            Reached::NotServed
        };
        self.answered.unwrap_or(unanswered)
    }

    /// Answers the request ourselves, and books that.
    pub(super) fn refuse(mut self, refusal: &Refusal) -> Response<AnswerBody> {
        self.gate.metrics.refused(refusal);
        let audience = Audience {
            dialect: self.dialect(),
            endpoint: self.endpoint,
            client: self.client,
            stream: self.record().stream,
        };
        let answer = if self.hold.as_ref().is_some_and(|hold| hold.has_begun()) {
            refusal.answer_in_stream(&audience, self.id())
        } else {
            refusal.answer(&audience, self.id())
        };
        let mut response = AnswerBody::response(answer.status, answer.content_type, answer.body);
        let headers = response.headers_mut();
        for (name, value) in answer.headers {
            headers.insert(name, value);
        }
        headers.insert(REQUEST_ID, request_id_value(self.id()));
        if matches!(refusal, Refusal::BadKey { .. }) {
            // Counted above, and no more: strangers must not be able to fill the ledger.
            self.settled = true;
            return response;
        }
        let record = self.record_mut();
        if record.session.is_empty() {
            // Refused before anybody asked who it is.
            DEFAULT_SESSION.clone_into(&mut record.session);
        }
        record.status = answer.status.as_u16();
        record.error = Some(refusal.code().to_owned());
        let outcome = match refusal {
            Refusal::UpstreamTimeout { .. } | Refusal::BodyTimeout { .. } => Outcome::TimedOut,
            Refusal::Unreachable { .. } | Refusal::TlsFailed { .. } => Outcome::Unreachable,
            Refusal::UpstreamClosed | Refusal::UpstreamInvalid => Outcome::UpstreamCut,
            Refusal::ClientGone => Outcome::ClientGone,
            _ => Outcome::Refused,
        };
        let now_ms = self.gate.clock.unix_ms();
        let event = telling::refused(self.record_mut(), refusal, now_ms);
        headers::tell(self.record(), response.headers_mut());
        self.end(outcome, &Reading::default(), event);
        response
    }

    /// Ends the account: books what the request used, counts it, writes it down. Only the first call does anything.
    pub(super) fn settle(&mut self, outcome: Outcome, reading: &Reading) {
        self.end(outcome, reading, None);
    }

    fn end(&mut self, outcome: Outcome, reading: &Reading, event: Option<Event>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let gate = Arc::clone(&self.gate);
        // A path that belongs to nobody (a browser's icon, a scanner) is counted as a refusal, and is no request.
        let Some(provider) = self.provider.map(|place| &gate.providers[place]) else {
            return;
        };
        let (total, added, endpoint) = (self.arrived.elapsed(), self.added, self.endpoint);
        let model = self.book(&gate, provider, reading).unwrap_or("other");
        let passed = self.sent.passed_bytes();
        let outcome = self.ended_as(outcome);
        let record = self.record_mut();
        record.request_bytes += passed;
        record.outcome = outcome;
        record.total_us = micros(total);
        record.added_us = micros(added);
        if let Some(error) = &reading.error {
            record.error = error.code.clone().or_else(|| error.kind.clone());
        }
        // The moment that counts for the budgets' windows, now and when they are read back from the ledger.
        record.finished_unix_ms = gate.clock.unix_ms();
        if let Some(routing) = self.routing.take() {
            routing.ended(&gate, self.record_mut());
        }
        let record = self.record_mut();
        gate.metrics.ended(record, endpoint.as_str(), model);
        if reading.unreadable && endpoint.billing() != Billing::Free {
            gate.metrics.unreadable(&provider.settings.name);
        }
        let (used, at_ms) = (record.charges(), record.finished_unix_ms);
        let counted = (record.provenance != Provenance::None).then(|| Used {
            input_tokens: match provider.settings.dialect {
                // Cache reads do not count towards its limits.
                Dialect::Anthropic => record.usage.input.saturating_sub(record.usage.cached_read),
                Dialect::OpenAi | Dialect::Gemini | Dialect::Ollama => record.usage.input,
            },
            output_tokens: record.usage.output,
        });
        if let Some(turn) = self.turn.take() {
            turn.finished(counted.as_ref());
        }
        self.learn(&gate, model);
        let reservation = self.reservation.take();
        let overruled = reservation
            .as_ref()
            .and_then(|held| held.overruled.as_deref());
        let about = Ended {
            overruled,
            waited_for: self.waited_for.as_deref(),
            would_violate: self.would_violate,
            asked_priority: self.asked_priority,
        };
        let mut events = telling::ended(self.record(), &about);
        events.extend(event);
        self.write(&gate, &events);
        if let Some(reservation) = reservation {
            let reserved = reservation.reserved();
            gate.metrics
                .settled(reserved.expected.fresh_tokens, used.fresh_tokens);
            reservation.settle(&used, at_ms);
        }
    }

    /// The outcome as it is recorded. What ends before it is admitted has taken nothing of any budget, and its record must
    /// not take anything either when it is read back.
    fn ended_as(&self, outcome: Outcome) -> Outcome {
        match (&self.place, outcome) {
            (Place::Draft(_), Outcome::ClientGone | Outcome::Interrupted) => Outcome::Withdrawn,
            (Place::Draft(_), Outcome::TimedOut) => Outcome::Refused,
            (_, outcome) => outcome,
        }
    }

    /// Learns from what the provider reports of a whole answer what such requests use.
    fn learn(&self, gate: &Gate, model: &str) {
        let record = self.record();
        if record.outcome != Outcome::Complete
            || record.provenance != Provenance::Reported
            || self.endpoint.billing() != Billing::ByTokens
        {
            return;
        }
        let caller = record.key.as_deref().unwrap_or_default();
        gate.throttle
            .learn(model, caller, self.input_by_size, &record.usage);
    }

    fn book<'g>(
        &mut self,
        gate: &'g Gate,
        provider: &Provider,
        reading: &Reading,
    ) -> Option<&'g str> {
        let (expected, fetched) = (self.expected, self.fetched.take());
        let about = About {
            endpoint: self.endpoint,
            reached: self.reached(),
            expected: &expected,
            fetched: fetched.as_deref(),
        };
        book::book(gate, provider, &about, reading, self.record_mut())
    }

    /// Writes the record for good, and what it leaves of events.
    fn write(&mut self, gate: &Gate, events: &[Event]) {
        match &mut self.place {
            Place::Journaled(entry) => entry.close_with(events),
            Place::Draft(record) => {
                // Refused before admission: it is kept all the same, now or when the disk takes it again.
                let empty = Record::new(record.id);
                gate.ledger
                    .entry_unopened(std::mem::replace(record, empty))
                    .close_with(events);
            }
        }
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
