//! A request as the first steps have understood it, and who could serve it.

use std::sync::Arc;

use bytes::Bytes;

use super::authenticate::Credential;
use super::classify::Class;
use super::gate::Gate;
use super::identify::Caller;
use super::parse::{Asked, Call};
use crate::llm::adapt::Change;
use crate::llm::wire::Endpoint;

/// A request as the first steps have understood it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    /// What all requests share.
    pub(super) gate: &'a Arc<Gate>,
    /// As it came.
    pub(super) call: &'a Call,
    /// What it asks for.
    pub(super) asked: &'a Asked<'a>,
    /// Who asks.
    pub(super) caller: &'a Caller,
    /// How urgent it is, and what kind of work.
    pub(super) class: &'a Class,
}

impl Case<'_> {
    /// The fingerprint of the client's own key, where that is what a provider is shown; empty where tollgate's own is, whoever
    /// asks.
    pub(super) fn key_shown_to(&self, provider: usize) -> &str {
        match &self.call.credential {
            Credential::Providers(fingerprint) if provider == self.call.provider => {
                fingerprint.as_deref().unwrap_or_default()
            }
            Credential::Providers(_) | Credential::Tollgate(_) => "",
        }
    }

    /// Whether the client has asked for server-sent events.
    pub(super) fn reads_events(&self) -> bool {
        self.asked.stream
            && match self.call.endpoint {
                Endpoint::Messages
                | Endpoint::ChatCompletions
                | Endpoint::Responses
                | Endpoint::Completions => true,
                // Without it Gemini streams one JSON array, in which a comment has no place.
                Endpoint::GenerateContent => self.call.target.contains("alt=sse"),
                _ => false,
            }
    }
}

/// Who is to serve a request.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Place of the provider in the gate's list.
    pub(super) provider: usize,
    /// The model, by the name that this provider has for it.
    pub(super) model: Option<String>,
    /// What goes out in place of the client's own path and body, where that is not the same.
    pub(super) changed: Option<Changed>,
    /// It has begun the conversation's newest turn, so that the thoughts in it are its own.
    pub(super) began_turn: bool,
    /// What brings it in; `None` for the model that was asked for.
    pub(super) why: Option<String>,
}

/// A request as it is made for another model.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    /// Path and query behind the provider's name.
    pub(super) rest: Option<String>,
    /// The body.
    pub(super) body: Option<Bytes>,
    /// What was changed, and by which rules.
    pub(super) by: Vec<Change>,
}

impl Choice {
    /// What the client asked for.
    pub(super) fn asked(call: &Call, asked: &Asked<'_>) -> Self {
        Self {
            provider: call.provider,
            model: asked.model.map(str::to_owned),
            changed: None,
            began_turn: false,
            why: None,
        }
    }

    /// The same, from another provider.
    pub(super) fn at(&self, provider: usize) -> Self {
        Self {
            provider,
            ..self.clone()
        }
    }
}
