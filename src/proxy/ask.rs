//! What a request asks of its budgets: what it is expected to use, for ordinary ones, and the most that it can use, for
//! hard ones. Prompts are measured and prices looked up by `llm`; what past requests used is `policy::learned`'s.
//!
//! A price that is not known is not zero: such a request asks for the smallest amount of money, so that budgets in money
//! bind it by their level. Where the most cannot be told at all, a hard budget lets nothing pass.

use http::Method;

use super::account::Account;
use super::book;
use super::case::{Case, Choice};
use super::gate::Gate;
use super::parse::{Asked, Call, CallBody};
use crate::config::settings::{ThrottleMode, UnknownPrice};
use crate::llm::estimate;
use crate::llm::pricing::{self, Terms};
use crate::llm::usage::Usage;
use crate::llm::wire::{Billing, Endpoint};
use crate::policy::budget::{Amounts, Limit, Scopes};
use crate::policy::budgets::Ask;
use crate::refusal::Refusal;
use crate::units::Cost;

/// What a request asks whose price is not known, in atto-dollars.
const UNKNOWN_ATTOS: i128 = 1;

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

/// Whether an endpoint's answers may cost tokens, so that they are reserved.
const fn costs_tokens(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Images | Endpoint::Audio)
        || matches!(endpoint.billing(), Billing::ByTokens)
}

/// What the request is taken to use if this is chosen.
pub(super) fn estimate(case: &Case<'_>, choice: &Choice) -> Estimate {
    let Case {
        gate,
        call,
        asked,
        caller,
        ..
    } = *case;
    let endpoint = call.endpoint;
    if !costs_tokens(endpoint) {
        return Estimate::default();
    }
    let body_bytes = match &call.body {
        CallBody::Kept(bytes) => bytes.len() as u64,
        CallBody::Passing => 0,
    };
    let input_by_size = match asked.peek {
        Some(peek) => estimate::input_tokens(&peek.prompt),
        None => estimate::input_tokens_of_bytes(body_bytes),
    };
    let provider = &gate.providers[choice.provider].settings.catalogue;
    let model = choice.model.as_deref();
    let known = model.and_then(|model| gate.catalogue.resolve(provider, model));
    let model = known.map_or(model.unwrap_or_default(), |known| &known.id);
    let key = caller.key.as_deref().unwrap_or_default();
    let learned = gate.throttle.expect(model, key, input_by_size);

    let written = |tokens: u64| if writes(endpoint) { tokens } else { 0 };
    let cap = asked.peek.and_then(|peek| peek.output_cap);
    let (choices, most_choices) = match asked.peek {
        Some(peek) => (peek.choices, peek.choices),
        None if gives_choices(endpoint) => (1, estimate::MOST_CHOICES),
        None => (1, 1),
    };
    let tokens = |count: Option<u32>| count.map(u64::from);
    let window = known
        .filter(|_| !takes_prompts(endpoint))
        .and_then(|known| tokens(known.max_input_tokens.or(known.context_window)));
    let most_output = match endpoint {
        Endpoint::Images => Some(estimate::IMAGE_OUTPUT_AT_MOST),
        _ => known.and_then(|known| tokens(known.max_output_tokens)),
    };
    let unread = estimate::PromptSize::default();
    let (prompt, hidden) = match asked.peek {
        Some(peek) => (&peek.prompt, peek.hidden_input),
        None => (&unread, true),
    };
    Estimate {
        input_by_size,
        expected: Usage {
            output: written(estimate::expected_output(cap, choices, learned.output)),
            ..learned
        },
        worst: Usage {
            input: estimate::worst_case_input(prompt, call.plain_bytes(), hidden, window),
            output: written(estimate::worst_case_output(cap, most_choices, most_output)),
            ..Usage::default()
        },
    }
}

/// Whether its answers have output tokens.
const fn writes(endpoint: Endpoint) -> bool {
    !matches!(
        endpoint,
        Endpoint::Embeddings | Endpoint::EmbedContent | Endpoint::OllamaEmbed
    )
}

