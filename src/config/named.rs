//! Settings that name something: whose a budget is, patterns of names, time zones; and secrets.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use super::scalar::{Base, Raw, Refused, Setting};
use super::settings::Secret;
use crate::policy::budget::ScopeKind;
use crate::policy::explicit;
use crate::policy::priority::Pattern;

/// Longest pattern of a name; a model's name on AWS is an address of some 150 characters.
const LONGEST_PATTERN: usize = 256;

/// Longest name of a table: it can be a label in metrics.
const LONGEST_NAME: usize = 64;

/// Whether a provider, budget, tier, team or key can have this name: 1 to 64 lower-case letters, digits, - and _.
pub(super) fn is_table_name(name: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(letters)
}

/// Whose a budget is: each of a kind, or the one that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScopeName {
    pub(super) kind: ScopeKind,
    pub(super) only: Option<String>,
}

impl Setting for ScopeName {
    const EXPECTED: &'static str = "expected global, session, key, team, provider or model, or one of them such as \"team:research\"";
    fn placeholder() -> Self {
        Self {
            kind: ScopeKind::Global,
            only: None,
        }
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Kind)?.trim();
        let (kind, only) = match text.split_once(':') {
            Some((kind, only)) => (kind.trim_end(), Some(only)),
            None => (text, None),
        };
        let kind = ScopeKind::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(kind))
            .ok_or(Refused::Kind)?;
        match only {
            Some(_) if kind == ScopeKind::Global => Err(Refused::Mend(
                "names a part of everything".into(),
                "global is everything together and has no name: write \"global\"",
            )),
            Some(name) if name.contains('*') => Err(Refused::Mend(
                "has a * in its name".into(),
                "a budget is for one name or for each of its kind: write \"model\" for each model",
            )),
            // Those that have tables, or come from a command that takes no other names.
            Some(name)
                if matches!(kind, ScopeKind::Key | ScopeKind::Team | ScopeKind::Provider)
                    && !is_table_name(name) =>
            {
                Err(Refused::Mend(
                    "has a name that no key, team or provider can have".into(),
                    "their names are 1 to 64 lower-case letters, digits, - and _, such as \"team:research\"",
                ))
            }
            Some(name) if !explicit::is_name(name) => Err(Refused::Mend(
                "has a name that is empty, too long or has other characters".into(),
                "names are 1 to 128 visible ASCII characters, such as \"session:nightly\"",
            )),
            only => Ok(Self {
                kind,
                only: only.map(str::to_owned),
            }),
        }
    }
}

/// Patterns of names, in which `*` stands for any characters. A variable or a flag separates them by commas.
/// Names of providers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProviderNames(pub(super) Vec<String>);

impl Setting for ProviderNames {
    const EXPECTED: &'static str = "expected names of providers, such as [\"openrouter\"]";
    const IS_TEXT: bool = false;
    fn placeholder() -> Self {
        Self::default()
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let items = match raw {
            Raw::List(items) => items.clone(),
            // A variable or a flag has no arrays.
            Raw::Word(word) => word.split(',').map(|name| name.trim().into()).collect(),
            _ => return Err(Refused::Kind),
        };
        if items.iter().any(|name| !is_table_name(name)) {
            return Err(Refused::Kind);
        }
        Ok(Self(items.into_iter().map(Cow::into_owned).collect()))
    }
}

impl Setting for Vec<Pattern> {
    const EXPECTED: &'static str =
        "expected a list of patterns such as [\"*haiku*\", \"gpt-*-mini\"]";
    const IS_TEXT: bool = false;
    fn placeholder() -> Self {
        Vec::new()
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let items: Vec<Cow<'_, str>> = match raw {
            Raw::List(items) => items.clone(),
            Raw::Word(word) if word.trim().is_empty() => Vec::new(),
            Raw::Word(word) => word.split(',').map(|item| item.trim().into()).collect(),
            _ => return Err(Refused::Kind),
        };
        let is_pattern = |text: &str| {
            (1..=LONGEST_PATTERN).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if !items.iter().all(|item| is_pattern(item)) {
            return Err(Refused::Mend(
                "has a pattern that is empty, too long or has other characters".into(),
                "patterns are 1 to 256 visible ASCII characters; * stands for any",
            ));
        }
        Ok(items.into_iter().map(Pattern::new).collect())
    }
    fn shown(&self, _: &Raw<'_>) -> serde_json::Value {
        self.iter().map(Pattern::as_str).collect()
    }
}

/// Where months begin and end: an IANA name, or the system's zone.
impl Setting for TimeZone {
    const EXPECTED: &'static str =
        "expected a time zone such as \"UTC\", \"Europe/Vienna\" or \"system\"";
    fn placeholder() -> Self {
        TimeZone::UTC
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Kind)?.trim();
        if text.eq_ignore_ascii_case("system") {
            return TimeZone::try_system().map_err(|_| {
                Refused::Mend(
                    "is the system's, and the system does not say which that is".into(),
                    "name it, such as \"Europe/Vienna\", or use \"UTC\"",
                )
            });
        }
        if text.eq_ignore_ascii_case("utc") {
            return Ok(TimeZone::UTC);
        }
        // The database's marker for a zone that is not known is no place to count months in.
        if text.eq_ignore_ascii_case("etc/unknown") {
            return Err(Refused::Kind);
        }
        TimeZone::get(text).map_err(|_| Refused::Kind)
    }
}

/// A secret, such as a provider's API key. Nothing ever tells it.
impl Setting for Secret {
    const EXPECTED: &'static str = "expected a text";
    const IS_SECRET: bool = true;
    fn placeholder() -> Self {
        Secret::new("")
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        secret(raw.text().ok_or(Refused::Kind)?)
    }
    fn shown(&self, _: &Raw<'_>) -> serde_json::Value {
        "***".into()
    }
}

/// The secret, if a request's header can carry it.
pub(super) fn secret(text: &str) -> Result<Secret, Refused> {
    if text.is_empty() {
        return Err(Refused::Mend(
            "is empty".into(),
            "leave the key out where there is none",
        ));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refused::Because(
            "has a space, a line break or another character that no API key has".into(),
        ));
    }
    Ok(Secret::new(text))
}
