//! Decides how a refusal goes out: the status, the headers and the form on which the program at the other end does what
//! it should, which is to come back once when that helps, and to give up at once and show the text when it does not.
//!
//! `x-should-retry` says so in plain words, and only the SDKs that Stainless makes obey it. For the others the status
//! must say it. `docs/refusals.md` has what each program was seen to do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::body::Body;
use super::{BudgetRefusal, Ending, Refusal};
use crate::llm::wire::{Dialect, Endpoint};
use crate::policy::budget::Window;
use crate::policy::client::Client;
use crate::units::RequestId;

/// Longest time in seconds after which a client is told to come back.
const MAX_RETRY_SECONDS: u64 = 60;

/// After how many seconds a client is told to come back to a provider whose limits leave no room, where nothing better is
/// known.
const BUSY_PAUSE_SECONDS: u64 = 10;

/// To whom a refusal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audience {
    /// The wire format in which it understands an error.
    pub dialect: Dialect,
    /// What it asked for.
    pub endpoint: Endpoint,
    /// Which program it is.
    pub client: Client,
    /// Whether it asked for a stream.
    pub stream: bool,
}

/// A refusal, ready to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body's media type.
    pub content_type: &'static str,
    /// The headers besides `content-type` and the request's id.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Refusal {
    /// The answer to a request that has not been answered yet.
    pub fn answer(&self, to: &Audience, id: RequestId) -> Answer {
        let status = self.status_for(to);
        let body = Body {
            refusal: self,
            to,
            status,
            id,
        };
        let (content_type, content) = if status == StatusCode::OK {
            ("text/event-stream", body.event())
        } else {
            ("application/json", body.whole())
        };
        Answer {
            status,
            content_type,
            headers: self.headers(to),
            body: Bytes::from(content),
        }
    }

    /// The same refusal inside a stream that has begun with status 200: the last thing in it. For a Gemini stream of
    /// server-sent events only; one that is a JSON array has no place for it before its first element.
    pub fn in_stream(&self, to: &Audience, id: RequestId) -> Bytes {
        let status = match self.status_for(to) {
            StatusCode::OK => self.status(),
            status => status,
        };
        let body = Body {
            refusal: self,
            to,
            status,
            id,
        };
        Bytes::from(body.event())
    }

    /// The same as the rest of an answer that has begun as a stream.
    pub fn answer_in_stream(&self, to: &Audience, id: RequestId) -> Answer {
        Answer {
            status: StatusCode::OK,
            content_type: "text/event-stream",
            headers: Vec::new(),
            body: self.in_stream(to, id),
        }
    }

    /// The status for that program. 200 means that the refusal is an event in a stream.
    fn status_for(&self, to: &Audience) -> StatusCode {
        match to.client {
            // It repeats every status but 400, of which it shows the raw body; an event's text it shows as it is. That
            // no WebSocket is served must stay a 426, on which it goes on with plain requests.
            Client::Codex if !self.retry_helps() && !matches!(self, Refusal::UpgradeRequired) => {
                if to.stream && to.endpoint == Endpoint::Responses {
                    StatusCode::OK
                } else {
                    StatusCode::BAD_REQUEST
                }
            }
            Client::VercelAi
            | Client::GeminiCli
            | Client::GoogleGenAi
            | Client::Boto
            | Client::Other
                if self.is_spent() =>
            {
                StatusCode::PAYMENT_REQUIRED
            }
            Client::ClaudeCode
            | Client::Codex
            | Client::Stainless
            | Client::VercelAi
            | Client::GeminiCli
            | Client::GoogleGenAi
            | Client::Boto
            | Client::Other => self.status(),
        }
    }

    /// Whether a budget is spent, and waiting is not worth it.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self, Refusal::Budget(refusal) if refusal.ending == Ending::Final)
    }

    fn headers(&self, to: &Audience) -> Vec<(HeaderName, HeaderValue)> {
        let retry = if self.retry_helps() { "true" } else { "false" };
        let mut headers = vec![(
            HeaderName::from_static("x-should-retry"),
            HeaderValue::from_static(retry),
        )];
        if matches!(self, Refusal::UpgradeRequired) {
            headers.push((header::UPGRADE, HeaderValue::from_static("HTTP/1.1")));
        }
        if let Refusal::ProviderBusy { wait, .. } = self {
            let seconds = wait.map_or(BUSY_PAUSE_SECONDS, |wait| wait.as_secs().max(1));
            let seconds = seconds.min(MAX_RETRY_SECONDS);
            headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        if matches!(self, Refusal::LedgerUnavailable) {
            // The ledger looks for space again every second.
            headers.push((header::RETRY_AFTER, HeaderValue::from_static("2")));
        }
        if let Refusal::Budget(refusal) = self {
            budget_headers(refusal, to, &mut headers);
        }
        if to.client == Client::Boto {
            let kind = super::body::aws_type(self.status_for(to));
            headers.push((
                HeaderName::from_static("x-amzn-errortype"),
                HeaderValue::from_static(kind),
            ));
        }
        headers
    }
}

