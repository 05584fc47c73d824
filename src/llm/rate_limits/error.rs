//! Reads the body of an error, or an error inside a stream: the names by which it is classed, the wait that it asks for
//! and whether the quota that it names comes back at all soon. Its text is searched for a wait and never kept.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::{RateNews, moment};
use crate::llm::reading::AnswerError;

/// Longest name that is kept, in bytes.
const MAX_NAME: usize = 256;

/// Most entries of a list in an error that are looked at.
const MAX_ENTRIES: usize = 32;

/// Reads the JSON of an error and adds to `news` what it says of limits. `json` is the body of an answer, one event's
/// data or one line of a stream; `status` is the answer's, which is 200 for an error inside a stream.
///
/// Gives `None` if there is no error in it. With a status of at least 400 there always is one, if only a nameless one.
pub fn read_error(
    status: u16,
    headers: &HeaderMap,
    json: &[u8],
    now_ms: u64,
    news: &mut RateNews,
) -> Option<AnswerError> {
    let parsed = serde_json::from_slice(json).unwrap_or(Value::Null);
    // A Gemini stream that is a list.
    let document = parsed.get(0).unwrap_or(&parsed);
    let refused = status >= 400;
    let error = match part(document, refused) {
        Some(error) => error,
        None if refused => &Value::Null,
        None => return None,
    };
    let mut found = AnswerError::default();
    if let Some(error) = error.as_object() {
        found = names(error);
        details(error, now_ms, news);
    }
    let message = error.as_str().or_else(|| error.get("message")?.as_str());
    if let Some(message) = message {
        news.asks(moment::in_sentence(message));
        news.spent |= says_limit_of_zero(message);
    }
    // Bedrock names the error here, with an address behind a colon.
    let header = headers.get("x-amzn-errortype");
    if let Some(kind) = header.and_then(|value| value.to_str().ok()) {
        found.kind = kind.split(':').next().and_then(name).or(found.kind);
    }
    Some(found)
}

/// The part of a document that is the error.
fn part(document: &Value, refused: bool) -> Option<&Value> {
    let named = |value: &Value| match value {
        Value::Object(_) => true,
        // Ollama's.
        Value::String(text) => !text.is_empty(),
        _ => false,
    };
    let inside = [
        document.get("error"),
        // A Responses stream's `response.failed`.
        document
            .get("response")
            .and_then(|value| value.get("error")),
    ];
    if let Some(error) = inside.into_iter().flatten().find(|error| named(error)) {
        return Some(error);
    }
    // Flat ones: a Responses stream's `error` event, Mistral's, old vLLM's, Bedrock's.
    let flat = refused || document.get("type") == Some(&Value::from("error"));
    let flat = flat || document.get("object") == Some(&Value::from("error"));
    flat.then_some(document)
}

fn names(error: &Map<String, Value>) -> AnswerError {
    let field = |key: &str| match error.get(key)? {
        Value::String(text) => name(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let aws = || {
        error
            .get("__type")?
            .as_str()?
            .rsplit('#')
            .next()
            .and_then(name)
    };
    let precise = || name(error.get("details")?.get("error_code")?.as_str()?);
    AnswerError {
        // `error` and `response.failed` say no more than that there is one.
        kind: field("type")
            .filter(|kind| kind != "error")
            .or_else(|| field("status"))
            .or_else(aws),
        code: precise().or_else(|| field("code")),
    }
}

/// A machine-readable name: short, printable, without spaces.
fn name(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= MAX_NAME
        && !text.contains(|c: char| c.is_control() || c.is_whitespace());
    fits.then(|| text.to_owned())
}

/// What stands beside the names.
fn details(error: &Map<String, Value>, now_ms: u64, news: &mut RateNews) {
    // Google: `google.rpc.RetryInfo`, `QuotaFailure` and `ErrorInfo`.
    let list = error.get("details").and_then(Value::as_array);
    for detail in list.into_iter().flatten().take(MAX_ENTRIES) {
        if let Some(delay) = detail.get("retryDelay").and_then(Value::as_str) {
            news.asks(moment::span(delay));
        }
        let violations = detail.get("violations").and_then(Value::as_array);
        for violation in violations.into_iter().flatten().take(MAX_ENTRIES) {
            news.spent |= is_long(violation, "quotaId", "quotaValue");
        }
        if let Some(metadata) = detail.get("metadata") {
            news.spent |= is_long(metadata, "quota_limit", "quota_limit_value");
        }
    }
    // OpenRouter hands on the headers of the provider behind it, or its own.
    let headers = error.get("metadata").and_then(|value| value.get("headers"));
    if let Some(headers) = headers.and_then(Value::as_object) {
        let pairs: Vec<(String, String)> = headers
            .iter()
            .take(MAX_ENTRIES)
            .map(|(name, value)| (name.to_ascii_lowercase(), text(value)))
            .collect();
        let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
        news.join(&RateNews::of_pairs(pairs, now_ms));
    }
    // ChatGPT's usage limit, as Codex reads it.
    if let Some(moment) = error.get("resets_at") {
        news.asks(moment::until_epoch_seconds(&text(moment), now_ms));
    }
    if let Some(seconds) = error.get("resets_in_seconds") {
        news.asks(moment::after(&text(seconds), now_ms));
    }
}

/// Whether a quota of Google's is one that waiting a while does not refill: per day or month (whatever `retryDelay` says:
/// it names seconds there too), or 0 because the plan does not include the model.
fn is_long(quota: &Value, id: &str, value: &str) -> bool {
    let id = quota.get(id).and_then(Value::as_str).unwrap_or_default();
    let long = ["PerDay", "Daily", "PerMonth"];
    long.iter().any(|word| id.contains(word))
        || quota.get(value).is_some_and(|value| text(value) == "0")
}

/// `limit: 0` in the text of Google's error says that the plan does not include the model.
fn says_limit_of_zero(message: &str) -> bool {
    message.match_indices("limit: 0").any(|(at, found)| {
        let rest = &message.as_bytes()[at + found.len()..];
        !matches!(rest, [b'0'..=b'9', ..] | [b'.' | b',', b'0'..=b'9', ..])
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}
