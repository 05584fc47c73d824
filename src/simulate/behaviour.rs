//! How one answer is to behave: its figures, its pace, its faults.
//!
//! Three sources say something, the later one wins: the settings, the script's rules, the request's `x-simulate-*`
//! headers. Each leaves open what it does not name. Pure: time, sockets and counters are elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Prefix of the request headers that steer an answer.
const PREFIX: &str = "x-simulate-";

const MAX_TOKENS: u64 = Behaviour::MAX_TOKENS;

/// What is asked of an answer. `None` leaves it to the next source, and in the end to the defaults named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Input tokens in all, those of the cache included. Else a quarter of the request's bytes of text.
    #[serde(deserialize_with = "tokens")]
    pub input_tokens: Option<u64>,
    /// Output tokens, reasoning included; the request's own maximum still cuts them. Else 16.
    #[serde(deserialize_with = "tokens")]
    pub output_tokens: Option<u64>,
    /// Part of the input that was read from the provider's cache. Raises the input if it is larger.
    #[serde(deserialize_with = "tokens")]
    pub cached_tokens: Option<u64>,
    /// Part of the input that was written to the provider's cache. Raises the input as well.
    #[serde(deserialize_with = "tokens")]
    pub cache_write_tokens: Option<u64>,
    /// Part of the cache writes that lives an hour (Anthropic).
    #[serde(deserialize_with = "tokens")]
    pub cache_write_1h_tokens: Option<u64>,
    /// Part of the output that is reasoning. Else 8 if the request asks for reasoning.
    #[serde(deserialize_with = "tokens")]
    pub reasoning_tokens: Option<u64>,
    /// Time to the answer's head.
    #[serde(deserialize_with = "duration")]
    pub latency: Option<Duration>,
    /// Time before every frame that carries tokens.
    #[serde(deserialize_with = "duration")]
    pub token_pace: Option<Duration>,
    /// How fast tokens are written, where no pace is set: the time of streams, and of answers in one piece as well.
    pub tokens_per_second: Option<NonZeroU64>,
    /// Tokens in one frame of a stream. Else one.
    pub chunk_tokens: Option<NonZeroU64>,
    /// Answers with this error instead, in the dialect's own form.
    #[serde(deserialize_with = "error_status")]
    pub status: Option<StatusCode>,
    /// The wait that an error names, in the way of its dialect.
    #[serde(deserialize_with = "duration")]
    pub retry_after: Option<Duration>,
    /// The error's code, such as `insufficient_quota`.
    pub error_code: Option<String>,
    /// Closes the connection without any answer.
    pub drop: Option<bool>,
    /// Never answers.
    pub hang: Option<bool>,
    /// Frames after which the connection is torn down in mid-answer.
    pub cut_after: Option<u64>,
    /// How it is torn down. Else by a TCP reset.
    pub cut_by: Option<CutBy>,
    /// Frames after which the answer ends cleanly, without the events that belong to an end.
    pub end_after: Option<u64>,
    /// Frames after which an error event comes, then the end.
    pub error_after: Option<u64>,
    /// Frames after which nothing comes any more.
    pub hang_after: Option<u64>,
    /// Compresses the answer.
    pub encoding: Option<Encoding>,
    /// Which OpenAI-compatible provider to be like.
    pub flavour: Option<Flavour>,
    /// The model that the answer names. Else the one that was asked for.
    pub model: Option<String>,
    /// Leaves all usage out of the answer.
    pub no_usage: Option<bool>,
    /// Calls this tool of the request's, or its first one by `any`, even if the request leaves it to the model.
    pub tool: Option<String>,
    /// Headers of the answer instead of its own, whatever they say; one without a value is left out.
    #[serde(deserialize_with = "headers")]
    pub headers: Option<Vec<(HeaderName, HeaderValue)>>,
}

/// How a connection is torn down in mid-answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutBy {
    /// TCP reset. Over HTTP/2 the stream is reset and the connection lives.
    Reset,
    /// The socket is closed although the body is not at its end.
    Close,
}

/// What goes wrong in mid-answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is torn down.
    Cut(CutBy),
    /// A clean end, too early.
    End,
    /// An error event, then the end.
    Error,
    /// Silence.
    Hang,
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident, $what:literal: $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// The name used in headers, scripts and flags.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok($type::$variant),)+
                    _ => Err(format!(concat!($what, " `{}` is unknown: one of {} expected"), text, [$($name),+].join(", "))),
                }
            }
        }
    };
}

names! {
    /// Content encodings of an answer.
    Encoding, "encoding":
    /// RFC 1952.
    Gzip = "gzip",
    /// RFC 1950 (zlib), as HTTP means it.
    Deflate = "deflate",
    /// RFC 7932.
    Brotli = "br",
    /// RFC 8878.
    Zstd = "zstd",
}

