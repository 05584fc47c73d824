//! Routes that nothing takes: rules that never match, rungs without a credential, ladders that prices have turned over.

use super::budgets::can_be_key;
use super::{Finding, meant};
use crate::config::rungs;
use crate::config::settings::{AuthMode, Settings};
use crate::llm::catalogue::Catalogue;
use crate::policy::priority::Pattern;
use crate::policy::routing::{Mode, RouteRule, Target, To};

const NEVER: &str = "rule-never-matches";

pub(super) fn lint(
    settings: &Settings,
    catalogue: &Catalogue,
    at_unix_ms: u64,
    findings: &mut Vec<Finding>,
) {
    let routing = &settings.routing;
    if routing.mode == Mode::Off {
        return;
    }
    for (index, rule) in routing.rules.iter().enumerate() {
        let Some(number) = rule.block else { continue };
        if let Some(earlier) = routing.rules[..index]
            .iter()
            .find(|earlier| hides(earlier, rule))
        {
            findings.push(hidden(rule, number, earlier));
        } else if let Some(finding) = impossible(settings, rule, number) {
            findings.push(finding);
        } else {
            findings.extend(unknown(settings, catalogue, rule, number));
        }
        findings.extend(without_ladder(settings, rule, number));
    }
    credentials(settings, findings);
    for ladder in routing
        .ladders
        .iter()
        .filter(|ladder| ladder.block.is_none())
    {
        if let Some((_, message)) = rungs::out_of_order(settings, catalogue, ladder, at_unix_ms) {
            let name = &ladder.name;
            findings.push(Finding::note(
                "ladder-out-of-order",
                format!("routing.ladders.{name}"),
                format!("built-in ladder `{name}`: {message}"),
                "nothing is sent to a model that is dearer than what was asked for; a [[routing.ladders]] of the same name \
                 takes its place",
            ));
        }
    }
}

/// Whether the earlier rule holds wherever the later one does: each of its conditions is implied by the later's.
fn hides(earlier: &RouteRule, later: &RouteRule) -> bool {
    // Whether what a pattern asks about is always there.
    let patterns = [
        (&earlier.task, &later.task, false),
        (&earlier.model, &later.model, true),
        (&earlier.provider, &later.provider, true),
        (&earlier.session, &later.session, true),
        (&earlier.key, &later.key, false),
        (&earlier.team, &later.team, false),
    ];
    let is_anything = |pattern: &Pattern| {
        !pattern.as_str().is_empty() && pattern.as_str().bytes().all(|byte| byte == b'*')
    };
    let implied = patterns
        .into_iter()
        .all(|(wide, narrow, always)| match (wide, narrow) {
            (None, _) => true,
            (Some(wide), None) => always && is_anything(wide),
            // A * of the narrow pattern is only taken by a * of the wide one, as no other character matches it.
            (Some(wide), Some(narrow)) => wide.matches(narrow.as_str()),
        });
    implied
        && earlier
            .simple
            .is_none_or(|simple| later.simple == Some(simple))
        && earlier
            .priority
            .is_none_or(|priority| later.priority == Some(priority))
        && earlier
            .level
            .is_none_or(|level| later.level.unwrap_or_default() >= level)
}

fn hidden(rule: &RouteRule, number: usize, earlier: &RouteRule) -> Finding {
    let message = format!(
        "rule `{}` of [[routing.rules]] can never match: whatever it is for, rule `{}` is for too and comes first",
        rule.name, earlier.name
    );
    let help = "put it before that one, or take it out";
    let finding = Finding::warning(NEVER, format!("routing.rules.{number}"), message, help);
    match earlier.block {
        Some(block) => finding.because(format!("routing.rules.{block}")),
        None => finding,
    }
}

/// A condition that no request fulfils.
fn impossible(settings: &Settings, rule: &RouteRule, number: usize) -> Option<Finding> {
    let never = |key: &str, why: String, help: String| {
        let message = format!(
            "rule `{}` of [[routing.rules]] can never match: {why}",
            rule.name
        );
        Finding::warning(
            NEVER,
            format!("routing.rules.{number}.{key}"),
            message,
            help,
        )
    };
    let passthrough = settings.auth.mode == AuthMode::Passthrough;
    if let Some(team) = &rule.team {
        if passthrough {
            let why = "in mode \"passthrough\" nobody has a team".to_owned();
            let help = "tollgate keys belong to teams: set auth.mode = \"keys\"";
            return Some(never("team", why, help.to_owned()));
        }
        let teams = settings.teams.keys().map(String::as_str);
        if !teams.clone().any(|name| team.matches(name)) {
            let why = format!("there is no team `{}`", team.as_str());
            return Some(never("team", why, meant(team.as_str(), teams)));
        }
    }
    let key = rule.key.as_ref()?.as_str();
    if passthrough
        && !key.contains('*')
        && !can_be_key(settings.auth.mode, &key.to_ascii_lowercase())
    {
        let why = "in mode \"passthrough\" no key has a name, only a fingerprint".to_owned();
        let help = "a fingerprint is key- and 12 hexadecimal digits, as in `tollgate usage --by key`; or set auth.mode = \"keys\"";
        return Some(never("key", why, help.to_owned()));
    }
    None
}

