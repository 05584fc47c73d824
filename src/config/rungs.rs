//! Models that routing may send to, held against the catalogue: whether they are known, and ever cheaper down a ladder.
//!
//! What is wrong with the user's own rules and ladders stops the start. The built-in ones are only told of, since a price
//! that changes on some day is not of the user's making.

use super::settings::{ProviderSettings, Settings};
use super::{ConfigError, Loaded};
use crate::config::lookup::place_of;
use crate::config::problem::{Problem, nearest};
use crate::llm::catalogue::{Catalogue, Unpriced};
use crate::llm::pricing::{self, Terms};
use crate::llm::usage::Usage;
use crate::policy::routing::{Ladder, Target, To};
use crate::units::Cost;

/// What a model costs for short prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RungPrice {
    /// A million input tokens.
    pub input: Cost,
    /// A million output tokens.
    pub output: Cost,
}

impl RungPrice {
    /// Three million input tokens and one million output tokens: by this rungs are compared.
    pub fn blended(self) -> Cost {
        self.input + self.input + self.input + self.output
    }
}

/// A model of some provider's, with what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Rung<'a> {
    /// The provider that would serve.
    pub provider: &'a ProviderSettings,
    /// The model, as it is written.
    pub model: &'a str,
}

impl<'a> Rung<'a> {
    /// The rung of a ladder, as it is for the first provider whose requests go down it; `None` if there is none.
    pub fn of(settings: &'a Settings, ladder: &'a Ladder, target: &'a Target) -> Option<Self> {
        let mut providers = settings.providers.iter();
        let provider = match &target.provider {
            Some(name) => providers.find(|known| known.name == *name),
            None => providers.find(|known| ladder.is_for(&known.name, &known.catalogue)),
        };
        Some(Self {
            provider: provider?,
            model: &target.model,
        })
    }

    /// Whether the catalogue knows the model. What runs at home can have any name.
    pub fn is_known(&self, catalogue: &Catalogue) -> bool {
        self.provider.is_local()
            || catalogue
                .resolve(&self.provider.catalogue, self.model)
                .is_some()
    }

    /// One name for all spellings of the model.
    pub fn one_name<'c>(&'c self, catalogue: &'c Catalogue) -> &'c str {
        catalogue.one_name(&self.provider.catalogue, self.model)
    }

    /// What it costs at a moment (Unix milliseconds). What runs at home costs nothing unless the catalogue says otherwise.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn price(&self, catalogue: &Catalogue, at_unix_ms: u64) -> Result<RungPrice, Unpriced> {
        const MILLION: i128 = 1_000_000;
        let terms = Terms {
            provider: &self.provider.catalogue,
            model: self.model,
            region: self.provider.region.as_deref(),
            at_unix_ms,
            ..Terms::default()
        };
        // One token, so that no threshold of long prompts is passed; prices are exact in atto-dollars.
        let of = |input, output| {
            let usage = Usage {
                input,
                output,
                ..Usage::default()
            };
            let cost = pricing::price(catalogue, &terms, &usage).cost?;
            Ok(Cost::from_attos(cost.attos().saturating_mul(MILLION)))
        };
        match (of(1, 0), of(0, 1)) {
            (Ok(input), Ok(output)) => Ok(RungPrice { input, output }),
            (Err(Unpriced::UnknownModel), _) if self.provider.is_local() => Ok(RungPrice {
                input: Cost::ZERO,
                output: Cost::ZERO,
            }),
            (Err(why), _) | (_, Err(why)) => Err(why),
        }
    }
}

/// A rung that is not cheaper than the one above: its index, and how that is told.
pub(super) fn out_of_order(
    settings: &Settings,
    catalogue: &Catalogue,
    ladder: &Ladder,
    at_unix_ms: u64,
) -> Option<(usize, String)> {
    let mut above: Option<(&Target, RungPrice)> = None;
    for (index, target) in ladder.rungs.iter().enumerate() {
        let price = match Rung::of(settings, ladder, target)?.price(catalogue, at_unix_ms) {
            Ok(price) => price,
            Err(why) => {
                return Some((
                    index,
                    format!("the price of `{target}` is not known: {why}"),
                ));
            }
        };
        if let Some((better, dearer)) = above
            && price.blended() > dearer.blended()
        {
            let told = |price: RungPrice| format!("{} and {}", price.input, price.output);
            let message = format!(
                "`{target}` is dearer than `{better}`, the rung above it: {} USD for a million input and output tokens, above \
                 {}",
                told(price),
                told(dearer),
            );
            return Some((index, message));
        }
        above = Some((target, price));
    }
    None
}

/// Something that is wrong: the key, what, and how to mend it.
type Wrong = (String, String, String);

impl Loaded {
    /// Whether there is anything that [`Loaded::check_routing`] would look at.
    pub fn has_own_routes(&self) -> bool {
        let routing = &self.settings.routing;
        routing.rules.iter().any(|rule| rule.block.is_some())
            || routing.ladders.iter().any(|ladder| ladder.block.is_some())
    }

