//! The rate-limit headers of each provider, and what they say.
//!
//! A [`Standing`] is what a provider knows about its caller's limits at one moment: that of the caller's pool where
//! limits are set, else generous, or used up on a 429 that was asked for. Who counts is elsewhere; how it is told is here.

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

/// All limits of a caller at one moment. What there is no limit for is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Requests per minute.
    pub(super) requests: Option<Window>,
    /// Requests per day.
    pub(super) day: Option<Window>,
    /// Input and output tokens per minute, where they are limited together.
    pub(super) tokens: Option<Window>,
    /// Input tokens per minute.
    pub(super) input: Option<Window>,
    /// Output tokens per minute.
    pub(super) output: Option<Window>,
}

impl Standing {
    /// Far from every limit.
    pub(super) const GENEROUS: Standing = Standing {
        requests: Some(Window {
            limit: 1_000_000,
            remaining: 999_999,
            reset: Duration::from_secs(1),
        }),
        day: None,
        tokens: None,
        input: Some(Window {
            limit: 1_000_000_000,
            remaining: 999_999_000,
            reset: Duration::from_secs(1),
        }),
        output: Some(Window {
            limit: 1_000_000_000,
            remaining: 1_000_000_000,
            reset: Duration::ZERO,
        }),
    };

    /// No input tokens are left for this long.
    pub(super) fn exhausted(wait: Duration) -> Self {
        Self {
            input: Some(Window {
                limit: 1_000_000_000,
                remaining: 0,
                reset: wait,
            }),
            ..Self::GENEROUS
        }
    }

    /// Input and output together: the scarcer of the two decides when.
    fn tokens(&self) -> Option<Window> {
        let both = match (self.input, self.output) {
            (Some(input), Some(output)) => Some(Window {
                limit: input.limit.saturating_add(output.limit),
                remaining: if input.remaining == 0 || output.remaining == 0 {
                    0
                } else {
                    input.remaining.saturating_add(output.remaining)
                },
                reset: input.reset.max(output.reset),
            }),
            (one, other) => one.or(other),
        };
        self.tokens.or(both)
    }
}

