//! Fourth step: what the request may cost, whether its budgets have room for it now, and its place in the ledger.
//!
//! What is expected of the request is reserved on all of its budgets at once, or on none. Low priority may have to wait
//! in line for that; everybody else passes or is refused at once. Only then is the request written into the journal.

use std::sync::Arc;
use std::time::Instant;

use super::account::Account;
use super::book;
use super::classify::Class;
use super::gate::Gate;
use super::identify::Caller;
use super::line;
use super::parse::{Asked, Call, CallBody};
use super::throttle::{self, Reservation, Wish};
use crate::config::settings::{ThrottleMode, UnknownPrice};
use crate::llm::estimate;
use crate::llm::pricing::{self, Terms};
use crate::llm::usage::Usage;
use crate::llm::wire::{Billing, Endpoint};
use crate::policy::budget::{Amounts, Scopes};
use crate::policy::budgets::Ask;
use crate::policy::throttle::Verdict;
use crate::refusal::Refusal;
use crate::store::record::CostSource;
use crate::units::{Cost, Priority};

/// What a request is taken to use before it is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Estimate {
    /// Input tokens as the prompt's size alone says; what is learned is learned against this.
    pub(super) input_by_size: u64,
    /// What is expected, as learned.
    pub(super) expected: Usage,
    /// More than it can possibly use.
    pub(super) worst: Usage,
}

/// Estimates the request, gets room for it, and writes it into the journal.
///
/// # Errors
/// A budget has no room, the model's price is unknown and must not be, or the ledger cannot be written.
pub(super) async fn admit(
    gate: &Arc<Gate>,
    call: &Call,
    asked: &Asked<'_>,
    caller: &Caller,
    class: &Class,
    account: &mut Account,
) -> Result<(), Refusal> {
    let estimate = estimate(gate, call, asked, caller);
    account.expects(&estimate);
    if gate.throttle.mode != ThrottleMode::Off {
        let provider = &gate.providers[call.provider].settings;
        let wish = Wish {
            scopes: Scopes {
                session: &caller.session.name,
                key: caller.key.as_deref(),
                team: caller.team.as_deref(),
                provider: &provider.name,
                model: asked
                    .model
                    .map(|model| gate.catalogue.one_name(&provider.catalogue, model)),
            },
            ask: ask(gate, call, asked, &estimate, account)?,
            priority: class.priority,
        };
        let reservation = room(gate, &wish, reads_events(call, asked), account).await?;
        account.holds(reservation, wish.ask);
    }
    account.journal()
}

/// Gets room on all budgets, waiting in line where that is the rule.
async fn room(
    gate: &Arc<Gate>,
    wish: &Wish<'_>,
    reads_events: bool,
    account: &mut Account,
) -> Result<Reservation, Refusal> {
    let tried = gate.throttle.try_now(gate, wish).await?;
    let (level, waits) = match &tried {
        Ok(reservation) => {
            let others_wait = wish.priority == Priority::Low && gate.throttle.line.len() > 0;
            (reservation.level, others_wait)
        }
        Err(denied) => (denied.level, denied.verdict == Verdict::Wait),
    };
    let told = |decision| gate.metrics.admission(wish.priority, level, decision);
    match tried {
        Err(denied) if gate.throttle.mode == ThrottleMode::Shadow => {
            told("shadow");
            gate.throttle.overrule(gate, wish, denied).await
        }
        tried if waits => {
            told("wait");
            account.waits(level, reads_events);
            let started = Instant::now();
            let waited = line::wait(gate, wish, tried).await;
            account.has_waited(started.elapsed());
            gate.metrics
                .waited(wish.priority, started.elapsed(), waited.is_ok());
            waited
        }
        Ok(reservation) => {
            told("pass");
            Ok(reservation)
        }
        Err(denied) => {
            told("refuse");
            Err(throttle::refusal(gate, &denied, wish.priority, None, false))
        }
    }
}

/// Whether the client has asked for server-sent events.
fn reads_events(call: &Call, asked: &Asked<'_>) -> bool {
    asked.stream
        && match call.endpoint {
            Endpoint::Messages
            | Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Completions => true,
            // Without it Gemini streams one JSON array, in which a comment has no place.
            Endpoint::GenerateContent => call.target.contains("alt=sse"),
            _ => false,
        }
}

