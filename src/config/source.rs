//! Where a setting was written: a file with its text, an environment variable or a flag. Problems and `tollgate check`
//! point there.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::mask;

/// Something that settings were read from.
pub(super) enum Source {
    /// The built-in default: the reference configuration.
    BuiltIn {
        /// Its text.
        text: &'static str,
    },
    /// A file.
    File {
        /// Its name as the user gave it.
        name: PathBuf,
        /// Its text.
        text: String,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
        /// Its value, for messages; masked if its name says that it is a secret.
        shown: String,
    },
    /// A flag on the command line.
    Flag {
        /// The flag as it was written, such as `--set server.listen`.
        name: String,
        /// Its value, for messages; masked if its name says that it is a secret.
        shown: String,
    },
}

/// The name alone: the text of a file may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::BuiltIn { .. } => f.write_str("BuiltIn"),
            Source::File { name, .. } => write!(f, "File({})", name.display()),
            Source::Variable { name, .. } => write!(f, "Variable({name})"),
            Source::Flag { name, .. } => write!(f, "Flag({name})"),
        }
    }
}

/// One place in a source.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    /// Bytes of the file's text; empty for variables and flags.
    pub(super) span: Range<usize>,
}

impl Place {
    /// A place in a file's text, or in the built-in one.
    pub(super) fn at(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self {
            source: Arc::clone(source),
            span,
        }
    }

    /// An environment variable.
    pub(super) fn variable(name: &str, value: &str) -> Self {
        let shown = mask::value(name, value);
        let source = Arc::new(Source::Variable {
            name: name.to_owned(),
            shown,
        });
        Self { source, span: 0..0 }
    }

    /// A flag.
    pub(super) fn flag(name: &str, value: &str) -> Self {
        let shown = mask::value(name, value);
        let source = Arc::new(Source::Flag {
            name: name.to_owned(),
            shown,
        });
        Self { source, span: 0..0 }
    }

    /// Whether it is the reference configuration, so not of the user's making.
    pub(super) fn is_built_in(&self) -> bool {
        matches!(*self.source, Source::BuiltIn { .. })
    }

    /// Line and column (in characters), both from 1, where there is a file.
    pub(super) fn line_and_column(&self) -> Option<(usize, usize)> {
        let text = match &*self.source {
            Source::BuiltIn { text } => text,
            Source::File { text, .. } => text.as_str(),
            Source::Variable { .. } | Source::Flag { .. } => return None,
        };
        let before = text.get(..self.span.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some((line, before[line_start..].chars().count() + 1))
    }

    /// What `tollgate check` tells of it.
    pub(super) fn origin(&self) -> Origin {
        match &*self.source {
            Source::BuiltIn { .. } => Origin::Default,
            Source::File { name, .. } => Origin::File {
                name: name.clone(),
                line: self.line_and_column().map_or(0, |(line, _)| line),
            },
            Source::Variable { name, .. } => Origin::Variable(name.clone()),
            Source::Flag { name, .. } => Origin::Flag(name.clone()),
        }
    }
}

/// Where an effective value comes from, told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The reference configuration.
    Default,
    /// A file of the user's.
    File {
        /// The file's name as it was given.
        name: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{}:{line}", name.display()),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}
