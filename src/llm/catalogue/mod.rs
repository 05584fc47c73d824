//! The model catalogue: what each model costs, how much it takes, and which names mean it.
//!
//! The shipped file is compiled in, the user's config may change or add models, and from then on the catalogue is
//! only read. [`crate::llm::pricing`] turns it and an answer's usage into money.

mod compile;
mod entry;
mod rate;
mod resolve;
mod schedule;
mod tariff;

use std::fmt;

use jiff::civil::Date;
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub use entry::{
    BaseIs, Cells, Mode, ModelEntry, PriceBlock, SearchPrice, SearchUnit, Status, TimeOfDay,
    ToolFees, Upcoming, WindowEntry,
};
pub use rate::{Factor, Fee, Rate, RateError};
pub use schedule::Period;
pub use tariff::{Kind, Service};

use resolve::Names;
pub(crate) use schedule::Schedule;
pub(crate) use tariff::Rates;

/// The shipped catalogue, one model a line. See `config/models.README.md`.
const BUILTIN: &str = include_str!("../../../config/models.json");

/// The only version of the file's layout that this program reads.
const SCHEMA: u32 = 1;

/// All models that are known, by provider and name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    as_of: Date,
    models: Vec<Model>,
    /// Names by provider; the providers of the search order come first, in that order.
    providers: Vec<(Box<str>, Names)>,
}

/// One model, ready for pricing and routing.
#[derive(Debug, Clone)]
pub struct Model {
    /// The provider's name in the catalogue.
    pub provider: Box<str>,
    /// The name that the provider's API takes: one spelling for all aliases, so it can be a metric's label. `*` stands
    /// for any local Ollama model, `*:free` for any free OpenRouter variant.
    pub id: Box<str>,
    /// What it does.
    pub mode: Mode,
    /// The line of models it belongs to, for grouping only.
    pub family: Option<Box<str>>,
    /// Prompt plus output, in tokens.
    pub context_window: Option<u32>,
    /// Largest prompt in tokens, where the provider caps it below the window.
    pub max_input_tokens: Option<u32>,
    /// Largest output in tokens; some providers state the whole window here.
    pub max_output_tokens: Option<u32>,
    /// Where it is in its life, unless in full use.
    pub status: Option<Status>,
    /// The day on which the provider ends it.
    pub deprecation_date: Option<Date>,
    /// Really costs nothing.
    pub free: bool,
    schedule: Result<Schedule, Unpriced>,
    search_fee: Option<SearchFee>,
    regions: Box<[(Box<str>, Factor)]>,
}

/// What a web search costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SearchFee {
    /// Atto-dollars.
    pub(crate) attos: u64,
    /// Charged once for a request that searched, however often it did.
    pub(crate) per_request: bool,
}

/// Why a cost is not known. Never the same as a cost of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unpriced {
    /// The catalogue does not know the model.
    #[error("the model is not in the catalogue")]
    UnknownModel,
    /// The model has no price per token.
    #[error("the model has no price per token")]
    NoTokenPrice,
    /// A router, or a name whose price is not known in advance.
    #[error("the model's price is not known in advance")]
    Variable,
    /// A zero that may be a placeholder.
    #[error("the model's listed price of zero is not confirmed")]
    ZeroUnverified,
    /// Tokens cost nothing because something else is billed: pages, queries, images.
    #[error("the model is billed by something other than tokens")]
    OtherUnits,
    /// The answer used a kind of token for which there is no price.
    #[error("the model has no price for {} tokens", .0.as_str())]
    Tokens(Kind),
    /// The answer searched the web, and no fee is known.
    #[error("the model's fee for web searches is not known")]
    SearchFee,
    /// Neither the provider nor an estimate says what was used.
    #[error("the usage is not known")]
    NoUsage,
}

/// An entry of the catalogue or of the user's `[[models]]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model `{id}` of provider `{provider}`: `{field}` {problem}")]
pub struct CatalogueError {
    /// The entry's provider.
    pub provider: String,
    /// The entry's id.
    pub id: String,
    /// The field that is wrong.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl CatalogueError {
    fn new(provider: &str, id: &str, field: &'static str, problem: &'static str) -> Self {
        Self {
            provider: provider.to_owned(),
            id: id.to_owned(),
            field,
            problem,
        }
    }
}