/// Whether one request may hold several prompts, each with a context window of its own.
const fn takes_prompts(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Embeddings
            | Endpoint::EmbedContent
            | Endpoint::OllamaEmbed
            | Endpoint::Completions
    )
}

/// Whether a request may ask for several answers.
const fn gives_choices(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::GenerateContent
    )
}

/// What the request asks of its budgets.
///
/// # Errors
/// Its price is unknown, and the config says to refuse then; or a hard budget applies, and the most that the request will
/// use cannot be told. Not in mode `shadow`.
pub(super) fn ask(
    case: &Case<'_>,
    choice: &Choice,
    estimate: &Estimate,
    scopes: &Scopes<'_>,
    account: &mut Account,
) -> Result<Ask, Refusal> {
    let Case {
        gate, call, asked, ..
    } = *case;
    if let Some(refusal) = billed_later(gate, call, asked, scopes) {
        unless_shadow(gate, refusal, account)?;
    }
    if !call.endpoint.asks_a_model() {
        // It takes nothing of any budget, so none stands in its way.
        return Ok(Ask::default());
    }
    if !costs_tokens(call.endpoint) {
        let one = Amounts::of_request(&Usage::default(), Cost::ZERO);
        return Ok(Ask {
            expected: one,
            worst: one,
        });
    }
    let provider = &gate.providers[choice.provider];
    let at_unix_ms = account.record().id.unix_ms();
    let terms = book::terms_of(provider, choice.model.as_deref(), at_unix_ms);
    let expected = book::cost_at(gate, &terms, &estimate.expected);
    let most = most(case, choice, estimate, at_unix_ms)
        .or_else(|| book::at_ceiling(gate, &estimate.worst));
    // Who was asked before may have had none.
    account.record_mut().flags.price_unknown = false;
    if expected.is_none() || most.is_none() {
        unknown_price(gate, choice, scopes, expected, account)?;
    }
    let some = Cost::from_attos(UNKNOWN_ATTOS);
    let expected = Amounts::of_request(&estimate.expected, expected.unwrap_or(some));
    let most = Amounts::of_request(&estimate.worst, most.unwrap_or(some));
    Ok(Ask {
        // Never less than what is expected, whatever the table says.
        worst: most.max(&expected),
        expected,
    })
}

/// What the request is expected to take, whatever is known of its price.
pub(super) fn simple(
    case: &Case<'_>,
    choice: &Choice,
    estimate: &Estimate,
    at_unix_ms: u64,
) -> Ask {
    let provider = &case.gate.providers[choice.provider];
    let terms = book::terms_of(provider, choice.model.as_deref(), at_unix_ms);
    let cost = book::cost_at(case.gate, &terms, &estimate.expected);
    let cost = cost.unwrap_or(Cost::from_attos(UNKNOWN_ATTOS));
    let expected = Amounts::of_request(&estimate.expected, cost);
    Ask {
        expected,
        worst: expected,
    }
}

/// The most that the request can cost, by the table.
fn most(case: &Case<'_>, choice: &Choice, estimate: &Estimate, at_unix_ms: u64) -> Option<Cost> {
    let Case {
        gate, call, asked, ..
    } = *case;
    let provider = &gate.providers[choice.provider].settings;
    let peek = asked.peek;
    let terms = Terms {
        provider: &provider.catalogue,
        model: choice.model.as_deref().unwrap_or_default(),
        region: peek
            .and_then(|peek| peek.region.as_deref())
            .or(provider.region.as_deref()),
        service_tier: peek.and_then(|peek| peek.service_tier.as_deref()),
        speed: peek.and_then(|peek| peek.speed.as_deref()),
        at_unix_ms,
    };
    let media = peek.is_none_or(|peek| {
        let prompt = &peek.prompt;
        peek.hidden_input || prompt.images + prompt.documents + prompt.recordings > 0
    }) || call.endpoint == Endpoint::Audio;
    let others = peek.map_or(&[][..], |peek| &peek.other_models);
    let others = others.iter().map(|name| &**name);
    let Usage { input, output, .. } = estimate.worst;
    pricing::price_at_most(&gate.catalogue, &terms, others, input, output, media).ok()
}