/// Seconds after which to come back: never 0, which means "when you like" to SDKs; never early.
pub(super) fn retry_seconds(wait: Duration) -> u64 {
    whole_seconds(wait).clamp(1, MAX_RETRY_SECONDS)
}

/// Seconds, rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    let begun = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(begun)
}

fn budget_headers(
    refusal: &BudgetRefusal,
    to: &Audience,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
) {
    headers.push((
        HeaderName::from_static("x-tollgate-level"),
        HeaderValue::from_static(refusal.level.as_str()),
    ));
    if let Ok(name) = HeaderValue::from_str(&refusal.budget.name) {
        headers.push((HeaderName::from_static("x-tollgate-budget"), name));
    }
    match refusal.ending {
        Ending::Transient { retry_after } => {
            let seconds = retry_seconds(retry_after);
            headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
            if to.dialect == Dialect::OpenAi {
                headers.push((
                    HeaderName::from_static("retry-after-ms"),
                    HeaderValue::from(seconds * 1000),
                ));
            }
            if to.client == Client::Boto {
                headers.push((
                    HeaderName::from_static("x-amz-retry-after"),
                    HeaderValue::from(seconds * 1000),
                ));
            }
        }
        Ending::Final => {
            // For people and for tools that plan; every program that would sleep on it is told not to come back.
            if let Some(wait) = refusal.passes_in {
                let seconds = whole_seconds(wait).max(1);
                headers.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
            }
            if to.client == Client::ClaudeCode {
                spent_for_claude_code(refusal, headers);
            }
        }
        Ending::NeverFits => {}
    }
}

/// How Claude Code is told of a spent budget, by the contract for gateways that it carries. Without
/// `representative-claim` and `overage-status`: with them it shows a text of its own instead of ours.
fn spent_for_claude_code(refusal: &BudgetRefusal, headers: &mut Vec<(HeaderName, HeaderValue)>) {
    let period = match refusal.budget.window {
        Window::Minute | Window::Hour | Window::Day => "daily",
        Window::Month => "monthly",
    };
    for (name, value) in [
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-overage-utilization", "1"),
        (
            "anthropic-ratelimit-unified-overage-surpassed-threshold",
            "1",
        ),
        ("anthropic-ratelimit-unified-overage-period", period),
        (
            "anthropic-ratelimit-unified-overage-disabled-reason",
            "org_spend_cap_reached",
        ),
    ] {
        headers.push((
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        ));
    }
    if let Some(at) = refusal.passes_at_unix_ms {
        for name in [
            "anthropic-ratelimit-unified-reset",
            "anthropic-ratelimit-unified-overage-reset",
        ] {
            headers.push((
                HeaderName::from_static(name),
                HeaderValue::from(at.div_ceil(1000)),
            ));
        }
    }
}
