//! What would happen to a request now, and why: `tollgate route` and `POST /api/v1/route`.
//!
//! The request goes through the same steps as a real one, up to the point where it would be sent: what they say of it
//! cannot differ from what they do. Nothing is reserved beyond the look, nothing is counted, nothing is written down.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account::Account;
use super::authenticate::Credential;
use super::case::{Case, Choice};
use super::choose::{self, Weighed};
use super::gate::Gate;
use super::{admit, ask, book, classify, identify, parse, police};
use crate::config::settings::{AuthMode, ThrottleMode};
use crate::llm::wire::Dialect;
use crate::policy::session::DEFAULT_SESSION;
use crate::refusal::Refusal;
use crate::units::Cost;

/// Output that an imagined request asks for, in tokens, where the question does not say.
const OUTPUT_TOKENS: u32 = 1_024;

/// What somebody wants to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// The model that is asked for.
    pub model: String,
    /// The provider's name in the config; without it, the first one whose catalogue has the model.
    pub provider: Option<String>,
    /// What the user says.
    pub text: String,
    /// The whole body instead, as it would be sent to `path`.
    pub body: Option<Value>,
    /// The path behind the provider's name; without it, the provider's usual one.
    pub path: Option<String>,
    /// How urgent it is.
    pub priority: Option<String>,
    /// What kind of work it is; without it, it is detected.
    pub task: Option<String>,
    /// The session that is charged.
    pub session: Option<String>,
    /// The client's key: a tollgate key's name, or the fingerprint of a provider's.
    pub key: Option<String>,
    /// The client's program, as it names itself in `User-Agent`.
    pub user_agent: Option<String>,
    /// Whether the client wants its model and no other.
    pub pinned: bool,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// `routing.mode`: `off`, `shadow` or `on`.
    pub mode: String,
    /// The session that would be charged.
    pub session: String,
    /// How urgent it would be.
    pub priority: String,
    /// What kind of work it would be taken for.
    pub task: Option<String>,
    /// Whether a cheap model would do, whatever the task.
    pub simple: bool,
    /// The level of its budgets.
    pub level: String,
    /// The ladder that knows the model.
    pub ladder: Option<String>,
    /// Whether its conversation had better keep its model: `may_change`, `in_turn`, `just_moved`, `cache_is_worth_more`.
    pub conversation: String,
    /// Every model that was weighed, in the order of the plan.
    pub candidates: Vec<Candidate>,
    /// Who would serve it; null if it would be refused or would wait.
    pub serves: Option<Served>,
    /// Who would serve it if routing did more than record; null unless that is somebody else.
    pub would_serve: Option<Served>,
    /// Why it would be refused, or wait.
    pub refusal: Option<String>,
}

/// One model that was weighed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// What brings it in: `asked`, `rule:NAME` or `ladder:NAME`.
    pub why: String,
    /// Why it does not come into question; null if it does.
    pub unsuited: Option<String>,
    /// What the request is expected to cost with it, in US dollars; null if that is not known.
    pub expected_cost_usd: Option<String>,
    /// What stands in the way of admitting it now; null if nothing does, or if it does not come into question.
    pub denied: Option<String>,
    /// What would be changed in the request.
    pub changes: Vec<String>,
}

/// Who would serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// What decides: `asked`, `rule:NAME` or `ladder:NAME`.
    pub why: String,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.provider, self.model, self.why)
    }
}

/// A question that cannot be answered, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuestion(String);

impl From<Refusal> for BadQuestion {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.message())
    }
}

impl Gate {
    /// Says what would happen to a request now.
    ///
    /// # Errors
    /// The question makes no request: no model, no such provider, a header that cannot be.
    pub async fn explain(
        self: &Arc<Self>,
        question: &Question,
    ) -> Result<Explanation, BadQuestion> {
        let mut account = Account::open(self);
        let explained = explain(self, question, &mut account).await;
        account.is_forgotten();
        explained
    }
}

