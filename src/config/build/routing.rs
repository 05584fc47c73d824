//! `[routing]`: which model may serve a request in another's place: the user's rules and ladders, and the built-in ones of
//! `config/routing.toml` after them.
//!
//! What is checked here needs no catalogue: names that exist, models that are twice on a ladder, providers of another wire
//! format. Whether models are known and ever cheaper is checked when there is one ([`crate::config::Loaded::check_routing`]).

mod ladders;
mod rules;

use serde::Deserialize;

use self::ladders::LadderBlock;
use self::rules::RuleBlock;
use crate::config::layers::PROVIDERS;
use crate::config::lookup::Lookup;
use crate::config::problem::nearest;
use crate::config::scalar::TimeLimit;
use crate::config::settings::{ProviderSettings, Settings};
use crate::llm::wire::Dialect;
use crate::policy::routing::{Routing, Target};

/// The built-in ladders and rules.
const BUILT_IN: &str = include_str!("../../../config/routing.toml");

/// The file's layout.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltIn {
    ladders: Vec<LadderBlock>,
    rules: Vec<RuleBlock>,
}

/// Providers whose models have names with another provider's name in front, such as `openai/gpt-oss-120b` at Groq.
const RESELLERS: [&str; 3] = ["openrouter", "groq", "together"];

pub(super) fn routing(lookup: &mut Lookup<'_>, providers: &[ProviderSettings]) -> Routing {
    let known = Known::new(lookup, providers);
    let built_in: BuiltIn = toml::from_str(BUILT_IN).expect("the built-in rules are tested");
    let mode = lookup.ask("routing.mode");
    let keep = lookup.ask::<TimeLimit>("routing.keep").0;
    let only_at_user_turn = lookup.ask("routing.only_at_user_turn");
    let guide_rules: bool = lookup.ask("routing.guide_rules");
    let local = local(lookup, &known);
    let guide = if guide_rules {
        built_in.rules
    } else {
        Vec::new()
    };
    Routing {
        mode,
        rules: rules::rules(lookup, &known, guide),
        ladders: ladders::ladders(lookup, &known, built_in.ladders, local.as_ref()),
        keep,
        only_at_user_turn,
    }
}

/// Every task that a rule names exists: a mistyped one would match nothing. A task that only clients name, by header, is
/// written as a pattern with a `*`.
pub(super) fn check_tasks(lookup: &mut Lookup<'_>, settings: &Settings) {
    let tasks = &settings.classify.tasks.tasks;
    for rule in &settings.routing.rules {
        let (Some(number), Some(wanted)) = (rule.block, &rule.task) else {
            continue;
        };
        let wanted = wanted.as_str();
        let names = tasks.iter().map(|task| task.name.as_str());
        if wanted.contains('*') || names.clone().any(|name| name.eq_ignore_ascii_case(wanted)) {
            continue;
        }
        let known = names.clone().collect::<Vec<_>>().join(", ");
        let help = nearest(wanted, names).map_or_else(
            || {
                format!(
                    "known: {known}; [[classify.task]] makes others, and for one that only clients name write \"{wanted}*\""
                )
            },
            |meant| format!("did you mean `{meant}`?"),
        );
        let key = format!("routing.rules.{number}.task");
        let message = format!("there is no task `{wanted}`");
        lookup.object_in_block(&key, message, &help);
    }
}

/// The model at home that goes under every ladder.
fn local(lookup: &mut Lookup<'_>, known: &Known<'_>) -> Option<Target> {
    const KEY: &str = "routing.local";
    let text: String = lookup.ask_optional(KEY)?;
    let place = lookup.place(KEY);
    let help = "write the provider and the model, such as \"ollama/qwen3:8b\"";
    match Target::read(&text, |name| known.is_named(name)) {
        Some(target) if target.provider.is_some() => match known.unusable(&target) {
            None => return Some(target),
            Some((message, help)) => lookup.object(place, KEY, message, &help),
        },
        _ => {
            let message = format!("`{KEY}` names no provider");
            lookup.object(place, KEY, message, help);
        }
    }
    None
}

