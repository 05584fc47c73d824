//! The one table of failures, for all providers: which can pass by themselves, which cannot, and which may have been
//! billed; and what each says of the provider's health.
//!
//! Names go before statuses, a provider's `x-should-retry` before both, save that nothing makes spent money come back. Of
//! two names the more precise one counts (`code` before `type`).

use std::time::Duration;

use super::MAX_PAUSE;
use crate::llm::rate_limits::RateNews;
use crate::llm::reading::AnswerError;

/// How an attempt failed.
#[derive(Debug, Clone, Copy)]
pub enum Failed<'a> {
    /// The provider answered with an error: by its status, or inside an answer with a status below 400, as the first
    /// thing in it.
    Answered {
        /// The answer's status.
        status: u16,
        /// The error's names.
        error: &'a AnswerError,
    },
    /// An answer with status 200 that ended without a byte where there had to be one.
    Empty,
    /// No connection.
    Connect,
    /// No TLS: a certificate that is not trusted, or no TLS at the other end.
    Tls,
    /// The connection was lost before the answer began.
    Closed(Sent),
    /// What came back is not HTTP.
    Invalid,
    /// The client's own body broke off.
    RequestBody,
    /// No answer, or nothing of its body, within the time limit.
    TimedOut,
}

/// How much of a request had gone out when the connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing, or the provider said that it had not looked at it.
    Nothing,
    /// A part, which no provider can have worked on.
    Part,
    /// All of it.
    Whole,
}

/// Whether a failure can pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It can.
    Transient {
        /// Whether it met the whole line and not only this request. A 429 did; a stray 529 did not.
        pauses_lane: bool,
    },
    /// The same request fails again, for as long as it makes sense to wait.
    Terminal,
    /// The request went out whole and its fate is unknown: it may have been billed.
    Ambiguous,
}

/// What an attempt says of the provider's health, for the breaker and for whoever learns limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// It works: an answer, or an error that is the caller's.
    Well,
    /// It works and is asked for too much by this caller.
    RateLimited,
    /// It is asked for too much by everybody.
    Overloaded,
    /// It is broken, silent or out of reach.
    Failing,
    /// Nothing can be told.
    Untold,
}

/// What is known of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it can pass.
    pub class: Class,
    /// What it says of the provider.
    pub sign: Sign,
    /// The status that the client sees it with, where the provider answered.
    pub status: Option<u16>,
    /// How long the provider asks to stay away; not bounded here.
    pub asked: Option<Duration>,
    /// Whether another provider or account may well serve the same request now: this one is out of order or overrun, or
    /// its money, plan or quota is used up. Not where the request itself is at fault, or may have been billed.
    pub elsewhere: bool,
}

/// What a name decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The failure stays, whatever the status.
    Never,
    /// The same, because this account's money or plan is used up: another account may have some.
    Spent,
    /// It passes, whatever the status, and is a matter of the whole line.
    SlowDown,
    /// It passes, whatever the status.
    Again,
    /// It is another name for a status, and says nothing where there is one.
    Means(u16),
}

use Word::{Again, Means, Never, SlowDown, Spent};

