//! Settings that are one of a few names.

use super::scalar::{Base, Raw, Refused, Setting};
use super::settings::{LogFormat, LogLevel};
use crate::llm::wire::Dialect;

/// Finds the choice of that name, in any case.
fn choice<T: Copy>(raw: &Raw<'_>, choices: &[(&str, T)]) -> Result<T, Refused> {
    let text = raw.text().ok_or(Refused::Kind)?;
    choices
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .ok_or(Refused::Kind)
}

impl Setting for Dialect {
    const EXPECTED: &'static str = "expected anthropic, openai, gemini or ollama";
    fn placeholder() -> Self {
        Dialect::OpenAi
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let dialects = [
            Dialect::Anthropic,
            Dialect::OpenAi,
            Dialect::Gemini,
            Dialect::Ollama,
        ];
        choice(raw, &dialects.map(|dialect| (dialect.as_str(), dialect)))
    }
}

impl Setting for LogLevel {
    const EXPECTED: &'static str = "expected off, error, warn, info, debug or trace";
    fn placeholder() -> Self {
        LogLevel::Info
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        use LogLevel::{Debug, Error, Info, Off, Trace, Warn};
        choice(
            raw,
            &[Off, Error, Warn, Info, Debug, Trace].map(|level| (level.as_str(), level)),
        )
    }
}

impl Setting for LogFormat {
    const EXPECTED: &'static str = "expected text or json";
    fn placeholder() -> Self {
        LogFormat::Text
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        choice(
            raw,
            &[LogFormat::Text, LogFormat::Json].map(|format| (format.as_str(), format)),
        )
    }
}

/// What happens to requests when they cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnFailure {
    Refuse,
    Pass,
}

impl Setting for OnFailure {
    const EXPECTED: &'static str = "expected refuse or pass";
    fn placeholder() -> Self {
        OnFailure::Refuse
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        choice(
            raw,
            &[("refuse", OnFailure::Refuse), ("pass", OnFailure::Pass)],
        )
    }
}
