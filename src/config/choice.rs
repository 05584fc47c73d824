//! Settings that are one of a few names.

use super::scalar::{Base, Raw, Refused, Setting};
use super::settings::{AuthMode, LogFormat, LogLevel, ThrottleMode};
use crate::llm::wire::Dialect;
use crate::policy::budget::Window;
use crate::policy::routing;
use crate::units::Priority;

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

impl Setting for ThrottleMode {
    const EXPECTED: &'static str = "expected on, shadow or off";
    fn placeholder() -> Self {
        ThrottleMode::On
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        use ThrottleMode::{Off, On, Shadow};
        choice(raw, &[On, Shadow, Off].map(|mode| (mode.as_str(), mode)))
    }
}

impl Setting for routing::Mode {
    const EXPECTED: &'static str = "expected off, shadow or on";
    fn placeholder() -> Self {
        routing::Mode::Off
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        use routing::Mode::{Off, On, Shadow};
        choice(raw, &[Off, Shadow, On].map(|mode| (mode.as_str(), mode)))
    }
}

/// What happens to requests whose price is not known; the ceiling's prices have keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnUnknownPrice {
    Allow,
    Refuse,
    Ceiling,
}

impl Setting for OnUnknownPrice {
    const EXPECTED: &'static str = "expected allow, refuse or ceiling";
    fn placeholder() -> Self {
        OnUnknownPrice::Allow
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        use OnUnknownPrice::{Allow, Ceiling, Refuse};
        let choices = [("allow", Allow), ("refuse", Refuse), ("ceiling", Ceiling)];
        choice(raw, &choices)
    }
}

impl Setting for Window {
    const EXPECTED: &'static str = "expected minute, hour, day or month";
    fn placeholder() -> Self {
        Window::Hour
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        choice(raw, &Window::ALL.map(|window| (window.as_str(), window)))
    }
}

impl Setting for AuthMode {
    const EXPECTED: &'static str = "expected passthrough or keys";
    fn placeholder() -> Self {
        AuthMode::Passthrough
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        use AuthMode::{Keys, Passthrough};
        choice(raw, &[Passthrough, Keys].map(|mode| (mode.as_str(), mode)))
    }
}

impl Setting for Priority {
    const EXPECTED: &'static str = "expected low, normal, high or critical";
    fn placeholder() -> Self {
        Priority::Normal
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let names = Priority::ALL.map(|priority| (priority.as_str(), priority));
        choice(raw, &names)
    }
}
