//! What an answer says about the limits it was counted against, as far as a lane learns from it.

use std::time::Duration;

/// What one answer says about its caller's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RateNews {
    /// Requests per minute or shorter.
    pub requests: Option<Quota>,
    /// Requests per day.
    pub requests_day: Option<Quota>,
    /// Tokens of both kinds per minute or shorter. At Anthropic the most restrictive view of input and output.
    pub tokens: Option<Quota>,
    /// Tokens of both kinds per day.
    pub tokens_day: Option<Quota>,
    /// Input tokens per minute.
    pub input_tokens: Option<Quota>,
    /// Output tokens per minute.
    pub output_tokens: Option<Quota>,
}

/// One limit as the provider counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most that passes in a window.
    pub limit: Option<u64>,
    /// What is left, already lowered by what the provider has reserved; often rounded (Anthropic: to thousands).
    pub remaining: Option<u64>,
    /// Time until all of it is left again, or until the window ends.
    pub resets_in: Option<Duration>,
    /// The window that `limit` counts in; a minute where it is not told.
    pub window: Option<Duration>,
}
