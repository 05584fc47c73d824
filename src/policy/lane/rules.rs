//! The values that go into a lane: its limits, who asks, what a request needs, and how an answer turned out.

use crate::units::Priority;

/// A minute, in milliseconds.
pub(super) const MINUTE_MS: u64 = 60_000;

/// So many in so much time. Neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub amount: u64,
    /// In how many milliseconds: `{ amount: 1, per_ms: 2_000 }` is one every other second.
    pub per_ms: u64,
}

/// The limits of a lane. `None` is no limit; a limit of 0 is none either, for nothing could ever pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at a time.
    pub concurrency: Option<u32>,
    /// Requests per second, evenly spaced.
    pub requests_per_second: Option<Rate>,
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Input and output tokens together, per minute.
    pub tokens_per_minute: Option<u64>,
    /// Input tokens per minute.
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens per minute.
    pub output_tokens_per_minute: Option<u64>,
    /// Requests per day: in any 24 hours, so that the day's first hour does not matter.
    pub requests_per_day: Option<u64>,
}

/// How the provider charges tokens of an answer before it knows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReserveRule {
    /// The output cap when it admits the request, corrected to what was used when the answer ends (Anthropic).
    #[default]
    CapCorrected,
    /// Estimated prompt and output cap when it admits the request, and that is kept (OpenAI).
    CapKept,
    /// Nothing before the answer has ended. The lane holds what it expects itself.
    Nothing,
}

/// How a lane is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneRules {
    /// What the user has configured: never exceeded, whatever the provider says.
    pub limits: Limits,
    /// Where learning starts, for each limit that is not configured. Used only with `learn`.
    pub start: Limits,
    /// How the provider charges.
    pub reserve: ReserveRule,
    /// Whether limits are learned from headers and refusals. Without it, the configured ones still shrink for a while
    /// when the provider refuses what fits into them.
    pub learn: bool,
    /// The most requests that wait.
    pub max_waiting: usize,
}

impl Default for LaneRules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            start: Limits::default(),
            reserve: ReserveRule::default(),
            learn: true,
            max_waiting: 10_000,
        }
    }
}

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// How urgent.
    pub priority: Priority,
    /// The session.
    pub session: &'a str,
    /// The agent inside the session; empty where none is stated.
    pub agent: &'a str,
}

/// What a request takes of its lane's limits, in tokens as the provider counts them (Anthropic: without cache reads).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Estimated input.
    pub input_tokens: u64,
    /// The output cap that the request states.
    pub output_cap: Option<u64>,
    /// The output that such requests usually have.
    pub expected_output: u64,
}

impl Need {
    /// The output that is expected: never more than the cap.
    pub(super) fn output(&self) -> u64 {
        self.output_cap
            .map_or(self.expected_output, |cap| cap.min(self.expected_output))
    }

    /// What it weighs in its turn.
    pub(super) fn weight(&self) -> u64 {
        self.input_tokens.saturating_add(self.output())
    }
}

/// What a request has used, in tokens as the provider counts them against the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Input.
    pub input_tokens: u64,
    /// Output.
    pub output_tokens: u64,
}

/// How an answer began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The provider took the request.
    Ok,
    /// It refused it for its limits (429).
    RateLimited,
    /// It refused it because it is overloaded (529, 503): says nothing about the caller's limits.
    Overloaded,
    /// Anything else that says nothing about limits: other statuses, a broken connection, no answer in time.
    Failed,
}

/// Why a lane rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseReason {
    /// The provider refused a request for its limits.
    RateLimited,
    /// The provider said that it is overloaded.
    Overloaded,
    /// The breaker is open. Only probes pass.
    BreakerOpen,
}

impl PauseReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::RateLimited, Self::Overloaded, Self::BreakerOpen];

    /// The name in metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::BreakerOpen => "breaker_open",
        }
    }
}
