//! Asks the layers for one key after another, and finds what nobody asked for.
//!
//! The keys that exist are those that are asked for: there is no second list to keep in step. Whatever else a file, a
//! variable or a flag holds is a mistake, and the nearest key that was asked for is suggested.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::Effective;
use super::layers::{Document, Layers, variable_name};
use super::problem::{Problem, nearest};
use super::scalar::{Base, Raw, Refused, Setting};
use super::source::Place;

/// The layers while they are turned into settings.
pub(super) struct Lookup<'a> {
    layers: &'a Layers<'a>,
    home: Option<&'a Path>,
    /// Every key asked for, with the place of the value that won.
    asked: BTreeMap<String, Option<Place>>,
    /// Keys whose values are whole tables, checked elsewhere.
    tables: BTreeSet<String>,
    problems: Vec<Problem>,
    effective: Vec<Effective>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(layers: &'a Layers<'a>) -> Self {
        let home = layers
            .environment
            .get("HOME")
            .filter(|home| !home.is_empty());
        Self {
            layers,
            home: home.map(Path::new),
            asked: BTreeMap::new(),
            tables: BTreeSet::new(),
            problems: Vec::new(),
            effective: Vec::new(),
        }
    }

    /// The value of a key that every configuration has; a placeholder and a problem if it is missing or wrong.
    pub(super) fn ask<T: Setting>(&mut self, path: &str) -> T {
        let value = self.ask_optional(path);
        if value.is_none() && self.asked.get(path).is_some_and(Option::is_none) {
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let place = self.layers.documents().find_map(|document| {
                document
                    .find(parent)
                    .map(|found| Place::at(&document.source, found.key))
            });
            self.problems.push(Problem {
                place,
                key: path.to_owned(),
                message: format!("`{path}` is missing"),
                expected: T::EXPECTED.to_owned(),
                help: None,
            });
        }
        value.unwrap_or_else(T::placeholder)
    }

    /// The value of a key, or what stands for it when it is nowhere.
    pub(super) fn ask_or<T: Setting>(
        &mut self,
        path: &str,
        default: T,
        shown: impl Into<serde_json::Value>,
    ) -> T {
        match self.ask_optional(path) {
            Some(value) => value,
            None if self.asked.get(path).is_some_and(Option::is_none) => {
                let origin = super::Origin::Default;
                self.effective.push(Effective {
                    key: path.to_owned(),
                    value: shown.into(),
                    origin,
                });
                default
            }
            None => default,
        }
    }

    /// The value of a key, if it is anywhere. A wrong value is a problem and `None`.
    pub(super) fn ask_optional<T: Setting>(&mut self, path: &str) -> Option<T> {
        let found = self.find(path);
        let place = found.as_ref().map(|(_, place, _)| place.clone());
        self.asked.insert(path.to_owned(), place);
        let (raw, place, dir) = found?;
        match T::read(
            &raw,
            Base {
                dir,
                home: self.home,
            },
        ) {
            Ok(value) => {
                let shown = value.shown(&raw);
                self.effective.push(Effective {
                    key: path.to_owned(),
                    value: shown,
                    origin: place.origin(),
                });
                Some(value)
            }
            Err(refused) => {
                let (message, expected) = match refused {
                    Refused::Because(why) => (format!("`{path}` {why}"), String::new()),
                    Refused::Kind if matches!(raw, Raw::Text(_) | Raw::Word(_)) => (
                        format!("`{path}` cannot be understood"),
                        T::EXPECTED.to_owned(),
                    ),
                    Refused::Kind => {
                        let expected = format!("{}, found {}", T::EXPECTED, raw.kind());
                        (format!("`{path}` has the wrong type"), expected)
                    }
                };
                self.problems.push(Problem {
                    place: Some(place),
                    key: path.to_owned(),
                    message,
                    expected,
                    help: None,
                });
                None
            }
        }
    }

    /// The value from the highest layer that has the key, with its place and the directory for its paths.
    fn find(&self, path: &str) -> Option<(Raw<'a>, Place, Option<&'a Path>)> {
        if let Some(flag) = self.layers.flag(path) {
            let raw = Raw::Word(Cow::Borrowed(&flag.value));
            return Some((raw, Place::flag(&flag.flag, &flag.value), None));
        }
        let variable = variable_name(path);
        if let Some(value) = self.layers.environment.get(&variable) {
            return Some((
                Raw::Word(Cow::Borrowed(value)),
                Place::variable(&variable, value),
                None,
            ));
        }
        let layers = self.layers;
        layers
            .file
            .iter()
            .chain([&layers.built_in])
            .find_map(|document| {
                let found = document.find(path)?;
                let place = Place::at(&document.source, found.value.span());
                Some((
                    Raw::of(found.value.get_ref()),
                    place,
                    document.dir.as_deref(),
                ))
            })
    }

    /// The blocks `[[path]]` of the user's file, each read as a `T`.
    pub(super) fn ask_tables<T: DeserializeOwned>(&mut self, path: &str) -> Vec<T> {
        self.tables.insert(path.to_owned());
        self.asked.insert(path.to_owned(), None);
        let layers = self.layers;
        let Some(document) = &layers.file else {
            return Vec::new();
        };
        let Some(found) = document.find(path) else {
            return Vec::new();
        };
        let blocks = match found.value.get_ref() {
            DeValue::Array(blocks) => blocks.iter().collect::<Vec<_>>(),
            _ => vec![found.value],
        };
        blocks
            .into_iter()
            .filter_map(|block| self.read_block(path, document, block))
            .collect()
    }

    fn read_block<T: DeserializeOwned>(
        &mut self,
        path: &str,
        document: &Document<'_>,
        block: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let mut problem = Problem {
            place: Some(Place::at(&document.source, block.span())),
            key: path.to_owned(),
            message: format!("`{path}` has the wrong type"),
            expected: format!("expected blocks that begin with [[{path}]]"),
            help: None,
        };
        if !matches!(block.get_ref(), DeValue::Table(_)) {
            self.problems.push(problem);
            return None;
        }
        match T::deserialize(ValueDeserializer::from(block.clone())) {
            Ok(value) => Some(value),
            Err(error) => {
                let span = error.span().unwrap_or_else(|| block.span());
                problem.place = Some(Place::at(&document.source, span));
                problem.expected = String::new();
                (problem.message, problem.help) = told(error.message(), path);
                self.problems.push(problem);
                None
            }
        }
    }

    /// Where the value of a key that was asked for stands.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        self.asked.get(path).cloned().flatten()
    }

    /// Notes something that is wrong with a value beyond its type.
    pub(super) fn object(&mut self, place: Option<Place>, key: &str, message: String, help: &str) {
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.problems.push(Problem {
            place,
            key: key.to_owned(),
            message,
            expected: String::new(),
            help,
        });
    }

    /// Notes whatever nobody asked for, and ends the asking.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Effective>, BTreeSet<String>) {
        if let Some(file) = &self.layers.file {
            self.check_table(file, &file.table, "");
        }
        self.check_table(&self.layers.built_in, &self.layers.built_in.table, "");
        self.check_flags();
        self.check_variables();
        (
            self.problems,
            self.effective,
            self.asked.into_keys().collect(),
        )
    }

    fn check_table(&mut self, document: &Document<'_>, table: &DeTable<'_>, parent: &str) {
        for (key, value) in table {
            let path = if parent.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{parent}.{}", key.get_ref())
            };
            if self.asked.contains_key(&path) {
                continue;
            }
            let below = format!("{path}.");
            let is_section = self
                .asked
                .range(below.clone()..)
                .next()
                .is_some_and(|(known, _)| known.starts_with(&below));
            match value.get_ref() {
                DeValue::Table(inner) if is_section || path == "providers" => {
                    self.check_table(document, inner, &path)
                }
                _ if is_section || path == "providers" => {
                    let found = Raw::of(value.get_ref()).kind();
                    self.problems.push(Problem {
                        place: Some(Place::at(&document.source, value.span())),
                        key: path.clone(),
                        message: format!("`{path}` has the wrong type"),
                        expected: format!(
                            "expected a section that begins with [{path}], found {found}"
                        ),
                        help: None,
                    });
                }
                // Providers whose names are refused are not asked for their keys, and have their problem already.
                _ if parent == "providers" => {}
                _ => self.unknown(Place::at(&document.source, key.span()), &path),
            }
        }
    }

    fn check_flags(&mut self) {
        for flag in self.layers.overrides {
            let place = Place::flag(&flag.flag, &flag.value);
            if self.tables.contains(&flag.key) {
                let message = format!("`{}` cannot be set by a flag", flag.key);
                self.object(
                    Some(place),
                    &flag.key,
                    message,
                    "write its blocks into a config file",
                );
            } else if !self.asked.contains_key(&flag.key) && !self.has_refused_provider(&flag.key) {
                self.unknown(place, &flag.key);
            }
        }
    }

    /// A provider without one known key is one whose name was refused.
    fn has_refused_provider(&self, path: &str) -> bool {
        path.strip_prefix("providers.")
            .and_then(|rest| rest.split_once('.'))
            .is_some_and(|(name, _)| {
                !self
                    .asked
                    .contains_key(&format!("providers.{name}.base_url"))
                    && self
                        .layers
                        .provider_names()
                        .iter()
                        .any(|(known, _)| known == name)
            })
    }

    /// Variables that look like ours but name no key. Others that begin with TOLLGATE_ are left alone: Kubernetes makes
    /// such names for a service called tollgate (`TOLLGATE_SERVICE_HOST`, `TOLLGATE_PORT_8402_TCP`).
    fn check_variables(&mut self) {
        let known: BTreeMap<String, &str> = self
            .asked
            .keys()
            .filter(|path| !self.tables.contains(*path))
            .map(|path| (variable_name(path), path.as_str()))
            .collect();
        let sections: BTreeSet<String> = self
            .asked
            .keys()
            .filter_map(|path| path.split_once('.'))
            .map(|(section, _)| variable_name(section) + "_")
            .collect();
        let mut problems = Vec::new();
        for (name, value) in self.layers.environment {
            if !name.starts_with("TOLLGATE_")
                || name == "TOLLGATE_CONFIG"
                || known.contains_key(name)
            {
                continue;
            }
            let meant = nearest(
                name,
                known.keys().map(String::as_str).chain(["TOLLGATE_CONFIG"]),
            )
            .filter(|meant| strsim::damerau_levenshtein(name, meant) <= 3);
            if meant.is_none()
                && !sections
                    .iter()
                    .any(|section| name.starts_with(section.as_str()))
            {
                continue;
            }
            problems.push(Problem {
                place: Some(Place::variable(name, value)),
                key: String::new(),
                message: format!("environment variable `{name}` names no setting"),
                expected: String::new(),
                help: meant.map(|meant| format!("did you mean `{meant}`?")),
            });
        }
        self.problems.append(&mut problems);
    }

    fn unknown(&mut self, place: Place, path: &str) {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut siblings: Vec<&str> = self
            .asked
            .keys()
            .filter_map(|known| match parent {
                "" => known.split('.').next(),
                _ => known
                    .strip_prefix(parent)?
                    .strip_prefix('.')?
                    .split('.')
                    .next(),
            })
            .collect();
        siblings.dedup();
        let help = match nearest(name, siblings.iter().copied()) {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None => self.elsewhere(name).or_else(|| {
                let what = if parent.is_empty() {
                    "known here".to_owned()
                } else {
                    format!("known in `{parent}`")
                };
                (!siblings.is_empty()).then(|| format!("{what}: {}", siblings.join(", ")))
            }),
        };
        self.problems.push(Problem {
            place: Some(place),
            key: path.to_owned(),
            message: format!("unknown key `{path}`"),
            expected: String::new(),
            help,
        });
    }

    /// The same name in another section, such as `listen` above the first section.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let mut known = self
            .asked
            .keys()
            .filter(|known| !known.starts_with("providers."));
        let meant =
            known.find(|known| known.rsplit_once('.').is_some_and(|(_, last)| last == name))?;
        Some(format!("did you mean `{meant}`?"))
    }
}

/// What serde says about a block, in our words: a message and a help.
fn told(message: &str, path: &str) -> (String, Option<String>) {
    let mut names = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let typed = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        let help = nearest(typed, known.iter().copied()).map_or_else(
            || format!("known in `{path}`: {}", known.join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        return (format!("unknown key `{path}.{typed}`"), Some(help));
    }
    if message.starts_with("missing field") {
        return (
            format!("`{path}.{}` is missing", names.next().unwrap_or_default()),
            None,
        );
    }
    (format!("`{path}`: {message}"), None)
}
