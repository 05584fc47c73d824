//! Fourth step: what the request may cost, and its place in the ledger. Budgets will decide here; today every request
//! that the ledger can hold is admitted.

use std::time::Instant;

use super::account::Account;
use super::gate::Gate;
use super::parse::Call;
use crate::llm::estimate;
use crate::llm::wire::Billing;
use crate::refusal::Refusal;
use crate::llm::usage::Usage;

/// Estimates the request and writes it into the journal.
pub(super) fn admit(_gate: &Gate, call: &Call, account: &mut Account) -> Result<(), Refusal> {
    let started = Instant::now();
    let expected = match call.endpoint.billing() {
        Billing::ByTokens => estimate::expected(&call.peek, call.endpoint),
        Billing::WhereStated | Billing::Free => Usage::default(),
    };
    account.admit(expected)?;
    account.add_own_time(started);
    Ok(())
}
