//! The rate-limit headers of each provider, and what they say.
//!
//! A [`Standing`] is what a provider knows about its caller's limits at one moment; today it is always generous, or,
//! on a simulated 429, used up. Whoever counts real buckets makes the standing; how it is told stays here.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::behaviour::Flavour;
use crate::llm::wire::Dialect;

/// One limit: how much, how much of it is left, when it will be whole again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Largest amount.
    pub(super) limit: u64,
    /// What is left.
    pub(super) remaining: u64,
    /// Time until all is left again.
    pub(super) reset: Duration,
}

/// All limits of a caller at one moment. Tokens are per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Requests per minute.
    pub(super) requests: Window,
    /// Fresh input tokens.
    pub(super) input: Window,
    /// Output tokens.
    pub(super) output: Window,
}

impl Standing {
    /// Far from every limit.
    pub(super) const GENEROUS: Standing = Standing {
        requests: Window {
            limit: 1_000_000,
            remaining: 999_999,
            reset: Duration::from_secs(1),
        },
        input: Window {
            limit: 1_000_000_000,
            remaining: 999_999_000,
            reset: Duration::from_secs(1),
        },
        output: Window {
            limit: 1_000_000_000,
            remaining: 1_000_000_000,
            reset: Duration::ZERO,
        },
    };

    /// No input tokens are left for this long.
    pub(super) fn exhausted(wait: Duration) -> Self {
        let mut standing = Self::GENEROUS;
        standing.input.remaining = 0;
        standing.input.reset = wait;
        standing
    }

    /// Input and output together: the scarcer of the two decides when.
    fn tokens(&self) -> Window {
        Window {
            limit: self.input.limit.saturating_add(self.output.limit),
            remaining: if self.input.remaining == 0 || self.output.remaining == 0 {
                0
            } else {
                self.input.remaining.saturating_add(self.output.remaining)
            },
            reset: self.input.reset.max(self.output.reset),
        }
    }
}

/// Adds the headers in which this provider tells a standing. Gemini, Ollama and local servers tell nothing.
///
/// `now` is in seconds since 1970; `refused` is set on a 429.
pub(super) fn write(
    headers: &mut HeaderMap,
    dialect: Dialect,
    flavour: Flavour,
    standing: &Standing,
    now: u64,
    refused: bool,
) {
    match (dialect, flavour) {
        (Dialect::Anthropic, _) => anthropic(headers, standing, now),
        (Dialect::Gemini | Dialect::Ollama, _)
        | (_, Flavour::LlamaCpp | Flavour::Vllm | Flavour::DeepSeek) => {}
        // Only on refusals, and as a point in time.
        (_, Flavour::OpenRouter) if refused => {
            let reset = now.saturating_mul(1000) + standing.input.reset.as_millis() as u64;
            headers.insert("x-ratelimit-limit", HeaderValue::from(20_u64));
            headers.insert("x-ratelimit-remaining", HeaderValue::from(0_u64));
            headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
        }
        (_, Flavour::OpenRouter) => {}
        (_, Flavour::Mistral) => {
            let tokens = standing.tokens();
            headers.insert(
                "x-ratelimitbysize-limit-minute",
                HeaderValue::from(tokens.limit),
            );
            headers.insert(
                "x-ratelimitbysize-remaining-minute",
                HeaderValue::from(tokens.remaining),
            );
            headers.insert("ratelimitbysize-limit", HeaderValue::from(tokens.limit));
            headers.insert(
                "ratelimitbysize-remaining",
                HeaderValue::from(tokens.remaining),
            );
            headers.insert(
                "ratelimitbysize-reset",
                HeaderValue::from(tokens.reset.as_secs().max(1)),
            );
        }
        (_, Flavour::Together) => {
            headers.insert(
                "x-ratelimit-limit",
                HeaderValue::from(standing.requests.limit),
            );
            headers.insert(
                "x-ratelimit-remaining",
                HeaderValue::from(standing.requests.remaining),
            );
            headers.insert(
                "x-ratelimit-reset",
                HeaderValue::from(standing.requests.reset.as_secs()),
            );
        }
        (_, flavour) => openai(headers, standing, flavour != Flavour::Azure),
    }
}

