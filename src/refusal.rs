//! Every way in which tollgate itself answers a request instead of the provider: status, code, text, whether trying
//! again helps, whose doing it is. One table, no wildcard arm: a new way to fail must be decided here.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::llm::wire::{Dialect, error_body};
use crate::policy::origin::Foreign;
use crate::units::RequestId;

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
    /// The ledger cannot be written, and nothing is served unrecorded.
    LedgerUnavailable,
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
    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Refusal::UnknownProvider { .. } => StatusCode::NOT_FOUND,
            Refusal::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Refusal::Foreign(_) => StatusCode::FORBIDDEN,
            Refusal::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::BadTarget
            | Refusal::BadTag(_)
            | Refusal::DuplicateField(_)
            | Refusal::BodyBroken
            | Refusal::ClientGone => StatusCode::BAD_REQUEST,
            Refusal::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Refusal::LedgerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Unreachable { .. }
            | Refusal::TlsFailed { .. }
            | Refusal::UpstreamClosed
            | Refusal::UpstreamInvalid => StatusCode::BAD_GATEWAY,
            Refusal::UpstreamTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
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
            Refusal::LedgerUnavailable => "ledger_unavailable",
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
            | Refusal::ClientGone => Blame::Client,
            Refusal::LedgerUnavailable => Blame::Tollgate,
            Refusal::Unreachable { .. }
            | Refusal::TlsFailed { .. }
            | Refusal::UpstreamClosed
            | Refusal::UpstreamInvalid
            | Refusal::UpstreamTimeout { .. } => Blame::Upstream,
        }
    }

    /// Whether the same request may succeed a little later. SDKs that know `x-should-retry` obey it.
    pub const fn retry_helps(&self) -> bool {
        match self {
            Refusal::LedgerUnavailable
            | Refusal::Unreachable { .. }
            | Refusal::UpstreamClosed
            | Refusal::BodyTimeout { .. } => true,
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
            | Refusal::ClientGone => false,
        }
    }

    /// One sentence for the person at the client: what, where, how to mend. Holds nothing of the request's content.
    pub fn message(&self) -> String {
        match self {
            Refusal::UnknownProvider { known } => {
                format!("tollgate: this path belongs to no provider; known prefixes: {known}")
            }
            Refusal::UpgradeRequired => {
                "tollgate: no WebSocket here; send plain HTTP requests to the same path".to_owned()
            }
            Refusal::BadTarget => "tollgate: the request's target must be a path".to_owned(),
            Refusal::HeadTooLarge { limit } => format!(
                "tollgate: the request's headers are larger than {limit} bytes together; raise server.max_header in \
                 tollgate's config if that is intended"
            ),
            Refusal::Foreign(why) => format!("tollgate: {why}"),
            Refusal::BadTag(what) => format!("tollgate: {what}"),
            Refusal::DuplicateField(field) => {
                format!("tollgate: the body names \"{field}\" twice, so it could mean two things; send it once")
            }
            Refusal::BodyTooLarge { limit } => format!(
                "tollgate: the request's body is larger than {limit} bytes; raise server.max_body in tollgate's config \
                 if that is intended"
            ),
            Refusal::BodyTimeout { limit } => {
                format!("tollgate: the request's body did not come within {}", humantime::format_duration(*limit))
            }
            Refusal::BodyBroken => "tollgate: the request's body is not valid HTTP".to_owned(),
            Refusal::ClientGone => "tollgate: the request's body broke off".to_owned(),
            Refusal::LedgerUnavailable => {
                "tollgate: the ledger cannot be written (is the disk full?), and nothing is served unrecorded; see \
                 tollgate's log, or set ledger.on_failure = \"pass\""
                    .to_owned()
            }
            Refusal::Unreachable { address } => {
                format!("tollgate: cannot reach {address}; is it up, and is the provider's base_url right?")
            }
            Refusal::TlsFailed { address } => format!(
                "tollgate: the TLS certificate of {address} is not acceptable; for a private authority set \
                 upstream.extra_ca_file"
            ),
            Refusal::UpstreamClosed => "tollgate: the provider closed the connection before it answered".to_owned(),
            Refusal::UpstreamInvalid => "tollgate: the provider's answer is not valid HTTP".to_owned(),
            Refusal::UpstreamTimeout { limit } => format!(
                "tollgate: the provider did not begin to answer within {}; see upstream.header_timeout",
                humantime::format_duration(*limit)
            ),
        }
    }

    /// The answer's headers besides the usual ones.
    pub fn headers(&self) -> Vec<(HeaderName, &'static str)> {
        let retry = if self.retry_helps() { "true" } else { "false" };
        let mut headers = vec![(HeaderName::from_static("x-should-retry"), retry)];
        if matches!(self, Refusal::UpgradeRequired) {
            headers.push((http::header::UPGRADE, "HTTP/1.1"));
        }
        if matches!(self, Refusal::LedgerUnavailable) {
            // The ledger looks for space again every second.
            headers.push((http::header::RETRY_AFTER, "2"));
        }
        headers
    }

    /// The answer's body in the client's wire format.
    pub fn body(&self, dialect: Dialect, id: RequestId) -> String {
        error_body(dialect, self.status(), self.code(), &self.message(), id)
    }
}
