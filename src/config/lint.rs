//! Finds what a configuration that holds cannot mean: budgets that never bind, rules that never match, rules that
//! contradict each other. Pure: settings and the catalogue in, findings out.
//!
//! A warning is certain. What is only likely, because clients, key files or models that are not known here could make it
//! right, is a note.

mod budgets;
mod policies;
mod providers;
mod routing;
mod rules;
mod tasks;

use super::settings::Settings;
use crate::llm::catalogue::Catalogue;

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is so.
    Warning,
    /// It is so unless something that the configuration does not say makes it right.
    Note,
}

impl Severity {
    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How sure it is.
    pub severity: Severity,
    /// What kind of finding it is, a name that stays: `budget-never-binds`.
    pub rule: &'static str,
    /// The key that it is about: `budgets.NAME.limit`, `teams.NAME`, `classify.priority.2` (blocks are counted from 1).
    pub key: String,
    /// The other key that makes it so; it is where to look if the first is not of the user's making.
    pub because: Option<String>,
    /// What is wrong, in one sentence without a period.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl Finding {
    fn warning(rule: &'static str, key: String, message: String, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            rule,
            key,
            because: None,
            message,
            help: help.into(),
        }
    }

    fn note(rule: &'static str, key: String, message: String, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::warning(rule, key, message, help)
        }
    }

    fn because(self, key: String) -> Self {
        Self {
            because: Some(key),
            ..self
        }
    }
}

/// Everything that there is to find, with the prices of a moment (Unix milliseconds).
pub fn lint(settings: &Settings, catalogue: &Catalogue, at_unix_ms: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    budgets::lint(settings, catalogue, &mut findings);
    rules::lint(settings, &mut findings);
    tasks::lint(settings, &mut findings);
    policies::lint(settings, catalogue, &mut findings);
    providers::lint(settings, &mut findings);
    routing::lint(settings, catalogue, at_unix_ms, &mut findings);
    findings
}

/// `, did you mean …?` or what there is.
fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match super::problem::nearest(name, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => match known.collect::<Vec<_>>() {
            none if none.is_empty() => "there is none".to_owned(),
            known => format!("known: {}", known.join(", ")),
        },
    }
}
