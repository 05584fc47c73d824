//! Third step: how urgent the request is and what kind of work it asks for.

use super::account::Account;
use super::gate::Gate;
use super::identify::{Caller, bad_tag};
use super::parse::{Asked, Call};
use crate::policy::priority::{self, Facts};
use crate::policy::task::TaskFacts;
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
pub(super) fn classify(
    gate: &Gate,
    call: &Call,
    asked: &Asked<'_>,
    caller: &Caller,
    account: &mut Account,
) -> Result<Class, Refusal> {
    let headers = &call.parts.headers;
    let agent = caller.session.agent.as_deref();
    let user_agent = headers
        .get(http::header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let told = TaskFacts {
        agent,
        user_agent,
        ..asked
            .peek
            .map_or_else(TaskFacts::default, |peek| TaskFacts {
                text: peek.newest_user_text.as_deref(),
                side_request: peek.side_request,
                tools: peek.tools > 0 || peek.hidden_tools,
                images: peek.prompt.images > 0,
                thinking: peek.thinking,
                ..TaskFacts::default()
            })
    };
    let task = gate
        .tasks_by_words
        .decide(headers, &told)
        .map_err(bad_tag)?;
    let facts = Facts {
        session: Some(&caller.session.name),
        agent,
        user_agent,
        provider: Some(&gate.providers[call.provider].settings.name),
        model: asked.model,
        task: task.name,
        key: caller.key.as_deref(),
    };
    let settings = &gate.settings;
    let by_default = caller.priority.or_else(|| {
        let mut policies = caller.policies(settings);
        policies.find_map(|policy| policy.priority)
    });
    let rules = &settings.classify.priority_rules;
    let (priority, _) =
        priority::decide(headers, call.tag_priority, by_default, rules, &facts).map_err(bad_tag)?;
    let caps = caller.policies(settings).map(|policy| policy.max_priority);
    let asked_for = priority;
    let (priority, capped) = priority::capped(priority, caps.chain([caller.max_priority]));
    if capped {
        account.is_capped(asked_for);
    }
    let class = Class {
        priority,
        task: task.name.map(str::to_owned),
    };
    let record = account.record_mut();
    record.priority = class.priority;
    record.task.clone_from(&class.task);
    Ok(class)
}
