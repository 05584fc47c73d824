//! Second step: who asks. The order of trust is `policy::session`'s; this step hands it the request, finds whose rules
//! apply, and writes the result down. Whether the client may ask at all was judged before its body was read
//! (`authenticate`).

use http::HeaderMap;

use super::account::Account;
use super::parse::{Asked, Call};
use crate::config::settings::Settings;
use crate::llm::request::{Stated, UserId};
use crate::policy::explicit;
use crate::policy::rules::Policy;
use crate::policy::session::{self, BodySession, Session};
use crate::refusal::Refusal;
use crate::units::Priority;

/// The client's own label for billing.
const PHASE_HEADER: &str = "x-tollgate-phase";

/// How deep an agent has called itself.
const DEPTH_HEADER: &str = "x-tollgate-depth";

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    /// The session that is charged, and the agent inside it.
    pub(super) session: Session,
    /// The client's key: a tollgate key's name, or the fingerprint of a provider's.
    pub(super) key: Option<String>,
    /// The key's team; it is in the config.
    pub(super) team: Option<String>,
    /// The key's tier, else its team's, else that of callers without one; it is in the config.
    pub(super) tier: Option<String>,
    /// The priority that the key itself gives to requests that name none.
    pub(super) priority: Option<Priority>,
    /// The most urgent priority that the key itself allows.
    pub(super) max_priority: Option<Priority>,
}

impl Caller {
    /// The rules that apply, the closest first: the key's, the team's, the tier's.
    pub(super) fn policies<'a>(
        &self,
        settings: &'a Settings,
    ) -> impl Iterator<Item = &'a Policy> + use<'a> {
        let key = self.key.as_ref().and_then(|key| settings.keys.get(key));
        let team = self.team.as_ref().and_then(|team| settings.teams.get(team));
        let tier = self.tier.as_ref().and_then(|tier| settings.tiers.get(tier));
        [key, team.map(|team| &team.policy), tier]
            .into_iter()
            .flatten()
    }
}

/// Finds out who asks.
pub(super) fn identify(
    call: &Call,
    asked: &Asked<'_>,
    account: &mut Account,
) -> Result<Caller, Refusal> {
    let headers = &call.parts.headers;
    let name = call.credential.name();
    let body = asked
        .peek
        .map(|peek| body_session(&peek.stated))
        .unwrap_or_default();
    let session =
        session::identify(headers, call.tag_session.as_deref(), &body, name).map_err(bad_tag)?;
    let phase = explicit::value(headers, PHASE_HEADER).map_err(bad_tag)?;
    let depth = depth(headers)?;
    let key = call.credential.key();
    let team = key.and_then(|key| key.team.clone());
    let settings = account.settings();
    let of_team = || settings.teams.get(team.as_ref()?)?.tier.clone();
    let caller = Caller {
        session,
        key: name.map(str::to_owned),
        tier: key
            .and_then(|key| key.tier.clone())
            .or_else(of_team)
            .or_else(|| settings.auth.tier.clone()),
        team,
        priority: key.and_then(|key| key.priority),
        max_priority: key.and_then(|key| key.max_priority),
    };
    let record = account.record_mut();
    record.team.clone_from(&caller.team);
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
