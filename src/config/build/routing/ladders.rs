//! `[[routing.ladders]]`: the user's ladders, and then the built-in ones of the providers that are configured.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Known;
use crate::config::lookup::Lookup;
use crate::config::problem::nearest;
use crate::config::settings::ProviderSettings;
use crate::policy::explicit;
use crate::policy::priority::Pattern;
use crate::policy::routing::{Ladder, Target};

/// A ladder as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LadderBlock {
    name: String,
    provider: Option<String>,
    #[serde(default)]
    rungs: Vec<String>,
    premium: Option<String>,
    cheap: Option<String>,
    #[serde(default)]
    beside: BTreeMap<String, Vec<Pattern>>,
    #[serde(default)]
    unchecked_prices: bool,
    #[serde(default = "yes")]
    enabled: bool,
}

const fn yes() -> bool {
    true
}

/// What is wrong with a block: the key, what, and how to mend it.
struct Wrong {
    key: String,
    message: String,
    help: String,
}

impl Wrong {
    fn new(key: &str, message: String, help: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            message,
            help: help.into(),
        }
    }
}

/// The user's ladders in their order, then the built-in ones that the user has none of the same name for, each with the
/// model at home as its last rung.
pub(super) fn ladders(
    lookup: &mut Lookup<'_>,
    known: &Known<'_>,
    built_in: Vec<LadderBlock>,
    local: Option<&Target>,
) -> Vec<Ladder> {
    let blocks: Vec<(usize, LadderBlock)> = lookup.ask_numbered("routing.ladders");
    let mut names: Vec<String> = Vec::new();
    let mut ladders = Vec::new();
    for (number, block) in blocks {
        let key = |key: &str| format!("routing.ladders.{number}.{key}");
        if !explicit::is_name(&block.name) {
            let message = format!("{:?} cannot be a ladder's name", block.name);
            let help = "names are 1 to 128 visible ASCII characters, such as \"anthropic\"";
            lookup.object_in_block(&key("name"), message, help);
        } else if names.contains(&block.name) {
            let message = format!("there are two ladders `{}`", block.name);
            lookup.object_in_block(&key("name"), message, "give it another name");
        }
        names.push(block.name.clone());
        if !block.enabled {
            continue;
        }
        match ladder(&block, known, Some(number)) {
            Ok(ladder) => ladders.push(ladder),
            Err(wrong) => lookup.object_in_block(&key(&wrong.key), wrong.message, &wrong.help),
        }
    }
    let shipped = built_in
        .into_iter()
        .filter(|block| !names.contains(&block.name))
        .filter(|block| {
            let provider = block.provider.as_deref().unwrap_or_default();
            known.called(provider).next().is_some()
        })
        .map(|block| {
            ladder(&block, known, None).unwrap_or_else(|wrong| panic!("{}", wrong.message))
        });
    ladders.extend(shipped);
    if let Some(local) = local {
        for ladder in &mut ladders {
            add_local(ladder, known, local);
        }
    }
    ladders
}

/// Puts the model at home under a ladder, unless it is on it, or the ladder's requests cannot be sent there.
fn add_local(ladder: &mut Ladder, known: &Known<'_>, local: &Target) {
    let fits = known.shares_format(local, asked(known, ladder.provider.as_deref()));
    let is_on = ladder.rungs.iter().any(|rung| {
        let provider = rung.provider.as_ref().or(ladder.provider.as_ref());
        rung.model == local.model && provider == local.provider.as_ref()
    });
    if fits && !is_on {
        ladder.rungs.push(local.clone());
    }
}

/// The providers whose requests may go down a ladder.
fn asked<'a, 'n>(
    known: &Known<'a>,
    provider: Option<&'n str>,
) -> impl Iterator<Item = &'a ProviderSettings> + use<'a, 'n> {
    let providers = known.providers.iter();
    providers.filter(move |known| {
        provider.is_none_or(|name| known.name == name || known.catalogue == name)
    })
}

