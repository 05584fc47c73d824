//! The configuration: the layers as written, checked, turned into ready values.
//!
//! built-in default < one TOML file < `TOLLGATE_…` variables < flags. Each layer keeps the place of every value, so that
//! a mistake is told with file, line and key, all mistakes at once, and `tollgate check` can say where a value is from.

mod amount;
mod build;
mod choice;
mod expand;
mod findings;
mod layers;
pub mod lint;
mod lookup;
mod mask;
mod named;
mod problem;
pub mod rungs;
mod scalar;
pub mod settings;
mod source;
mod unknown;
pub mod wording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use findings::Findings;
pub use problem::Problems;
pub(crate) use problem::nearest;
pub use source::Origin;

use layers::{Layers, Texts};
use lookup::Lookup;
use problem::Problem;
use settings::Settings;
use source::Place;

/// The commented reference configuration, which is the built-in default.
pub const REFERENCE: &str = include_str!("../../config/tollgate.toml");

/// What a configuration is read from, apart from files.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The file that `--config` names.
    pub config: Option<PathBuf>,
    /// What flags set; the last one wins.
    pub overrides: Vec<Override>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Where `./tollgate.toml` is looked for.
    pub working_dir: PathBuf,
}

impl Inputs {
    /// Takes environment and working directory from this process. Variables that are not UTF-8 are left out.
    pub fn of_process(config: Option<PathBuf>, overrides: Vec<Override>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            config,
            overrides,
            environment,
            working_dir: PathBuf::new(),
        }
    }
}

/// One value that a flag sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The flag, for messages: `--listen`, `--set server.listen`.
    pub flag: String,
    /// The key: `server.listen`.
    pub key: String,
    /// The value as it was written.
    pub value: String,
}

/// One effective value.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The key: `server.listen`.
    pub key: String,
    /// The value as it was written; paths made whole.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: Origin,
}

impl Effective {
    /// The value for people, masked if its key says that it is a secret.
    pub fn shown(&self) -> String {
        let text = self
            .value
            .as_str()
            .map_or_else(|| self.value.to_string(), str::to_owned);
        mask::value(&self.key, &text)
    }
}

/// A configuration that holds.
#[derive(Debug)]
pub struct Loaded {
    /// The ready values.
    pub settings: Settings,
    /// The user's file, if there is one.
    pub file: Option<PathBuf>,
    /// Every effective value with its origin, section by section.
    pub values: Vec<Effective>,
    /// Every key that exists, also those without a value.
    pub known_keys: BTreeSet<String>,
    /// Where values, named tables and blocks were written.
    places: BTreeMap<String, Place>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {} ({named_by})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What named it: a flag, a variable, or its default place.
        named_by: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Wrong(Problems),
}

impl ConfigError {
    fn wrong(problems: Vec<Problem>) -> Self {
        Self::Wrong(Problems::new(problems))
    }
}

/// Reads and checks the whole configuration.
///
/// # Errors
/// A named file is missing or unreadable, or anything in file, variables or flags is wrong: all of that at once.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let texts = Texts::read(inputs)?;
    let layers = Layers::parse(&texts, inputs).map_err(ConfigError::wrong)?;
    let mut lookup = Lookup::new(&layers);
    let settings = build::settings(&mut lookup);
    let finished = lookup.finish();
    if !finished.problems.is_empty() {
        return Err(ConfigError::wrong(finished.problems));
    }
    Ok(Loaded {
        settings,
        file: texts.file_name(),
        values: finished.effective,
        known_keys: finished.known_keys,
        places: finished.places,
    })
}
