//! Writes a refusal in each dialect's native shape, whole or as an event of a stream, so that the client's SDK raises its
//! native exception with our text. For programs the same numbers stand in an object `tollgate` beside the text.
//!
//! Sources of the shapes: Anthropic's error table (type by status), OpenAI's `error` object, Google's RPC status with
//! `google.rpc.RetryInfo` and `ErrorInfo`, Ollama's plain text, the AWS SDKs' `message`.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{Audience, retry_seconds};
use super::{BudgetRefusal, Ending, Refusal};
use crate::llm::wire::{Dialect, Endpoint};
use crate::policy::budget::Limit;
use crate::policy::client::Client;
use crate::units::{Cost, RequestId};

/// What is to be written.
pub(super) struct Body<'a> {
    pub(super) refusal: &'a Refusal,
    pub(super) to: &'a Audience,
    /// The status that it has, or would have outside a stream.
    pub(super) status: StatusCode,
    pub(super) id: RequestId,
}

impl Body<'_> {
    /// The body of an answer with an error status.
    pub(super) fn whole(&self) -> String {
        self.value().to_string()
    }

    /// The last event of a stream.
    pub(super) fn event(&self) -> String {
        match (self.to.dialect, self.to.endpoint) {
            // Both Anthropic SDKs skip an event without a name.
            (Dialect::Anthropic, _) => format!("event: error\ndata: {}\n\n", self.value()),
            (Dialect::OpenAi, Endpoint::Responses | Endpoint::ResponseFetch) => {
                format!(
                    "event: response.failed\ndata: {}\n\n",
                    self.failed_response()
                )
            }
            (Dialect::OpenAi, _) => format!("data: {}\n\ndata: [DONE]\n\n", self.value()),
            (Dialect::Gemini, _) => format!("data: {}\r\n\r\n", self.value()),
            (Dialect::Ollama, _) => format!("{}\n", self.value()),
        }
    }

    fn value(&self) -> Value {
        let message = self.refusal.message();
        let facts = facts(self.refusal);
        if self.to.client == Client::Boto {
            return json!({"message": message, "tollgate": facts});
        }
        match self.to.dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {
                    "type": self.anthropic_type(),
                    "message": message,
                    "details": {"error_code": self.refusal.code()},
                    "tollgate": facts,
                },
                "request_id": format!("req_tollgate_{}", self.id),
            }),
            Dialect::OpenAi => json!({"error": {
                "message": message,
                "type": self.openai_type(),
                "param": null,
                "code": self.openai_code(),
                "tollgate": facts,
            }}),
            Dialect::Gemini => json!({"error": {
                "code": self.status.as_u16(),
                "message": message,
                "status": google_status(self.status),
                "details": self.google_details(facts),
            }}),
            Dialect::Ollama => json!({"error": message, "tollgate": facts}),
        }
    }

    /// OpenAI's SDKs raise an exception only for an event with an `error` of its own; Codex reads the one inside
    /// `response`.
    fn failed_response(&self) -> Value {
        // Codex gives up on few codes. This is the one of them whose text it shows unchanged.
        let code = if self.to.client == Client::Codex && !self.refusal.retry_helps() {
            "invalid_prompt"
        } else {
            self.openai_code()
        };
        let message = self.refusal.message();
        json!({
            "type": "response.failed",
            "sequence_number": 0,
            "response": {
                "id": format!("resp_tollgate_{}", self.id),
                "object": "response",
                "created_at": self.id.unix_ms() / 1000,
                "status": "failed",
                "error": {"code": code, "message": message},
                "incomplete_details": null,
                "model": "",
                "output": [],
                "usage": null,
            },
            "error": {
                "message": message,
                "type": self.openai_type(),
                "param": null,
                "code": code,
                "tollgate": facts(self.refusal),
            },
        })
    }

    fn anthropic_type(&self) -> &'static str {
        if self.refusal.is_spent() {
            return "billing_error";
        }
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            409 => "conflict_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    fn openai_type(&self) -> &'static str {
        if self.refusal.is_spent() {
            return "insufficient_quota";
        }
        match self.status.as_u16() {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The codes on which OpenAI's tools decide; ours where there is none.
    fn openai_code(&self) -> &'static str {
        match self.refusal {
            Refusal::Budget(refusal) => match refusal.ending {
                Ending::Transient { .. } => "rate_limit_exceeded",
                Ending::Final => "insufficient_quota",
                Ending::NeverFits => self.refusal.code(),
            },
            other => other.code(),
        }
    }

    /// Google's own details: their values are texts.
    fn google_details(&self, facts: Map<String, Value>) -> Value {
        let metadata = facts
            .into_iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                (name, Value::String(text))
            })
            .collect::<Map<_, _>>();
        let mut details = vec![json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.refusal.code().to_ascii_uppercase(),
            "domain": "tollgate",
            "metadata": metadata,
        })];
        if let Refusal::Budget(refusal) = self.refusal
            && let Ending::Transient { retry_after } = refusal.ending
        {
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{}s", retry_seconds(retry_after)),
            }));
        }
        Value::Array(details)
    }
}