fn ladder(block: &LadderBlock, known: &Known<'_>, number: Option<usize>) -> Result<Ladder, Wrong> {
    let provider = block.provider.as_deref();
    if let Some(name) = provider
        && known.called(name).next().is_none()
    {
        let message = format!("there is no provider `{name}`, or it is switched off");
        return Err(Wrong::new("provider", message, known.meant(name)));
    }
    if block.rungs.is_empty() {
        let message = format!("ladder `{}` has no rungs", block.name);
        let help = "list its models, the best first; to be without a built-in one: enabled = false";
        return Err(Wrong::new("rungs", message, help));
    }
    let mut rungs: Vec<Target> = Vec::with_capacity(block.rungs.len());
    for (index, text) in block.rungs.iter().enumerate() {
        let wrong = |message, help| Wrong {
            key: format!("rungs.{}", index + 1),
            message,
            help,
        };
        let rung = rung(text, block, known, number.is_none()).map_err(|(m, h)| wrong(m, h))?;
        let own = |rung: &Target| rung.provider.clone().or_else(|| block.provider.clone());
        let is_it = |other: &Target| {
            other.model.eq_ignore_ascii_case(&rung.model) && own(other) == own(&rung)
        };
        if rungs.iter().any(is_it) {
            let message = format!("`{text}` is twice on ladder `{}`", block.name);
            let help = "a request that goes down comes to each model once: leave one of them out";
            return Err(wrong(message, help.to_owned()));
        }
        rungs.push(rung);
    }
    let place = |key: &str, text: &str| {
        block
            .rungs
            .iter()
            .position(|rung| rung == text)
            .ok_or_else(|| {
                let texts = || block.rungs.iter().map(String::as_str);
                let help = nearest(text, texts()).map_or_else(
                    || format!("its rungs: {}", block.rungs.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                Wrong::new(
                    key,
                    format!("`{text}` is no rung of ladder `{}`", block.name),
                    help,
                )
            })
    };
    let mut beside = Vec::new();
    for (rung, patterns) in &block.beside {
        let rung = place("beside", rung)?;
        beside.extend(patterns.iter().map(|pattern| (pattern.clone(), rung)));
    }
    let named = |key: &str, text: Option<&str>, otherwise: usize| {
        text.map_or(Ok(otherwise), |text| place(key, text))
    };
    // What runs at home is seldom what is meant by a cheap model, though it is the cheapest.
    let at_home = |rung: &Target| {
        let provider = rung
            .provider
            .as_deref()
            .and_then(|name| known.provider(name));
        provider.is_some_and(ProviderSettings::is_local)
    };
    let hosted = rungs.iter().rposition(|rung| !at_home(rung));
    let last = hosted.unwrap_or(rungs.len() - 1);
    let cheap = named("cheap", block.cheap.as_deref(), last)?;
    let premium = named("premium", block.premium.as_deref(), 0)?;
    if cheap < premium {
        let message = format!("`cheap` is above `premium` on ladder `{}`", block.name);
        return Err(Wrong::new(
            "cheap",
            message,
            "rungs are listed from the best to the cheapest",
        ));
    }
    Ok(Ladder {
        name: block.name.clone(),
        provider: block.provider.clone(),
        rungs,
        beside,
        cheap,
        premium,
        unchecked_prices: block.unchecked_prices,
        block: number,
    })
}

/// One rung, if requests that go down its ladder can be sent there; else what is wrong, and how to mend it.
fn rung(
    text: &str,
    block: &LadderBlock,
    known: &Known<'_>,
    built_in: bool,
) -> Result<Target, (String, String)> {
    let provider = block.provider.as_deref();
    let of_ladder = || asked(known, provider).filter(|_| provider.is_some());
    let read = if built_in {
        Target::read(text, |_| false)
    } else {
        known.target(text, of_ladder())
    };
    let Some(target) = read else {
        let help = "expected a model such as \"claude-haiku-5-5\" or \"ollama/qwen3:8b\"";
        return Err((format!("`{text}` names no model"), help.to_owned()));
    };
    if target.provider.is_none() && provider.is_none() {
        return Err((
            format!("`{text}` is a model of no provider"),
            "give the ladder a provider, or write it in front of the model, as in \"ollama/qwen3:8b\"".to_owned(),
        ));
    }
    if let Some(wrong) = known.unusable(&target) {
        return Err(wrong);
    }
    if known.shares_format(&target, asked(known, provider)) {
        Ok(target)
    } else {
        Err(known.other_format(&target))
    }
}
