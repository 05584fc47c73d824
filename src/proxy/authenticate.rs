//! Part of the first step, before a request's body is read: whether its client may ask at all. In mode `passthrough`
//! everybody may, as the provider judges the key; in mode `keys` who shows a tollgate key that holds.

use std::sync::Arc;

use http::request::Parts;

use super::gate::Gate;
use crate::config::settings::{AuthMode, Settings};
use crate::keys::{self, Key};
use crate::policy::session;
use crate::refusal::Refusal;

const NO_KEY: &str = "this proxy asks for a tollgate key; put one that `tollgate keys create` made where your SDK takes \
                      its API key";

const NO_TEAM: &str =
    "this key's team is not in tollgate's config any more, so its rules are not known";

const NO_TIER: &str =
    "this key's tier is not in tollgate's config any more, so its rules are not known";

/// What a client shows.
#[derive(Debug)]
pub(super) enum Credential {
    /// A key for the provider, by its fingerprint, or none.
    Providers(Option<String>),
    /// A tollgate key that holds.
    Tollgate(Arc<Key>),
}

impl Credential {
    /// What the key is called in the ledger, in budgets and rules.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Credential::Providers(fingerprint) => fingerprint.as_deref(),
            Credential::Tollgate(key) => Some(&key.name),
        }
    }

    /// The tollgate key.
    pub(super) fn key(&self) -> Option<&Key> {
        match self {
            Credential::Providers(_) => None,
            Credential::Tollgate(key) => Some(key),
        }
    }
}

/// Judges what a client shows.
pub(super) fn authenticate(gate: &Gate, parts: &Parts) -> Result<Credential, Refusal> {
    let (headers, query) = (&parts.headers, parts.uri.query());
    if gate.settings.auth.mode == AuthMode::Passthrough {
        let key = session::client_key(headers, query);
        return Ok(Credential::Providers(
            key.map(|key| key.fingerprint.to_string()),
        ));
    }
    let shown = session::key_with_prefix(headers, query, keys::PREFIX);
    let shown = shown.ok_or(Refusal::BadKey { why: NO_KEY })?;
    let key = gate.keys.verify(shown, gate.clock.unix_ms());
    let key = key.map_err(|rejected| Refusal::BadKey {
        why: rejected.why(),
    })?;
    match missing_rules(&key, &gate.settings) {
        Some(why) => Err(Refusal::BadKey { why }),
        None => Ok(Credential::Tollgate(key)),
    }
}

/// Why a key cannot be used although it holds: rules that its owner was promised are gone from the config. It is not
/// taken for a key without rules.
pub(super) fn missing_rules(key: &Key, settings: &Settings) -> Option<&'static str> {
    let unknown_team = |team: &String| !settings.teams.contains_key(team);
    let unknown_tier = |tier: &String| !settings.tiers.contains_key(tier);
    if key.team.as_ref().is_some_and(unknown_team) {
        Some(NO_TEAM)
    } else if key.tier.as_ref().is_some_and(unknown_tier) {
        Some(NO_TIER)
    } else {
        None
    }
}