async fn explain(
    gate: &Arc<Gate>,
    question: &Question,
    account: &mut Account,
) -> Result<Explanation, BadQuestion> {
    let (parts, body) = imagined(gate, question)?.into_parts();
    let credential = credential(gate, question)?;
    let call = parse::imagine(gate, parts, body, credential, account)?;
    let peek = call.read(gate)?;
    let asked = parse::understand(&call, peek.as_ref(), account);
    let caller = identify::identify(&call, &asked, account)?;
    let class = classify::classify(gate, &call, &asked, &caller, account)?;
    let case = Case {
        gate,
        call: &call,
        asked: &asked,
        caller: &caller,
        class: &class,
    };
    let weighed = choose::weigh(&case, account, true).await?;
    let mut candidates = Vec::new();
    for (choice, unsuited) in &weighed.looked {
        let unsuited = unsuited.as_ref().map(ToString::to_string);
        candidates.push(candidate(&case, choice, unsuited, account).await);
    }
    let forbidden = police::forbids(&case, account.record().depth);
    let order = |shadow: bool| -> Option<&Choice> {
        let mut choices = weighed.menu.choices.iter();
        choices.find(|choice| {
            let as_asked = choice.why.is_none();
            let suits = |(candidate, (other, _)): (&Candidate, &(Choice, _))| {
                other.provider == choice.provider
                    && other.model == choice.model
                    && candidate.denied.is_none()
            };
            (!shadow || as_asked) && candidates.iter().zip(&weighed.looked).any(suits)
        })
    };
    let served = order(weighed.menu.shadow).filter(|_| forbidden.is_none());
    let would = order(false).filter(|_| weighed.menu.shadow);
    let would = would.filter(|would| would.why.is_some());
    let refusal = forbidden.or_else(|| match served {
        Some(_) => None,
        None => candidates
            .iter()
            .find(|candidate| candidate.why == "asked")
            .or(candidates.first())
            .and_then(|candidate| candidate.denied.clone()),
    });
    let record = account.record();
    let Weighed {
        sense,
        level,
        ladder,
        ..
    } = &weighed;
    Ok(Explanation {
        mode: gate.settings.routing.mode.as_str().to_owned(),
        session: record.session.clone(),
        priority: class.priority.as_str().to_owned(),
        task: class.task.clone(),
        simple: class.simple,
        level: level.as_str().to_owned(),
        ladder: ladder.clone(),
        conversation: sense.as_str().to_owned(),
        serves: served.map(|choice| named(gate, choice)),
        would_serve: would.map(|choice| named(gate, choice)),
        candidates,
        refusal,
    })
}

fn named(gate: &Gate, choice: &Choice) -> Served {
    Served {
        provider: gate.providers[choice.provider].settings.name.clone(),
        model: choice.model.clone().unwrap_or_default(),
        why: choice.why.clone().unwrap_or_else(|| "asked".to_owned()),
    }
}

/// Looks at one model: what the request would cost there, and whether its budgets would admit it now.
async fn candidate(
    case: &Case<'_>,
    choice: &Choice,
    unsuited: Option<String>,
    account: &mut Account,
) -> Candidate {
    let gate = case.gate;
    let Served {
        provider,
        model,
        why,
    } = named(gate, choice);
    let estimate = ask::estimate(case, choice);
    let at_unix_ms = account.record().id.unix_ms();
    let terms = book::terms_of(
        &gate.providers[choice.provider],
        choice.model.as_deref(),
        at_unix_ms,
    );
    let cost: Option<Cost> = book::cost_at(gate, &terms, &estimate.expected);
    let (made, unsuited) = match unsuited {
        Some(why) => (None, Some(why)),
        None => match choose::made(case, choice, account) {
            Some(made) => (Some(made), None),
            None => (
                None,
                Some("the request cannot be changed for it".to_owned()),
            ),
        },
    };
    let denied = match &made {
        Some(made) if gate.throttle.mode == ThrottleMode::On => {
            admit::denial(case, made, account).await
        }
        _ => None,
    };
    let changed = made.and_then(|made| made.changed);
    let changes = changed.map(|changed| {
        let changes = changed.by.iter();
        changes
            .map(|change| format!("{}: {}", change.rule, change.what))
            .collect()
    });
    Candidate {
        provider,
        model,
        why,
        unsuited,
        expected_cost_usd: cost.map(|cost| cost.to_string()),
        denied,
        changes: changes.unwrap_or_default(),
    }
}

