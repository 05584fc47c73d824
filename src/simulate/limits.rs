//! The limits that a simulated provider enforces, as they are configured.
//!
//! Every credential has its own, and of each credential every class of models: models whose name fits the same pattern
//! share a pool, and under `*` every model has one of its own. Of several patterns that fit the longest counts.
//!
//! ```toml
//! minute = "6s"                       # how long a minute lasts: seconds and days are scaled with it
//!
//! [class."*"]
//! requests_per_minute = 50            # may be used one by one, evenly: see request_burst
//! input_tokens_per_minute = 30_000
//!
//! [class."claude-opus*"]
//! concurrency = 4
//! headers = "none"
//! ```

mod bucket;
mod need;
mod pool;
mod pools;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub(super) use need::{Exceeded, Need, Reason};
pub(super) use pools::{Permit, Pools};

use super::behaviour::duration;
use super::script::ScriptError;

/// The class of all models that no other pattern fits.
const EVERY_MODEL: &str = "*";

/// Longest minute: beyond it day-long windows would not fit the arithmetic comfortably.
const MAX_MINUTE: Duration = Duration::from_secs(3600);

/// All limits of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long a minute lasts, up to an hour.
    #[serde(deserialize_with = "minute")]
    pub minute: Duration,
    /// By pattern of the model: a name, or the beginning of one with `*` behind it.
    pub class: BTreeMap<String, ClassLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            minute: Duration::from_secs(60),
            class: BTreeMap::new(),
        }
    }
}

/// The limits of one class. What is not named is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassLimits {
    /// Requests at the same time. Refusals for it name no wait.
    pub concurrency: Option<NonZeroU64>,
    /// Requests in a sixtieth of a minute.
    pub requests_per_second: Option<NonZeroU64>,
    /// Requests per minute, refilled continuously.
    pub requests_per_minute: Option<NonZeroU64>,
    /// Requests in 1440 minutes, refilled continuously.
    pub requests_per_day: Option<NonZeroU64>,
    /// Input and output tokens together.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Input tokens.
    pub input_tokens_per_minute: Option<NonZeroU64>,
    /// Output tokens.
    pub output_tokens_per_minute: Option<NonZeroU64>,
    /// The stretch of an unscaled minute whose requests may come at once. Else a second, as real providers spread a
    /// minute's requests; one request is always allowed.
    #[serde(deserialize_with = "duration")]
    pub request_burst: Option<Duration>,
    /// The same for tokens. Else the whole minute.
    #[serde(deserialize_with = "duration")]
    pub token_burst: Option<Duration>,
    /// How output counts before it is known. Else as the provider does.
    pub reserve: Option<Reserve>,
    /// Whether tokens read from the cache count. Else as the provider does.
    pub count_cached: Option<bool>,
    /// Whether refused requests take what accepted ones would, into debt up to a window's worth.
    pub charge_refused: Option<bool>,
    /// What the headers say.
    pub headers: Option<Headers>,
    /// The wait that every refusal names. Else the time until the request would fit.
    #[serde(deserialize_with = "duration")]
    pub retry_after: Option<Duration>,
    /// Time to a refusal's head.
    #[serde(deserialize_with = "duration")]
    pub refusal_latency: Option<Duration>,
}

/// How a provider counts output before it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reserve {
    /// By the request's maximum, corrected when the answer has ended (Anthropic).
    #[default]
    Corrected,
    /// By the request's maximum, for good; without one by what was written (OpenAI).
    Kept,
    /// Not at all: what was written is charged when the answer has ended.
    Nothing,
}

/// What the rate-limit headers, and the waits in bodies, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Headers {
    /// The truth, in the provider's own format.
    Own,
    /// There are none, also no `retry-after`.
    None,
    /// That all is left, and that a millisecond is enough to wait.
    Lie,
}

fn minute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    use serde::de::Error as _;
    let minute = duration(deserializer)?.unwrap_or_default();
    if minute.is_zero() || minute > MAX_MINUTE {
        return Err(D::Error::custom(
            "minute: more than 0 and at most 1h expected",
        ));
    }
    Ok(minute)
}

impl FromStr for Limits {
    type Err = ScriptError;

    /// Reads limits from TOML.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, a value out of range, `*` elsewhere than at a pattern's end.
    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let limits: Self = toml::from_str(text)?;
        match limits
            .class
            .keys()
            .find(|pattern| pattern.trim_end_matches('*').contains('*') || pattern.ends_with("**"))
        {
            Some(pattern) => Err(ScriptError::new(format!(
                "class `{pattern}`: `*` is only known at the end"
            ))),
            None => Ok(limits),
        }
    }
}