names! {
    /// Providers that speak OpenAI's chat format, each a little differently.
    Flavour, "flavour":
    /// OpenAI itself.
    OpenAi = "openai",
    /// Azure: a first chunk without choices, headers of its own.
    Azure = "azure",
    /// OpenRouter: comments, usage always, with its cost.
    OpenRouter = "openrouter",
    /// Groq: usage in `x_groq` of the finish chunk.
    Groq = "groq",
    /// Mistral: usage on the finish chunk.
    Mistral = "mistral",
    /// Together: usage on the finish chunk.
    Together = "together",
    /// DeepSeek: cache hits and misses, comments, visible reasoning.
    DeepSeek = "deepseek",
    /// xAI: reasoning outside the completion tokens.
    Xai = "xai",
    /// llama.cpp's server: `timings`.
    LlamaCpp = "llamacpp",
    /// vLLM: usage on every chunk.
    Vllm = "vllm",
}

impl Behaviour {
    /// Largest token count that may be asked for: an answer is bounded, whatever a header says.
    pub const MAX_TOKENS: u64 = 1_000_000;

    /// Lets `later` decide whatever it names.
    pub fn overlay(&mut self, later: &Behaviour) {
        macro_rules! take {
            ($($field:ident),+) => {
                $(if later.$field.is_some() { self.$field.clone_from(&later.$field); })+
            };
        }
        take!(
            input_tokens,
            output_tokens,
            cached_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            reasoning_tokens,
            latency,
            token_pace,
            tokens_per_second,
            chunk_tokens,
            status,
            retry_after,
            error_code,
            drop,
            hang,
            cut_after,
            cut_by,
            end_after,
            error_after,
            hang_after,
            encoding,
            flavour,
            model,
            no_usage,
            tool,
            headers
        );
    }

    /// Lets the request's `x-simulate-*` headers decide what they name.
    ///
    /// # Errors
    /// A header of that prefix which is unknown or does not hold what it should: a test that misspells one must not
    /// pass by luck.
    pub(super) fn overlay_headers(&mut self, headers: &HeaderMap) -> Result<(), String> {
        for (name, value) in headers {
            let Some(key) = name.as_str().strip_prefix(PREFIX) else {
                continue;
            };
            value
                .to_str()
                .map_err(|_| "not text".to_owned())
                .and_then(|text| self.set(key, text.trim()))
                .map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "input-tokens" => self.input_tokens = Some(number(text, MAX_TOKENS)?),
            "output-tokens" => self.output_tokens = Some(number(text, MAX_TOKENS)?),
            "cached-tokens" => self.cached_tokens = Some(number(text, MAX_TOKENS)?),
            "cache-write-tokens" => self.cache_write_tokens = Some(number(text, MAX_TOKENS)?),
            "cache-write-1h-tokens" => self.cache_write_1h_tokens = Some(number(text, MAX_TOKENS)?),
            "reasoning-tokens" => self.reasoning_tokens = Some(number(text, MAX_TOKENS)?),
            "latency-ms" => self.latency = Some(Duration::from_millis(number(text, u64::MAX)?)),
            "token-ms" => self.token_pace = Some(Duration::from_millis(number(text, u64::MAX)?)),
            "tokens-per-second" => {
                self.tokens_per_second = Some(at_least_one(number(text, u64::MAX)?)?);
            }
            "chunk-tokens" => self.chunk_tokens = Some(at_least_one(number(text, MAX_TOKENS)?)?),
            "status" => self.status = Some(error_code_of(number(text, 999)?)?),
            "retry-after" => self.retry_after = Some(seconds(text)?),
            "error-code" => self.error_code = Some(text.to_owned()),
            "drop" => self.drop = Some(flag(text)?),
            "hang" => self.hang = Some(flag(text)?),
            "cut-after" => self.cut_after = Some(number(text, u64::MAX)?),
            "cut-by" => {
                self.cut_by = Some(match text {
                    "reset" => CutBy::Reset,
                    "close" => CutBy::Close,
                    _ => return Err(format!("`{text}` is unknown: reset or close expected")),
                });
            }
            "end-after" => self.end_after = Some(number(text, u64::MAX)?),
            "error-after" => self.error_after = Some(number(text, u64::MAX)?),
            "hang-after" => self.hang_after = Some(number(text, u64::MAX)?),
            "encoding" => self.encoding = Some(text.parse()?),
            "flavour" => self.flavour = Some(text.parse()?),
            "model" => self.model = Some(text.to_owned()),
            "no-usage" => self.no_usage = Some(flag(text)?),
            "tool" => self.tool = Some(text.to_owned()),
            "header" => {
                let (name, value) = text.split_once(':').ok_or("NAME: VALUE expected")?;
                let header = answer_header(name.trim(), value.trim())?;
                self.headers.get_or_insert_default().push(header);
            }
            _ => return Err("no such header; `tollgate simulate --help` lists them".to_owned()),
        }
        Ok(())
    }