/// Conditions on a task or a model that only clients could know of.
fn unknown(
    settings: &Settings,
    catalogue: &Catalogue,
    rule: &RouteRule,
    number: usize,
) -> Option<Finding> {
    let key = |key: &str| format!("routing.rules.{number}.{key}");
    let tasks = settings.classify.tasks.tasks.iter();
    let tasks = tasks.map(|task| task.name.as_str());
    if let Some(wanted) = &rule.task
        && !tasks.clone().any(|name| wanted.matches(name))
    {
        let wanted = wanted.as_str();
        let message = format!(
            "rule `{}` of [[routing.rules]] is for task `{wanted}`, which no task rule gives: it matches only requests that \
             name it in x-tollgate-task",
            rule.name
        );
        return Some(Finding::note(
            "task-of-headers-only",
            key("task"),
            message,
            meant(wanted, tasks),
        ));
    }
    let wanted = rule.model.as_ref()?;
    let is_known = catalogue
        .models()
        .iter()
        .any(|model| wanted.matches(&model.id))
        || settings.providers.iter().any(|provider| {
            let known = catalogue.resolve(&provider.catalogue, wanted.as_str());
            known.is_some_and(|model| !model.id.contains('*'))
        });
    (!is_known).then(|| {
        let wanted = wanted.as_str();
        Finding::note(
            "model-not-known",
            key("model"),
            format!(
                "`{wanted}` in rule `{}` fits no model that the catalogue knows",
                rule.name
            ),
            "it is right for models of your own; [[models]] makes them and their prices known",
        )
    })
}

/// A rule that sends down a ladder where there is none.
fn without_ladder(settings: &Settings, rule: &RouteRule, number: usize) -> Option<Finding> {
    if matches!(rule.to, To::Asked | To::Model(_)) {
        return None;
    }
    let wanted = rule.provider.as_ref()?;
    let mut providers = settings.providers.iter();
    let has_ladder = providers.any(|provider| {
        let ladders = &settings.routing.ladders;
        wanted.matches(&provider.name)
            && ladders
                .iter()
                .any(|ladder| ladder.is_for(&provider.name, &provider.catalogue))
    });
    (!has_ladder).then(|| {
        Finding::warning(
            "rule-without-ladder",
            format!("routing.rules.{number}.to"),
            format!(
                "rule `{}` of [[routing.rules]] changes nothing: there is no ladder for `{}`",
                rule.name,
                wanted.as_str()
            ),
            "[[routing.ladders]] makes one, with provider set to it",
        )
    })
}

/// Models of providers that other providers' requests may be sent to, and the keys by which they are named.
pub(super) fn targets(settings: &Settings) -> impl Iterator<Item = (&str, &Target, String)> {
    let routing = &settings.routing;
    let ladders = routing.ladders.iter().flat_map(|ladder| {
        let rungs = ladder.rungs.iter().enumerate();
        rungs.filter_map(move |(index, target)| {
            let provider = target.provider.as_deref()?;
            let own = ladder.provider.as_deref() == Some(provider);
            let key = match ladder.block {
                Some(number) => format!("routing.ladders.{number}.rungs.{}", index + 1),
                None => "routing.local".to_owned(),
            };
            (!own).then_some((provider, target, key))
        })
    });
    let rules = routing.rules.iter().filter_map(|rule| {
        let To::Model(target) = &rule.to else {
            return None;
        };
        let provider = target.provider.as_deref()?;
        let own = rule
            .provider
            .as_ref()
            .is_some_and(|pattern| pattern.as_str() == provider);
        (!own).then(|| {
            (
                provider,
                target,
                format!("routing.rules.{}.to", rule.block.unwrap_or_default()),
            )
        })
    });
    ladders.chain(rules)
}

/// Targets that need a key of tollgate's own, since a client's is for the provider that it asked.
fn credentials(settings: &Settings, findings: &mut Vec<Finding>) {
    let mut told: Vec<&str> = Vec::new();
    for (name, target, key) in targets(settings) {
        let provider = settings.providers.iter().find(|known| known.name == name);
        let lacks = provider.is_some_and(|known| !known.is_local() && known.api_key.is_none());
        if !lacks || told.contains(&name) {
            continue;
        }
        told.push(name);
        findings.push(Finding::warning(
            "route-without-key",
            key,
            format!("nothing can be sent to `{target}` by routing: a client's key is for the provider that it asked, and tollgate has none for `{name}`"),
            format!("set providers.{name}.api_key or api_key_file, or TOLLGATE_PROVIDERS_{}_API_KEY", name.to_ascii_uppercase().replace('-', "_")),
        ));
    }
}
