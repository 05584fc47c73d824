//! Every way in which tollgate itself answers a request instead of the provider: its name, whether trying again helps,
//! whose doing it is. One table, no wildcard arm: a new way to fail must be decided here.
//!
//! How a refusal reads is `message`'s and `budget_text`'s; which status, headers and wire format each client program gets
//! is `answer`'s and `body`'s.

mod answer;
mod body;
mod budget_text;
mod message;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

pub use self::answer::{Answer, Audience};
use crate::policy::budget::Budget;
use crate::policy::origin::Foreign;
use crate::policy::throttle::Level;
use crate::units::Priority;

/// Whose doing a refusal is; the label of the refusals metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client asked for something that cannot be.
    Client,
    /// tollgate cannot serve now.
    Tollgate,
    /// The provider failed.
    Upstream,
}

impl Blame {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Tollgate => "tollgate",
            Blame::Upstream => "upstream",
        }
    }
}

/// How a budget's refusal ends for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Waiting this long (at most 60 s) may cure it: the client is told to come back.
    Transient {
        /// After how long.
        retry_after: Duration,
    },
    /// It is not worth waiting for: the client is told in the form on which it gives up at once.
    Final,
    /// The request alone is larger than the limit: it can never pass.
    NeverFits,
}

/// A budget that has no room for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRefusal {
    /// How it ends for the client.
    pub ending: Ending,
    /// The budget that decides.
    pub budget: Arc<Budget>,
    /// Whose: `global`, `session docs`.
    pub scope: String,
    /// The request's level.
    pub level: Level,
    /// The request's priority.
    pub priority: Priority,
    /// Booked in the window, in the budget's unit (tokens, atto-dollars, requests).
    pub settled: i128,
    /// Reserved by running requests, in the budget's unit.
    pub reserved: i128,
    /// What the request asks for, in the budget's unit.
    pub asked: i128,
    /// The limit, in the budget's unit.
    pub limit: i128,
    /// When the same request would pass if nothing else happened; `None` if that is not known, or never.
    pub passes_in: Option<Duration>,
    /// The same as a moment, in Unix milliseconds.
    pub passes_at_unix_ms: Option<u64>,
    /// How long the request waited in line before it was refused.
    pub waited: Option<Duration>,
    /// The line was full.
    pub line_full: bool,
}

/// An answer of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The path belongs to no provider.
    UnknownProvider {
        /// The names that would have worked.
        known: String,
    },
    /// A WebSocket is asked for where only plain requests are served.
    UpgradeRequired,
    /// The target is not a path (`*`, `CONNECT host`).
    BadTarget,
    /// The request's head is larger than the limit.
    HeadTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The request comes from a page of another site, or under another machine's name.
    Foreign(Foreign),
    /// A tollgate header, or the tag in the path, says something that cannot be.
    BadTag(String),
    /// A field that tollgate decides on occurs twice, so it could mean two things.
    DuplicateField(&'static str),
    /// The request's body is larger than the limit.
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The client paused too long inside its body.
    BodyTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The client's body was not what its headers promise.
    BodyBroken,
    /// The client's body broke off with its connection: nobody reads this answer.
    ClientGone,
    /// A budget has no room for the request.
    Budget(Box<BudgetRefusal>),
    /// A rule of the caller's tier, team or key forbids the request.
    PolicyViolation {
        /// The rule: `tiers.free.max_output`.
        rule: String,
        /// What it allows, and what was asked for; nothing of the request's content.
        message: String,
    },
    /// The model's price is not known, and the config says to refuse then.
    UnknownPrice {
        /// The model.
        model: String,
    },
    /// A hard budget applies, and what the request will use cannot be bounded before it is sent.
    Unbounded {
        /// The budget's name in the config.
        budget: String,
        /// Why, and what to do: the rest of a sentence without a final period, without anything of the request's content.
        why: String,
    },
    /// In mode `keys`: the client shows no tollgate key, or none that holds.
    BadKey {
        /// Why: one sentence without a final period, without the key.
        why: &'static str,
    },
    /// The ledger cannot be written, and nothing is served unrecorded.
    LedgerUnavailable,
    /// The provider's limits leave no room for the request before its client stops waiting.
    ProviderBusy {
        /// The provider.
        provider: String,
        /// How long it would have to wait at least, as far as is known.
        wait: Option<Duration>,
        /// The line was full.
        line_full: bool,
    },
    /// No connection to the provider.
    Unreachable {
        /// Scheme, host and port.
        address: String,
    },
    /// The provider's TLS certificate or handshake is not acceptable.
    TlsFailed {
        /// Scheme, host and port.
        address: String,
    },
    /// The provider closed the connection before answering.
    UpstreamClosed,
    /// The provider's answer is not HTTP.
    UpstreamInvalid,
    /// The provider did not begin to answer in time.
    UpstreamTimeout {
        /// The limit.
        limit: Duration,
    },
}