/// Adds the headers in which this provider tells a standing. Gemini, Ollama and local servers tell nothing.
///
/// `now` is the time since 1970; `refused` is the wait of a 429.
pub(super) fn write(
    headers: &mut HeaderMap,
    dialect: Dialect,
    flavour: Flavour,
    standing: &Standing,
    now: Duration,
    refused: Option<Duration>,
) {
    match (dialect, flavour) {
        (Dialect::Anthropic, _) => anthropic(headers, standing, now),
        (Dialect::Gemini | Dialect::Ollama, _)
        | (_, Flavour::LlamaCpp | Flavour::Vllm | Flavour::DeepSeek) => {}
        (_, Flavour::OpenRouter) => {
            // Only on refusals, and as a point in time.
            if let (Some(wait), Some(window)) =
                (refused, standing.requests.or_else(|| standing.tokens()))
            {
                let reset = (now + wait).as_millis() as u64;
                headers.insert("x-ratelimit-limit", HeaderValue::from(window.limit));
                headers.insert("x-ratelimit-remaining", HeaderValue::from(0_u64));
                headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
            }
        }
        (_, Flavour::Mistral) => mistral(headers, standing),
        (_, Flavour::Together) => {
            if let Some(requests) = standing.requests {
                put(headers, "x-ratelimit-limit", requests.limit);
                put(headers, "x-ratelimit-remaining", requests.remaining);
                let reset = requests.reset.as_secs_f64().ceil() as u64;
                put(headers, "x-ratelimit-reset", reset);
            }
        }
        // Groq's requests are those of a day.
        (_, Flavour::Groq) => openai(headers, standing.day.or(standing.requests), standing, true),
        (_, Flavour::Azure) => openai(headers, standing.requests, standing, false),
        (_, _) => openai(headers, standing.requests.or(standing.day), standing, true),
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, number: u64) {
    headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
}

fn mistral(headers: &mut HeaderMap, standing: &Standing) {
    let Some(tokens) = standing.tokens() else {
        return;
    };
    put(headers, "x-ratelimitbysize-limit-minute", tokens.limit);
    put(
        headers,
        "x-ratelimitbysize-remaining-minute",
        tokens.remaining,
    );
    put(headers, "ratelimitbysize-limit", tokens.limit);
    put(headers, "ratelimitbysize-remaining", tokens.remaining);
    let reset = tokens.reset.as_secs_f64().ceil() as u64;
    put(headers, "ratelimitbysize-reset", reset.max(1));
}

fn anthropic(headers: &mut HeaderMap, standing: &Standing, now: Duration) {
    macro_rules! window {
        ($name:literal, $window:expr, $rounded:expr) => {
            if let Some(window) = $window {
                put(
                    headers,
                    concat!("anthropic-ratelimit-", $name, "-limit"),
                    window.limit,
                );
                put(
                    headers,
                    concat!("anthropic-ratelimit-", $name, "-remaining"),
                    $rounded(window.remaining),
                );
                headers.insert(
                    HeaderName::from_static(concat!("anthropic-ratelimit-", $name, "-reset")),
                    moment((now + window.reset).as_secs_f64().ceil() as u64),
                );
            }
        };
    }
    // "Rounded to the nearest thousand", as its documentation says of tokens.
    let thousands = |tokens: u64| (tokens + 500) / 1000 * 1000;
    window!("requests", standing.requests, |requests| requests);
    window!("input-tokens", standing.input, thousands);
    window!("output-tokens", standing.output, thousands);
    window!("tokens", standing.tokens(), thousands);
}

/// A moment as Anthropic writes it: RFC 3339, UTC, whole seconds.
fn moment(unix_seconds: u64) -> HeaderValue {
    let moment = i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .unwrap_or_default();
    HeaderValue::try_from(moment.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn openai(
    headers: &mut HeaderMap,
    requests: Option<Window>,
    standing: &Standing,
    with_reset: bool,
) {
    if let Some(requests) = requests {
        put(headers, "x-ratelimit-limit-requests", requests.limit);
        put(
            headers,
            "x-ratelimit-remaining-requests",
            requests.remaining,
        );
        if with_reset {
            headers.insert("x-ratelimit-reset-requests", go_header(requests.reset));
        }
    }
    if let Some(tokens) = standing.tokens() {
        put(headers, "x-ratelimit-limit-tokens", tokens.limit);
        put(headers, "x-ratelimit-remaining-tokens", tokens.remaining);
        if with_reset {
            headers.insert("x-ratelimit-reset-tokens", go_header(tokens.reset));
        }
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
            Duration::from_secs(1_795_262_400),
            None,
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
    fn only_limits_that_there_are_are_told_and_anthropics_tokens_in_thousands() {
        let window = |limit, remaining, millis| {
            Some(Window {
                limit,
                remaining,
                reset: Duration::from_millis(millis),
            })
        };
        let standing = Standing {
            requests: window(50, 3, 500),
            day: window(1_000, 990, 864_500),
            tokens: None,
            input: window(30_000, 11_499, 37_000),
            output: None,
        };
        let headers = told(Dialect::Anthropic, Flavour::OpenAi, &standing);
        assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "3");
        assert_eq!(headers["anthropic-ratelimit-input-tokens-limit"], "30000");
        assert_eq!(
            headers["anthropic-ratelimit-input-tokens-remaining"],
            "11000"
        );
        assert_eq!(headers.len(), 9, "nothing about output: {headers:?}");
        // Groq tells the requests of a day.
        let headers = told(Dialect::OpenAi, Flavour::Groq, &standing);
        assert_eq!(headers["x-ratelimit-limit-requests"], "1000");
        assert_eq!(headers["x-ratelimit-reset-requests"], "14m24.5s");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "11499");
        let headers = told(Dialect::OpenAi, Flavour::OpenAi, &standing);
        assert_eq!(headers["x-ratelimit-remaining-requests"], "3");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "37s");
    }

    #[test]
    fn openrouter_tells_the_moment_of_a_refusals_end_in_milliseconds() {
        let mut headers = HeaderMap::new();
        write(
            &mut headers,
            Dialect::OpenAi,
            Flavour::OpenRouter,
            &Standing::GENEROUS,
            Duration::from_millis(1_795_262_400_100),
            Some(Duration::from_millis(2_500)),
        );
        assert_eq!(headers["x-ratelimit-reset"], "1795262402600");
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
