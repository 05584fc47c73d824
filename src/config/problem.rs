//! What is wrong with a configuration, and how it is told: each problem with its place, all of them at once.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::mask;
use super::source::{Place, Source};

/// One thing that is wrong. Its texts never hold a value after `${…}` was replaced.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    /// Where it was written; `None` if something is missing everywhere.
    pub(super) place: Option<Place>,
    /// The key, such as `server.listen`; empty for an error of syntax.
    pub(super) key: String,
    /// What is wrong, in one sentence without a period.
    pub(super) message: String,
    /// What belongs there, beside the marked text.
    pub(super) expected: String,
    /// How to mend it.
    pub(super) help: Option<String>,
}

impl Problem {
    pub(super) fn render(&self, level: Level<'static>, renderer: &Renderer) -> String {
        let title = level.primary_title(self.message.as_str());
        let help = self.help.as_deref().map(|text| Level::HELP.message(text));
        let (name, text, span) = match self
            .place
            .as_ref()
            .map(|place| (&*place.source, &place.span))
        {
            Some((Source::File { name, text }, span)) => {
                (name.display().to_string(), text.as_str(), span)
            }
            Some((Source::BuiltIn { text }, span)) => {
                ("built-in configuration".to_owned(), *text, span)
            }
            Some((Source::Variable { name, shown } | Source::Flag { name, shown }, _)) => {
                let kind = if name.starts_with('-') {
                    "flag"
                } else {
                    "environment variable"
                };
                let mut text = format!("{kind} {name} is `{shown}`");
                if !self.expected.is_empty() {
                    text = format!("{text}; {}", self.expected);
                }
                let group = title.element(Level::NOTE.message(text)).elements(help);
                return renderer.render(&[group]);
            }
            None => return renderer.render(&[title.elements(help)]),
        };
        let masked = mask::text(text);
        let label = (!self.expected.is_empty()).then_some(self.expected.as_str());
        // A span of nothing (the end of the file) would not be drawn.
        let span = span.start.min(masked.len())..span.end.min(masked.len());
        let mark = AnnotationKind::Primary.span(span).label(label);
        let snippet = Snippet::source(masked.as_str()).path(name).annotation(mark);
        renderer.render(&[title.element(snippet).elements(help)])
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let (mut from, mut line, mut column) = (None, None, None);
        if let Some(place) = &self.place {
            from = Some(match &*place.source {
                Source::BuiltIn { .. } => "default".to_owned(),
                Source::File { name, .. } => name.display().to_string(),
                Source::Variable { name, .. } | Source::Flag { name, .. } => name.clone(),
            });
            (line, column) = place.line_and_column().unzip();
        }
        serde_json::json!({
            "key": self.key,
            "message": self.message,
            "expected": self.expected,
            "help": self.help,
            "from": from,
            "line": line,
            "column": column,
        })
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts them: the files' by their place, then those of variables and flags.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        let rank = |problem: &Problem| match problem
            .place
            .as_ref()
            .map(|place| (&*place.source, place.span.start))
        {
            Some((Source::BuiltIn { .. }, at)) => (0, at),
            Some((Source::File { .. }, at)) => (1, at),
            Some((Source::Variable { .. }, _)) => (2, 0),
            Some((Source::Flag { .. }, _)) => (3, 0),
            None => (4, 0),
        };
        problems.sort_by_key(rank);
        Self(problems)
    }

    /// How many there are; at least one.
    pub fn count(&self) -> usize {
        self.0.len()
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
            .map(|problem| problem.render(Level::ERROR, &renderer))
            .collect();
        texts.join("\n\n")
    }

    /// All of them for a script: an array of objects with key, message, expected, help, from, line and column.
    pub fn to_json(&self) -> serde_json::Value {
        self.0.iter().map(Problem::to_json).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The known name that is nearest to a mistyped one, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        // A third of the letters may be wrong: `lissten` is listen, `port` is not.
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["listen", "max_body", "max_header"];
        assert_eq!(nearest("lissten", known), Some("listen"));
        assert_eq!(nearest("max_bdoy", known), Some("max_body"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest("", known), None);
    }
}
