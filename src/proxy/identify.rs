//! Second step: who asks. The order of trust is `policy::session`'s; this step hands it the request and writes the
//! result down.

use http::HeaderMap;

use super::account::Account;
use super::parse::{Asked, Call};
use crate::llm::request::{Stated, UserId};
use crate::policy::explicit;
use crate::policy::session::{self, BodySession, Session};
use crate::refusal::Refusal;

/// The client's own label for billing.
const PHASE_HEADER: &str = "x-tollgate-phase";

/// How deep an agent has called itself.
const DEPTH_HEADER: &str = "x-tollgate-depth";

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    /// The session that is charged, and the agent inside it.
    pub(super) session: Session,
    /// The client's key, by its fingerprint.
    pub(super) key: Option<String>,
    /// The key's team.
    pub(super) team: Option<String>,
    /// The key's or team's tier, or that of callers who have none.
    pub(super) tier: Option<String>,
}

/// Finds out who asks.
pub(super) fn identify(
    call: &Call,
    asked: &Asked<'_>,
    account: &mut Account,
) -> Result<Caller, Refusal> {
    let headers = &call.parts.headers;
    let key = session::client_key(headers, call.parts.uri.query());
    let body = asked
        .peek
        .map(|peek| body_session(&peek.stated))
        .unwrap_or_default();
    let session = session::identify(headers, call.tag_session.as_deref(), &body, key.as_ref())
        .map_err(bad_tag)?;
    let phase = explicit::value(headers, PHASE_HEADER).map_err(bad_tag)?;
    let depth = depth(headers)?;
    let caller = Caller {
        session,
        key: key.map(|key| key.fingerprint.to_string()),
        team: None,
        tier: account.settings().auth.tier.clone(),
    };
    let record = account.record_mut();
    record.session.clone_from(&caller.session.name);
    record.agent.clone_from(&caller.session.agent);
    record.key.clone_from(&caller.key);
    record.phase = phase.map(str::to_owned);
    record.depth = depth;
    Ok(caller)
}

fn body_session<'a>(stated: &'a Stated<'a>) -> BodySession<'a> {
    let (packed_session, plain_user) = match &stated.user_id {
        Some(UserId::ClaudeCode { session, .. }) => (session.as_deref(), None),
        Some(UserId::Plain(user)) => (None, Some(&**user)),
        None => (None, None),
    };
    BodySession {
        session_id: stated.session_id.as_deref(),
        packed_session,
        prompt_cache_key: stated.prompt_cache_key.as_deref(),
        client_session_id: stated.client_session_id.as_deref(),
        user: stated
            .user
            .as_deref()
            .or(stated.safety_identifier.as_deref())
            .or(plain_user),
    }
}

fn depth(headers: &HeaderMap) -> Result<Option<u32>, Refusal> {
    let Some(text) = explicit::value(headers, DEPTH_HEADER).map_err(bad_tag)? else {
        return Ok(None);
    };
    let depth = text.parse();
    depth
        .map(Some)
        .map_err(|_| Refusal::BadTag(format!("header {DEPTH_HEADER} must be a whole number")))
}

/// A header of tollgate's that cannot be what it is.
pub(super) fn bad_tag(problem: impl std::fmt::Display) -> Refusal {
    Refusal::BadTag(problem.to_string())
}
