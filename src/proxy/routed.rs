//! What becomes of a decision about a request's model when the request has ended: what it saved, or would have, and what is
//! remembered for the conversation's next request.
//!
//! The saving compares this request with itself on the other model. Where the decision moves a conversation, the prefix that
//! the one has in its cache is not in the other's: both ways are priced as they would be.

use super::book;
use super::case::{Case, Choice};
use super::choose::{Menu, Talk};
use super::gate::Gate;
use crate::llm::usage::{Provenance, Usage};
use crate::policy::routing::conversation::Conversation;
use crate::store::record::Record;
use crate::units::Cost;

/// A decision about a request's model.
#[derive(Debug)]
pub(super) struct Routing {
    talk: Talk,
    /// The provider and the model that serve, or would serve in shadow mode, as they stand in the plan.
    served_by: (String, String),
    /// What it is compared with; `None` where nothing is changed.
    other: Option<Other>,
}

/// The model that does not serve.
#[derive(Debug)]
struct Other {
    /// It is the one that would serve in shadow mode; else the one that was asked for.
    shadow: bool,
    /// Its provider's place in the gate's list.
    provider: usize,
    model: String,
    /// Tokens of the prompt that it would read from its cache; `None` for as many as the one that served.
    cached: Option<u64>,
}

impl Routing {
    /// What is to be remembered of a decision; `None` where nothing was to be decided.
    pub(super) fn of(case: &Case<'_>, menu: &Menu, decided: &Choice) -> Option<Self> {
        let talk = menu.talk.clone()?;
        let gate = case.gate;
        let settings = &gate.providers[decided.provider].settings;
        let model = decided.model.clone().unwrap_or_default();
        // What was asked for stands in the plan under the catalogue's name.
        let model = match decided.why {
            Some(_) => model,
            None => talk.talker.model.clone(),
        };
        let served_by = (settings.name.clone(), model);
        let other = decided.why.is_some().then(|| {
            let last = talk.last.as_ref();
            let moves = last.is_some_and(|last| !last.is_with(&served_by.0, &served_by.1));
            let cached = last.map_or(0, |last| last.cached_tokens(gate.clock.unix_ms()));
            let other = if menu.shadow {
                decided
            } else {
                menu.asked().unwrap_or(decided)
            };
            Other {
                shadow: menu.shadow,
                provider: other.provider,
                model: other.model.clone().unwrap_or_default(),
                cached: moves.then_some(if menu.shadow { 0 } else { cached }),
            }
        });
        Some(Self {
            talk,
            served_by,
            other,
        })
    }

    /// The conversation that the request belongs to.
    pub(super) fn talk(&self) -> &Talk {
        &self.talk
    }

    /// What was asked for serves after all, here or at a fallback: the conversation goes on with that, and nothing is saved.
    /// In shadow mode it goes on with what would have served.
    pub(super) fn goes_elsewhere(&mut self, gate: &Gate, provider: usize) {
        if self.other.as_ref().is_none_or(|other| !other.shadow) {
            let name = &gate.providers[provider].settings.name;
            self.served_by = (name.clone(), self.talk.talker.model.clone());
            self.other = None;
        }
    }

    /// The request has ended, and its record is complete but for this.
    pub(super) fn ended(self, gate: &Gate, record: &mut Record) {
        if let Some(other) = &self.other {
            record.saving = other.saving(gate, record);
        }
        if matches!(
            record.provenance,
            Provenance::Reported | Provenance::Partial
        ) {
            let (provider, model) = &self.served_by;
            let keep = gate.settings.routing.keep;
            let now = Conversation::after(
                self.talk.last.as_ref(),
                provider,
                model,
                record.finished_unix_ms,
                &record.usage,
                keep,
            );
            gate.conversations.put(self.talk.talker, now);
        }
    }
}

impl Other {
    /// What the decision saves; `None` where that cannot be told.
    fn saving(&self, gate: &Gate, record: &Record) -> Option<Cost> {
        if record.provenance == Provenance::None {
            return None;
        }
        let served = record.cost?;
        let usage = match self.cached {
            None => record.usage,
            Some(cached) => with_cached(&record.usage, cached),
        };
        let provider = &gate.providers[self.provider];
        let terms = book::terms_of(provider, Some(&self.model), record.id.unix_ms());
        let other = book::cost_at(gate, &terms, &usage)?;
        let (asked, routed) = if self.shadow {
            (served, other)
        } else {
            (other, served)
        };
        Some(Cost::from_attos(
            asked.attos().saturating_sub(routed.attos()),
        ))
    }
}

/// The same usage with so much of the prompt read from a cache; what was written to one is written all the same.
fn with_cached(usage: &Usage, cached: u64) -> Usage {
    let cached_read = cached.min(usage.input);
    let cache_write = if usage.cache_write > 0 {
        usage.input - cached_read
    } else {
        0
    };
    Usage {
        cached_read,
        audio_cached: 0,
        image_cached: 0,
        cache_write,
        cache_write_1h: if usage.cache_write_1h > 0 {
            cache_write
        } else {
            0
        },
        cache_write_12h: if usage.cache_write_12h > 0 {
            cache_write
        } else {
            0
        },
        ..*usage
    }
}
