//! `[[routing.rules]]`: the user's rules, and then the guide's.

use serde::{Deserialize, Deserializer};

use super::Known;
use crate::config::lookup::Lookup;
use crate::config::settings::ProviderSettings;
use crate::policy::explicit;
use crate::policy::priority::Pattern;
use crate::policy::routing::{RouteRule, To};
use crate::policy::throttle::Level;
use crate::units::Priority;

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleBlock {
    name: Option<String>,
    task: Option<Pattern>,
    simple: Option<bool>,
    model: Option<Pattern>,
    provider: Option<Pattern>,
    #[serde(default, deserialize_with = "priority_by_name")]
    priority: Option<Priority>,
    session: Option<Pattern>,
    key: Option<Pattern>,
    team: Option<Pattern>,
    #[serde(default, deserialize_with = "level_by_name")]
    level: Option<Level>,
    to: String,
}

/// The user's rules in their order, then those of the guide that the user has no rule of the same name for.
pub(super) fn rules(
    lookup: &mut Lookup<'_>,
    known: &Known<'_>,
    guide: Vec<RuleBlock>,
) -> Vec<RouteRule> {
    let blocks: Vec<(usize, RuleBlock)> = lookup.ask_numbered("routing.rules");
    let mut rules: Vec<RouteRule> = Vec::with_capacity(blocks.len() + guide.len());
    for (number, block) in blocks {
        let name = block.name.clone().unwrap_or_else(|| number.to_string());
        let key = |key: &str| format!("routing.rules.{number}.{key}");
        if !explicit::is_name(&name) {
            let message = format!("{name:?} cannot be a rule's name");
            let help = "names are 1 to 128 visible ASCII characters, such as \"docs-to-haiku\"";
            lookup.object_in_block(&key("name"), message, help);
        } else if rules.iter().any(|rule| rule.name == name) {
            let message = format!("there are two rules `{name}`");
            let help = "requests tell by the name which rule decided: give it another one";
            lookup.object_in_block(&key("name"), message, help);
        }
        match to(&block, known) {
            Ok(to) => rules.push(rule(block, name, to, Some(number))),
            Err((wrong, message, help)) => lookup.object_in_block(&key(wrong), message, &help),
        }
    }
    for block in guide {
        let name = block.name.clone().expect("the built-in rules have names");
        if rules.iter().any(|rule| rule.name == name) {
            continue;
        }
        let to = To::read(&block.to, |_| false).expect("the built-in rules are tested");
        rules.push(rule(block, name, to, None));
    }
    rules
}

fn rule(block: RuleBlock, name: String, to: To, number: Option<usize>) -> RouteRule {
    RouteRule {
        name,
        task: block.task,
        simple: block.simple,
        model: block.model,
        provider: block.provider,
        priority: block.priority,
        session: block.session,
        key: block.key,
        team: block.team,
        level: block.level,
        to,
        block: number,
    }
}

/// What a rule says, if it can be done; else the key that is wrong, what is wrong with it, and how to mend it.
fn to(block: &RuleBlock, known: &Known<'_>) -> Result<To, (&'static str, String, String)> {
    let asked = || {
        let matches = |provider: &&ProviderSettings| {
            let pattern = block.provider.as_ref();
            pattern.is_none_or(|pattern| pattern.matches(&provider.name))
        };
        known.providers.iter().filter(matches)
    };
    if let Some(wanted) = &block.provider
        && asked().next().is_none()
    {
        let wanted = wanted.as_str();
        let message = format!("there is no provider `{wanted}`, or it is switched off");
        return Err(("provider", message, known.meant(wanted)));
    }
    // Where all providers are meant, a provider's name in front of a model's is what it looks like.
    let named = || asked().filter(|_| block.provider.is_some());
    let read = match To::read(&block.to, |_| false) {
        Some(To::Model(_)) => known.target(&block.to, named()).map(To::Model),
        other => other,
    };
    let Some(to) = read else {
        return Err((
            "to",
            format!("`to = {:?}` cannot be understood", block.to),
            "expected asked, cheap, premium, bottom, down, \"down 2\" or a model such as \"claude-haiku-5-5\" or \
             \"ollama/qwen3:8b\""
                .to_owned(),
        ));
    };
    if let To::Model(target) = &to {
        if let Some((message, help)) = known.unusable(target) {
            return Err(("to", message, help));
        }
        if !known.shares_format(target, asked()) {
            let (message, help) = known.other_format(target);
            return Err(("to", message, help));
        }
    }
    Ok(to)
}

fn priority_by_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Priority>, D::Error> {
    let name = String::deserialize(from)?;
    name.parse().map(Some).map_err(serde::de::Error::custom)
}

fn level_by_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Level>, D::Error> {
    let name = String::deserialize(from)?;
    let known = Level::ALL
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(&name));
    known.map(Some).ok_or_else(|| {
        serde::de::Error::custom("not a level: warning, soft, hard or critical expected")
    })
}