fn google_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// The kind of error by which the AWS SDKs name their exception.
pub(super) fn aws_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "AccessDeniedException",
        402 => "ServiceQuotaExceededException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

/// What programs may want to know. Money is an exact decimal in a text, so that no reader makes a float of it unasked.
fn facts(refusal: &Refusal) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert("code".to_owned(), refusal.code().into());
    match refusal {
        Refusal::Budget(refusal) => budget_facts(refusal, &mut facts),
        Refusal::PolicyViolation { rule, .. } => {
            facts.insert("rule".to_owned(), rule.as_str().into());
        }
        Refusal::UnknownPrice { model } => {
            facts.insert("model".to_owned(), model.as_str().into());
        }
        Refusal::Unbounded { budget, .. } => {
            facts.insert("budget".to_owned(), budget.as_str().into());
        }
        Refusal::ProviderBusy { provider, .. } => {
            facts.insert("provider".to_owned(), provider.as_str().into());
        }
        Refusal::UnknownProvider { .. }
        | Refusal::UpgradeRequired
        | Refusal::BadTarget
        | Refusal::HeadTooLarge { .. }
        | Refusal::Foreign(_)
        | Refusal::BadTag(_)
        | Refusal::DuplicateField(_)
        | Refusal::BodyTooLarge { .. }
        | Refusal::BodyTimeout { .. }
        | Refusal::BodyBroken
        | Refusal::ClientGone
        | Refusal::BadKey { .. }
        | Refusal::LedgerUnavailable
        | Refusal::Unreachable { .. }
        | Refusal::TlsFailed { .. }
        | Refusal::UpstreamClosed
        | Refusal::UpstreamInvalid
        | Refusal::UpstreamTimeout { .. } => {}
    }
    facts
}

fn budget_facts(refusal: &BudgetRefusal, facts: &mut Map<String, Value>) {
    let budget = &refusal.budget;
    let amount = |amount: i128| match budget.limit {
        // The config's limits are below 2^63, and what is used of them is only ever a little above.
        Limit::Tokens(_) | Limit::Requests(_) => {
            i64::try_from(amount).map_or_else(|_| amount.to_string().into(), Value::from)
        }
        Limit::Usd(_) => Cost::from_attos(amount).to_string().into(),
    };
    let ending = match refusal.ending {
        Ending::Transient { .. } => "transient",
        Ending::Final => "final",
        Ending::NeverFits => "never_fits",
    };
    for (name, value) in [
        ("ending", ending.into()),
        ("level", refusal.level.as_str().into()),
        ("priority", refusal.priority.as_str().into()),
        ("budget", budget.name.as_str().into()),
        ("scope", refusal.scope.as_str().into()),
        ("window", budget.window.as_str().into()),
        ("unit", budget.limit.unit().into()),
        ("settled", amount(refusal.settled)),
        ("reserved", amount(refusal.reserved)),
        ("asked", amount(refusal.asked)),
        ("limit", amount(refusal.limit)),
    ] {
        facts.insert(name.to_owned(), value);
    }
    let passes_at = refusal
        .passes_at_unix_ms
        .and_then(|ms| i64::try_from(ms).ok())
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    if let Some(moment) = passes_at {
        facts.insert("passes_at".to_owned(), moment.to_string().into());
    }
}
