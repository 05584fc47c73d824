//! How each provider calls the limit that refused a request.

use super::limits::{Exceeded, Reason};

/// Anthropic's sentence about a limit.
pub(super) fn anthropic(exceeded: Exceeded) -> String {
    let what = match exceeded.reason {
        Reason::Concurrency => {
            return "Number of concurrent connections has exceeded your rate limit.".to_owned();
        }
        Reason::RequestsPerSecond => "requests per second",
        Reason::Requests => "requests per minute",
        Reason::RequestsPerDay => "requests per day",
        Reason::Tokens => "tokens per minute",
        Reason::InputTokens => "input tokens per minute",
        Reason::OutputTokens => "output tokens per minute",
    };
    format!(
        "This request would exceed your organization's rate limit of {} {what}.",
        exceeded.limit
    )
}

/// OpenAI's type and words for a limit.
pub(super) const fn openai(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Requests => ("requests", "requests per min (RPM)"),
        Reason::RequestsPerDay => ("requests", "requests per day (RPD)"),
        Reason::RequestsPerSecond => ("requests", "requests per sec (RPS)"),
        Reason::Concurrency => ("requests", "concurrent requests"),
        Reason::Tokens | Reason::InputTokens | Reason::OutputTokens => {
            ("tokens", "tokens per min (TPM)")
        }
    }
}

/// Google's id of a quota; without a reason, that of the free tier.
pub(super) const fn gemini(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::Tokens | Reason::InputTokens | Reason::OutputTokens) => {
            "GenerateContentInputTokensPerModelPerMinute"
        }
        Some(Reason::RequestsPerDay) => "GenerateRequestsPerDayPerProjectPerModel",
        Some(Reason::Requests | Reason::RequestsPerSecond | Reason::Concurrency) => {
            "GenerateRequestsPerMinutePerProjectPerModel"
        }
        None => "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
    }
}
