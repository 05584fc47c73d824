//! What was written where: the layers of a configuration, each read and parsed, from the built-in default up to flags.
//!
//! built-in < one file < environment variables `TOLLGATE_<SECTION>_<KEY>` < flags. Layers are not merged: a key is
//! looked up from the top down, so each value keeps its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::expand;
use super::problem::Problem;
use super::source::{Place, Source};
use super::{ConfigError, Inputs, Override, REFERENCE};

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) source: Arc<Source>,
    pub(super) table: DeTable<'a>,
    /// The directory on which its paths stand; `None` for the working directory.
    pub(super) dir: Option<PathBuf>,
}

/// One entry of a document: the place of its key and its value.
pub(super) struct Found<'d, 'a> {
    pub(super) key: Range<usize>,
    pub(super) value: &'d Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    /// Parses a text and replaces its variables. Problems of syntax end here: what else is wrong could only be guessed.
    fn parse(
        source: &'a Arc<Source>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<Problem>> {
        let (text, dir) = match &**source {
            Source::BuiltIn { text } => (*text, None),
            Source::File { text, name } => (text.as_str(), name.parent()),
            Source::Variable { .. } | Source::Flag { .. } => ("", None),
        };
        let dir = dir
            .filter(|dir| !dir.as_os_str().is_empty())
            .map(Path::to_owned);
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = Vec::new();
        for error in errors {
            problems.push(Problem {
                place: Some(Place::at(source, error.span().unwrap_or(0..0))),
                key: String::new(),
                message: "this is not valid TOML".to_owned(),
                expected: error.message().to_owned(),
                help: None,
            });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut table = table.into_inner();
        let mut path = Vec::new();
        expand_table(&mut table, source, environment, &mut path, &mut problems);
        if problems.is_empty() {
            Ok(Self {
                source: Arc::clone(source),
                table,
                dir,
            })
        } else {
            Err(problems)
        }
    }

    /// The entry at a dotted path. Names hold no dots, so a dot always separates.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_, 'a>> {
        let mut table = &self.table;
        let mut segments = path.split('.').peekable();
        while let Some(segment) = segments.next() {
            let (key, value) = table.get_key_value(segment)?;
            if segments.peek().is_none() {
                return Some(Found {
                    key: key.span(),
                    value,
                });
            }
            let DeValue::Table(inner) = value.get_ref() else {
                return None;
            };
            table = inner;
        }
        None
    }

    /// The names of the tables in the table at a path, in the order in which they were written.
    pub(super) fn names(&self, path: &str) -> Vec<(&str, Range<usize>)> {
        let Some(DeValue::Table(table)) = self.find(path).map(|found| found.value.get_ref()) else {
            return Vec::new();
        };
        let mut names: Vec<_> = table
            .iter()
            .filter(|(_, value)| matches!(value.get_ref(), DeValue::Table(_)))
            .map(|(key, _)| (key.get_ref().as_ref(), key.span()))
            .collect();
        names.sort_by_key(|(_, span)| span.start);
        names
    }
}

/// Replaces the variables in every text of a table.
fn expand_table(
    table: &mut DeTable<'_>,
    source: &Arc<Source>,
    environment: &BTreeMap<String, String>,
    path: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table.iter_mut() {
        path.push(key.get_ref().to_string());
        expand_value(value, source, environment, path, problems);
        path.pop();
    }
}

fn expand_value(
    value: &mut Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    environment: &BTreeMap<String, String>,
    path: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => match expand(text, environment) {
            Ok(None) => {}
            Ok(Some(expanded)) => *text = expanded.into(),
            Err(error) => problems.push(Problem {
                place: Some(Place::at(source, span)),
                key: path.join("."),
                message: error.to_string(),
                expected: String::new(),
                help: Some("${NAME:-text} has a default; $${ is a plain ${".to_owned()),
            }),
        },
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                expand_value(item, source, environment, path, problems);
            }
        }
        DeValue::Table(table) => expand_table(table, source, environment, path, problems),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// The texts of the built-in default and of the user's file, if there is one.
#[derive(Debug)]
pub(super) struct Texts {
    built_in: Arc<Source>,
    file: Option<Arc<Source>>,
}

impl Texts {
    /// Finds and reads the file.
    ///
    /// # Errors
    /// A named file is missing, or the file cannot be read.
    pub(super) fn read(inputs: &Inputs) -> Result<Self, ConfigError> {
        let file = find_file(inputs)?.map(|(name, text)| Arc::new(Source::File { name, text }));
        Ok(Self {
            built_in: Arc::new(Source::BuiltIn { text: REFERENCE }),
            file,
        })
    }

    /// The user's file.
    pub(super) fn file_name(&self) -> Option<PathBuf> {
        match self.file.as_deref() {
            Some(Source::File { name, .. }) => Some(name.clone()),
            _ => None,
        }
    }
}

/// All layers.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    pub(super) built_in: Document<'a>,
    pub(super) file: Option<Document<'a>>,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) overrides: &'a [Override],
}

impl<'a> Layers<'a> {
    /// Parses them.
    ///
    /// # Errors
    /// The file is not TOML, or one of its `${…}` cannot be replaced.
    pub(super) fn parse(texts: &'a Texts, inputs: &'a Inputs) -> Result<Self, Vec<Problem>> {
        let environment = &inputs.environment;
        let built_in = Document::parse(&texts.built_in, environment)?;
        let file = texts
            .file
            .as_ref()
            .map(|file| Document::parse(file, environment))
            .transpose()?;
        Ok(Self {
            built_in,
            file,
            environment,
            overrides: &inputs.overrides,
        })
    }

