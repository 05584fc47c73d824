//! Second step: who asks. The order of trust is `policy::session`'s; this step hands it the request and writes the
//! result down.

use super::account::Account;
use super::parse::Call;
use crate::policy::session::{self, Caller};
use crate::refusal::Refusal;

/// Finds out who asks.
pub(super) fn identify(call: &Call, account: &mut Account) -> Result<Caller, Refusal> {
    let caller = session::identify(&call.parts.headers, call.parts.uri.query(), call.tag.as_ref(), &call.peek)
        .map_err(|problem| Refusal::BadTag(problem.to_string()))?;
    let record = account.record_mut();
    record.session.clone_from(&caller.session);
    record.agent.clone_from(&caller.agent);
    record.key.clone_from(&caller.key);
    record.phase.clone_from(&caller.phase);
    record.depth = caller.depth;
    Ok(caller)
}