impl Limits {
    /// Sets one limit of all models that have no class of their own, written as `KEY=VALUE`; `minute` too.
    ///
    /// # Errors
    /// No such key, or not a value for it.
    pub fn set(&mut self, assignment: &str) -> Result<(), ScriptError> {
        let (key, value) = assignment
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .ok_or_else(|| ScriptError::new(format!("`{assignment}` is not KEY=VALUE")))?;
        let plain = value == "true" || value == "false" || value.parse::<u64>().is_ok();
        let value = if plain {
            value.to_owned()
        } else {
            toml::Value::from(value).to_string()
        };
        let table = if key == "minute" {
            ""
        } else {
            "[class.\"*\"]\n"
        };
        let one: Limits = format!("{table}{key} = {value}\n").parse().map_err(|_| {
            ScriptError::new(format!(
                "`{assignment}`: no such limit, or not a value for it"
            ))
        })?;
        if key == "minute" {
            self.minute = one.minute;
        }
        for (class, limits) in one.class {
            self.class.entry(class).or_default().overlay(limits);
        }
        Ok(())
    }

    /// The name of the pool that a model belongs to, and its limits.
    fn class_of<'a>(&'a self, model: &'a str) -> Option<(&'a str, &'a ClassLimits)> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => model.starts_with(start),
            None => model == pattern,
        };
        let (pattern, limits) = self
            .class
            .iter()
            .filter(|(pattern, _)| fits(pattern))
            .max_by_key(|(pattern, _)| pattern.len())?;
        let name = if pattern == EVERY_MODEL {
            model
        } else {
            pattern
        };
        Some((name, limits))
    }
}

impl ClassLimits {
    /// Lets `later` decide whatever it names.
    fn overlay(&mut self, later: ClassLimits) {
        macro_rules! take {
            ($($field:ident),+) => {
                $(if later.$field.is_some() { self.$field = later.$field; })+
            };
        }
        take!(
            concurrency,
            requests_per_second,
            requests_per_minute,
            requests_per_day,
            tokens_per_minute,
            input_tokens_per_minute,
            output_tokens_per_minute,
            request_burst,
            token_burst,
            reserve,
            count_cached,
            charge_refused,
            headers,
            retry_after,
            refusal_latency
        );
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_longest_pattern_that_fits_names_the_pool() {
        let limits: Limits = "[class.\"*\"]\nconcurrency = 1\n[class.\"claude-*\"]\nconcurrency = 2\n[class.\"claude-opus-5\"]\nconcurrency = 3"
            .parse()
            .unwrap();
        let of = |model| {
            let (name, class) = limits.class_of(model).unwrap();
            (name.to_owned(), class.concurrency.unwrap().get())
        };
        assert_eq!(of("claude-opus-5"), ("claude-opus-5".to_owned(), 3));
        assert_eq!(of("claude-opus-5-5"), ("claude-*".to_owned(), 2));
        // Models without a class are limited each for itself.
        assert_eq!(of("gpt-6-luna"), ("gpt-6-luna".to_owned(), 1));
        assert!(Limits::default().class_of("gpt-6-luna").is_none());
    }

    #[test]
    fn single_limits_are_laid_over_a_file() {
        let mut limits: Limits = "[class.\"*\"]\nconcurrency = 1\nrequests_per_minute = 2"
            .parse()
            .unwrap();
        for assignment in [
            "requests_per_minute=60",
            "minute=6s",
            "headers=none",
            "charge_refused = true",
            "retry_after=1500ms",
        ] {
            limits.set(assignment).unwrap();
        }
        let class = &limits.class["*"];
        assert_eq!(limits.minute, Duration::from_secs(6));
        assert_eq!(class.concurrency.unwrap().get(), 1);
        assert_eq!(class.requests_per_minute.unwrap().get(), 60);
        assert_eq!(class.headers, Some(Headers::None));
        assert_eq!(class.charge_refused, Some(true));
        assert_eq!(class.retry_after, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn what_cannot_be_a_limit_is_refused_by_name() {
        for assignment in [
            "requests_per_minute",
            "requests_per_minute=0",
            "requests=5",
            "minute=0s",
            "concurrency=-1",
            "headers=maybe",
            "a\nb=1",
        ] {
            let problem = Limits::default().set(assignment).unwrap_err().to_string();
            assert!(problem.contains(assignment), "{problem}");
        }
        for (text, says) in [
            ("[class.\"a*b\"]\nconcurrency = 1", "only known at the end"),
            ("[class.\"a\"]\nrpm = 1", "unknown field `rpm`"),
            ("minute = \"2h\"", "at most 1h"),
            ("concurrency = 1", "unknown field"),
        ] {
            let problem = text.parse::<Limits>().unwrap_err().to_string();
            assert!(problem.contains(says), "{problem}");
        }
    }
}
