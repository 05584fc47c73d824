//! When a conversation had better keep the model that served it last.
//!
//! Another model, or another provider, has none of the conversation's prefix in its cache and reads it all at full price.
//! So, in this order:
//!
//! - Inside a turn (the newest message is a tool's result) the model stays.
//! - At a new turn a rule that says `asked` is obeyed: what the user means by it is worth more than a cache.
//! - A session that was moved to a model keeps it for at least [`Routing::keep`](super::Routing::keep), up or down.
//! - While the cache of what served last is alive, the model changes only where that is cheaper for this very request,
//!   the lost cache counted in.

use std::time::Duration;

use super::Routing;
use crate::llm::usage::Usage;
use crate::units::Cost;

/// What served a conversation last. Kept for each session and agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The provider's name in the config.
    provider: Box<str>,
    /// The model, as it stood in the plan.
    model: Box<str>,
    /// When its last answer ended, in Unix milliseconds.
    at_ms: u64,
    /// When the conversation was moved to this model, in Unix milliseconds; `None` where it began with it.
    moved_ms: Option<u64>,
    /// Tokens of its prefix that the provider had in its cache by then.
    cached_tokens: u64,
    /// How long that lives after it was used last, in milliseconds.
    cache_life_ms: u64,
    /// For how long its client has prefixes written to the cache, if it does: some providers take more for that than for
    /// plain input.
    writes: Option<Life>,
}

/// For how long a provider keeps what is written to its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Its usual time, some minutes.
    Usual,
    /// An hour (Anthropic).
    Hour,
    /// Twelve hours (OpenAI).
    HalfDay,
}

impl Life {
    /// What an answer's usage says about it.
    const fn of(usage: &Usage) -> Option<Self> {
        if usage.cache_write_12h > 0 {
            Some(Life::HalfDay)
        } else if usage.cache_write_1h > 0 {
            Some(Life::Hour)
        } else if usage.cache_write > 0 {
            Some(Life::Usual)
        } else {
            None
        }
    }

    /// At least so many milliseconds.
    const fn millis(self) -> u64 {
        const HOUR_MS: u64 = 3_600_000;
        match self {
            Life::Usual => 0,
            Life::Hour => HOUR_MS,
            Life::HalfDay => 12 * HOUR_MS,
        }
    }
}

/// What is to be done with a conversation that another model should serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// Nothing stands against a change, or there is none.
    MayChange,
    /// It stays: it is inside a turn.
    InTurn,
    /// It stays: it was moved to its model only a short time ago.
    JustMoved,
    /// It stays: its cache is worth more than the cheaper model.
    CacheIsWorthMore,
}

impl Sense {
    /// Whether the model that served last goes first.
    pub const fn stays(self) -> bool {
        !matches!(self, Sense::MayChange)
    }

    /// The name used in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Sense::MayChange => "may_change",
            Sense::InTurn => "in_turn",
            Sense::JustMoved => "just_moved",
            Sense::CacheIsWorthMore => "cache_is_worth_more",
        }
    }
}

/// What one request would cost on either side of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// With the model that served last, its cache in use.
    pub stay: Cost,
    /// With the other model, which has nothing of the conversation in its cache.
    pub change: Cost,
}

/// A request that another model than the last should serve.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The time, in Unix milliseconds.
    pub now_ms: u64,
    /// Whether its newest message is the user's, and not a tool's result.
    pub at_user_turn: bool,
    /// Whether a rule insists on it ([`Plan::insists`](super::Plan::insists)).
    pub insists: bool,
    /// What it costs on either side; `None` where a price is not known.
    pub costs: Option<Costs>,
}