impl Refusal {
    /// What it is, as an HTTP status. What a client gets may differ: see [`Refusal::answer`].
    const fn status(&self) -> StatusCode {
        match self {
            Refusal::UnknownProvider { .. } => StatusCode::NOT_FOUND,
            Refusal::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Refusal::Foreign(_) => StatusCode::FORBIDDEN,
            Refusal::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::BadTarget
            | Refusal::BadTag(_)
            | Refusal::DuplicateField(_)
            | Refusal::BodyBroken
            | Refusal::ClientGone
            // Not a 403, which Claude Code takes for a failed login.
            | Refusal::UnknownPrice { .. }
            | Refusal::Unbounded { .. } => StatusCode::BAD_REQUEST,
            Refusal::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Refusal::LedgerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Unreachable { .. }
            | Refusal::TlsFailed { .. }
            | Refusal::UpstreamClosed
            | Refusal::UpstreamInvalid => StatusCode::BAD_GATEWAY,
            Refusal::UpstreamTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Budget(refusal) => match refusal.ending {
                Ending::Transient { .. } | Ending::Final => StatusCode::TOO_MANY_REQUESTS,
                Ending::NeverFits => StatusCode::BAD_REQUEST,
            },
            Refusal::ProviderBusy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::PolicyViolation { .. } => StatusCode::FORBIDDEN,
            Refusal::BadKey { .. } => StatusCode::UNAUTHORIZED,
        }
    }

    /// The stable name, for programs, metrics and the ledger.
    pub const fn code(&self) -> &'static str {
        match self {
            Refusal::UnknownProvider { .. } => "unknown_provider",
            Refusal::UpgradeRequired => "upgrade_not_served",
            Refusal::BadTarget => "bad_target",
            Refusal::HeadTooLarge { .. } => "head_too_large",
            Refusal::Foreign(Foreign::Host) => "foreign_host",
            Refusal::Foreign(Foreign::Site) => "foreign_site",
            Refusal::BadTag(_) => "bad_tag",
            Refusal::DuplicateField(_) => "duplicate_field",
            Refusal::BodyTooLarge { .. } => "body_too_large",
            Refusal::BodyTimeout { .. } => "body_timeout",
            Refusal::BodyBroken => "body_broken",
            Refusal::ClientGone => "client_gone",
            Refusal::Budget(_) => "budget_exceeded",
            Refusal::PolicyViolation { .. } => "POLICY_VIOLATION",
            Refusal::UnknownPrice { .. } => "unknown_price",
            Refusal::Unbounded { .. } => "unbounded_cost",
            Refusal::BadKey { .. } => "bad_key",
            Refusal::LedgerUnavailable => "ledger_unavailable",
            Refusal::ProviderBusy { .. } => "provider_busy",
            Refusal::Unreachable { .. } => "upstream_unreachable",
            Refusal::TlsFailed { .. } => "upstream_tls_failed",
            Refusal::UpstreamClosed => "upstream_closed",
            Refusal::UpstreamInvalid => "upstream_invalid",
            Refusal::UpstreamTimeout { .. } => "upstream_timeout",
        }
    }

    /// Whose doing it is.
    pub const fn blame(&self) -> Blame {
        match self {
            Refusal::UnknownProvider { .. }
            | Refusal::UpgradeRequired
            | Refusal::BadTarget
            | Refusal::Foreign(_)
            | Refusal::HeadTooLarge { .. }
            | Refusal::BadTag(_)
            | Refusal::DuplicateField(_)
            | Refusal::BodyTooLarge { .. }
            | Refusal::BodyTimeout { .. }
            | Refusal::BodyBroken
            | Refusal::ClientGone
            | Refusal::PolicyViolation { .. }
            | Refusal::BadKey { .. } => Blame::Client,
            Refusal::Budget(_)
            | Refusal::UnknownPrice { .. }
            | Refusal::Unbounded { .. }
            | Refusal::LedgerUnavailable => Blame::Tollgate,
            Refusal::ProviderBusy { .. }
            | Refusal::Unreachable { .. }
            | Refusal::TlsFailed { .. }
            | Refusal::UpstreamClosed
            | Refusal::UpstreamInvalid
            | Refusal::UpstreamTimeout { .. } => Blame::Upstream,
        }
    }

    /// Whether the same request may succeed a little later. SDKs that know `x-should-retry` obey it.
    pub fn retry_helps(&self) -> bool {
        match self {
            Refusal::LedgerUnavailable
            | Refusal::ProviderBusy { .. }
            | Refusal::Unreachable { .. }
            | Refusal::UpstreamClosed
            | Refusal::BodyTimeout { .. } => true,
            Refusal::Budget(refusal) => matches!(refusal.ending, Ending::Transient { .. }),
            // A provider that hung for the whole limit may have done, and billed, the work: the user decides.
            Refusal::UpstreamTimeout { .. }
            | Refusal::UpstreamInvalid
            | Refusal::TlsFailed { .. }
            | Refusal::UnknownProvider { .. }
            | Refusal::UpgradeRequired
            | Refusal::BadTarget
            | Refusal::Foreign(_)
            | Refusal::HeadTooLarge { .. }
            | Refusal::BadTag(_)
            | Refusal::DuplicateField(_)
            | Refusal::BodyTooLarge { .. }
            | Refusal::BodyBroken
            | Refusal::ClientGone
            | Refusal::PolicyViolation { .. }
            | Refusal::UnknownPrice { .. }
            | Refusal::Unbounded { .. }
            | Refusal::BadKey { .. } => false,
        }
    }
}