/// The providers, as far as routing needs them.
struct Known<'a> {
    providers: &'a [ProviderSettings],
    /// The names of all, also of those that are switched off.
    names: Vec<String>,
}

impl<'a> Known<'a> {
    fn new(lookup: &Lookup<'_>, providers: &'a [ProviderSettings]) -> Self {
        let names = lookup.layers.names(&PROVIDERS);
        Self {
            providers,
            names: names.into_iter().map(|(name, _)| name).collect(),
        }
    }

    /// Whether a provider has this name, be it switched on or off.
    fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn provider(&self, name: &str) -> Option<&'a ProviderSettings> {
        self.providers.iter().find(|known| known.name == name)
    }

    /// The providers that go by a name of their own, or by one in the catalogue.
    fn called<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a ProviderSettings> + use<'a, 'n> {
        let providers = self.providers.iter();
        providers.filter(move |known| known.name == name || known.catalogue == name)
    }

    /// Reads a model, for requests to these providers. With a reseller the name of a provider at home alone can stand in
    /// front.
    fn target<'p>(
        &self,
        text: &str,
        mut asked: impl Iterator<Item = &'p ProviderSettings>,
    ) -> Option<Target> {
        let resold = asked.any(|provider| RESELLERS.contains(&provider.catalogue.as_str()));
        let is_provider = |name: &str| {
            let at_home = || self.provider(name).is_some_and(ProviderSettings::is_local);
            let asked_itself = || self.provider(name).is_some_and(is_reseller);
            self.is_named(name) && (!resold || at_home() || asked_itself())
        };
        Target::read(text, is_provider)
    }

    /// Why a target cannot be used: what is wrong, and how to mend it.
    fn unusable(&self, target: &Target) -> Option<(String, String)> {
        let name = target.provider.as_deref()?;
        if self.provider(name).is_some() {
            return None;
        }
        Some((
            format!("`{target}` cannot serve: provider `{name}` is switched off"),
            format!("switch it on, providers.{name}.enabled = true, or take the model out"),
        ))
    }

    /// Whether some request to one of the asked providers can be sent to the target's provider without changing its
    /// wire format.
    fn shares_format<'p>(
        &self,
        target: &Target,
        mut asked: impl Iterator<Item = &'p ProviderSettings>,
    ) -> bool {
        const ALL: [Dialect; 4] = [
            Dialect::Anthropic,
            Dialect::OpenAi,
            Dialect::Gemini,
            Dialect::Ollama,
        ];
        let Some(target) = target
            .provider
            .as_deref()
            .and_then(|name| self.provider(name))
        else {
            return true;
        };
        asked.any(|asked| {
            ALL.into_iter()
                .any(|dialect| asked.speaks(dialect) && target.speaks(dialect))
        })
    }

    /// That a target speaks another wire format than those who would be sent there, and what could be done.
    fn other_format(&self, target: &Target) -> (String, String) {
        let name = target.provider.as_deref().unwrap_or_default();
        let dialect = self
            .provider(name)
            .map_or("another", |provider| provider.dialect.as_str());
        (
            format!("`{target}` cannot serve these requests: `{name}` speaks another wire format ({dialect})"),
            "requests are never translated: name a provider that speaks the same format, such as ollama for those of OpenAI \
             and Anthropic"
                .to_owned(),
        )
    }

    /// What to say about a name that no provider has.
    fn meant(&self, name: &str) -> String {
        let known = self.providers.iter().map(|known| known.name.as_str());
        nearest(name, known.clone()).map_or_else(
            || format!("known: {}", known.collect::<Vec<_>>().join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        )
    }
}

fn is_reseller(provider: &ProviderSettings) -> bool {
    RESELLERS.contains(&provider.catalogue.as_str())
}
