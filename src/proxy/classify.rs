//! Third step: how urgent the request is and what kind of work it asks for.

use std::time::Instant;

use super::account::Account;
use super::gate::Gate;
use super::parse::Call;
use crate::policy::priority;
use crate::policy::session::Caller;
use crate::policy::task;
use crate::refusal::Refusal;
use crate::units::Priority;

/// What a request counts as.
#[derive(Debug)]
pub(super) struct Class {
    /// How urgent it is.
    pub(super) priority: Priority,
    /// What kind of work it is, where that could be told.
    pub(super) task: Option<String>,
}

/// Classifies a request.
pub(super) fn classify(gate: &Gate, call: &Call, caller: &Caller, account: &mut Account) -> Result<Class, Refusal> {
    let started = Instant::now();
    let headers = &call.parts.headers;
    let task = task::of(headers, &call.peek, &gate.settings.tasks).map_err(|p| Refusal::BadTag(p.to_string()))?;
    let about = priority::About {
        session: &caller.session,
        agent: caller.agent.as_deref(),
        user_agent: headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()),
        provider: &gate.providers[call.provider].settings.name,
        model: call.peek.model.as_deref(),
        task: task.as_deref(),
        key: caller.key.as_deref(),
    };
    let priority = priority::of(headers, call.tag.as_ref(), None, &gate.settings.priorities, &about)
        .map_err(|p| Refusal::BadTag(p.to_string()))?;
    let record = account.record_mut();
    record.priority = priority;
    record.task.clone_from(&task);
    account.add_own_time(started);
    Ok(Class { priority, task })
}