/// Who asks, as the question says.
fn credential(gate: &Gate, question: &Question) -> Result<Credential, BadQuestion> {
    let Some(name) = &question.key else {
        return Ok(Credential::Providers(None));
    };
    if gate.settings.auth.mode == AuthMode::Passthrough {
        return Ok(Credential::Providers(Some(name.clone())));
    }
    let known = gate.keys.all();
    let key = known.iter().find(|key| key.name == *name);
    key.map(|key| Credential::Tollgate(Arc::clone(key)))
        .ok_or_else(|| {
            BadQuestion(format!(
                "there is no key `{name}`; `tollgate keys list` shows those that there are"
            ))
        })
}

/// The request that the question is about.
fn imagined(gate: &Gate, question: &Question) -> Result<Request<Bytes>, BadQuestion> {
    let provider = provider(gate, question)?;
    let settings = &gate.providers[provider].settings;
    let (usual, body) = usual(settings.dialect, question);
    let path = question.path.as_deref().unwrap_or(&usual);
    let body = question.body.as_ref().unwrap_or(&body);
    let mut request = Request::post(format!("/{}{path}", settings.name))
        .body(Bytes::from(body.to_string()))
        .map_err(|_| BadQuestion(format!("`path` {path:?} cannot stand in an address")))?;
    let session = question.session.as_deref().unwrap_or(DEFAULT_SESSION);
    // Claude Code's and others' own marks do not name a session here.
    let stated = [
        ("x-tollgate-session", Some(session)),
        ("x-tollgate-priority", question.priority.as_deref()),
        ("x-tollgate-task", question.task.as_deref()),
        ("x-tollgate-route", question.pinned.then_some("pinned")),
        ("user-agent", question.user_agent.as_deref()),
    ];
    let headers: &mut HeaderMap = request.headers_mut();
    for (name, value) in stated {
        let Some(value) = value else { continue };
        let value = HeaderValue::from_str(value)
            .map_err(|_| BadQuestion(format!("{value:?} holds a character that no header can")))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}

/// The provider that the question names, or the first one that has the model.
fn provider(gate: &Gate, question: &Question) -> Result<usize, BadQuestion> {
    let mut providers = gate.providers.iter();
    if let Some(name) = &question.provider {
        let place = providers.position(|provider| provider.settings.name == *name);
        return place.ok_or_else(|| {
            let known = gate.providers.iter();
            let known = known.map(|provider| provider.settings.name.as_str());
            BadQuestion(format!(
                "there is no provider `{name}`; known: {}",
                known.collect::<Vec<_>>().join(", ")
            ))
        });
    }
    if question.model.is_empty() {
        return Err(BadQuestion(
            "`model` is missing: the model that is asked for".to_owned(),
        ));
    }
    let known = gate.catalogue.resolve("", &question.model);
    let place = known.and_then(|known| {
        providers.position(|provider| *provider.settings.catalogue == *known.provider)
    });
    place.ok_or_else(|| {
        BadQuestion(format!(
            "no provider is known for `{}`; name one with `provider`",
            question.model
        ))
    })
}

/// The usual path and body of a wire format.
fn usual(dialect: Dialect, question: &Question) -> (String, Value) {
    let (model, text) = (&question.model, &question.text);
    let messages = json!([{"role": "user", "content": text}]);
    match dialect {
        Dialect::Anthropic => (
            "/v1/messages".to_owned(),
            json!({"model": model, "max_tokens": OUTPUT_TOKENS, "messages": messages}),
        ),
        Dialect::OpenAi => (
            "/v1/chat/completions".to_owned(),
            json!({"model": model, "max_completion_tokens": OUTPUT_TOKENS, "messages": messages}),
        ),
        Dialect::Gemini => (
            format!("/v1beta/models/{model}:generateContent"),
            json!({
                "contents": [{"role": "user", "parts": [{"text": text}]}],
                "generationConfig": {"maxOutputTokens": OUTPUT_TOKENS},
            }),
        ),
        Dialect::Ollama => (
            "/api/chat".to_owned(),
            json!({"model": model, "messages": messages, "stream": false}),
        ),
    }
}
