//! Finds what nobody asked for: keys, flags and variables that name no setting, each with the nearest one that does.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::Effective;
use super::layers::{Document, NAMED_SECTIONS, named_section, variable_name};
use super::lookup::Lookup;
use super::problem::{Problem, nearest};
use super::scalar::Raw;
use super::source::Place;

/// What comes of the asking.
pub(super) struct Finished {
    pub(super) problems: Vec<Problem>,
    pub(super) effective: Vec<Effective>,
    pub(super) known_keys: BTreeSet<String>,
    /// Where the effective values, the named tables and the blocks were written.
    pub(super) places: BTreeMap<String, Place>,
}

impl Lookup<'_> {
    /// Notes whatever nobody asked for, and ends the asking.
    pub(super) fn finish(mut self) -> Finished {
        if let Some(file) = &self.layers.file {
            self.check_table(file, &file.table, "");
        }
        self.check_table(&self.layers.built_in, &self.layers.built_in.table, "");
        self.check_flags();
        self.check_variables();
        let mut places = self.tables_at;
        places.extend(
            self.asked
                .iter()
                .filter_map(|(path, place)| Some((path.clone(), place.clone()?))),
        );
        Finished {
            problems: self.problems,
            effective: self.effective,
            known_keys: self.asked.into_keys().collect(),
            places,
        }
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
            let in_named = named_section(parent).is_some();
            let is_section = is_section || named_section(&path).is_some();
            match value.get_ref() {
                DeValue::Table(inner) if is_section => self.check_table(document, inner, &path),
                // Tables whose names are refused are not asked for their keys, and have their problem already.
                DeValue::Table(_) if in_named => {}
                _ if is_section || in_named => {
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
            } else if !self.asked.contains_key(&flag.key) && !self.has_refused_name(&flag.key) {
                self.unknown(place, &flag.key);
            }
        }
    }

    /// A named table without one known key is one whose name was refused.
    fn has_refused_name(&self, path: &str) -> bool {
        let Some((section, rest)) = path.split_once('.') else {
            return false;
        };
        let Some((name, _)) = rest.rsplit_once('.') else {
            return false;
        };
        let below = format!("{section}.{name}.");
        let is_asked = self
            .asked
            .range(below.clone()..)
            .next()
            .is_some_and(|(known, _)| known.starts_with(&below));
        !is_asked
            && named_section(section).is_some_and(|section| {
                self.layers
                    .names(section)
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
            if value.is_empty()
                || !name.starts_with("TOLLGATE_")
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
        if parent.is_empty() {
            siblings.extend(NAMED_SECTIONS.map(|section| section.name));
            siblings.sort_unstable();
        }
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
        let mut known = self.asked.keys().filter(|known| {
            known
                .split_once('.')
                .is_some_and(|(section, _)| named_section(section).is_none())
        });
        let meant =
            known.find(|known| known.rsplit_once('.').is_some_and(|(_, last)| last == name))?;
        Some(format!("did you mean `{meant}`?"))
    }
}
