//! The linter's findings with their places, told like problems: with file, line and the marked text.

use annotate_snippets::{Level, Renderer};

use super::Loaded;
use super::lint::{self, Finding, Severity};
use super::lookup::place_of;
use super::problem::Problem;
use crate::llm::catalogue::Catalogue;

/// What `tollgate check` has to say about a configuration that holds.
#[derive(Debug)]
pub struct Findings(Vec<(Finding, Problem)>);

impl Loaded {
    /// Looks for what the configuration cannot mean, with the prices of a moment (Unix milliseconds).
    pub fn lint(&self, catalogue: &Catalogue, at_unix_ms: u64) -> Findings {
        let findings = lint::lint(&self.settings, catalogue, at_unix_ms);
        let placed = findings.into_iter().map(|finding| {
            let own = self.places.get(&finding.key);
            let other = finding
                .because
                .as_ref()
                .and_then(|key| self.places.get(key));
            // What the user wrote is what the user can change.
            let place = match (own, other) {
                (Some(own), Some(other)) if own.is_built_in() && !other.is_built_in() => {
                    Some(other)
                }
                // A value that is not written down is missing in its block.
                (own, other) => own
                    .or(other)
                    .or_else(|| place_of(&self.places, &finding.key)),
            };
            let problem = Problem {
                place: place.cloned(),
                key: finding.key.clone(),
                message: finding.message.clone(),
                expected: String::new(),
                help: Some(finding.help.clone()),
            };
            (finding, problem)
        });
        Findings(placed.collect())
    }
}

impl Findings {
    /// The findings themselves.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().map(|(finding, _)| finding)
    }

    /// How many of them are certain.
    pub fn warnings(&self) -> usize {
        self.iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .count()
    }

    /// How many of them are likely.
    pub fn notes(&self) -> usize {
        self.0.len() - self.warnings()
    }

    /// All of them for a terminal: each with its place in the text.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let texts: Vec<String> = self
            .0
            .iter()
            .map(|(finding, problem)| {
                let level = match finding.severity {
                    Severity::Warning => Level::WARNING,
                    Severity::Note => Level::NOTE,
                };
                problem.render(level, &renderer)
            })
            .collect();
        texts.join("\n\n")
    }

    /// All of them for a script: an array of objects with severity, rule, key, message, help, from, line and column.
    pub fn to_json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|(finding, problem)| {
                let mut json = problem.to_json();
                json["severity"] = finding.severity.as_str().into();
                json["rule"] = finding.rule.into();
                json
            })
            .collect()
    }
}
