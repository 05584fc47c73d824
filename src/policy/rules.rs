//! What a tier, a team or a key may ask for at all, apart from budgets. A violation is final and names its rule.

use super::priority::Pattern;
use crate::units::Priority;

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
}