/// Whether a conversation may change its model for a request. `last` is what is known of it; what is not known may change.
pub fn sense(routing: &Routing, last: Option<&Conversation>, change: &Change) -> Sense {
    let Some(last) = last else {
        return Sense::MayChange;
    };
    if routing.only_at_user_turn && !change.at_user_turn {
        return Sense::InTurn;
    }
    if change.insists {
        return Sense::MayChange;
    }
    let keep_ms = millis(routing.keep);
    if last
        .moved_ms
        .is_some_and(|moved| change.now_ms < moved.saturating_add(keep_ms))
    {
        return Sense::JustMoved;
    }
    let pays = change.costs.is_some_and(|costs| costs.change < costs.stay);
    if last.cached_tokens(change.now_ms) > 0 && !pays {
        return Sense::CacheIsWorthMore;
    }
    Sense::MayChange
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Conversation {
    /// What is known of a conversation after an answer. `before` is what was known of it before, `keep` is
    /// [`Routing::keep`].
    ///
    /// A cache lives as long as its provider says that what it wrote does (an hour, twelve), else `keep`; whatever is read
    /// from it lives on as long again.
    pub fn after(
        before: Option<&Conversation>,
        provider: &str,
        model: &str,
        ended_ms: u64,
        usage: &Usage,
        keep: Duration,
    ) -> Self {
        let same = before.filter(|before| before.is_with(provider, model));
        let writes = Life::of(usage);
        let life_ms = match (writes, same) {
            (Some(life), _) => life.millis(),
            (None, Some(same)) if usage.cached_read > 0 => same.cache_life_ms,
            (None, _) => 0,
        };
        Self {
            provider: provider.into(),
            model: model.into(),
            at_ms: ended_ms,
            moved_ms: match (before, same) {
                (_, Some(same)) => same.moved_ms,
                (Some(_), None) => Some(ended_ms),
                (None, None) => None,
            },
            cached_tokens: usage.cached_read.saturating_add(usage.cache_write),
            cache_life_ms: life_ms.max(millis(keep)),
            writes: writes.or_else(|| before.and_then(|before| before.writes)),
        }
    }

    /// Whether it is with this model of this provider.
    pub fn is_with(&self, provider: &str, model: &str) -> bool {
        *self.provider == *provider && *self.model == *model
    }

    /// Whether another model than this one may have said something in it.
    pub fn had_others(&self, provider: &str, model: &str) -> bool {
        self.moved_ms.is_some() || !self.is_with(provider, model)
    }

    /// The provider and the model that served last.
    pub fn target(&self) -> (&str, &str) {
        (&self.provider, &self.model)
    }

    /// Tokens of the prefix that the provider should still have in its cache.
    pub fn cached_tokens(&self, now_ms: u64) -> u64 {
        let alive = now_ms < self.at_ms.saturating_add(self.cache_life_ms);
        if alive { self.cached_tokens } else { 0 }
    }

    /// What a request costs with the model that served last and with another one; `None` where a price is not known.
    ///
    /// `input` is the estimated prompt, `output` the expected answer, in tokens. `cost_of` prices usage of the model that
    /// served last (`true`) or of the other one (`false`). What is not read from the cache is written to it, at its price,
    /// if the conversation's client has that done; the other model finds nothing in its cache.
    pub fn costs(
        &self,
        now_ms: u64,
        input: u64,
        output: u64,
        cost_of: impl Fn(bool, &Usage) -> Option<Cost>,
    ) -> Option<Costs> {
        let usage = |cached_read: u64| {
            let fresh = input - cached_read;
            let written = |lives: &[Life]| match self.writes {
                Some(life) if lives.contains(&life) => fresh,
                _ => 0,
            };
            Usage {
                input,
                cached_read,
                cache_write: written(&[Life::Usual, Life::Hour, Life::HalfDay]),
                cache_write_1h: written(&[Life::Hour]),
                cache_write_12h: written(&[Life::HalfDay]),
                output,
                ..Usage::default()
            }
        };
        let cached = self.cached_tokens(now_ms).min(input);
        Some(Costs {
            stay: cost_of(true, &usage(cached))?,
            change: cost_of(false, &usage(0))?,
        })
    }
}

#[cfg(test)]
mod tests;