/// What the request is taken to use.
fn estimate(gate: &Gate, call: &Call, asked: &Asked<'_>, caller: &Caller) -> Estimate {
    if call.endpoint.billing() != Billing::ByTokens {
        return Estimate::default();
    }
    let body_bytes = match &call.body {
        CallBody::Kept(bytes) => bytes.len() as u64,
        CallBody::Passing(_) => 0,
    };
    let input_by_size = match asked.peek {
        Some(peek) => estimate::input_tokens(&peek.prompt),
        None => estimate::input_tokens_of_bytes(body_bytes),
    };
    let provider = &gate.providers[call.provider].settings.catalogue;
    let known = asked
        .model
        .and_then(|model| gate.catalogue.resolve(provider, model));
    let model = known.map_or(asked.model.unwrap_or_default(), |known| &known.id);
    let learned = gate.throttle.expect(
        model,
        caller.key.as_deref().unwrap_or_default(),
        input_by_size,
    );
    let writes = !matches!(
        call.endpoint,
        Endpoint::Embeddings | Endpoint::EmbedContent | Endpoint::OllamaEmbed
    );
    let cap = asked.peek.and_then(|peek| peek.output_cap);
    let choices = asked.peek.map_or(1, |peek| peek.choices);
    let written = |tokens: u64| if writes { tokens } else { 0 };
    let tokens = |count: Option<u32>| count.map(u64::from);
    let window = known.and_then(|known| tokens(known.max_input_tokens.or(known.context_window)));
    let unread = estimate::PromptSize::default();
    let (prompt, hidden) = match asked.peek {
        Some(peek) => (&peek.prompt, peek.hidden_context),
        None => (&unread, false),
    };
    Estimate {
        input_by_size,
        expected: Usage {
            output: written(estimate::expected_output(cap, choices, learned.output)),
            ..learned
        },
        worst: Usage {
            input: estimate::worst_case_input(prompt, call.plain_bytes(), hidden, window),
            output: written(estimate::worst_case_output(
                cap,
                choices,
                known.and_then(|known| tokens(known.max_output_tokens)),
            )),
            ..Usage::default()
        },
    }
}

/// What the request asks of its budgets.
///
/// # Errors
/// Its price is unknown, and the config says to refuse then.
fn ask(
    gate: &Gate,
    call: &Call,
    asked: &Asked<'_>,
    estimate: &Estimate,
    account: &mut Account,
) -> Result<Ask, Refusal> {
    if call.endpoint.billing() != Billing::ByTokens {
        let one = Amounts::of_request(&Usage::default(), Cost::ZERO);
        return Ok(Ask {
            expected: one,
            worst: one,
        });
    }
    let record = account.record();
    let expected = record.cost;
    let model = record.requested_model.as_deref().unwrap_or_default();
    if record.cost_source == CostSource::Unknown {
        match gate.settings.throttle.unknown_price {
            UnknownPrice::Refuse => {
                return Err(Refusal::UnknownPrice {
                    model: model.to_owned(),
                });
            }
            UnknownPrice::Allow => account.record_mut().flags.price_unknown = true,
            // The ceiling is booked like a price of the table, so it stands in the record already.
            UnknownPrice::Ceiling { .. } => {}
        }
    }
    let provider = &gate.providers[call.provider].settings;
    let record = account.record();
    let terms = Terms {
        provider: &provider.catalogue,
        model: record.requested_model.as_deref().unwrap_or_default(),
        region: provider.region.as_deref(),
        service_tier: asked.peek.and_then(|peek| peek.service_tier.as_deref()),
        at_unix_ms: record.id.unix_ms(),
        ..Terms::default()
    };
    let media = asked.peek.is_some_and(|peek| {
        peek.prompt.images + peek.prompt.documents + peek.prompt.recordings > 0
    });
    let Usage { input, output, .. } = estimate.worst;
    let most = pricing::price_at_most(&gate.catalogue, &terms, input, output, media)
        .ok()
        .or_else(|| book::at_ceiling(gate, &estimate.worst))
        .unwrap_or_default();
    let expected = Amounts::of_request(&estimate.expected, expected.unwrap_or_default());
    Ok(Ask {
        // Never less than what is expected, whatever the table says.
        worst: Amounts::of_request(&estimate.worst, most).max(&expected),
        expected,
    })
}