fn anthropic(headers: &mut HeaderMap, standing: &Standing, now: u64) {
    macro_rules! window {
        ($name:literal, $window:expr) => {
            let window = $window;
            headers.insert(
                HeaderName::from_static(concat!("anthropic-ratelimit-", $name, "-limit")),
                HeaderValue::from(window.limit),
            );
            headers.insert(
                HeaderName::from_static(concat!("anthropic-ratelimit-", $name, "-remaining")),
                HeaderValue::from(window.remaining),
            );
            headers.insert(
                HeaderName::from_static(concat!("anthropic-ratelimit-", $name, "-reset")),
                moment(now + window.reset.as_secs_f64().ceil() as u64),
            );
        };
    }
    window!("requests", standing.requests);
    window!("input-tokens", standing.input);
    window!("output-tokens", standing.output);
    window!("tokens", standing.tokens());
}

/// A moment as Anthropic writes it: RFC 3339, UTC, whole seconds.
fn moment(unix_seconds: u64) -> HeaderValue {
    let moment = i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .unwrap_or_default();
    HeaderValue::try_from(moment.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn openai(headers: &mut HeaderMap, standing: &Standing, with_reset: bool) {
    let (requests, tokens) = (standing.requests, standing.tokens());
    headers.insert(
        "x-ratelimit-limit-requests",
        HeaderValue::from(requests.limit),
    );
    headers.insert("x-ratelimit-limit-tokens", HeaderValue::from(tokens.limit));
    headers.insert(
        "x-ratelimit-remaining-requests",
        HeaderValue::from(requests.remaining),
    );
    headers.insert(
        "x-ratelimit-remaining-tokens",
        HeaderValue::from(tokens.remaining),
    );
    if with_reset {
        headers.insert("x-ratelimit-reset-requests", go_header(requests.reset));
        headers.insert("x-ratelimit-reset-tokens", go_header(tokens.reset));
    }
}

fn go_header(duration: Duration) -> HeaderValue {
    HeaderValue::try_from(go_duration(duration)).unwrap_or_else(|_| HeaderValue::from_static("0s"))
}

/// A duration as Go prints it, which is how OpenAI does: `120ms`, `1.5s`, `6m0s`, `1h2m3.5s`.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 {
            "0s".to_owned()
        } else {
            format!("{millis}ms")
        };
    }
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let mut seconds = format!("{}", rest / 1000);
    if rest % 1000 > 0 {
        seconds.push_str(format!(".{:03}", rest % 1000).trim_end_matches('0'));
    }
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(dialect: Dialect, flavour: Flavour, standing: &Standing) -> HeaderMap {
        let mut headers = HeaderMap::new();
        write(
            &mut headers,
            dialect,
            flavour,
            standing,
            1_795_262_400,
            false,
        );
        headers
    }

    #[test]
    fn anthropic_resets_are_moments_in_utc() {
        let headers = told(
            Dialect::Anthropic,
            Flavour::OpenAi,
            &Standing::exhausted(Duration::from_millis(16_200)),
        );
        assert_eq!(
            headers["anthropic-ratelimit-input-tokens-reset"],
            "2026-11-21T12:00:17Z"
        );
        assert_eq!(headers["anthropic-ratelimit-input-tokens-remaining"], "0");
        assert_eq!(headers["anthropic-ratelimit-tokens-remaining"], "0");
        assert_eq!(
            headers["anthropic-ratelimit-output-tokens-remaining"],
            "1000000000"
        );
        assert_eq!(headers.len(), 12);
    }

    #[test]
    fn openai_resets_are_go_durations_and_the_silent_ones_are_silent() {
        let standing = Standing::exhausted(Duration::from_millis(960));
        let headers = told(Dialect::OpenAi, Flavour::OpenAi, &standing);
        assert_eq!(headers["x-ratelimit-reset-tokens"], "960ms");
        assert!(told(Dialect::Gemini, Flavour::OpenAi, &standing).is_empty());
        assert!(told(Dialect::OpenAi, Flavour::Vllm, &standing).is_empty());
        assert!(told(Dialect::OpenAi, Flavour::OpenRouter, &standing).is_empty());
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (120, "120ms"),
            (1_500, "1.5s"),
            (7_660, "7.66s"),
            (360_000, "6m0s"),
            (3_723_500, "1h2m3.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
