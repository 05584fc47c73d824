//! With which lane, need and deadline a request lines up at its provider.

use std::sync::Arc;

use super::account::Account;
use super::ask::Estimate;
use super::authenticate::Credential;
use super::classify::Class;
use super::gate::Gate;
use super::identify::Caller;
use super::lanes::{LaneCell, LaneKey};
use super::parse::{Asked, Call};
use crate::llm::wire::{Billing, Dialect};
use crate::policy::lane::{Need, Who};
use crate::policy::limits::{self, ProviderFacts};
use crate::units::Priority;

/// How a request lines up.
#[derive(Debug)]
pub(super) struct Lineup {
    /// Its lane; `None` for what asks nothing of a model.
    pub(super) lane: Option<Arc<LaneCell>>,
    /// What it takes of the lane's limits.
    pub(super) need: Need,
    /// When its client will not wait any more for its turn, in Unix milliseconds.
    pub(super) deadline_ms: u64,
    priority: Priority,
    session: String,
    agent: String,
    /// Its answers always hold something.
    speaks: bool,
}

impl Lineup {
    pub(super) fn who(&self) -> Who<'_> {
        Who {
            priority: self.priority,
            session: &self.session,
            agent: &self.agent,
        }
    }

    /// Whether an answer of this status without a body is none.
    pub(super) const fn answers_with_something(&self, status: u16) -> bool {
        self.speaks && status == 200
    }
}

/// Decides how a request lines up.
pub(super) fn line_up(
    gate: &Gate,
    call: &Call,
    asked: &Asked<'_>,
    caller: &Caller,
    class: &Class,
    account: &Account,
) -> Lineup {
    let provider = &gate.providers[call.provider].settings;
    let model = asked
        .model
        .map(|model| gate.catalogue.one_name(&provider.catalogue, model))
        .unwrap_or_default();
    let lane = call.endpoint.asks_a_model().then(|| {
        let (rules, send) = (&gate.settings.limits, &gate.settings.send);
        let facts = ProviderFacts {
            name: &provider.name,
            catalogue: &provider.catalogue,
            dialect: provider.dialect,
            is_local: provider.is_local(),
        };
        let credential = match &call.credential {
            // tollgate's own key is one, whoever asks.
            Credential::Tollgate(_) => None,
            Credential::Providers(fingerprint) => fingerprint.as_deref(),
        };
        let key = LaneKey {
            provider: provider.name.clone(),
            credential: credential.unwrap_or_default().to_owned(),
            class: limits::class_of(rules, &facts, model),
        };
        let rules = || limits::lane_rules(rules, &facts, model, send.learn, send.max_waiting);
        gate.lanes.of(key, rules)
    });
    let Estimate { expected, .. } = *account.estimate();
    let counted = match provider.dialect {
        // Cache reads do not count towards its limits.
        Dialect::Anthropic => expected.input.saturating_sub(expected.cached_read),
        Dialect::OpenAi | Dialect::Gemini | Dialect::Ollama => expected.input,
    };
    let patience = gate.settings.send.deadline(class.priority);
    let left = patience.saturating_sub(account.arrived().elapsed());
    Lineup {
        lane,
        need: Need {
            input_tokens: counted,
            output_cap: asked.peek.and_then(|peek| peek.output_cap),
            expected_output: expected.output,
        },
        deadline_ms: gate
            .lanes
            .now_ms()
            .saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        priority: class.priority,
        session: caller.session.name.clone(),
        agent: caller.session.agent.clone().unwrap_or_default(),
        speaks: call.endpoint.billing() == Billing::ByTokens,
    }
}
