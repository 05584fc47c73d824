//! Which model may serve a request: the rules and ladders, as values.
//!
//! A rule maps what is known of a request to a model or to a rung; the first that matches decides, and where none does the
//! model that was asked for stays. A ladder lists ever cheaper models of one provider. [`plan()`] turns both into the order
//! in which models are tried for one request; [`conversation`] says when a conversation had better keep its model. Whether a
//! model can do what a request needs, and what its budgets allow, is decided by those who walk the plan.

pub mod conversation;
mod plan;

use std::fmt;
use std::time::Duration;

use super::priority::Pattern;
use super::throttle::Level;
use crate::units::Priority;

pub use plan::{Choice, Plan, Why, plan};

/// What becomes of a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is decided: the model that was asked for serves.
    Off,
    /// It is decided and recorded what would have been saved; the model that was asked for serves.
    #[default]
    Shadow,
    /// The model that is decided upon serves.
    On,
}

impl Mode {
    /// The name used in config and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Shadow => "shadow",
            Mode::On => "on",
        }
    }
}

/// All of routing's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// What becomes of a decision.
    pub mode: Mode,
    /// The rules, the user's first; the first that matches decides.
    pub rules: Vec<RouteRule>,
    /// The ladders, the user's first; the first that knows a model decides about it.
    pub ladders: Vec<Ladder>,
    /// How long a session keeps a model that it was moved to; also how long a provider's prompt cache is taken to live after
    /// it was used last, where the provider does not state more.
    pub keep: Duration,
    /// Whether a conversation's model changes only where a new turn of the user begins.
    pub only_at_user_turn: bool,
}

/// A model that can be sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The provider's name in the config; `None` for the one that was asked.
    pub provider: Option<String>,
    /// The model, as the provider's API takes it.
    pub model: String,
}

impl Target {
    /// Reads `model` or `provider/model`. What stands before the first `/` is a provider only where `is_provider` says so:
    /// names of models hold slashes too (`anthropic/claude-opus-5.5` at OpenRouter). `None` if a name is empty.
    pub fn read(text: &str, is_provider: impl Fn(&str) -> bool) -> Option<Self> {
        let (provider, model) = match text.split_once('/') {
            Some((provider, model)) if is_provider(provider) => (Some(provider), model),
            _ => (None, text),
        };
        (!model.is_empty()).then(|| Self {
            provider: provider.map(str::to_owned),
            model: model.to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(provider) = &self.provider {
            write!(f, "{provider}/")?;
        }
        f.write_str(&self.model)
    }
}

/// Ever cheaper models in place of those of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Its name.
    pub name: String,
    /// For requests to this provider: its name in the config, or its name in the catalogue, which several can have. `None`
    /// for any, where each rung names its own.
    pub provider: Option<String>,
    /// The rungs, the best first; never empty.
    pub rungs: Vec<Target>,
    /// Models that are no rungs but stand beside one: those that match go down from there. They never become it.
    pub beside: Vec<(Pattern, usize)>,
    /// The rung that a rule means by `cheap`.
    pub cheap: usize,
    /// The rung that a rule means by `premium`.
    pub premium: usize,
    /// Whether a rung may cost more than the one above, or an amount that nobody knows: the user said so.
    pub unchecked_prices: bool,
    /// The number of its block in the user's file, from 1; `None` for a built-in one.
    pub block: Option<usize>,
}

/// Says which model serves requests on which all of its conditions hold; without any, every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// Its name, as it is told with every request that it decides.
    pub name: String,
    /// The task.
    pub task: Option<Pattern>,
    /// Whether a cheap model will do, whatever the task.
    pub simple: Option<bool>,
    /// The requested model, in the client's spelling or the catalogue's.
    pub model: Option<Pattern>,
    /// The requested provider.
    pub provider: Option<Pattern>,
    /// The priority, exactly.
    pub priority: Option<Priority>,
    /// The session.
    pub session: Option<Pattern>,
    /// The client's key: its name, or its fingerprint.
    pub key: Option<Pattern>,
    /// The key's team.
    pub team: Option<Pattern>,
    /// The level of the request's budgets: this one or a fuller one.
    pub level: Option<Level>,
    /// What serves such requests.
    pub to: To,
    /// The number of its block in the user's file, from 1; `None` for a built-in one.
    pub block: Option<usize>,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The model that was asked for. Unlike no rule at all it is meant: a conversation comes back to it at once.
    Asked,
    /// So many rungs further down, at most to the last.
    Down(u32),
    /// The ladder's rung of that name.
    Cheap,
    /// The ladder's rung of that name.
    Premium,
    /// The ladder's last rung.
    Bottom,
    /// This one, be it better or worse than what was asked for.
    Model(Target),
}

