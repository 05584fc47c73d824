//! What a single value may look like: switches, counts, sizes, durations, addresses, URLs, paths. Choices are in
//! `choice`, limits, shares and prices in `amount`, scopes, patterns, time zones and secrets in `names`.
//!
//! A value from a file has TOML's type; one from a variable or a flag is only text and takes the type of its key.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

/// A value as it was written, after `${…}` was replaced.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw<'a> {
    /// A TOML string.
    Text(Cow<'a, str>),
    /// Text from a variable or a flag, which may mean any type.
    Word(Cow<'a, str>),
    /// A TOML integer.
    Integer(i64),
    /// A TOML float as it was written, without underscores; also `nan` and `inf`.
    Fraction(Cow<'a, str>),
    /// A TOML boolean.
    Switch(bool),
    /// A TOML array of strings.
    List(Vec<Cow<'a, str>>),
    /// Anything that no setting can be, by TOML's name for it.
    Other(&'static str),
}

impl<'a> Raw<'a> {
    /// A value of a parsed file.
    pub(super) fn of(value: &'a DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Raw::Text(Cow::Borrowed(text)),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Raw::Other("a number that is too large"), Raw::Integer),
            DeValue::Float(number) => Raw::Fraction(Cow::Borrowed(number.as_str())),
            DeValue::Boolean(on) => Raw::Switch(*on),
            DeValue::Datetime(_) => Raw::Other("a date"),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(Cow::Borrowed(text.as_ref())),
                    _ => None,
                });
                texts
                    .collect::<Option<_>>()
                    .map_or(Raw::Other("an array of something else"), Raw::List)
            }
            DeValue::Table(_) => Raw::Other("a table"),
        }
    }

    /// What it is, for `expected …, found …`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Raw::Text(_) | Raw::Word(_) => "a text",
            Raw::Integer(_) => "a number",
            Raw::Fraction(_) => "a fraction",
            Raw::Switch(_) => "true or false",
            Raw::List(_) => "an array",
            Raw::Other(kind) => kind,
        }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) | Raw::Word(text) => Some(text),
            _ => None,
        }
    }

    /// The value for `tollgate check`, in JSON's types.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Raw::Text(text) => text.as_ref().into(),
            Raw::Word(word) => {
                let typed = word.parse().map(serde_json::Value::Bool).ok();
                let typed = typed.or_else(|| word.parse::<i64>().map(Into::into).ok());
                typed.unwrap_or_else(|| word.as_ref().into())
            }
            Raw::Integer(number) => (*number).into(),
            Raw::Fraction(number) => number
                .parse::<f64>()
                .map_or_else(|_| number.as_ref().into(), Into::into),
            Raw::Switch(on) => (*on).into(),
            Raw::List(items) => items.iter().map(AsRef::as_ref).collect(),
            Raw::Other(kind) => (*kind).into(),
        }
    }
}

/// What paths in a source stand on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'a> {
    /// The directory of the file; `None` for the working directory.
    pub(super) dir: Option<&'a Path>,
    /// The user's home directory.
    pub(super) home: Option<&'a Path>,
}

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not of the kind that [`Setting::EXPECTED`] describes.
    Kind,
    /// It is of that kind, but wrong; the words say how (`must be longer than zero`).
    Because(Cow<'static, str>),
    /// As `Because`, and then how to mend it.
    Mend(Cow<'static, str>, &'static str),
}

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// What belongs there: `expected …`.
    const EXPECTED: &'static str;
    /// Whether a file writes it as a text.
    const IS_TEXT: bool = true;
    /// Whether it must not stand on a command line, which every process on the machine can read.
    const IS_SECRET: bool = false;
    /// Stands in for a value that was refused; never reaches anyone.
    fn placeholder() -> Self;
    /// Reads a value.
    fn read(raw: &Raw<'_>, base: Base<'_>) -> Result<Self, Refused>;
    /// The value for `tollgate check`.
    fn shown(&self, raw: &Raw<'_>) -> serde_json::Value {
        raw.to_json()
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "expected true or false";
    const IS_TEXT: bool = false;
    fn placeholder() -> Self {
        false
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        match raw {
            Raw::Switch(on) => Ok(*on),
            Raw::Word(word) => word.to_ascii_lowercase().parse().map_err(|_| Refused::Kind),
            _ => Err(Refused::Kind),
        }
    }
}

/// A count from 0 to 2³¹.
impl Setting for usize {
    const EXPECTED: &'static str = "expected a whole number";
    const IS_TEXT: bool = false;
    fn placeholder() -> Self {
        1
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let number = match raw {
            Raw::Integer(number) => *number,
            Raw::Word(word) => word.parse().map_err(|_| Refused::Kind)?,
            _ => return Err(Refused::Kind),
        };
        u32::try_from(number)
            .ok()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or(Refused::Because(
                "must not be negative or above 4294967295".into(),
            ))
    }
}

