//! Tiers, teams and keys whose rules bind nobody, or contradict each other.

use super::budgets::can_be_key;
use super::{Finding, meant};
use crate::config::settings::{AuthMode, Settings};
use crate::llm::catalogue::Catalogue;
use crate::policy::priority::Pattern;
use crate::policy::rules::Policy;

/// Tiers of the reference configuration: examples, which need no user.
const EXAMPLES: [&str; 3] = ["free", "pro", "enterprise"];

pub(super) fn lint(settings: &Settings, catalogue: &Catalogue, findings: &mut Vec<Finding>) {
    for (name, tier) in &settings.tiers {
        itself(tier, &format!("tiers.{name}"), findings);
        models(
            settings,
            catalogue,
            tier,
            &format!("tiers.{name}"),
            findings,
        );
        unused(settings, name, findings);
    }
    for (name, team) in &settings.teams {
        let table = format!("teams.{name}");
        if settings.auth.mode == AuthMode::Passthrough {
            findings.push(Finding::warning(
                "team-of-nobody",
                table.clone(),
                format!("team `{name}` has no members: in mode \"passthrough\" nobody has a team"),
                "tollgate keys belong to teams: set auth.mode = \"keys\"",
            ));
        }
        itself(&team.policy, &table, findings);
        models(settings, catalogue, &team.policy, &table, findings);
        match team.tier.as_ref().or(settings.auth.tier.as_ref()) {
            Some(tier) => {
                if let Some(policy) = settings.tiers.get(tier) {
                    beyond(&team.policy, &table, policy, &format!("tiers.{tier}"), findings);
                }
            }
            None => findings.push(Finding::warning(
                "team-without-tier",
                table.clone(),
                format!("team `{name}` has no tier: what it may ask for is bounded by its own rules alone"),
                format!(
                    "{table}.tier, or auth.tier for all that have none; {}",
                    meant("", settings.tiers.keys().map(String::as_str))
                ),
            )),
        }
    }
    for (name, key) in &settings.keys {
        let table = format!("keys.{name}");
        if !can_be_key(settings.auth.mode, name) {
            findings.push(Finding::warning(
                "key-of-nobody",
                table.clone(),
                format!("the rules of key `{name}` can never match: in mode \"passthrough\" no key has a name, only a fingerprint"),
                "a fingerprint is key- and 12 hexadecimal digits, as in `tollgate usage --by key`; or set auth.mode = \"keys\"",
            ));
        }
        itself(key, &table, findings);
        models(settings, catalogue, key, &table, findings);
        // A tollgate key has a tier of its own or its team's; in the other mode there is only one tier for all.
        if settings.auth.mode == AuthMode::Passthrough
            && let Some(tier) = &settings.auth.tier
            && let Some(policy) = settings.tiers.get(tier)
        {
            beyond(key, &table, policy, &format!("tiers.{tier}"), findings);
        }
    }
}

/// What contradicts itself inside one policy.
fn itself(policy: &Policy, table: &str, findings: &mut Vec<Finding>) {
    let minute = format!("{table}.requests_per_minute");
    let hour = format!("{table}.requests_per_hour");
    if let (Some(per_minute), Some(per_hour)) =
        (policy.requests_per_minute, policy.requests_per_hour)
    {
        if per_hour < per_minute {
            let message = format!(
                "`{minute}` can never bind: `{hour}` is {per_hour}, which is less than {per_minute}"
            );
            let help = "raise the requests per hour, or lower those per minute";
            findings.push(
                Finding::warning("limits-contradict", minute.clone(), message, help)
                    .because(hour.clone()),
            );
        // With one minute to spare for the coarse steps of sliding windows.
        } else if per_minute.saturating_mul(61) <= per_hour {
            let message = format!(
                "`{hour}` can never bind: {per_minute} a minute are {} an hour at most, which is less than {per_hour}",
                per_minute.saturating_mul(60)
            );
            let help = "lower the requests per hour, or raise those per minute";
            findings
                .push(Finding::warning("limits-contradict", hour, message, help).because(minute));
        }
    }
    if let (Some(priority), Some(most)) = (policy.priority, policy.max_priority)
        && priority > most
    {
        let (key, cap) = (format!("{table}.priority"), format!("{table}.max_priority"));
        let message =
            format!("`{key}` is {priority}, and `{cap}` lets nobody have more than {most}");
        let help = "lower the one or raise the other";
        findings.push(Finding::warning("limits-contradict", key, message, help).because(cap));
    }
}

