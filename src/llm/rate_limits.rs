//! What a provider says about its limits, in the head of an answer and in the body of an error, whoever the provider is.
//!
//! Every format is told by the header's name and the value's shape, so that a provider behind another's name is read as
//! well. Nothing here trusts what it reads: each figure has bounds, a value that is none is as good as absent, and of two
//! that contradict each other the stricter counts.

mod error;
mod head;
mod moment;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::error::read_error;

/// Windows in which providers count.
pub const SECOND: Duration = Duration::from_secs(1);
/// See [`SECOND`].
pub const MINUTE: Duration = Duration::from_secs(60);
/// See [`SECOND`].
pub const DAY: Duration = Duration::from_secs(86_400);

/// Longest time that any figure here can name: past a month every provider has forgotten.
pub const MAX_WAIT: Duration = Duration::from_secs(32 * 86_400);

/// Largest amount that any figure here can name, in requests or tokens.
pub const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

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
    /// How the subscription behind the credential stands, where there is one (Claude, ChatGPT).
    pub plan: Plan,
    /// The wait that the answer asks for in so many words, at most [`MAX_WAIT`]; the longest if it names several.
    /// Never zero: a wait of nothing asks for nothing.
    pub retry_after: Option<Duration>,
    /// `x-should-retry`.
    pub should_retry: Option<bool>,
    /// The error names a quota that no wait of minutes refills: per day, per month, or a limit of 0.
    pub spent: bool,
}

/// One limit as the provider counts it. At most [`MAX_AMOUNT`] and [`MAX_WAIT`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most that passes in a window; never 0, which some send for "not limited".
    pub limit: Option<u64>,
    /// What is left. Already lowered by what the provider has reserved for running requests, and often rounded
    /// (Anthropic: to thousands). Never above `limit`.
    pub remaining: Option<u64>,
    /// Time until all of it is left again (Anthropic, OpenAI, Groq refill continuously), or until the window ends.
    /// Zero for a moment that has passed.
    pub resets_in: Option<Duration>,
    /// The window that `limit` counts in, where the name or the figures tell it. `None` is a minute at most providers;
    /// at Together and OpenRouter it may be less.
    pub window: Option<Duration>,
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nothing more passes before `resets_in`.
    pub rejected: bool,
    /// Time until it passes again, or until the window that binds ends.
    pub resets_in: Option<Duration>,
    /// The shorter window: five hours at both.
    pub short: Option<PlanWindow>,
    /// The longer window: a week at both.
    pub long: Option<PlanWindow>,
}

/// One window of a subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanWindow {
    /// How much of it is used, in millionths: 700,000 is 70 %. At most 10,000,000.
    pub used_ppm: u32,
    /// Time until it ends.
    pub resets_in: Option<Duration>,
    /// Its length, where it is told.
    pub window: Option<Duration>,
}

impl RateNews {
    /// How long a refused caller is told to stay away: what is asked for in words, or until a subscription passes again,
    /// the longer of both; else until all quotas that are used up are whole. Meant for answers with an error only.
    ///
    /// A reset does not lengthen a wait that was named: limits refill continuously, so a reset is the time until
    /// everything is back, a minute for a bucket that takes the next request in a second.
    pub fn asked(&self) -> Option<Duration> {
        let plan = self.plan.resets_in.filter(|_| self.plan.rejected);
        let used_up = || {
            let quotas = [
                self.requests,
                self.requests_day,
                self.tokens,
                self.tokens_day,
                self.input_tokens,
                self.output_tokens,
            ];
            let empty = quotas.into_iter().flatten();
            let empty = empty.filter(|quota| quota.remaining == Some(0));
            empty.filter_map(|quota| quota.resets_in).max()
        };
        let asked = self.retry_after.max(plan).or_else(used_up);
        asked.filter(|wait| !wait.is_zero())
    }

    /// Takes in a wait that the answer names.
    fn asks(&mut self, wait: Option<Duration>) {
        let Some(wait) = wait.filter(|wait| !wait.is_zero()) else {
            return;
        };
        self.retry_after = Some(self.retry_after.map_or(wait, |other| longer(other, wait)));
    }

    /// Takes in what another place of the same answer says.
    fn join(&mut self, other: &RateNews) {
        self.asks(other.retry_after);
        self.spent |= other.spent;
        self.should_retry = match (self.should_retry, other.should_retry) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        for (slot, quota) in [
            (&mut self.requests, other.requests),
            (&mut self.requests_day, other.requests_day),
            (&mut self.tokens, other.tokens),
            (&mut self.tokens_day, other.tokens_day),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.output_tokens, other.output_tokens),
        ] {
            *slot = match (*slot, quota) {
                (Some(one), Some(other)) => Some(one.stricter(other)),
                (one, other) => one.or(other),
            };
        }
    }
}

/// The longer of two waits that one answer names. Whole seconds that are the other wait rounded up (`retry-after: 8` beside
/// `retry-after-ms: 7420`) say the same as that one, less exactly.
fn longer(one: Duration, other: Duration) -> Duration {
    let (short, long) = (one.min(other), one.max(other));
    let rounded_up = long.subsec_nanos() == 0 && long - short < SECOND;
    if rounded_up { short } else { long }
}
