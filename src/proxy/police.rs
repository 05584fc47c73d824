//! The first part of admission: what the caller's tier, team and key allow at all. The rules are
//! `policy::rules`', the rates `policy::rates`'; this step hands them the request.
//!
//! Rules are checked before rates, so that a request which is forbidden anyway does not count as one.

use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, header};

use super::account::Account;
use super::case::Case;
use super::gate::Gate;
use super::identify::Caller;
use super::parse::{Asked, Call};
use super::upgrade;
use crate::config::settings::ThrottleMode;
use crate::llm::estimate;
use crate::llm::request::{Form, Peek};
use crate::llm::wire::Endpoint;
use crate::policy::rates;
use crate::policy::rules::{
    self, Applied, BodyFacts, Holder, ModelFacts, OutputFacts, PolicyFacts, Violation,
};
use crate::refusal::Refusal;

/// The counted requests of every subject.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<rates::Rates>);

/// Refuses what the caller's policies forbid.
///
/// # Errors
///
/// The first rule that the request violates, in mode `on`. In the other modes nothing is refused.
pub(super) fn police(
    gate: &Gate,
    call: &Call,
    asked: &Asked<'_>,
    caller: &Caller,
    account: &mut Account,
) -> Result<(), Refusal> {
    let mode = gate.settings.throttle.mode;
    if mode == ThrottleMode::Off {
        return Ok(());
    }
    match judge(gate, call, asked, caller, account.record().depth) {
        Ok(()) => Ok(()),
        Err(Violation { rule, message }) if mode == ThrottleMode::On => {
            Err(Refusal::PolicyViolation { rule, message })
        }
        Err(Violation { rule, .. }) => {
            account.would_violate(rule);
            Ok(())
        }
    }
}

/// Decides, whatever becomes of it.
fn judge(
    gate: &Gate,
    call: &Call,
    asked: &Asked<'_>,
    caller: &Caller,
    depth: Option<u32>,
) -> Result<(), Violation> {
    let held = policies(gate, caller);
    let policies: &[Applied<'_>] = match &held {
        [None, None, None] => return Ok(()),
        _ => &held.into_iter().flatten().collect::<Vec<_>>(),
    };
    let facts = PolicyFacts {
        depth,
        model: call
            .endpoint
            .asks_a_model()
            .then(|| model_facts(gate, call.provider, call, asked)),
        unseen: call.endpoint == Endpoint::Other && sends_something(call),
    };
    rules::check(policies, &facts)?;
    let now_ms = gate.clock.unix_ms();
    let passed = {
        let mut rates = gate.rates.0.lock().unwrap_or_else(PoisonError::into_inner);
        rates.pass(policies, caller.key.as_deref(), now_ms)
    };
    passed.or_else(|found| found.violation(policies).map_or(Ok(()), Err))
}

/// What forbids a request, if anything does. It does not count towards any rate.
pub(super) fn forbids(case: &Case<'_>, depth: Option<u32>) -> Option<String> {
    if case.gate.settings.throttle.mode != ThrottleMode::On {
        return None;
    }
    let held = policies(case.gate, case.caller);
    let policies: Vec<Applied<'_>> = held.into_iter().flatten().collect();
    let facts = PolicyFacts {
        depth,
        model: Some(model_facts(
            case.gate,
            case.call.provider,
            case.call,
            case.asked,
        )),
        unseen: false,
    };
    let violation = rules::check(&policies, &facts).err()?;
    Some(format!("{} (rule {})", violation.message, violation.rule))
}

/// Whether the caller's policies allow another model in the place of the one that was asked for, which they have allowed.
pub(super) fn allows(case: &Case<'_>, provider: usize, model: &str, depth: Option<u32>) -> bool {
    let held = policies(case.gate, case.caller);
    if let [None, None, None] = held {
        return true;
    }
    let policies: Vec<Applied<'_>> = held.into_iter().flatten().collect();
    let asked = Asked {
        model: Some(model),
        ..*case.asked
    };
    let facts = PolicyFacts {
        depth,
        model: Some(model_facts(case.gate, provider, case.call, &asked)),
        unseen: false,
    };
    rules::check(&policies, &facts).is_ok()
}