impl To {
    /// Reads what a rule says: `asked`, `cheap`, `premium`, `bottom`, `down`, `down 2`, or a model as in
    /// [`Target::read`]. `None` if it is none of them.
    pub fn read(text: &str, is_provider: impl Fn(&str) -> bool) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let to = match (words.next()?, words.next()) {
            ("asked", None) => To::Asked,
            ("cheap", None) => To::Cheap,
            ("premium", None) => To::Premium,
            ("bottom", None) => To::Bottom,
            ("down", None) => To::Down(1),
            ("down", Some(rungs)) => To::Down(rungs.parse().ok().filter(|rungs| *rungs > 0)?),
            (model, None) => To::Model(Target::read(model, is_provider)?),
            (_, Some(_)) => return None,
        };
        words.next().is_none().then_some(to)
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            To::Asked => f.write_str("asked"),
            To::Down(1) => f.write_str("down"),
            To::Down(rungs) => write!(f, "down {rungs}"),
            To::Cheap => f.write_str("cheap"),
            To::Premium => f.write_str("premium"),
            To::Bottom => f.write_str("bottom"),
            To::Model(target) => target.fmt(f),
        }
    }
}

/// What is known of a request. What is not known is `None`, and no condition on it holds.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The requested provider's name in the config.
    pub provider: &'a str,
    /// The requested provider's name in the catalogue.
    pub catalogue: &'a str,
    /// The requested model, in the catalogue's spelling where that knows it.
    pub model: &'a str,
    /// The requested model as the client wrote it.
    pub written: &'a str,
    /// What kind of work it is.
    pub task: Option<&'a str>,
    /// Whether a cheap model will do, whatever the task.
    pub simple: bool,
    /// How urgent it is.
    pub priority: Priority,
    /// The session that is charged.
    pub session: &'a str,
    /// The client's key: its name, or its fingerprint.
    pub key: Option<&'a str>,
    /// The key's team.
    pub team: Option<&'a str>,
    /// The highest level of its budgets, as it would be without any routing.
    pub level: Level,
    /// Whether its client, its key, its team or its tier says that its model must not be changed.
    pub pinned: bool,
}

impl RouteRule {
    /// Whether all conditions hold.
    pub fn matches(&self, wanted: &Wanted<'_>) -> bool {
        let holds = |condition: &Option<Pattern>, fact: Option<&str>| {
            condition
                .as_ref()
                .is_none_or(|pattern| fact.is_some_and(|text| pattern.matches(text)))
        };
        holds(&self.task, wanted.task)
            && self.simple.is_none_or(|simple| simple == wanted.simple)
            && (holds(&self.model, Some(wanted.model)) || holds(&self.model, Some(wanted.written)))
            && holds(&self.provider, Some(wanted.provider))
            && self
                .priority
                .is_none_or(|priority| priority == wanted.priority)
            && holds(&self.session, Some(wanted.session))
            && holds(&self.key, wanted.key)
            && holds(&self.team, wanted.team)
            && self.level.is_none_or(|level| level <= wanted.level)
    }
}

impl Ladder {
    /// Whether it is for requests to a provider, by its names in the config and in the catalogue.
    pub fn is_for(&self, provider: &str, catalogue: &str) -> bool {
        self.provider
            .as_deref()
            .is_none_or(|own| own == provider || own == catalogue)
    }

    /// The rung that the requested model is. `same` compares a rung's model with the requested one.
    fn rung_of(&self, wanted: &Wanted<'_>, same: &impl Fn(&str, &str) -> bool) -> Option<usize> {
        let is_it = |rung: &Target| {
            let provider = rung.provider.as_deref();
            provider.is_none_or(|provider| provider == wanted.provider)
                && same(&rung.model, wanted.model)
        };
        self.is_for(wanted.provider, wanted.catalogue)
            .then(|| self.rungs.iter().position(is_it))
            .flatten()
    }

    /// The rung beside which the requested model stands.
    fn beside(&self, wanted: &Wanted<'_>) -> Option<usize> {
        let mut places = self.beside.iter();
        let (_, rung) = places.find(|(pattern, _)| pattern.matches(wanted.model))?;
        self.is_for(wanted.provider, wanted.catalogue)
            .then_some(*rung)
    }
}

impl Routing {
    /// The ladder that knows the requested model, and the model's place on it. A rung goes before a place beside one, on
    /// whatever ladder. `same` compares a rung's model with the requested one.
    pub fn ladder(
        &self,
        wanted: &Wanted<'_>,
        same: impl Fn(&str, &str) -> bool,
    ) -> Option<(&Ladder, usize)> {
        let on = |ladder| Some((ladder, Ladder::rung_of(ladder, wanted, &same)?));
        let by = |ladder| Some((ladder, Ladder::beside(ladder, wanted)?));
        let mut ladders = self.ladders.iter();
        let found = ladders.find_map(on);
        found.or_else(|| self.ladders.iter().find_map(by))
    }

    /// The first rule that matches.
    pub fn rule(&self, wanted: &Wanted<'_>) -> Option<&RouteRule> {
        self.rules.iter().find(|rule| rule.matches(wanted))
    }
}

#[cfg(test)]
mod tests;
