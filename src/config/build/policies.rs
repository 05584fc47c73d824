//! `[auth]`, `[tiers.NAME]`, `[teams.NAME]` and `[keys.NAME]`: who may send requests, and what they may ask for at all.

use std::collections::BTreeMap;

use super::names;
use crate::config::amount::Count;
use crate::config::layers::{KEYS, NamedSection, TEAMS, TIERS};
use crate::config::lookup::Lookup;
use crate::config::problem::nearest;
use crate::config::settings::{AuthSettings, Settings, TeamSettings};
use crate::policy::rules::Policy;

pub(super) fn auth(lookup: &mut Lookup<'_>) -> AuthSettings {
    AuthSettings {
        mode: lookup.ask("auth.mode"),
        keys_file: lookup.ask("auth.keys_file"),
        tier: lookup.ask_optional("auth.tier"),
    }
}

pub(super) fn tiers(lookup: &mut Lookup<'_>) -> BTreeMap<String, Policy> {
    named_policies(lookup, &TIERS, "tier")
}

/// A key's name is the one that it was created with, or the fingerprint of a provider's key: both are names.
pub(super) fn keys(lookup: &mut Lookup<'_>) -> BTreeMap<String, Policy> {
    named_policies(lookup, &KEYS, "key")
}

pub(super) fn teams(lookup: &mut Lookup<'_>) -> BTreeMap<String, TeamSettings> {
    let names = names::usable(lookup, &TEAMS, "team", |_| None);
    names
        .into_iter()
        .map(|name| {
            let table = format!("teams.{name}");
            let team = TeamSettings {
                tier: lookup.ask_optional(&format!("{table}.tier")),
                policy: policy(lookup, &table),
            };
            (name, team)
        })
        .collect()
}

fn named_policies(
    lookup: &mut Lookup<'_>,
    section: &NamedSection,
    what: &str,
) -> BTreeMap<String, Policy> {
    let names = names::usable(lookup, section, what, |_| None);
    names
        .into_iter()
        .map(|name| {
            let policy = policy(lookup, &format!("{}.{name}", section.name));
            (name, policy)
        })
        .collect()
}

fn policy(lookup: &mut Lookup<'_>, table: &str) -> Policy {
    let key = |key: &str| format!("{table}.{key}");
    let mut count = |name: &str| {
        lookup
            .ask_optional::<Count>(&key(name))
            .map(|count| count.0)
    };
    Policy {
        requests_per_minute: count("requests_per_minute"),
        requests_per_hour: count("requests_per_hour"),
        max_prompt_tokens: count("max_prompt"),
        max_output_tokens: count("max_output"),
        models: lookup.ask_optional(&key("models")),
        tools: lookup.ask_optional(&key("tools")),
        max_depth: lookup
            .ask_optional::<usize>(&key("max_depth"))
            .map(|depth| u32::try_from(depth).unwrap_or(u32::MAX)),
        max_priority: lookup.ask_optional(&key("max_priority")),
        priority: lookup.ask_optional(&key("priority")),
        pin_model: lookup.ask_optional(&key("pin_model")).unwrap_or(false),
    }
}

/// Every tier that is named exists: a mistyped one would bound nobody.
pub(super) fn check_tiers(lookup: &mut Lookup<'_>, settings: &Settings) {
    let of_teams = settings.teams.iter().map(|(name, team)| {
        let key = format!("teams.{name}.tier");
        (key, team.tier.as_deref())
    });
    let of_others = [("auth.tier".to_owned(), settings.auth.tier.as_deref())];
    for (key, tier) in of_teams.chain(of_others) {
        if tier.is_none_or(|tier| settings.tiers.contains_key(tier)) {
            continue;
        }
        let known = settings.tiers.keys().map(String::as_str);
        let help = match nearest(tier.unwrap_or_default(), known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "known: {}; a section [tiers.NAME] adds one",
                known.collect::<Vec<_>>().join(", ")
            ),
        };
        let place = lookup.place(&key);
        let message = format!("`{key}` is not the name of a tier");
        lookup.object(place, &key, message, &help);
    }
}
