//! Asks the layers for one key after another, and notes each value that is missing or wrong.
//!
//! The keys that exist are those that are asked for: there is no second list to keep in step (`unknown` finds the rest).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::Effective;
use super::layers::{Document, Layers, named_section, variable_name};
use super::problem::{Problem, nearest};
use super::scalar::{Base, Raw, Refused, Setting};
use super::source::{Place, Source};

/// The layers while they are turned into settings.
pub(super) struct Lookup<'a> {
    pub(super) layers: &'a Layers<'a>,
    home: Option<&'a Path>,
    /// Every key asked for, with the place of the value that won.
    pub(super) asked: BTreeMap<String, Option<Place>>,
    /// Keys whose values are whole tables, checked elsewhere.
    pub(super) tables: BTreeSet<String>,
    /// Where named tables (`teams.research`) and blocks (`classify.priority.1`, counted from 1) begin.
    pub(super) tables_at: BTreeMap<String, Place>,
    pub(super) problems: Vec<Problem>,
    pub(super) effective: Vec<Effective>,
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
            tables_at: BTreeMap::new(),
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
                help: self.meant_table(path),
            });
        }
        value.unwrap_or_else(T::placeholder)
    }

    /// The named table that may be meant where a key of another is missing: a mistyped name begins a table of its own.
    fn meant_table(&self, path: &str) -> Option<String> {
        let (section, rest) = path.split_once('.')?;
        let (name, _) = rest.rsplit_once('.')?;
        let names = self.layers.names(named_section(section)?);
        let others = names.iter().map(|(other, _)| other.as_str());
        let meant = nearest(name, others.filter(|other| *other != name))?;
        Some(format!("did you mean [{section}.{meant}]?"))
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
        if T::IS_SECRET && matches!(&*place.source, Source::Flag { .. }) {
            let message = format!("`{path}` cannot be set by a flag");
            let help = format!(
                "every process on the machine can read command lines: set {} or use a file",
                variable_name(path)
            );
            self.object(Some(place), path, message, &help);
            return None;
        }
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
                let mut help = None;
                let (message, expected) = match refused {
                    Refused::Because(why) => (format!("`{path}` {why}"), String::new()),
                    Refused::Mend(why, how) => {
                        help = Some(how.to_owned());
                        (format!("`{path}` {why}"), String::new())
                    }
                    Refused::Kind
                        if matches!(raw, Raw::Word(_))
                            || (T::IS_TEXT && matches!(raw, Raw::Text(_))) =>
                    {
                        (
                            format!("`{path}` cannot be understood"),
                            T::EXPECTED.to_owned(),
                        )
                    }
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
                    help,
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
        // An empty variable is what a compose file makes of one that is not set.
        let value = self
            .layers
            .environment
            .get(&variable)
            .filter(|value| !value.is_empty());
        if let Some(value) = value {
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
        let blocks = self.ask_numbered(path).into_iter();
        blocks.map(|(_, block)| block).collect()
    }

    /// As [`Lookup::ask_tables`], each with its number, counted from 1: a block that is wrong leaves a gap.
    pub(super) fn ask_numbered<T: DeserializeOwned>(&mut self, path: &str) -> Vec<(usize, T)> {
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
        let mut read = Vec::with_capacity(blocks.len());
        for (index, block) in blocks.into_iter().enumerate() {
            let place = Place::at(&document.source, block.span());
            let number = index + 1;
            let key = format!("{path}.{number}");
            self.note_places(&key, document, block);
            self.tables_at.insert(key, place);
            let value = self.read_block(path, document, block);
            read.extend(value.map(|value| (number, value)));
        }
        read
    }

    /// Notes where the values of a block stand (`routing.ladders.1.name`), and the items of its lists, counted from 1
    /// (`routing.ladders.1.rungs.2`).
    fn note_places(&mut self, key: &str, document: &Document<'_>, block: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = block.get_ref() else {
            return;
        };
        let at = |value: &Spanned<DeValue<'_>>| Place::at(&document.source, value.span());
        for (name, value) in table {
            let key = format!("{key}.{}", name.get_ref());
            if let DeValue::Array(items) = value.get_ref() {
                let items = items.iter().enumerate();
                let items = items.map(|(index, item)| (format!("{key}.{}", index + 1), at(item)));
                self.tables_at.extend(items);
            }
            self.tables_at.insert(key, at(value));
        }
    }

    /// Notes something that is wrong with a block: at the value with this key, else at the value or the block that holds
    /// it.
    pub(super) fn object_in_block(&mut self, key: &str, message: String, help: &str) {
        let place = place_of(&self.tables_at, key).cloned();
        self.object(place, key, message, help);
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
}

/// Where the value with a key stands, else what holds it: `routing.ladders.1.rungs` for `routing.ladders.1.rungs.9`.
pub(super) fn place_of<'p>(places: &'p BTreeMap<String, Place>, key: &str) -> Option<&'p Place> {
    let mut key = key;
    loop {
        if let Some(place) = places.get(key) {
            return Some(place);
        }
        key = key.rsplit_once('.')?.0;
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
