//! Errors as each provider would word them: the body, and the headers that tell whether and when to try again.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

use super::behaviour::Flavour;
use super::limit_words;
use super::limits::{Exceeded, Reason};
use super::reply::json_string;
use super::standing::go_duration;
use crate::llm::wire::Dialect;

/// The wait that a 429 names unless something else is asked for.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// Codes behind which waiting does not help.
const TERMINAL_CODES: [&str; 6] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_billing",
];

/// An error that a provider answers with.
#[derive(Debug, Clone)]
pub(super) struct Failure<'a> {
    /// Its status, 400 to 599.
    pub(super) status: StatusCode,
    /// Its code, where the dialect has one.
    pub(super) code: Option<&'a str>,
    /// The part of the request that it is about, where the dialect names one.
    pub(super) param: Option<&'a str>,
    /// Its text; else one that belongs to the status.
    pub(super) message: Option<&'a str>,
    /// The wait that it names. Zero: none, although there would be one.
    pub(super) retry_after: Option<Duration>,
    /// The limit that refused the request, where one did.
    pub(super) exceeded: Option<Exceeded>,
    /// The model asked for.
    pub(super) model: &'a str,
    /// The request's id.
    pub(super) request_id: &'a str,
}

impl Failure<'_> {
    /// Whether trying again can help.
    fn is_transient(&self) -> bool {
        let status = self.status.as_u16();
        let code = self.code.unwrap_or_default();
        (matches!(status, 408 | 409 | 429) || status >= 500) && !TERMINAL_CODES.contains(&code)
    }

    /// The wait that is told, if any.
    pub(super) fn wait(&self) -> Option<Duration> {
        let default = (self.status == StatusCode::TOO_MANY_REQUESTS && self.is_transient())
            .then_some(DEFAULT_WAIT);
        self.retry_after.or(default).filter(|wait| !wait.is_zero())
    }

    /// Adds the headers that tell whether and when to try again.
    pub(super) fn write_headers(
        &self,
        headers: &mut HeaderMap,
        dialect: Dialect,
        flavour: Flavour,
    ) {
        match (dialect, flavour) {
            // Google tells the wait in the body; Ollama tells none; local servers neither.
            (Dialect::Gemini | Dialect::Ollama, _) | (_, Flavour::LlamaCpp | Flavour::Vllm) => {
                return;
            }
            (Dialect::Anthropic, _) | (_, Flavour::OpenAi) => {
                let retry = if self.is_transient() { "true" } else { "false" };
                headers.insert("x-should-retry", HeaderValue::from_static(retry));
            }
            _ => {}
        }
        let Some(wait) = self.wait() else { return };
        headers.insert(
            "retry-after",
            HeaderValue::from(wait.as_secs_f64().ceil() as u64),
        );
        if dialect == Dialect::OpenAi && matches!(flavour, Flavour::OpenAi | Flavour::Azure) {
            headers.insert("retry-after-ms", HeaderValue::from(wait.as_millis() as u64));
        }
    }

    /// The body.
    pub(super) fn body(&self, dialect: Dialect, flavour: Flavour) -> String {
        match dialect {
            Dialect::Anthropic => {
                let (kind, message) = anthropic_words(self.status);
                let of_limit = self.exceeded.map(limit_words::anthropic);
                anthropic_body(
                    kind,
                    self.message.or(of_limit.as_deref()).unwrap_or(message),
                    self.code,
                    self.request_id,
                )
            }
            Dialect::OpenAi => self.openai(flavour),
            Dialect::Gemini => self.gemini(),
            Dialect::Ollama => {
                let message = match (self.message, self.status.as_u16()) {
                    (Some(message), _) => message.to_owned(),
                    (None, 404) => format!("model '{}' not found", self.model),
                    (None, 429 | 503) => {
                        "server busy, please try again.  maximum pending requests exceeded"
                            .to_owned()
                    }
                    (None, _) => reason(self.status).to_owned(),
                };
                format!(r#"{{"error":{}}}"#, json_string(&message))
            }
        }
    }

    fn openai(&self, flavour: Flavour) -> String {
        let status = self.status.as_u16();
        let wait = self.wait();
        let (kind, code, message) = match (status, self.code) {
            (429, Some("insufficient_quota")) => (
                "insufficient_quota",
                Some("insufficient_quota"),
                "You exceeded your current quota, please check your plan and billing details.".to_owned(),
            ),
            (429, code) => {
                let again = wait.map(|wait| format!(" Please try again in {}.", go_duration(wait)));
                let reason = self.exceeded.map_or(Reason::Tokens, |exceeded| exceeded.reason);
                let (kind, words) = limit_words::openai(reason);
                let limit = self.exceeded.map(|exceeded| format!(": Limit {}", exceeded.limit));
                (
                    kind,
                    Some(code.unwrap_or("rate_limit_exceeded")),
                    format!(
                        "Rate limit reached for {} in organization org-sim on {words}{}.{}",
                        self.model,
                        limit.unwrap_or_default(),
                        again.unwrap_or_default()
                    ),
                )
            }
            (401, code) => (
                "invalid_request_error",
                Some(code.unwrap_or("invalid_api_key")),
                "Incorrect API key provided.".to_owned(),
            ),
            (404, code) => (
                "invalid_request_error",
                Some(code.unwrap_or("model_not_found")),
                format!("The model `{}` does not exist or you do not have access to it.", self.model),
            ),
            (400, Some("context_length_exceeded")) => (
                "invalid_request_error",
                Some("context_length_exceeded"),
                "This model's maximum context length is 128000 tokens. Please reduce the length of the messages."
                    .to_owned(),
            ),
            (400..=499, code) => ("invalid_request_error", code, reason(self.status).to_owned()),
            (503, code) => (
                "server_error",
                Some(code.unwrap_or("server_is_overloaded")),
                "The server is overloaded. Please try again later.".to_owned(),
            ),
            (_, code) => (
                "server_error",
                code,
                "The server had an error while processing your request. Sorry about that!".to_owned(),
            ),
        };
        let message = self.message.map_or(message, str::to_owned);
        match flavour {
            Flavour::Azure => {
                let seconds = wait.map_or(0, |wait| wait.as_secs_f64().ceil() as u64);
                let message = match (self.message, status) {
                    (None, 429) => format!(
                        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded {} rate limit. Please retry after {seconds} seconds.",
                        if kind == "requests" { "call" } else { "token" }
                    ),
                    _ => message,
                };
                let code = self.code.map_or_else(|| status.to_string(), str::to_owned);
                format!(
                    r#"{{"error":{{"code":{},"message":{}}}}}"#,
                    json_string(&code),
                    json_string(&message)
                )
            }
            Flavour::OpenRouter => format!(
                r#"{{"error":{{"message":{},"code":{status},"metadata":{{"provider_name":"Simulated"}}}},"user_id":"user_sim"}}"#,
                json_string(&message)
            ),
            Flavour::Mistral if status == 429 => {
                r#"{"message":"Requests rate limit exceeded"}"#.to_owned()
            }
            Flavour::Mistral if status == 422 => {
                format!(
                    r#"{{"detail":[{{"loc":["body"],"msg":{},"type":"value_error"}}]}}"#,
                    json_string(&message)
                )
            }
            Flavour::LlamaCpp | Flavour::Vllm => format!(
                r#"{{"error":{{"message":{},"type":"{kind}","param":null,"code":{status}}}}}"#,
                json_string(&message)
            ),
            _ => format!(
                r#"{{"error":{{"message":{},"type":"{kind}","param":{},"code":{}}}}}"#,
                json_string(&message),
                self.param.map_or_else(|| "null".to_owned(), json_string),
                code.map_or_else(|| "null".to_owned(), json_string)
            ),
        }
    }

    fn gemini(&self) -> String {
        let status = self.status.as_u16();
        let name = match status {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            499 => "CANCELLED",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INTERNAL",
        };
        if status != 429 {
            let message = self.message.unwrap_or(match status {
                503 => "The model is overloaded. Please try again later.",
                _ => reason(self.status),
            });
            return gemini_body(status, message, self.code.unwrap_or(name), "");
        }
        let wait = self
            .wait()
            .map(|wait| format!("{}s", wait.as_millis() as f64 / 1000.0));
        let message = match (self.message, &wait) {
            (Some(message), _) => message.to_owned(),
            (None, Some(wait)) => {
                format!("You exceeded your current quota. Please retry in {wait}.")
            }
            (None, None) => "You exceeded your current quota.".to_owned(),
        };
        let quota = limit_words::gemini(self.exceeded.map(|exceeded| exceeded.reason));
        let quota = json_string(self.code.unwrap_or(quota));
        let value = self.exceeded.map_or(10, |exceeded| exceeded.limit);
        let model = json_string(self.model);
        let retry = wait
            .map(|wait| format!(r#",{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{wait}"}}"#))
            .unwrap_or_default();
        let details = format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests","quotaId":{quota},"quotaDimensions":{{"location":"global","model":{model}}},"quotaValue":"{value}"}}]}}{retry}"#
        );
        gemini_body(status, &message, name, &details)
    }
}

/// An error body of Anthropic's.
pub(super) fn anthropic_body(
    kind: &str,
    message: &str,
    code: Option<&str>,
    request_id: &str,
) -> String {
    let details = code
        .map(|code| format!(r#","details":{{"error_code":{}}}"#, json_string(code)))
        .unwrap_or_default();
    format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":{}{details}}},"request_id":"{request_id}"}}"#,
        json_string(message)
    )
}

fn gemini_body(code: u16, message: &str, status: &str, details: &str) -> String {
    let details = if details.is_empty() {
        String::new()
    } else {
        format!(r#","details":[{details}]"#)
    };
    format!(
        r#"{{"error":{{"code":{code},"message":{},"status":{}{details}}}}}"#,
        json_string(message),
        json_string(status)
    )
}

fn anthropic_words(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => (
            "billing_error",
            "Your credit balance is too low to access the Anthropic API.",
        ),
        403 => (
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        404 => (
            "not_found_error",
            "The requested resource could not be found.",
        ),
        408 | 504 => ("timeout_error", "The request timed out."),
        409 => ("conflict_error", "The request conflicts with another one."),
        413 => (
            "request_too_large",
            "Request exceeds the maximum allowed number of bytes.",
        ),
        429 => (
            "rate_limit_error",
            "This request would exceed the rate limit for your organization of 1,000,000,000 input tokens per minute.",
        ),
        529 => ("overloaded_error", "Overloaded"),
        400..=499 => ("invalid_request_error", "The request is invalid."),
        _ => ("api_error", "Internal server error"),
    }
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Simulated error")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use serde_json::Value;

    fn failure(status: u16, code: Option<&'static str>, wait_ms: Option<u64>) -> Failure<'static> {
        Failure {
            status: StatusCode::from_u16(status).unwrap(),
            code,
            param: None,
            message: None,
            retry_after: wait_ms.map(Duration::from_millis),
            exceeded: None,
            model: "m\"odel",
            request_id: "req_1",
        }
    }

    #[test]
    fn every_status_in_every_dialect_is_json_with_its_error() {
        for status in 400..=599 {
            let failure = failure(status, Some("a\"code"), None);
            for dialect in [
                Dialect::Anthropic,
                Dialect::OpenAi,
                Dialect::Gemini,
                Dialect::Ollama,
            ] {
                let body: Value =
                    serde_json::from_str(&failure.body(dialect, Flavour::OpenAi)).unwrap();
                assert!(!body["error"].is_null(), "{status} {dialect:?}");
            }
            for flavour in [
                Flavour::Azure,
                Flavour::OpenRouter,
                Flavour::Mistral,
                Flavour::Vllm,
            ] {
                serde_json::from_str::<Value>(&failure.body(Dialect::OpenAi, flavour)).unwrap();
            }
        }
    }

    #[test]
    fn waits_are_told_in_the_way_of_the_dialect() {
        let limited = failure(429, None, Some(960));
        let mut headers = HeaderMap::new();
        limited.write_headers(&mut headers, Dialect::OpenAi, Flavour::OpenAi);
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&"1".parse().unwrap(), &"960".parse().unwrap())
        );
        assert!(
            limited
                .body(Dialect::OpenAi, Flavour::OpenAi)
                .contains("try again in 960ms")
        );
        let mut headers = HeaderMap::new();
        limited.write_headers(&mut headers, Dialect::Gemini, Flavour::OpenAi);
        assert!(headers.is_empty());
        assert!(
            limited
                .body(Dialect::Gemini, Flavour::OpenAi)
                .contains(r#""retryDelay":"0.96s""#)
        );
    }

    #[test]
    fn a_quota_that_is_used_up_says_do_not_retry_and_names_no_wait() {
        for (dialect, code) in [
            (Dialect::OpenAi, "insufficient_quota"),
            (Dialect::Anthropic, "enforced_spend_limit_reached"),
        ] {
            let mut headers = HeaderMap::new();
            failure(429, Some(code), None).write_headers(&mut headers, dialect, Flavour::OpenAi);
            assert_eq!(headers["x-should-retry"], "false");
            assert!(!headers.contains_key("retry-after"));
        }
    }

    #[test]
    fn the_limit_that_refused_is_named_in_the_words_of_the_dialect() {
        let mut failure = failure(429, None, Some(20_000));
        failure.exceeded = Some(Exceeded {
            reason: Reason::Requests,
            limit: 3,
            wait: None,
        });
        for (dialect, flavour, says) in [
            (
                Dialect::Anthropic,
                Flavour::OpenAi,
                "rate limit of 3 requests per minute",
            ),
            (
                Dialect::OpenAi,
                Flavour::OpenAi,
                "requests per min (RPM): Limit 3. Please try again in 20s.",
            ),
            (Dialect::OpenAi, Flavour::OpenAi, r#""type":"requests""#),
            (
                Dialect::OpenAi,
                Flavour::Azure,
                "call rate limit. Please retry after 20 seconds",
            ),
            (
                Dialect::Gemini,
                Flavour::OpenAi,
                r#""quotaId":"GenerateRequestsPerMinutePerProjectPerModel""#,
            ),
            (Dialect::Gemini, Flavour::OpenAi, r#""quotaValue":"3""#),
        ] {
            let body = failure.body(dialect, flavour);
            assert!(body.contains(says), "{says}: {body}");
        }
    }

    #[test]
    fn a_wait_of_zero_takes_the_header_away() {
        let mut headers = HeaderMap::new();
        failure(429, None, Some(0)).write_headers(
            &mut headers,
            Dialect::Anthropic,
            Flavour::OpenAi,
        );
        assert!(!headers.contains_key("retry-after"));
    }
}
