//! What a refusal says to the person at the client: what is wrong, where, how to mend it.

use std::time::Duration;

use super::{Refusal, budget_text};

impl Refusal {
    /// One sentence for the person at the client: what, where, how to mend. Holds nothing of the request's content.
    pub fn message(&self) -> String {
        match self {
            Refusal::UnknownProvider { known } => {
                format!("tollgate: this path belongs to no provider; known prefixes: {known}")
            }
            Refusal::UpgradeRequired => {
                "tollgate: no WebSocket here; send plain HTTP requests to the same path".to_owned()
            }
            Refusal::BadTarget => "tollgate: the request's target must be a path without \".\" and \"..\" in it".to_owned(),
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
            Refusal::Budget(refusal) => format!("tollgate: {}", budget_text::of(refusal)),
            Refusal::PolicyViolation { rule, message } => {
                format!("tollgate: POLICY_VIOLATION: {message} (rule {rule})")
            }
            Refusal::UnknownPrice { model } => format!(
                "tollgate: the price of {model} is not known, and throttle.unknown_price is \"refuse\"; state its \
                 price under [[models]]"
            ),
            Refusal::Unbounded { budget, why } => format!(
                "tollgate: budget {budget} is hard, so nothing passes that might exceed it, and {why}"
            ),
            Refusal::BadKey { why } => format!("tollgate: {why}"),
            Refusal::ProviderBusy {
                provider,
                wait,
                line_full,
            } => {
                let why = match (wait, line_full) {
                    (_, true) => "its waiting line is full".to_owned(),
                    (Some(wait), _) => format!(
                        "the wait would be at least {}",
                        humantime::format_duration(Duration::from_secs(wait.as_secs().max(1)))
                    ),
                    (None, _) => "its turn did not come in time".to_owned(),
                };
                format!(
                    "tollgate: the limits of {provider} leave no room for this request before its deadline: {why}; send \
                     it later, or see send.deadline_normal and its like in tollgate's config"
                )
            }
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
}
