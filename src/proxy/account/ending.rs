//! How an account ends: refused by ourselves, or with what became of the answer. Booked once, counted, learned from, written
//! down, and what was reserved settled.

use std::sync::Arc;

use http::Response;

use super::super::answer::AnswerBody;
use super::super::book::{self, About};
use super::super::gate::{Gate, Provider};
use super::super::headers;
use super::super::telling::{self, Ended};
use super::{Account, Place, REQUEST_ID, micros, request_id_value};
use crate::llm::reading::Reading;
use crate::llm::usage::Provenance;
use crate::llm::wire::{Billing, Dialect};
use crate::policy::booking::Reached;
use crate::policy::lane::Used;
use crate::policy::session::DEFAULT_SESSION;
use crate::refusal::{Audience, Refusal};
use crate::store::event::Event;
use crate::store::record::{Outcome, Record};

impl Account {
    fn reached(&self) -> Reached {
        let unanswered = if self.sent.is_set() {
            Reached::Sent
        } else {
            Reached::NotServed
        };
        self.answered.unwrap_or(unanswered)
    }

    /// Answers the request ourselves, and books that.
    pub(in crate::proxy) fn refuse(mut self, refusal: &Refusal) -> Response<AnswerBody> {
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
    pub(in crate::proxy) fn settle(&mut self, outcome: Outcome, reading: &Reading) {
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