    /// Holds the user's rules and ladders against the catalogue, which includes the user's `[[models]]`, at a moment (Unix
    /// milliseconds).
    ///
    /// # Errors
    /// A model is not known, is twice on the ladders of one provider, or is dearer than the rung above: all that is wrong,
    /// with its place.
    pub fn check_routing(&self, catalogue: &Catalogue, at_unix_ms: u64) -> Result<(), ConfigError> {
        let settings = &self.settings;
        let mut wrong = Vec::new();
        for ladder in &settings.routing.ladders {
            if let Some(number) = ladder.block {
                check_ladder(settings, catalogue, ladder, number, at_unix_ms, &mut wrong);
            }
        }
        check_rules(settings, catalogue, &mut wrong);
        if wrong.is_empty() {
            return Ok(());
        }
        let problems = wrong.into_iter().map(|(key, message, help)| Problem {
            place: place_of(&self.places, &key).cloned(),
            key,
            message,
            expected: String::new(),
            help: Some(help),
        });
        Err(ConfigError::wrong(problems.collect()))
    }
}

fn check_ladder(
    settings: &Settings,
    catalogue: &Catalogue,
    ladder: &Ladder,
    number: usize,
    at_unix_ms: u64,
    wrong: &mut Vec<Wrong>,
) {
    let before = wrong.len();
    let key = |index: usize| format!("routing.ladders.{number}.rungs.{}", index + 1);
    let mut seen: Vec<Rung<'_>> = Vec::new();
    for (index, target) in ladder.rungs.iter().enumerate() {
        let Some(rung) = Rung::of(settings, ladder, target) else {
            continue;
        };
        if !rung.is_known(catalogue) {
            wrong.push(unknown(settings, catalogue, &rung, key(index)));
        } else if let Some(other) = seen.iter().find(|other| is_same(catalogue, other, &rung)) {
            wrong.push((
                key(index),
                format!(
                    "`{target}` is twice on ladder `{}`: it is the same as `{}`",
                    ladder.name, other.model
                ),
                "a request that goes down comes to each model once: leave one of them out"
                    .to_owned(),
            ));
        } else if let Some(other) = on_another(settings, catalogue, ladder, number, &rung) {
            wrong.push((
                key(index),
                format!("`{target}` is on ladder `{other}` too"),
                "it cannot be told which of them a request for it goes down: take it off one"
                    .to_owned(),
            ));
        }
        seen.push(rung);
    }
    if wrong.len() == before
        && !ladder.unchecked_prices
        && let Some((index, message)) = out_of_order(settings, catalogue, ladder, at_unix_ms)
    {
        let help = "list the dearer one first; [[models]] can give a model its price; `unchecked_prices = true` lets a ladder \
                    be as it is";
        wrong.push((key(index), message, help.to_owned()));
    }
}

fn is_same(catalogue: &Catalogue, one: &Rung<'_>, other: &Rung<'_>) -> bool {
    one.provider.name == other.provider.name && one.one_name(catalogue) == other.one_name(catalogue)
}

/// An earlier ladder of the user's from which requests for the same model go down. A model that requests of others come
/// to, such as one at home, can be under many.
fn on_another<'a>(
    settings: &'a Settings,
    catalogue: &Catalogue,
    ladder: &Ladder,
    number: usize,
    rung: &Rung<'_>,
) -> Option<&'a str> {
    let own = |ladder: &Ladder, rung: &Rung<'_>| {
        ladder.is_for(&rung.provider.name, &rung.provider.catalogue)
    };
    if !own(ladder, rung) {
        return None;
    }
    let mut earlier = settings.routing.ladders.iter();
    let other = earlier.find(|other| {
        let is_earlier = other.block.is_some_and(|block| block < number);
        is_earlier
            && other.rungs.iter().any(|target| {
                Rung::of(settings, other, target)
                    .is_some_and(|found| own(other, &found) && is_same(catalogue, &found, rung))
            })
    });
    other.map(|other| other.name.as_str())
}

fn check_rules(settings: &Settings, catalogue: &Catalogue, wrong: &mut Vec<Wrong>) {
    for rule in &settings.routing.rules {
        let (Some(number), To::Model(target)) = (rule.block, &rule.to) else {
            continue;
        };
        let matches = |provider: &&ProviderSettings| match (&target.provider, &rule.provider) {
            (Some(name), _) => provider.name == *name,
            (None, Some(pattern)) => pattern.matches(&provider.name),
            (None, None) => true,
        };
        let providers = || settings.providers.iter().filter(matches);
        let rung = |provider| Rung {
            provider,
            model: &target.model,
        };
        // Where any provider can be asked, those at home, which know every name, say nothing.
        let known = |rung: &Rung<'_>| {
            let named = target.provider.is_some() || rule.provider.is_some();
            (named || !rung.provider.is_local()) && rung.is_known(catalogue)
        };
        if !providers().map(rung).any(|rung| known(&rung))
            && let Some(first) = providers().next()
        {
            let key = format!("routing.rules.{number}.to");
            wrong.push(unknown(settings, catalogue, &rung(first), key));
        }
    }
}

/// That no provider in question has a model of this name.
fn unknown(settings: &Settings, catalogue: &Catalogue, rung: &Rung<'_>, key: String) -> Wrong {
    let provider = &rung.provider.catalogue;
    let models = catalogue.models().iter();
    let ids = models
        .filter(|model| *model.provider == **provider)
        .map(|model| &*model.id);
    let front = rung.model.split_once('/').map(|(front, _)| front);
    let providers = settings.providers.iter().map(|known| known.name.as_str());
    let meant_provider = front.and_then(|front| nearest(front, providers));
    let help = match (nearest(rung.model, ids), meant_provider) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, Some(meant)) => format!("did you mean a model of provider `{meant}`?"),
        (None, None) => {
            "[[models]] makes a model known, with its price; provider/model is another provider's"
                .to_owned()
        }
    };
    let model = rung.model;
    (
        key,
        format!("the catalogue knows no model `{model}` of `{provider}`"),
        help,
    )
}
