//! Fourth step: what the request may cost, and its place in the ledger. Every request that the ledger can hold is
//! admitted.

use super::account::Account;
use super::parse::{Asked, Call, CallBody};
use crate::llm::estimate;
use crate::llm::usage::Usage;
use crate::llm::wire::{Billing, Endpoint};
use crate::refusal::Refusal;

/// Estimates the request and writes it into the journal.
pub(super) fn admit(call: &Call, asked: &Asked<'_>, account: &mut Account) -> Result<(), Refusal> {
    let expected = match call.endpoint.billing() {
        Billing::ByTokens => expected(call, asked),
        Billing::WhereStated | Billing::Free => Usage::default(),
    };
    account.admit(expected)
}

fn expected(call: &Call, asked: &Asked<'_>) -> Usage {
    let input = match (asked.peek, &call.body) {
        (Some(peek), _) => estimate::input_tokens(&peek.prompt),
        (None, CallBody::Kept(bytes)) => estimate::input_tokens_of_bytes(bytes.len() as u64),
        (None, CallBody::Passing(_)) => 0,
    };
    let writes = !matches!(
        call.endpoint,
        Endpoint::Embeddings | Endpoint::EmbedContent | Endpoint::OllamaEmbed
    );
    let cap = asked.peek.and_then(|peek| peek.output_cap);
    let choices = asked.peek.map_or(1, |peek| peek.choices);
    let output = if writes {
        estimate::expected_output(cap, choices, estimate::USUAL_OUTPUT)
    } else {
        0
    };
    Usage {
        input,
        output,
        ..Usage::default()
    }
}