/// Names of errors, in lower case.
const WORDS: [(&str, Word); 72] = [
    // Money and plans. OpenAI's guide to error codes; its SDKs do not know that these stay, and try three times.
    ("insufficient_quota", Spent),
    ("billing_hard_limit_reached", Spent),
    ("billing_not_active", Spent),
    // Anthropic's SDK, table of error classes: 429s that are a spent monthly cap.
    ("enforced_spend_limit_reached", Spent),
    ("contract_spend_limit_reached", Spent),
    ("billing_error", Spent),
    // ChatGPT plans, as Codex reads them: until the plan's window ends, in hours.
    ("usage_limit_reached", Spent),
    ("usage_not_included", Spent),
    // DeepSeek's 402 and those of services like it.
    ("insufficient_balance", Spent),
    // The request itself. OpenAI's guide and the codes of failed Responses.
    ("context_length_exceeded", Never),
    ("string_above_max_length", Never),
    ("model_not_found", Never),
    ("cyber_policy", Never),
    ("bio_policy", Never),
    ("data_residency_mismatch", Never),
    // Azure.
    ("content_filter", Never),
    ("deploymentnotfound", Never),
    // Anthropic.
    ("request_too_large", Never),
    ("authentication_error", Never),
    ("permission_error", Never),
    ("not_found_error", Never),
    // llama.cpp's server.
    ("exceed_context_size_error", Never),
    // Bedrock, at times with status 429 or 400.
    ("servicequotaexceededexception", Never),
    ("accessdeniedexception", Never),
    ("validationexception", Never),
    ("resourcenotfoundexception", Never),
    // Limits that refill. OpenAI: also as the code of a failed Responses stream with status 200.
    ("rate_limit_exceeded", SlowDown),
    // OpenAI, with 429 or 503: too steep a rise; go back to the former rate.
    ("slow_down", SlowDown),
    // Anthropic: the same, with `retry-after`.
    ("ramp_limit_exceeded", SlowDown),
    // AWS sends it with 429 or 400, and as an exception inside a stream.
    ("throttlingexception", SlowDown),
    // Mistral.
    ("rate_limited", SlowDown),
    // Mistral: the tier's shared capacity, not the caller's limit.
    ("service_tier_capacity_exceeded", Again),
    // Bedrock sends this with 429 while it loads the model: no matter of the caller's rate.
    ("modelnotreadyexception", Again),
    // OpenAI: codes of failed Responses.
    ("vector_store_timeout", Again),
    // OpenAI.
    ("server_is_overloaded", Means(503)),
    ("requests", Means(429)),
    ("tokens", Means(429)),
    ("server_error", Means(500)),
    // Anthropic's types by status; inside a stream they are all there is.
    ("conflict_error", Means(409)),
    ("rate_limit_error", Means(429)),
    ("api_error", Means(500)),
    ("timeout_error", Means(504)),
    ("overloaded_error", Means(529)),
    ("compaction_unavailable", Means(529)),
    // Google's RPC statuses.
    ("failed_precondition", Means(400)),
    ("out_of_range", Means(400)),
    ("unauthenticated", Means(401)),
    ("permission_denied", Means(403)),
    ("not_found", Means(404)),
    ("aborted", Means(409)),
    ("already_exists", Means(409)),
    ("resource_exhausted", Means(429)),
    ("cancelled", Means(499)),
    ("internal", Means(500)),
    ("unknown", Means(500)),
    ("data_loss", Means(500)),
    ("unimplemented", Means(501)),
    ("unavailable", Means(503)),
    ("deadline_exceeded", Means(504)),
    // Bedrock; the last three are exceptions inside a stream too.
    ("modeltimeoutexception", Means(408)),
    ("modelerrorexception", Means(424)),
    ("modelstreamerrorexception", Means(424)),
    ("internalserverexception", Means(500)),
    ("serviceunavailableexception", Means(503)),
    // OpenAI-compatible servers and gateways: vLLM, llama.cpp, litellm, Groq.
    ("internal_server_error", Means(500)),
    ("internalservererror", Means(500)),
    ("internal_error", Means(500)),
    ("service_unavailable", Means(503)),
    ("service_unavailable_error", Means(503)),
    // llama.cpp while it loads the model.
    ("unavailable_error", Means(503)),
    ("overloaded", Means(503)),
    ("timeout", Means(504)),
];

/// Beginnings of names that always stay: `invalid_api_key`, `invalid_prompt`, `INVALID_ARGUMENT`; Anthropic's
/// `linked_organization_billing` and its kin; `request_body_encoding_invalid`, `request_body_too_large_after_decoding`.
const NEVER_PREFIXES: [&str; 3] = ["invalid_", "linked_organization_", "request_body_"];

/// What a status means. Sources: the providers' error tables; the SDKs, which retry 408, 409, 429 and all of 5xx.
const fn by_status(status: u16) -> (Class, Sign) {
    let transient = Class::Transient { pauses_lane: false };
    match status {
        // A slow request of ours, or Bedrock's model that took too long, or OpenRouter's provider.
        408 => (transient, Sign::Failing),
        // Two requests in each other's way.
        409 => (transient, Sign::Well),
        429 => (Class::Transient { pauses_lane: true }, Sign::RateLimited),
        // Groq: the flex tier has no room.
        498 => (transient, Sign::Overloaded),
        // The provider says that it cannot do this at all.
        501 | 505 => (Class::Terminal, Sign::Well),
        // Anthropic's 529 is the 503 of the others.
        503 | 529 => (transient, Sign::Overloaded),
        // Also 520 to 530, which stand for a content network that does not reach the provider.
        500.. => (transient, Sign::Failing),
        // The request, the key, the money: 400 to 428, 499 (cancelled).
        _ => (Class::Terminal, Sign::Well),
    }
}