impl Model {
    /// Whether its tokens have a price.
    ///
    /// # Errors
    /// Why they have none.
    pub fn priced(&self) -> Result<(), Unpriced> {
        self.schedule().map(drop)
    }

    pub(crate) fn schedule(&self) -> Result<&Schedule, Unpriced> {
        self.schedule.as_ref().map_err(|why| *why)
    }

    pub(crate) fn search_fee(&self) -> Option<SearchFee> {
        self.search_fee
    }

    /// The factor for inference in a region. `regional` stands for any place but the global endpoint.
    pub(crate) fn region_factor(&self, region: &str) -> Option<Factor> {
        let named = |wanted: &str| {
            self.regions
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, factor)| *factor)
        };
        let is_global = ["", "global", "not_available"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(region));
        named(region).or_else(|| if is_global { None } else { named("regional") })
    }
}

impl Catalogue {
    /// The shipped catalogue.
    ///
    /// # Panics
    /// If the shipped file is damaged, which the tests rule out.
    pub fn builtin() -> Self {
        let mut catalogue = Self::parse(BUILTIN).expect("the shipped catalogue is tested");
        // OpenRouter's free variants are free even when unlisted.
        let free = ModelEntry {
            provider: "openrouter".to_owned(),
            id: resolve::OPENROUTER_FREE.to_owned(),
            free: true,
            ..ModelEntry::default()
        };
        catalogue
            .add(free)
            .expect("a free model needs nothing else");
        catalogue
    }

    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let file: File = serde_json::from_str(text)?;
        if file.schema != SCHEMA {
            return Err(de::Error::custom(format_args!(
                "schema {} instead of {SCHEMA}",
                file.schema
            )));
        }
        let Models(mut catalogue) = file.models;
        catalogue.as_of = file.as_of.parse().map_err(de::Error::custom)?;
        catalogue.models.shrink_to_fit();
        Ok(catalogue)
    }

    fn empty() -> Self {
        let providers = resolve::SEARCH_ORDER
            .iter()
            .map(|name| (Box::from(*name), Names::default()));
        Self {
            as_of: Date::ZERO,
            models: Vec::new(),
            providers: providers.collect(),
        }
    }

    /// This catalogue with the user's changes and additions; a later one wins. See [`ModelEntry`].
    ///
    /// # Errors
    /// Names the model and the field of the first entry that cannot be used.
    pub fn extended(mut self, overrides: &[ModelEntry]) -> Result<Self, CatalogueError> {
        for entry in overrides {
            let mut entry = entry.clone();
            entry.provider = resolve::canonical(&entry.provider).to_owned();
            let fail =
                |field, problem| CatalogueError::new(&entry.provider, &entry.id, field, problem);
            let well_formed = |text: &str| !text.is_empty() && text.trim() == text;
            if !well_formed(&entry.provider) {
                return Err(fail("provider", "must be a name without surrounding space"));
            }
            if !well_formed(&entry.id) {
                return Err(fail("id", "must be a name without surrounding space"));
            }
            if !entry.aliases.iter().all(|alias| well_formed(alias)) {
                return Err(fail("aliases", "must be names without surrounding space"));
            }
            let known = self
                .names(&entry.provider)
                .and_then(|(_, names)| names.exact(&entry.id));
            match known {
                Some(index) => {
                    self.name_model(&entry.provider, &entry.aliases, index);
                    compile::amend(&mut self.models[index as usize], entry)?;
                }
                None if entry.price.is_none() && !entry.free && !entry.variable_price => {
                    return Err(fail(
                        "price",
                        "is missing, and the catalogue does not know the model: give `price` or `free = true`",
                    ));
                }
                None => self.add(entry)?,
            }
        }
        Ok(self)
    }

    fn add(&mut self, mut entry: ModelEntry) -> Result<(), CatalogueError> {
        let index = u32::try_from(self.models.len()).expect("fewer models than memory holds");
        let aliases = std::mem::take(&mut entry.aliases);
        let model = compile::model(entry)?;
        self.name_model(&model.provider, std::slice::from_ref(&model.id), index);
        self.name_model(&model.provider, &aliases, index);
        self.models.push(model);
        Ok(())
    }

    fn name_model(&mut self, provider: &str, names: &[impl AsRef<str>], model: u32) {
        let at = match self
            .providers
            .iter()
            .position(|(known, _)| **known == *provider)
        {
            Some(at) => at,
            None => {
                self.providers.push((provider.into(), Names::default()));
                self.providers.len() - 1
            }
        };
        for name in names {
            self.providers[at].1.insert(name.as_ref(), model);
        }
    }

    fn names(&self, provider: &str) -> Option<(&str, &Names)> {
        self.providers
            .iter()
            .find(|(known, _)| **known == *provider)
            .map(|(known, names)| (&**known, names))
    }

    /// The day for which the shipped prices hold.
    pub fn as_of(&self) -> Date {
        self.as_of
    }

    /// Every model, in no promised order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// One name for all spellings of a model: the catalogue's, else as it was asked for.
    pub fn one_name<'a>(&'a self, provider: &str, model: &'a str) -> &'a str {
        self.resolve(provider, model)
            .map(|known| &*known.id)
            // An entry for many models (`*`, `*:free`) is the name of none.
            .filter(|id| !id.contains('*'))
            .unwrap_or(model)
    }

    /// The model that a name means.
    ///
    /// With a `provider` (its name in the catalogue, known from where the request goes) only that provider's names
    /// count, since another one's price for the same name would be a guess: first the whole name, which may itself
    /// contain slashes (`openai/gpt-oss-120b` at Groq), then the name without the provider in front
    /// (`groq/llama-…`). A provider that the catalogue does not know has no prices.
    ///
    /// With `""` the name decides: one known provider in front binds it to that provider; a bare name is looked for
    /// with those who make models, then those who resell them, then the user's own additions, and never among
    /// Ollama's free names.
    pub fn resolve(&self, provider: &str, model: &str) -> Option<&Model> {
        let bound = if provider.is_empty() {
            resolve::split_prefix(model).map(|(prefix, _)| prefix)
        } else {
            Some(provider)
        };
        let index = match bound {
            Some(provider) => self.resolve_within(provider, model),
            None => self.search(model),
        }?;
        self.models.get(index as usize)
    }

    fn resolve_within(&self, provider: &str, model: &str) -> Option<u32> {
        let (provider, names) = self
            .names(provider)
            .or_else(|| self.names(resolve::canonical(provider)))?;
        names
            .undecorated(model)
            .or_else(|| match resolve::split_prefix(model) {
                Some((prefix, rest)) if prefix == provider => names.find(provider, rest),
                _ => names.find(provider, model),
            })
    }

    fn search(&self, model: &str) -> Option<u32> {
        self.providers
            .iter()
            .filter(|(provider, _)| &**provider != "ollama")
            .find_map(|(provider, names)| names.find(provider, model))
    }
}

/// The file's head; the models go straight into a catalogue, one at a time, so that loading needs no second copy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    as_of: String,
    #[serde(rename = "currency")]
    _currency: Usd,
    #[serde(rename = "unit")]
    _unit: IgnoredAny,
    #[serde(rename = "sources")]
    _sources: IgnoredAny,
    models: Models,
}

/// The only currency there is.
#[derive(Deserialize)]
enum Usd {
    #[serde(rename = "USD")]
    Usd,
}

/// The file's models as a catalogue without a date.
struct Models(Catalogue);

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneByOne;
        impl<'de> Visitor<'de> for OneByOne {
            type Value = Models;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of models")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Models, A::Error> {
                let mut catalogue = Catalogue::empty();
                while let Some(entry) = entries.next_element()? {
                    catalogue.add(entry).map_err(de::Error::custom)?;
                }
                Ok(Models(catalogue))
            }
        }
        from.deserialize_seq(OneByOne)
    }
}
