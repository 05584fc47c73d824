//! Whether a model comes into question for a request: who else speaks its format, whom its caller may use, what the model
//! can do, and what the request would cost with it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use super::super::account::Account;
use super::super::ask::Estimate;
use super::super::authenticate::Credential;
use super::super::case::{Case, Choice};
use super::super::gate::Gate;
use super::super::{book, police};
use crate::llm::abilities::Abilities;
use crate::llm::catalogue::Status;
use crate::llm::estimate;
use crate::llm::fitness::{self, Demands, Rung, Unfit};
use crate::llm::request::Peek;
use crate::llm::usage::Usage;
use crate::llm::wire::{Dialect, Endpoint};
use crate::policy::routing;
use crate::units::Cost;

/// Why a candidate does not come into question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) enum Unsuited {
    /// It cannot do what the request needs.
    Unfit(Unfit),
    /// There is no provider of that name.
    NoProvider,
    /// Its provider speaks another wire format.
    OtherFormat,
    /// tollgate has no key for its provider.
    NoKey,
    /// The caller's policies forbid it.
    Forbidden,
    /// Its provider has said lately that it does not serve it.
    Refused,
    /// Its provider has ended it.
    Retired,
    /// This request would cost more with it.
    Dearer,
}

impl fmt::Display for Unsuited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsuited::Unfit(unfit) => return unfit.fmt(f),
            Unsuited::NoProvider => "its provider is not enabled",
            Unsuited::OtherFormat => "its provider speaks another wire format",
            Unsuited::NoKey => "tollgate has no api_key for its provider",
            Unsuited::Forbidden => "the caller's policies do not allow it",
            Unsuited::Refused => "its provider refused it lately",
            Unsuited::Retired => "its provider has ended it",
            Unsuited::Dearer => "this request would cost more with it",
        })
    }
}

/// What is needed to look at candidates.
pub(super) struct Table<'a> {
    endpoint: Endpoint,
    peek: &'a Peek<'a>,
    betas: Cow<'a, str>,
    dialect: Option<Dialect>,
    from_provider: &'a str,
    from_model: &'a str,
    from: Arc<Abilities>,
    /// What the request is expected to use, nothing of it from a cache.
    pub(super) expected: Usage,
    /// What that costs with the model that was asked for.
    cost: Option<Cost>,
    pub(super) at_unix_ms: u64,
    depth: Option<u32>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        case: &Case<'a>,
        peek: &'a Peek<'a>,
        asked: &'a Choice,
        estimate: &Estimate,
        account: &Account,
    ) -> Self {
        let gate = case.gate;
        let provider = &gate.providers[asked.provider].settings;
        let model = asked.model.as_deref().unwrap_or_default();
        let expected = Usage {
            input: estimate.input_by_size,
            output: estimate.expected.output,
            ..Usage::default()
        };
        let at_unix_ms = account.record().id.unix_ms();
        Self {
            endpoint: case.call.endpoint,
            peek,
            betas: betas(&case.call.parts.headers),
            dialect: case.call.endpoint.dialect(),
            from_provider: &provider.name,
            from_model: model,
            from: gate
                .known
                .abilities(&gate.catalogue, &provider.catalogue, model),
            cost: cost(gate, asked.provider, model, at_unix_ms, &expected),
            expected,
            at_unix_ms,
            depth: account.record().depth,
        }
    }

    pub(super) fn demands(&self) -> Demands<'_> {
        Demands {
            endpoint: self.endpoint,
            peek: self.peek,
            betas: &self.betas,
            prompt_tokens: estimate::input_tokens(&self.peek.prompt),
        }
    }

    pub(super) fn from(&self) -> Rung<'_> {
        Rung {
            provider: self.from_provider,
            model: self.from_model,
            abilities: &self.from,
        }
    }

    /// Why a candidate does not come into question; `None` if it does.
    pub(super) fn look(
        &self,
        case: &Case<'_>,
        choice: &routing::Choice<'_>,
        by_hand: bool,
        began_turn: bool,
    ) -> Option<Unsuited> {
        if choice.asked {
            return None;
        }
        let gate = case.gate;
        let Some(place) = place_of(gate, choice.provider) else {
            return Some(Unsuited::NoProvider);
        };
        let provider = &gate.providers[place];
        let settings = &provider.settings;
        if !self.dialect.is_some_and(|dialect| settings.speaks(dialect)) {
            return Some(Unsuited::OtherFormat);
        }
        let clients_key =
            place == case.call.provider && matches!(case.call.credential, Credential::Providers(_));
        if !clients_key && provider.key.is_none() && !settings.is_local() {
            return Some(Unsuited::NoKey);
        }
        if !police::allows(case, place, choice.model, self.depth) {
            return Some(Unsuited::Forbidden);
        }
        let key = case.key_shown_to(place);
        if gate
            .known
            .was_refused(&settings.name, choice.model, key, gate.lanes.now_ms())
        {
            return Some(Unsuited::Refused);
        }
        let listed = gate.catalogue.resolve(&settings.catalogue, choice.model);
        if listed.is_some_and(|model| {
            matches!(
                model.status,
                Some(Status::Retired | Status::PastDeprecationDate)
            )
        }) {
            return Some(Unsuited::Retired);
        }
        let abilities = gate
            .known
            .abilities(&gate.catalogue, &settings.catalogue, choice.model);
        let to = Rung {
            provider: &settings.name,
            model: choice.model,
            abilities: &abilities,
        };
        let fits = match began_turn {
            true => fitness::goes_on,
            false => fitness::fits,
        };
        if let Err(unfit) = fits(&self.demands(), &self.from(), &to) {
            return Some(Unsuited::Unfit(unfit));
        }
        let cost = cost(gate, place, choice.model, self.at_unix_ms, &self.expected);
        match (cost, self.cost) {
            _ if by_hand => None,
            (Some(cost), Some(asked)) if cost <= asked => None,
            // What costs nobody knows what is no saving.
            _ => Some(Unsuited::Dearer),
        }
    }

    /// The plan's choice as the path knows it.
    pub(super) fn own(
        &self,
        case: &Case<'_>,
        choice: &routing::Choice<'_>,
        asked: &Choice,
    ) -> Choice {
        if choice.asked {
            return asked.clone();
        }
        Choice {
            provider: place_of(case.gate, choice.provider).unwrap_or(asked.provider),
            model: Some(choice.model.to_owned()),
            changed: None,
            began_turn: false,
            why: Some(choice.why.to_string()),
        }
    }
}

pub(super) fn place_of(gate: &Gate, name: &str) -> Option<usize> {
    let mut providers = gate.providers.iter();
    providers.position(|provider| provider.settings.name == name)
}

/// The beta features that a request asks for, in however many lines.
fn betas(headers: &HeaderMap) -> Cow<'_, str> {
    let lines = headers.get_all("anthropic-beta").iter();
    let mut lines = lines.filter_map(|line| line.to_str().ok());
    let first = Cow::Borrowed(lines.next().unwrap_or_default());
    lines.fold(first, |all, line| Cow::Owned(format!("{all},{line}")))
}

/// What so much usage costs with a model.
pub(super) fn cost(
    gate: &Gate,
    place: usize,
    model: &str,
    at_unix_ms: u64,
    usage: &Usage,
) -> Option<Cost> {
    let terms = book::terms_of(&gate.providers[place], Some(model), at_unix_ms);
    book::cost_at(gate, &terms, usage)
}