/// A number of bytes above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// Units of sizes; without one it is bytes.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl Setting for Size {
    const EXPECTED: &'static str = "expected a size such as \"64 KiB\", \"64 MiB\" or \"1 GiB\"";
    fn placeholder() -> Self {
        Self(1)
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let bytes = match raw {
            Raw::Integer(number) => u64::try_from(*number).map_err(|_| Refused::Kind)?,
            _ => {
                let text = raw.text().ok_or(Refused::Kind)?.trim().to_ascii_lowercase();
                let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
                let (number, factor) = unit.map_or((text.as_str(), 1), |(unit, factor)| {
                    (text.trim_end_matches(unit).trim_end(), *factor)
                });
                let number: u64 = number.parse().map_err(|_| Refused::Kind)?;
                number
                    .checked_mul(factor)
                    .ok_or(Refused::Because("is too large".into()))?
            }
        };
        if bytes == 0 {
            return Err(Refused::Because("must be larger than zero".into()));
        }
        Ok(Self(bytes))
    }
}

/// Longer durations are refused: no clock can add them to now without an overflow somewhere.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A duration of any length; the settings that must not be zero are [`TimeLimit`]s.
impl Setting for Duration {
    const EXPECTED: &'static str =
        "expected a duration with its unit, such as \"100ms\", \"30s\", \"10m\" or \"90d\"";
    fn placeholder() -> Self {
        Duration::ZERO
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Kind)?;
        let duration = humantime::parse_duration(text.trim()).map_err(|_| Refused::Kind)?;
        if duration > LONGEST {
            return Err(Refused::Because("is longer than 100 years".into()));
        }
        Ok(duration)
    }
}

/// How long something may take: never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeLimit(pub(super) Duration);

impl Setting for TimeLimit {
    const EXPECTED: &'static str = <Duration as Setting>::EXPECTED;
    fn placeholder() -> Self {
        Self(Duration::ZERO)
    }
    fn read(raw: &Raw<'_>, base: Base<'_>) -> Result<Self, Refused> {
        let duration = Duration::read(raw, base)?;
        if duration.is_zero() {
            return Err(Refused::Because("must be longer than zero".into()));
        }
        Ok(Self(duration))
    }
}

/// A time limit, or none when it is `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptionalLimit(pub(super) Option<Duration>);

impl Setting for OptionalLimit {
    const EXPECTED: &'static str =
        "expected \"never\" or a duration with its unit, such as \"30s\" or \"10m\"";
    fn placeholder() -> Self {
        Self(None)
    }
    fn read(raw: &Raw<'_>, base: Base<'_>) -> Result<Self, Refused> {
        if raw
            .text()
            .is_some_and(|text| text.trim().eq_ignore_ascii_case("never"))
        {
            return Ok(Self(None));
        }
        match TimeLimit::read(raw, base) {
            Ok(TimeLimit(limit)) => Ok(Self(Some(limit))),
            Err(Refused::Because(_)) => Err(Refused::Because(
                "must be longer than zero; \"never\" means no limit".into(),
            )),
            Err(refused) => Err(refused),
        }
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str =
        "expected an IP address and a port, such as \"127.0.0.1:8402\" or \"[::1]:8402\"";
    fn placeholder() -> Self {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Kind)?.trim();
        // The one name that needs no resolver.
        if let Some(port) = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse::<u16>().ok())
        {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        text.parse().map_err(|_| Refused::Kind)
    }
}

/// Where a provider is: `http` or `https`, a host, perhaps a path; nothing else, and no slash at its end.
impl Setting for http::Uri {
    const EXPECTED: &'static str = "expected a URL such as \"https://api.example.com\"";
    fn placeholder() -> Self {
        http::Uri::from_static("http://localhost")
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Kind)?.trim();
        // `http::Uri` drops a fragment without a word.
        if text.contains(['?', '#']) {
            return Err(Refused::Because(
                "must not have a query or a fragment".into(),
            ));
        }
        let (scheme, _) = text.split_once("://").unwrap_or(("", text));
        if !["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return Err(Refused::Because(
                "must begin with http:// or https://".into(),
            ));
        }
        let url: http::Uri = text
            .trim_end_matches('/')
            .parse()
            .map_err(|_| Refused::Kind)?;
        let authority = url.authority().map_or("", http::uri::Authority::as_str);
        if authority.contains('@') {
            return Err(Refused::Because(
                "must not hold a user name or password".into(),
            ));
        }
        if url.scheme().is_none()
            || url.host().is_none_or(str::is_empty)
            || url.port().is_some_and(|port| port.as_u16() == 0)
        {
            return Err(Refused::Kind);
        }
        Ok(url)
    }
    fn shown(&self, _: &Raw<'_>) -> serde_json::Value {
        self.to_string().trim_end_matches('/').into()
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "expected a path";
    fn placeholder() -> Self {
        PathBuf::new()
    }
    fn read(raw: &Raw<'_>, base: Base<'_>) -> Result<Self, Refused> {
        let text = raw
            .text()
            .filter(|text| !text.is_empty())
            .ok_or(Refused::Kind)?;
        if let Some(inside) = text.strip_prefix("~/") {
            let home = base.home.ok_or(Refused::Because(
                "is in the home directory, and HOME is not set".into(),
            ))?;
            return Ok(home.join(inside));
        }
        Ok(base
            .dir
            .map_or_else(|| PathBuf::from(text), |dir| dir.join(text)))
    }
    fn shown(&self, _: &Raw<'_>) -> serde_json::Value {
        self.display().to_string().into()
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "expected a text that is not empty";
    fn placeholder() -> Self {
        String::new()
    }
    fn read(raw: &Raw<'_>, _: Base<'_>) -> Result<Self, Refused> {
        let text = raw.text().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or(Refused::Kind)
    }
}
