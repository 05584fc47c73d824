//! Booking: what a request used and cost, written into its record. The rule for whose figures count is
//! `policy::booking`'s, prices are `llm::pricing`'s; here they meet the request.

use super::gate::{Gate, Provider};
use crate::config::settings::UnknownPrice;
use crate::llm::pricing::{self, Terms};
use crate::llm::reading::Reading;
use crate::llm::usage::{Provenance, Usage};
use crate::llm::wire::Endpoint;
use crate::policy::booking::{self, Reached};
use crate::store::record::{CostSource, Record};
use crate::units::Cost;

/// What is known of a request besides its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) reached: Reached,
    /// The estimate from before sending.
    pub(super) expected: &'a Usage,
    /// What names the fetched work where the path does: a batch's id.
    pub(super) fetched: Option<&'a str>,
}

/// Books an ended request into its record. Returns the catalogue's name for the model, for the metrics.
pub(super) fn book<'g>(
    gate: &'g Gate,
    provider: &Provider,
    about: &About<'_>,
    reading: &Reading,
    record: &mut Record,
) -> Option<&'g str> {
    if !books_now(gate, provider, about, reading, record) {
        return write_down(
            gate,
            provider,
            Usage::default(),
            Provenance::None,
            reading,
            record,
        );
    }
    let billing = about.endpoint.billing();
    let (usage, provenance) = booking::book(billing, about.reached, about.expected, reading);
    match provenance {
        Provenance::None | Provenance::Reported => {
            write_down(gate, provider, usage, provenance, reading, record)
        }
        Provenance::Partial | Provenance::Estimated => {
            let completed = Reading {
                usage: Some(usage),
                side: Vec::new(),
                ..reading.clone()
            };
            write_down(gate, provider, usage, provenance, &completed, record)
        }
    }
}

/// Writes the estimate of a request that is about to be sent.
pub(super) fn estimate(gate: &Gate, provider: &Provider, expected: Usage, record: &mut Record) {
    let reading = Reading {
        usage: Some(expected),
        ..Reading::default()
    };
    write_down(
        gate,
        provider,
        expected,
        Provenance::Estimated,
        &reading,
        record,
    );
}

/// Work that can be fetched more than once is booked with its first whole answer: background responses, wherever their
/// end is seen, and the results of batches. Other answers were booked when they were asked for, so fetching them
/// again books nothing.
fn books_now(
    gate: &Gate,
    provider: &Provider,
    about: &About<'_>,
    reading: &Reading,
    record: &mut Record,
) -> bool {
    let id = match about.endpoint {
        Endpoint::BatchResults => about.fetched,
        _ if reading.background => reading.answer_id.as_deref(),
        Endpoint::ResponseFetch => None,
        _ => return true,
    };
    let Some(id) = id else { return false };
    if !reading.complete || reading.total().is_none() {
        return false;
    }
    let id = format!("{}:{id}", provider.settings.name);
    let first = gate.ledger.book_once(&id);
    if first {
        record.answer_id = Some(id);
    }
    first
}

fn write_down<'g>(
    gate: &'g Gate,
    provider: &Provider,
    usage: Usage,
    provenance: Provenance,
    reading: &Reading,
    record: &mut Record,
) -> Option<&'g str> {
    if reading.model.is_some() {
        record.model.clone_from(&reading.model);
    }
    record.service_tier.clone_from(&reading.service_tier);
    record.usage = usage;
    record.provenance = provenance;
    (record.cost, record.table_cost, record.cost_source) = (None, None, CostSource::None);
    record.flags.price_assumed = false;
    let catalogue = &provider.settings.catalogue;
    if provenance == Provenance::None {
        let model = record.model.as_deref().or(record.asked_to_serve())?;
        return gate
            .catalogue
            .resolve(catalogue, model)
            .map(|model| &*model.id);
    }
    let priced = pricing::price_reading(&gate.catalogue, &terms(provider, record), reading);
    record.cost = priced.cost();
    record.table_cost = priced.table.ok();
    record.cost_source = match (priced.stated, &priced.table) {
        (Some(_), _) => CostSource::Stated,
        (None, Ok(_)) => CostSource::Table,
        (None, Err(why)) => {
            let model = record.model.as_deref().or(record.asked_to_serve());
            gate.unknown_models
                .say_once(&record.provider, model.unwrap_or("(none)"), *why);
            record.cost = at_ceiling(gate, &usage);
            record.flags.price_assumed = record.cost.is_some();
            match record.cost {
                Some(_) => CostSource::Assumed,
                None => CostSource::Unknown,
            }
        }
    };
    priced.answer.model.map(|model| &*model.id)
}

/// What so much usage of the record's model costs by the table, or at the config's ceiling.
pub(super) fn cost_of(
    gate: &Gate,
    provider: &Provider,
    record: &Record,
    usage: &Usage,
) -> Option<Cost> {
    cost_at(gate, &terms(provider, record), usage)
}

/// What so much usage costs on these terms by the table, or at the config's ceiling.
pub(super) fn cost_at(gate: &Gate, terms: &Terms<'_>, usage: &Usage) -> Option<Cost> {
    let table = pricing::price(&gate.catalogue, terms, usage).cost.ok();
    table.or_else(|| at_ceiling(gate, usage))
}

/// What so much usage costs at the config's ceiling prices, if unknown prices are assumed to be those.
pub(super) fn at_ceiling(gate: &Gate, usage: &Usage) -> Option<Cost> {
    match gate.settings.throttle.unknown_price {
        UnknownPrice::Ceiling { input, output } => {
            Some(pricing::at_flat_prices(usage, input, output))
        }
        UnknownPrice::Allow | UnknownPrice::Refuse => None,
    }
}

fn terms<'a>(provider: &'a Provider, record: &'a Record) -> Terms<'a> {
    terms_of(provider, record.asked_to_serve(), record.id.unix_ms())
}

/// The terms on which a provider serves a model at a time, as far as they do not depend on the request.
pub(super) fn terms_of<'a>(
    provider: &'a Provider,
    model: Option<&'a str>,
    at_unix_ms: u64,
) -> Terms<'a> {
    Terms {
        provider: &provider.settings.catalogue,
        model: model.unwrap_or_default(),
        region: provider.settings.region.as_deref(),
        at_unix_ms,
        ..Terms::default()
    }
}