/// Decides about a request whose price is not known, or that of a model which may come to serve it.
fn unknown_price(
    gate: &Gate,
    choice: &Choice,
    scopes: &Scopes<'_>,
    expected: Option<Cost>,
    account: &mut Account,
) -> Result<(), Refusal> {
    let model = choice.model.clone().unwrap_or_default();
    match gate.settings.throttle.unknown_price {
        // The ceiling is booked like a price of the table.
        UnknownPrice::Ceiling { .. } => {
            return Ok(());
        }
        UnknownPrice::Refuse => {
            return unless_shadow(gate, Refusal::UnknownPrice { model }, account);
        }
        UnknownPrice::Allow => {}
    }
    account.record_mut().flags.price_unknown = expected.is_none();
    let in_money = |limit: &Limit| matches!(limit, Limit::Usd(_));
    let Some(budget) = hard(gate, scopes, in_money) else {
        return Ok(());
    };
    let why = format!(
        "the price of {model} (or of a model to fall back to) is not known; state it under [[models]], or set \
         throttle.unknown_price = \"ceiling\""
    );
    unless_shadow(gate, Refusal::Unbounded { budget, why }, account)
}

/// Refuses work whose cost is told, and booked, only when its result is fetched, where a hard budget applies: by then it is
/// spent.
fn billed_later(
    gate: &Gate,
    call: &Call,
    asked: &Asked<'_>,
    scopes: &Scopes<'_>,
) -> Option<Refusal> {
    let why = if asked.peek.is_some_and(|peek| peek.background) {
        "what work in the background costs is known only when it is fetched; send it without \"background\""
    } else if call.parts.method == Method::POST && makes_batch(&call.target) {
        "what a batch costs is known only when its results are fetched; send its requests one by one"
    } else {
        return None;
    };
    let spends = |limit: &Limit| !matches!(limit, Limit::Requests(_));
    let budget = hard(gate, scopes, spends)?;
    let why = why.to_owned();
    Some(Refusal::Unbounded { budget, why })
}

/// Whether a path is one at which batches are made (Anthropic, OpenAI, Gemini).
fn makes_batch(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    let path = path.trim_end_matches('/');
    path.ends_with("/batches")
        || path.ends_with(":batchGenerateContent")
        || path.ends_with(":asyncBatchEmbedContent")
}

/// The first hard budget of the request with such a limit.
fn hard(gate: &Gate, scopes: &Scopes<'_>, of: impl Fn(&Limit) -> bool) -> Option<String> {
    let budgets = gate.settings.budgets.iter();
    let mut hard = budgets.filter(|budget| budget.hard && of(&budget.limit));
    let budget = hard.find(|budget| budget.applies_to(scopes))?;
    Some(budget.name.clone())
}

fn unless_shadow(gate: &Gate, refusal: Refusal, account: &mut Account) -> Result<(), Refusal> {
    if gate.throttle.mode == ThrottleMode::On {
        return Err(refusal);
    }
    let record = account.record_mut();
    record.flags.shadow = true;
    let by = match refusal {
        Refusal::Unbounded { budget, .. } => budget,
        _ => "throttle.unknown_price".to_owned(),
    };
    record.decided_by.get_or_insert(by);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_told_by_their_paths() {
        for path in [
            "/v1/messages/batches",
            "/v1/batches/?beta=true",
            "/v1beta/models/gemini-3-flash:batchGenerateContent",
        ] {
            assert!(makes_batch(path), "{path}");
        }
        for path in [
            "/v1/messages",
            "/v1/messages/batches/msgbatch_1/cancel",
            "/v1/files?a=/batches",
        ] {
            assert!(!makes_batch(path), "{path}");
        }
    }
}
