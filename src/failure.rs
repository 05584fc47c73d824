//! How a command fails in front of its operator: what was attempted, why it failed, how to mend it, and the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use annotate_snippets::renderer::AnsiColor;

use crate::config::{ConfigError, Problems};

/// The exit codes of every command. `tollgate run` passes on its command's code instead, or 126 and 127 as a shell does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It worked.
    Success = 0,
    /// It was attempted and failed.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// `run`: the command was found but cannot be executed.
    NotExecutable = 126,
    /// `run`: there is no such command.
    NotFound = 127,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    told: Told,
}

#[derive(Debug)]
enum Told {
    Message {
        message: String,
        cause: Option<Box<dyn Error + Send + Sync>>,
        hint: Option<String>,
    },
    Problems(Problems),
}

impl Failure {
    /// Something was attempted and failed. The message says what, in lower case and without a period.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_exit(Exit::Failure, message)
    }

    /// The operator asked for something that cannot be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::with_exit(Exit::Usage, message)
    }

    /// A failure with an exit code of its own.
    pub fn with_exit(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            told: Told::Message {
                message: message.into(),
                cause: None,
                hint: None,
            },
        }
    }

    /// Adds why it failed; the causes of the cause are told too.
    #[must_use]
    pub fn because(mut self, why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        if let Told::Message { cause, .. } = &mut self.told {
            *cause = Some(why.into());
        }
        self
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn hint(mut self, how: impl Into<String>) -> Self {
        if let Told::Message { hint, .. } = &mut self.told {
            *hint = Some(how.into());
        }
        self
    }

    /// Changes the exit code.
    #[must_use]
    pub fn exiting(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The whole text for standard error: `error:`, causes, `hint:`; or every problem of a configuration.
    pub fn render(&self, colour: bool) -> String {
        let (message, cause, hint) = match &self.told {
            Told::Message {
                message,
                cause,
                hint,
            } => (message, cause, hint),
            Told::Problems(problems) => {
                let count = match problems.count() {
                    1 => "the configuration has a problem".to_owned(),
                    many => format!("the configuration has {many} problems"),
                };
                return format!(
                    "{}\n\n{}",
                    problems.render(colour),
                    line("error", AnsiColor::BrightRed, &count, colour)
                );
            }
        };
        let mut text = line("error", AnsiColor::BrightRed, message, colour);
        let mut cause = cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(why) = cause {
            let _ = write!(text, "\n  cause: {why}");
            cause = why.source();
        }
        if let Some(hint) = hint {
            let _ = write!(
                text,
                "\n{}",
                line("hint", AnsiColor::BrightCyan, hint, colour)
            );
        }
        text
    }
}

/// One line that begins with a word, in colour on a terminal.
fn line(word: &str, colour_of_word: AnsiColor, text: &str, colour: bool) -> String {
    if !colour {
        return format!("{word}: {text}");
    }
    let style = colour_of_word.on_default().bold();
    format!("{style}{word}{style:#}: {text}")
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Wrong(problems) => Self {
                exit: Exit::Usage,
                told: Told::Problems(problems),
            },
            ConfigError::Unreadable {
                path,
                named_by,
                source,
            } => {
                let failure = Self::usage(format!(
                    "cannot read the config file {} ({named_by})",
                    path.display()
                ));
                let missing = source.kind() == std::io::ErrorKind::NotFound;
                let failure = failure.because(source);
                if missing {
                    failure.hint("`tollgate init` writes one; none is needed")
                } else {
                    failure
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_what_why_and_how_to_mend_it() {
        let why = std::io::Error::new(std::io::ErrorKind::AddrInUse, "address in use");
        let failure = Failure::new("cannot listen on 127.0.0.1:8402")
            .because(why)
            .hint("is another tollgate running?");
        assert_eq!(
            failure.render(false),
            "error: cannot listen on 127.0.0.1:8402\n  cause: address in use\nhint: is another tollgate running?"
        );
        assert!(failure.render(true).contains('\u{1b}'));
        assert_eq!(failure.exit(), Exit::Failure);
        assert_eq!(Failure::usage("no").render(false), "error: no");
    }
}
