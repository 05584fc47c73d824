//! What a tier, a team or a key may ask for at all, apart from budgets. A violation is final and names its rule.
//!
//! All policies of a caller apply, and the strictest wins. What a rule cannot check, because the body cannot be read or
//! the provider holds a part of the request, is a violation of it: what passes has been checked.

mod check;

use std::fmt;

use super::priority::Pattern;
use crate::units::Priority;

pub use check::{BodyFacts, ModelFacts, OutputFacts, PolicyFacts, check};

/// The rules of one tier, team or key. What is `None` is not bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Requests in any 60 minutes.
    pub requests_per_hour: Option<u64>,
    /// Largest prompt, in estimated tokens.
    pub max_prompt_tokens: Option<u64>,
    /// Largest output that a request may ask for, in tokens.
    pub max_output_tokens: Option<u64>,
    /// Models that may be asked for; an empty list allows none.
    pub models: Option<Vec<Pattern>>,
    /// Tools that may be declared; an empty list allows none.
    pub tools: Option<Vec<Pattern>>,
    /// Deepest recursion of an agent.
    pub max_depth: Option<u32>,
    /// The most urgent priority that requests may have; what asks for more gets this.
    pub max_priority: Option<Priority>,
    /// The priority of requests that name none.
    pub priority: Option<Priority>,
    /// Whether the model that is asked for is never changed by routing.
    pub pin_model: bool,
}

/// What kind of thing a policy is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A tier.
    Tier,
    /// A team.
    Team,
    /// A key.
    Key,
}

impl Holder {
    /// The config's table.
    pub const fn table(self) -> &'static str {
        match self {
            Holder::Tier => "tiers",
            Holder::Team => "teams",
            Holder::Key => "keys",
        }
    }
}

/// A policy that applies to a request, and where it is written: `tiers.free`, `teams.research`, `keys.ci`.
#[derive(Debug, Clone, Copy)]
pub struct Applied<'a> {
    /// What it is written for.
    pub holder: Holder,
    /// Its name.
    pub name: &'a str,
    /// Its rules.
    pub policy: &'a Policy,
}

impl Applied<'_> {
    /// A violation of the rule with this key.
    pub fn violated(&self, key: &str, message: String) -> Violation {
        Violation {
            rule: format!("{self}.{key}"),
            message,
        }
    }
}

impl fmt::Display for Applied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.holder.table(), self.name)
    }
}

/// A request that a rule forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as its place in the config: `tiers.free.max_output`.
    pub rule: String,
    /// What was asked for, what is allowed and what to do: one sentence without a final period. Of the request it holds
    /// figures and names of models and tools only.
    pub message: String,
}