    /// The fault that strikes first, and after how many frames.
    pub(super) fn fault(&self) -> Option<(u64, Fault)> {
        [
            (
                self.cut_after,
                Fault::Cut(self.cut_by.unwrap_or(CutBy::Reset)),
            ),
            (self.error_after, Fault::Error),
            (self.end_after, Fault::End),
            (self.hang_after, Fault::Hang),
        ]
        .into_iter()
        .filter_map(|(after, fault)| Some((after?, fault)))
        .min_by_key(|(after, _)| *after)
    }
}

fn number(text: &str, most: u64) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("`{text}` is not a whole number from 0 to {most}"))
}

fn at_least_one(number: u64) -> Result<NonZeroU64, String> {
    NonZeroU64::new(number).ok_or_else(|| "at least 1 expected".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is not a number of seconds"))
}

fn answer_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = (name.parse(), value.parse());
    match parsed {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(format!("`{name}: {value}` is no header")),
    }
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "" | "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

fn error_code_of(status: u64) -> Result<StatusCode, String> {
    u16::try_from(status)
        .ok()
        .filter(|status| (400..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| format!("`{status}` is not an error status from 400 to 599"))
}

fn tokens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let count = u64::deserialize(deserializer)?;
    if count > MAX_TOKENS {
        return Err(D::Error::custom(format!(
            "{count} tokens are more than the {MAX_TOKENS} that are allowed"
        )));
    }
    Ok(Some(count))
}

fn error_status<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<StatusCode>, D::Error> {
    error_code_of(u64::deserialize(deserializer)?)
        .map(Some)
        .map_err(D::Error::custom)
}

fn headers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<(HeaderName, HeaderValue)>>, D::Error> {
    BTreeMap::<String, String>::deserialize(deserializer)?
        .iter()
        .map(|(name, value)| answer_header(name, value).map_err(D::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Reads a duration such as `50ms` or `1m 30s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map(Some)
        .map_err(|problem| {
            D::Error::custom(format!(
                "`{text}` is no duration such as 50ms or 2s: {problem}"
            ))
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn from_headers(pairs: &[(&'static str, &'static str)]) -> Result<Behaviour, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut behaviour = Behaviour {
            output_tokens: Some(3),
            input_tokens: Some(4),
            ..Behaviour::default()
        };
        behaviour.overlay_headers(&headers).map(|()| behaviour)
    }

    #[test]
    fn headers_win_and_leave_the_rest() {
        let behaviour = from_headers(&[
            ("accept", "*/*"),
            ("x-simulate-output-tokens", "7"),
            ("x-simulate-latency-ms", "50"),
            ("x-simulate-retry-after", "1.5"),
            ("x-simulate-no-usage", "1"),
            ("x-simulate-flavour", "groq"),
        ])
        .unwrap();
        assert_eq!(behaviour.output_tokens, Some(7));
        assert_eq!(behaviour.input_tokens, Some(4));
        assert_eq!(behaviour.latency, Some(Duration::from_millis(50)));
        assert_eq!(behaviour.retry_after, Some(Duration::from_millis(1500)));
        assert_eq!(behaviour.no_usage, Some(true));
        assert_eq!(behaviour.flavour, Some(Flavour::Groq));
    }

    #[test]
    fn a_misspelt_or_senseless_header_is_an_error_that_names_it() {
        for (name, value, says) in [
            ("x-simulate-outputtokens", "7", "no such header"),
            ("x-simulate-output-tokens", "-1", "whole number"),
            ("x-simulate-output-tokens", "1000001", "1000000"),
            ("x-simulate-status", "200", "error status"),
            ("x-simulate-encoding", "lzma", "gzip, deflate, br, zstd"),
            ("x-simulate-chunk-tokens", "0", "at least 1"),
            ("x-simulate-hang", "maybe", "neither"),
            ("x-simulate-retry-after", "-1", "seconds"),
            ("x-simulate-header", "retry-after", "NAME: VALUE"),
            ("x-simulate-header", "a b: 1", "no header"),
        ] {
            let problem = from_headers(&[(name, value)]).unwrap_err();
            assert!(
                problem.starts_with(name) && problem.contains(says),
                "{problem}"
            );
        }
    }

    #[test]
    fn the_earliest_fault_strikes() {
        let behaviour = Behaviour {
            cut_after: Some(5),
            end_after: Some(2),
            ..Behaviour::default()
        };
        assert_eq!(behaviour.fault(), Some((2, Fault::End)));
        assert_eq!(Behaviour::default().fault(), None);
    }
}