/// Whether a request sends something to its provider, in its body or over a WebSocket, instead of only looking or removing.
fn sends_something(call: &Call) -> bool {
    let looks = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE];
    !looks.contains(&call.parts.method) || upgrade::is_wanted(&call.parts)
}

/// The policies of the caller's tier, team and key.
fn policies<'a>(gate: &'a Gate, caller: &'a Caller) -> [Option<Applied<'a>>; 3] {
    let settings = &gate.settings;
    let applied = |holder, name, policy| Applied {
        holder,
        name,
        policy,
    };
    let tier = caller.tier.as_deref().and_then(|name| {
        let policy = settings.tiers.get(name)?;
        Some(applied(Holder::Tier, name, policy))
    });
    let team = caller.team.as_deref().and_then(|name| {
        let team = settings.teams.get(name)?;
        Some(applied(Holder::Team, name, &team.policy))
    });
    let key = caller.key.as_deref().and_then(|name| {
        let policy = settings.keys.get(name)?;
        Some(applied(Holder::Key, name, policy))
    });
    [tier, team, key]
}

/// The field in which an endpoint's requests cap their output; `None` where the answer is not counted in output tokens.
const fn output_field(endpoint: Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint::Messages | Endpoint::Completions => Some("max_tokens"),
        Endpoint::ChatCompletions => Some("max_completion_tokens"),
        Endpoint::Responses => Some("max_output_tokens"),
        Endpoint::GenerateContent => Some("generationConfig.maxOutputTokens"),
        Endpoint::OllamaChat | Endpoint::OllamaGenerate => Some("options.num_predict"),
        Endpoint::Embeddings
        | Endpoint::Images
        | Endpoint::Audio
        | Endpoint::EmbedContent
        | Endpoint::OllamaEmbed
        | Endpoint::CountTokens
        | Endpoint::GeminiCountTokens
        | Endpoint::BatchResults
        | Endpoint::ResponseFetch
        | Endpoint::Other => None,
    }
}

fn model_facts<'a>(gate: &Gate, provider: usize, call: &Call, asked: &Asked<'a>) -> ModelFacts<'a> {
    let readable = |peek: &&Peek<'_>| peek.form.is_none_or(|form| is_as_declared(form, call));
    let body = asked.peek.filter(readable);
    let known_by_path = asked.peek.is_none();
    ModelFacts {
        // A form that may be taken apart in another way may name another model.
        name: asked.model.filter(|_| known_by_path || body.is_some()),
        body: body.map(|peek| BodyFacts {
            prompt_tokens: (!peek.hidden_context).then(|| estimate::input_tokens(&peek.prompt)),
            output: output_field(call.endpoint).map(|field| OutputFacts {
                cap: peek.output_cap,
                choices: peek.choices,
                model_most: model_most(gate, provider, asked.model, peek),
                field,
            }),
            tools: &peek.declared,
            hidden_tools: peek.hidden_tools,
            other_models: &peek.other_models,
        }),
    }
}

/// The most that the model can write, where the request states no cap and the catalogue knows.
fn model_most(gate: &Gate, provider: usize, model: Option<&str>, peek: &Peek<'_>) -> Option<u64> {
    let catalogue = &gate.providers[provider].settings.catalogue;
    let model = model.filter(|_| peek.output_cap.is_none())?;
    let most = gate.catalogue.resolve(catalogue, model)?.max_output_tokens;
    most.filter(|most| *most > 0).map(u64::from)
}

/// Whether a form was taken apart as its content type says.
fn is_as_declared(form: Form<'_>, call: &Call) -> bool {
    form.plain && declared_boundary(&call.parts.headers) == Some(form.boundary)
}

/// The boundary that the content type names, if it is named in the plain way and once.
fn declared_boundary(headers: &HeaderMap) -> Option<&[u8]> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (only, None) = (types.next()?, types.next()) else {
        return None;
    };
    let mut parameters = only.to_str().ok()?.split(';').skip(1);
    let boundary = |parameter: &'_ str| -> Option<usize> {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then_some(value.len())
    };
    let (parameter, length) = parameters.find_map(|text| Some((text, boundary(text)?)))?;
    if parameters.any(|text| boundary(text).is_some()) {
        return None;
    }
    let value = parameter.trim();
    let value = value[value.len() - length..].trim();
    let value = value
        .strip_prefix('"')
        .map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    Some(value.as_bytes())
}