    /// The documents, the user's first.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Document<'a>> {
        self.file.iter().chain([&self.built_in])
    }

    /// The last flag that sets a key.
    pub(super) fn flag(&self, path: &str) -> Option<&'a Override> {
        self.overrides.iter().rev().find(|flag| flag.key == path)
    }

    /// The names of a section's tables: the built-in ones in their order, then the file's, then those that only variables
    /// or flags name, each with the place that brings it in.
    pub(super) fn names(&self, section: &NamedSection) -> Vec<(String, Place)> {
        let mut names: Vec<(String, Place)> = Vec::new();
        let mut seen = BTreeSet::new();
        for document in self.documents().collect::<Vec<_>>().into_iter().rev() {
            for (name, span) in document.names(section.name) {
                if seen.insert(name.to_owned()) {
                    names.push((name.to_owned(), Place::at(&document.source, span)));
                }
            }
        }
        for flag in self.overrides {
            let name = flag
                .key
                .strip_prefix(section.name)
                .and_then(|rest| rest.strip_prefix('.')?.rsplit_once('.'))
                .filter(|(_, key)| section.founding.contains(key))
                .map(|(name, _)| name);
            if let Some(name) = name.filter(|name| seen.insert((*name).to_owned())) {
                names.push((name.to_owned(), Place::flag(&flag.flag, &flag.value)));
            }
        }
        let prefix = variable_name(section.name) + "_";
        for (variable, value) in self.environment {
            let Some(rest) = variable.strip_prefix(&prefix) else {
                continue;
            };
            // The shortest name is meant: in …_FREE_MAX_PRIORITY the key is max_priority, and not priority.
            let name = section
                .founding
                .iter()
                .filter_map(|key| {
                    rest.strip_suffix(&variable_word(key))
                        .and_then(|name| name.strip_suffix('_'))
                })
                .min_by_key(|name| name.len());
            let known = |name: &str| names.iter().any(|(known, _)| variable_word(known) == name);
            if let Some(name) = name.filter(|name| !value.is_empty() && !known(name)) {
                let place = Place::variable(variable, value);
                names.push((name.to_ascii_lowercase(), place));
            }
        }
        names
    }
}

/// A section whose tables have names of the user's: `[providers.NAME]`.
#[derive(Debug)]
pub(super) struct NamedSection {
    /// Its own name.
    pub(super) name: &'static str,
    /// The keys by which a variable or a flag alone can bring in a table.
    founding: &'static [&'static str],
}

/// The keys of a policy, and `tier`.
const POLICY_KEYS: [&str; 11] = [
    "tier",
    "requests_per_minute",
    "requests_per_hour",
    "max_prompt",
    "max_output",
    "models",
    "tools",
    "max_depth",
    "max_priority",
    "priority",
    "pin_model",
];

const fn named(name: &'static str, founding: &'static [&'static str]) -> NamedSection {
    NamedSection { name, founding }
}

pub(super) static PROVIDERS: NamedSection = named("providers", &["base_url"]);
pub(super) static BUDGETS: NamedSection = named("budgets", &["limit"]);
pub(super) static TIERS: NamedSection = named("tiers", POLICY_KEYS.split_at(1).1);
pub(super) static TEAMS: NamedSection = named("teams", &POLICY_KEYS);
pub(super) static KEYS: NamedSection = named("keys", POLICY_KEYS.split_at(1).1);

/// All of them.
pub(super) static NAMED_SECTIONS: [&NamedSection; 5] =
    [&PROVIDERS, &BUDGETS, &TIERS, &TEAMS, &KEYS];

/// The section of named tables that has this name.
pub(super) fn named_section(name: &str) -> Option<&'static NamedSection> {
    NAMED_SECTIONS
        .into_iter()
        .find(|section| section.name == name)
}

/// The environment variable that sets a key.
pub(super) fn variable_name(path: &str) -> String {
    format!("TOLLGATE_{}", variable_word(path))
}

fn variable_word(name: &str) -> String {
    name.to_ascii_uppercase().replace(['.', '-'], "_")
}

/// Finds and reads the user's file, if there is one.
fn find_file(inputs: &Inputs) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let variable = |name: &str| {
        inputs
            .environment
            .get(name)
            .filter(|value| !value.is_empty())
    };
    if let Some(path) = &inputs.config {
        return read_file(path.clone(), "--config").map(Some);
    }
    if let Some(path) = variable("TOLLGATE_CONFIG") {
        return read_file(path.into(), "$TOLLGATE_CONFIG").map(Some);
    }
    let user_dir = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(home).join(".config")));
    let places = [
        Some(PathBuf::from("tollgate.toml")),
        user_dir.map(|dir| dir.join("tollgate").join("tollgate.toml")),
    ];
    for path in places.into_iter().flatten() {
        match read_file(inputs.working_dir.join(&path), "found there") {
            Ok((_, text)) => return Ok(Some((path, text))),
            Err(ConfigError::Unreadable { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read_file(path: PathBuf, named_by: &'static str) -> Result<(PathBuf, String), ConfigError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(source) => Err(ConfigError::Unreadable {
            path,
            named_by,
            source,
        }),
    }
}
