//! With which lane, need and deadline a request lines up at its provider.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::account::Account;
use super::case::{Case, Choice};
use super::lanes::{LaneCell, LaneKey};
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
    /// Its client reads server-sent events, so that it can be told that it waits.
    pub(super) reads_events: bool,
}

/// In which the SDKs that Stainless makes (Anthropic's, OpenAI's and others) say how many seconds they wait for an answer.
const CLIENT_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-timeout");

/// The share of its patience that a client may spend waiting for its turn; the rest is for the answer to begin.
const WAITING_SHARE: f64 = 0.9;

/// How long anybody waits for a turn at least, whatever came before.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// Longest patience that is believed.
const LONGEST_PATIENCE_SECONDS: f64 = 86_400.0;

/// How long a client waits for its turn by its own word; `None` where it does not say, or says what cannot be.
fn own_patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(CLIENT_TIMEOUT)?.to_str().ok()?.parse().ok()?;
    let holds = seconds > 0.0 && seconds <= LONGEST_PATIENCE_SECONDS;
    holds.then(|| Duration::from_secs_f64(seconds * WAITING_SHARE))
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
pub(super) fn line_up(case: &Case<'_>, choice: &Choice, account: &Account) -> Lineup {
    let Case {
        gate,
        call,
        asked,
        caller,
        class,
    } = *case;
    let provider = &gate.providers[choice.provider].settings;
    let one_name = |model| gate.catalogue.one_name(&provider.catalogue, model);
    let model = choice.model.as_deref().map(one_name).unwrap_or_default();
    let lane = call.endpoint.asks_a_model().then(|| {
        let (rules, send) = (&gate.settings.limits, &gate.settings.send);
        let facts = ProviderFacts {
            name: &provider.name,
            catalogue: &provider.catalogue,
            dialect: provider.dialect,
            is_local: provider.is_local(),
        };
        let key = LaneKey {
            provider: provider.name.clone(),
            credential: case.key_shown_to(choice.provider).to_owned(),
            class: limits::class_of(rules, &facts, model),
        };
        let rules = || limits::lane_rules(rules, &facts, model, send.learn, send.max_waiting);
        gate.lanes.of(key, rules)
    });
    let expected = *account.expected();
    let counted = match provider.dialect {
        // Cache reads do not count towards its limits.
        Dialect::Anthropic => expected.input.saturating_sub(expected.cached_read),
        Dialect::OpenAi | Dialect::Gemini | Dialect::Ollama => expected.input,
    };
    let reads_events = case.reads_events();
    let patience = gate.settings.send.deadline(class.priority);
    // Who hears comments meanwhile does not give up for want of an answer.
    let own =
        own_patience(&call.parts.headers).filter(|_| !(reads_events && account.can_keep_company()));
    let patience = own.map_or(patience, |own| own.min(patience));
    let left = patience.saturating_sub(account.arrived().elapsed());
    // Whoever has spent it on the way here still gets a turn that is free.
    let left = left.max(LEAST_PATIENCE);
    // Where another model may serve, some patience must be left for the one that was asked for.
    let left = match choice.why {
        Some(_) => left / 2,
        None => left,
    };
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
        reads_events,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_own_patience_is_believed_where_it_can_be_true() {
        let patience = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CLIENT_TIMEOUT, http::HeaderValue::from_static(text));
            own_patience(&headers)
        };
        assert_eq!(patience("600"), Some(Duration::from_secs(540)));
        assert_eq!(patience("0.5"), Some(Duration::from_millis(450)));
        for odd in ["", "0", "-1", "NaN", "inf", "1e300", "soon", "99999999"] {
            assert_eq!(patience(odd), None, "{odd}");
        }
        assert_eq!(own_patience(&HeaderMap::new()), None);
    }
}
