//! Priority rules that can never match, and settings of the waiting line and of keys that never come into play.

use super::budgets::can_be_key;
use super::{Finding, meant, routing};
use crate::config::settings::{AuthMode, ProviderSettings, Settings};
use crate::policy::priority::{Pattern, PriorityRule};

pub(super) fn lint(settings: &Settings, findings: &mut Vec<Finding>) {
    let rules = &settings.classify.priority_rules;
    for (index, rule) in rules.iter().enumerate() {
        let number = index + 1;
        let key = format!("classify.priority.{number}");
        if let Some(earlier) = rules[..index]
            .iter()
            .position(|earlier| hides(earlier, rule))
        {
            let message = format!(
                "rule {number} of [[classify.priority]] can never match: whatever it is for, rule {} is for too and comes \
                 first",
                earlier + 1
            );
            let finding = Finding::warning(
                "rule-never-matches",
                key,
                message,
                "put it before that one, or take it out",
            );
            findings.push(finding.because(format!("classify.priority.{}", earlier + 1)));
        } else if let Some(finding) = impossible(settings, rule, number, key) {
            findings.push(finding);
        }
    }
    line(settings, findings);
    provider_keys(settings, findings);
}

/// A rule's conditions, and whether what they ask about is always there.
fn conditions(rule: &PriorityRule) -> [(&Option<Pattern>, bool); 7] {
    [
        (&rule.session, true),
        (&rule.agent, false),
        (&rule.user_agent, false),
        (&rule.provider, true),
        (&rule.model, false),
        (&rule.task, false),
        (&rule.key, false),
    ]
}

/// Whether the earlier rule holds wherever the later one does: each of its conditions is implied by one of the later's.
fn hides(earlier: &PriorityRule, later: &PriorityRule) -> bool {
    let pairs = conditions(earlier).into_iter().zip(conditions(later));
    pairs
        .into_iter()
        .all(|((wide, always), (narrow, _))| match (wide, narrow) {
            (None, _) => true,
            (Some(wide), None) => always && is_anything(wide),
            // A * of the narrow pattern is only taken by a * of the wide one, as no other character matches it.
            (Some(wide), Some(narrow)) => wide.matches(narrow.as_str()),
        })
}

fn is_anything(pattern: &Pattern) -> bool {
    let text = pattern.as_str();
    !text.is_empty() && text.bytes().all(|byte| byte == b'*')
}

/// A condition that no request fulfils.
fn impossible(
    settings: &Settings,
    rule: &PriorityRule,
    number: usize,
    key: String,
) -> Option<Finding> {
    const RULE: &str = "rule-never-matches";
    let providers = settings.providers.iter().map(|known| known.name.as_str());
    if let Some(wanted) = &rule.provider
        && !providers.clone().any(|name| wanted.matches(name))
    {
        let message = format!(
            "rule {number} of [[classify.priority]] can never match: there is no provider `{}`",
            wanted.as_str()
        );
        return Some(Finding::warning(
            RULE,
            key,
            message,
            meant(wanted.as_str(), providers),
        ));
    }
    if let Some(wanted) = &rule.key
        && settings.auth.mode == AuthMode::Passthrough
        && !wanted.as_str().contains('*')
        && !can_be_key(settings.auth.mode, &wanted.as_str().to_ascii_lowercase())
    {
        let message = format!(
            "rule {number} of [[classify.priority]] can never match: in mode \"passthrough\" no key has a name, only a \
             fingerprint"
        );
        let help = "a fingerprint is key- and 12 hexadecimal digits, as in `tollgate usage --by key`; or set auth.mode = \"keys\"";
        return Some(Finding::warning(RULE, key, message, help));
    }
    let tasks = settings
        .classify
        .tasks
        .tasks
        .iter()
        .map(|task| task.name.as_str());
    let wanted = rule.task.as_ref()?;
    if tasks.clone().any(|name| wanted.matches(name)) {
        return None;
    }
    let message = format!(
        "rule {number} of [[classify.priority]] is for task `{}`, which no task rule gives: it matches only requests that \
         name it in x-tollgate-task",
        wanted.as_str()
    );
    Some(Finding::note(
        "task-of-headers-only",
        key,
        message,
        meant(wanted.as_str(), tasks),
    ))
}

/// Comment lines that are due only when the wait is over.
fn line(settings: &Settings, findings: &mut Vec<Finding>) {
    let queue = &settings.throttle.queue;
    if queue
        .keep_alive
        .is_some_and(|after| after >= queue.max_wait)
    {
        let finding = Finding::warning(
            "keep-alive-never-sent",
            "throttle.queue.keep_alive".to_owned(),
            "`throttle.queue.keep_alive` is never sent: no request waits longer than `throttle.queue.max_wait`".to_owned(),
            "10 to 30 seconds keep common clients waiting; \"never\" sends none",
        );
        findings.push(finding.because("throttle.queue.max_wait".to_owned()));
    }
}

/// tollgate's own keys for providers, and the mode that sends them.
fn provider_keys(settings: &Settings, findings: &mut Vec<Finding>) {
    let with_key = |provider: &&ProviderSettings| provider.api_key.is_some();
    match settings.auth.mode {
        AuthMode::Keys
            if !settings
                .providers
                .iter()
                .any(|provider| with_key(&provider)) =>
        {
            findings.push(Finding::warning(
                "no-provider-key",
                "auth.mode".to_owned(),
                "in mode \"keys\" tollgate shows providers its own keys, and no provider has one".to_owned(),
                "set providers.NAME.api_key or api_key_file, such as TOLLGATE_PROVIDERS_ANTHROPIC_API_KEY",
            ));
        }
        AuthMode::Keys => {}
        AuthMode::Passthrough => {
            // But with what routing sends to it from others, and with what it serves in their place.
            let routed = |provider: &&ProviderSettings| {
                let mut others = settings.providers.iter();
                others.any(|other| other.fallbacks.contains(&provider.name))
                    || routing::targets(settings).any(|(name, ..)| *name == provider.name)
            };
            let providers = settings.providers.iter().filter(with_key);
            for provider in providers.filter(|provider| !routed(provider)) {
                let name = &provider.name;
                findings.push(
                    Finding::warning(
                        "provider-key-never-sent",
                        format!("providers.{name}.api_key"),
                        format!("the key of provider `{name}` is never sent: in mode \"passthrough\" clients show their own"),
                        "set auth.mode = \"keys\", or take the key out",
                    )
                    .because(format!("providers.{name}.api_key_file")),
                );
            }
        }
    }
}