/// Judges a failure; `news` is what the same answer says about limits.
pub fn judge(failed: &Failed<'_>, news: &RateNews) -> Judgement {
    let transient = Class::Transient { pauses_lane: false };
    let (class, sign) = match *failed {
        Failed::Answered { status, error } => return answered(status, error, news),
        // Nothing came that could have cost anything.
        Failed::Empty | Failed::Connect => (transient, Sign::Failing),
        Failed::Closed(Sent::Nothing | Sent::Part) => (transient, Sign::Failing),
        Failed::Closed(Sent::Whole) | Failed::TimedOut | Failed::Invalid => {
            (Class::Ambiguous, Sign::Failing)
        }
        // A mistake in the settings, as a rule. The line must not wait for it to go away behind an open breaker: whoever
        // asks is to be told.
        Failed::Tls => (Class::Terminal, Sign::Untold),
        Failed::RequestBody => (Class::Terminal, Sign::Untold),
    };
    let untouched = matches!(failed, Failed::Tls);
    Judgement {
        class,
        sign,
        status: None,
        asked: None,
        elsewhere: untouched || matches!(class, Class::Transient { .. }),
    }
}

fn answered(status: u16, error: &AnswerError, news: &RateNews) -> Judgement {
    let code = error.code.as_deref().and_then(word);
    let kind = error.kind.as_deref().and_then(word);
    let means = |word: Option<Word>| match word {
        Some(Means(status)) => Some(status),
        _ => None,
    };
    // Inside an answer with status 200 the names tell the status; some write it there as a number.
    let number = || error.code.as_deref().and_then(status_number);
    let effective = Some(status)
        .filter(|status| *status >= 400)
        .or_else(number)
        .or(means(code))
        .or(means(kind));
    let decided = [code, kind]
        .into_iter()
        .flatten()
        .find(|word| !matches!(word, Means(_)));

    let (mut class, mut sign) = match effective {
        Some(effective) => by_status(effective),
        None if *error == AnswerError::default() => {
            (Class::Transient { pauses_lane: false }, Sign::Failing)
        }
        // What is not understood is passed on.
        None => (Class::Terminal, Sign::Untold),
    };
    match decided {
        Some(Never | Spent) => {
            class = Class::Terminal;
            // It has looked at the request.
            sign = if effective.is_some() {
                sign
            } else {
                Sign::Well
            };
        }
        Some(SlowDown) => {
            class = Class::Transient { pauses_lane: true };
            sign = Sign::RateLimited;
        }
        Some(Again) => {
            class = Class::Transient { pauses_lane: false };
            sign = Sign::Overloaded;
        }
        Some(Means(_)) | None => {}
    }
    let limited = effective == Some(429) || sign == Sign::RateLimited;
    // Elsewhere a used-up quota is not what went wrong.
    let asked = if limited {
        news.asked()
    } else {
        news.retry_after
    };
    let too_long = asked.is_some_and(|asked| asked > MAX_PAUSE);
    let used_up = decided == Some(Spent) || (limited && (too_long || news.spent));
    let stays = matches!(decided, Some(Never | Spent)) || too_long || used_up;
    let elsewhere = match class {
        Class::Transient { .. } => decided != Some(Never),
        Class::Terminal | Class::Ambiguous => used_up || effective == Some(402),
    };
    class = match (news.should_retry, class) {
        _ if stays => Class::Terminal,
        (Some(false), _) => Class::Terminal,
        (Some(true), Class::Terminal) => Class::Transient {
            pauses_lane: limited,
        },
        (Some(true) | None, class) => class,
    };
    // A spent quota is no sign of too high a rate.
    if class == Class::Terminal && sign == Sign::RateLimited {
        sign = Sign::Well;
    }
    Judgement {
        class,
        sign,
        status: Some(status),
        asked,
        elsewhere,
    }
}

/// Looks a name up; providers differ in how they write theirs (`throttlingException` inside a stream).
fn word(name: &str) -> Option<Word> {
    let begins = |prefix: &str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if NEVER_PREFIXES.iter().any(|prefix| begins(prefix)) {
        return Some(Never);
    }
    let known = WORDS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(name));
    known.map(|(_, word)| *word)
}

/// A status written as an error's code: OpenRouter's and Google's numbers, Azure's text.
fn status_number(code: &str) -> Option<u16> {
    let number = code.parse().ok()?;
    (400..600).contains(&number).then_some(number)
}