/// Rules of a team or a key that its tier's rules, which hold besides, always overrule.
fn beyond(own: &Policy, table: &str, tier: &Policy, tier_table: &str, findings: &mut Vec<Finding>) {
    let counts = [
        (
            "requests_per_minute",
            own.requests_per_minute,
            tier.requests_per_minute,
        ),
        (
            "requests_per_hour",
            own.requests_per_hour,
            tier.requests_per_hour,
        ),
        ("max_prompt", own.max_prompt_tokens, tier.max_prompt_tokens),
        ("max_output", own.max_output_tokens, tier.max_output_tokens),
        (
            "max_depth",
            own.max_depth.map(u64::from),
            tier.max_depth.map(u64::from),
        ),
    ];
    let mut report = |name: &str, own: String, most: String| {
        let (key, because) = (format!("{table}.{name}"), format!("{tier_table}.{name}"));
        let message = format!(
            "`{key}` ({own}) has no effect: `{because}` is {most}, and the tier's rules hold too"
        );
        let help = "lower it, raise the tier's, or choose another tier";
        findings.push(Finding::warning("beyond-its-tier", key, message, help).because(because));
    };
    for (name, own, most) in counts {
        if let (Some(own), Some(most)) = (own, most)
            && own > most
        {
            report(name, own.to_string(), most.to_string());
        }
    }
    if let (Some(own), Some(most)) = (own.max_priority, tier.max_priority)
        && own > most
    {
        report("max_priority", own.to_string(), most.to_string());
    }
    if let (Some(own), Some(most)) = (own.priority, tier.max_priority)
        && own > most
    {
        let key = format!("{table}.priority");
        let because = format!("{tier_table}.max_priority");
        let message =
            format!("`{key}` is {own}, and `{because}` lets nobody have more than {most}");
        let help = "lower it, raise the tier's, or choose another tier";
        findings.push(Finding::warning("beyond-its-tier", key, message, help).because(because));
    }
}

/// A tier that binds nobody. In mode `keys` a key may name it, which stands in the keys' own file.
fn unused(settings: &Settings, name: &str, findings: &mut Vec<Finding>) {
    let is_default = settings.auth.tier.as_deref() == Some(name);
    let of_team = settings
        .teams
        .values()
        .any(|team| team.tier.as_deref() == Some(name));
    if EXAMPLES.contains(&name) || is_default {
        return;
    }
    let key = format!("tiers.{name}");
    match settings.auth.mode {
        AuthMode::Passthrough => findings.push(Finding::warning(
            "tier-of-nobody",
            key,
            format!("tier `{name}` binds nobody: in mode \"passthrough\" everybody has `auth.tier`, which is another or none"),
            format!("set auth.tier = \"{name}\", or auth.mode = \"keys\""),
        )),
        AuthMode::Keys if !of_team => findings.push(Finding::note(
            "tier-of-keys-only",
            key,
            format!("tier `{name}` is no team's and not `auth.tier`: it binds only keys that were given it themselves"),
            format!("a team takes it by teams.NAME.tier = \"{name}\""),
        )),
        AuthMode::Keys => {}
    }
}

/// Patterns that no known model fits. Local models and new ones have any name, so it may be right.
fn models(
    settings: &Settings,
    catalogue: &Catalogue,
    policy: &Policy,
    table: &str,
    findings: &mut Vec<Finding>,
) {
    let is_known = |pattern: &Pattern| {
        catalogue
            .models()
            .iter()
            .any(|model| pattern.matches(&model.id))
            || settings.providers.iter().any(|provider| {
                catalogue
                    .resolve(&provider.catalogue, pattern.as_str())
                    .is_some_and(|model| !model.id.contains('*'))
            })
    };
    for pattern in policy
        .models
        .iter()
        .flatten()
        .filter(|pattern| !is_known(pattern))
    {
        let key = format!("{table}.models");
        let pattern = pattern.as_str();
        findings.push(Finding::note(
            "model-not-known",
            key.clone(),
            format!("`{pattern}` in `{key}` fits no model that the catalogue knows"),
            "it is right for models of your own; [[models]] makes them and their prices known",
        ));
    }
}
