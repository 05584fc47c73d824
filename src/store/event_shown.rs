//! An event as people and scripts see it: JSON with names instead of numbers, money as exact decimals in USD. What does
//! not apply is left out. Read back by the command line when it asks a running proxy.

use serde::{Deserialize, Serialize};

use super::codec::is_zero;
use super::event::{Event, EventKind, Unit};
use crate::policy::throttle::Level;
use crate::units::{Cost, Priority, RequestId};

/// An amount: a number of tokens or requests; a decimal text of money, and of what a JSON number would not hold exactly.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Amount {
    Count(u64),
    Text(String),
}

/// The JSON form.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    at_unix_ms: u64,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_priority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The rule under the name by which most people know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Amount>,
    #[serde(skip_serializing_if = "is_zero")]
    passes_at_unix_ms: u64,
    #[serde(skip_serializing_if = "is_zero")]
    waited_ms: u64,
    #[serde(skip_serializing_if = "is_zero")]
    expected_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    actual_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_cost_usd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_cost_usd: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Unit {
    /// An amount of this unit as text: tokens and requests as whole numbers, money in USD, exactly.
    pub fn text(self, amount: i128) -> String {
        match self {
            Unit::Usd => Cost::from_attos(amount).to_string(),
            Unit::Tokens | Unit::Requests => amount.to_string(),
        }
    }

    fn shown(self, amount: i128) -> Amount {
        match (self, u64::try_from(amount)) {
            (Unit::Tokens | Unit::Requests, Ok(count)) => Amount::Count(count),
            _ => Amount::Text(self.text(amount)),
        }
    }

    fn read(self, amount: Amount) -> Result<i128, Unreadable> {
        match (self, amount) {
            (_, Amount::Count(count)) => Ok(i128::from(count)),
            (Unit::Usd, Amount::Text(text)) => text
                .parse()
                .map(Cost::attos)
                .map_err(|_| Unreadable("an amount")),
            (Unit::Tokens | Unit::Requests, Amount::Text(text)) => {
                text.parse().map_err(|_| Unreadable("an amount"))
            }
        }
    }
}

impl From<Event> for Shown {
    fn from(event: Event) -> Self {
        // Amounts without a unit do not occur; should they, a bare number is the least wrong.
        let unit = event.unit.unwrap_or(Unit::Tokens);
        let amount = |amount: Option<i128>| amount.map(|amount| unit.shown(amount));
        let level = |level: Option<Level>| level.map(|level| level.as_str().to_owned());
        let priority = |priority: Option<Priority>| priority.map(|known| known.as_str().to_owned());
        Self {
            at_unix_ms: event.at_unix_ms,
            kind: event.kind.as_str().to_owned(),
            session: event.session,
            key: event.key,
            team: event.team,
            priority: priority(event.priority),
            asked_priority: priority(event.asked_priority),
            request: event.request.map(|id| id.to_string()),
            model: event.model,
            budget: event.rule,
            scope: event.scope,
            unit: event.unit.map(|unit| unit.as_str().to_owned()),
            level: level(event.level),
            from_level: level(event.from_level),
            settled: amount(event.settled),
            reserved: amount(event.reserved),
            asked: amount(event.asked),
            limit: amount(event.limit),
            passes_at_unix_ms: event.passes_at_unix_ms,
            waited_ms: event.waited_ms,
            expected_tokens: event.expected_tokens,
            actual_tokens: event.actual_tokens,
            expected_cost_usd: event.expected_cost.map(|cost| cost.to_string()),
            actual_cost_usd: event.actual_cost.map(|cost| cost.to_string()),
            shadow: event.shadow,
            detail: event.detail,
        }
    }
}

/// The JSON is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} of an event cannot be read")]
pub(super) struct Unreadable(&'static str);

/// Reads a text that may be missing.
fn read<T: std::str::FromStr>(
    text: Option<String>,
    what: &'static str,
) -> Result<Option<T>, Unreadable> {
    let read = text.map(|text| text.parse().map_err(|_| Unreadable(what)));
    read.transpose()
}

/// Finds what has a name that may be missing.
fn named<T: Copy>(
    name: Option<String>,
    all: &[T],
    as_str: fn(T) -> &'static str,
    what: &'static str,
) -> Result<Option<T>, Unreadable> {
    let Some(name) = name else { return Ok(None) };
    let found = all.iter().copied().find(|known| as_str(*known) == name);
    found.map(Some).ok_or(Unreadable(what))
}

impl TryFrom<Shown> for Event {
    type Error = Unreadable;
    fn try_from(shown: Shown) -> Result<Self, Unreadable> {
        let units = [Unit::Tokens, Unit::Usd, Unit::Requests];
        let unit = named(shown.unit, &units, Unit::as_str, "the unit")?;
        let amount = |amount: Option<Amount>| {
            let amount = amount.map(|amount| unit.unwrap_or(Unit::Tokens).read(amount));
            amount.transpose()
        };
        let level = |name| named(name, &Level::ALL, Level::as_str, "the level");
        let kind: EventKind = shown.kind.parse().map_err(|_| Unreadable("the kind"))?;
        Ok(Self {
            session: shown.session,
            key: shown.key,
            team: shown.team,
            priority: read(shown.priority, "the priority")?,
            asked_priority: read(shown.asked_priority, "the priority")?,
            request: read::<RequestId>(shown.request, "the request")?,
            model: shown.model,
            rule: shown.budget,
            scope: shown.scope,
            unit,
            level: level(shown.level)?,
            from_level: level(shown.from_level)?,
            settled: amount(shown.settled)?,
            reserved: amount(shown.reserved)?,
            asked: amount(shown.asked)?,
            limit: amount(shown.limit)?,
            passes_at_unix_ms: shown.passes_at_unix_ms,
            waited_ms: shown.waited_ms,
            expected_tokens: shown.expected_tokens,
            actual_tokens: shown.actual_tokens,
            expected_cost: read(shown.expected_cost_usd, "the cost")?,
            actual_cost: read(shown.actual_cost_usd, "the cost")?,
            shadow: shown.shadow,
            detail: shown.detail,
            ..Event::new(kind, shown.at_unix_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::fullest;
    use super::*;

    #[test]
    fn an_event_survives_its_json() {
        let mut tokens = fullest();
        tokens.unit = Some(Unit::Tokens);
        for event in [fullest(), tokens, Event::new(EventKind::Refused, 5)] {
            let json = serde_json::to_string(&event).expect("an event is JSON");
            assert_eq!(serde_json::from_str::<Event>(&json).ok(), Some(event));
        }
    }

    #[test]
    fn json_says_tokens_as_numbers_money_as_decimals_and_leaves_out_what_does_not_apply() {
        let mut event = Event::new(EventKind::LevelChanged, 5);
        event.rule = Some("session-usd-hour".to_owned());
        event.unit = Some(Unit::Usd);
        event.limit = "5".parse().ok().map(Cost::attos);
        event.level = Some(Level::Soft);
        let json = serde_json::to_value(&event).expect("an event is JSON");
        let expected = serde_json::json!({
            "at_unix_ms": 5, "kind": "level_changed", "budget": "session-usd-hour", "unit": "usd", "limit": "5.00",
            "level": "SOFT",
        });
        assert_eq!(json, expected);
        event.unit = Some(Unit::Tokens);
        event.limit = Some(100_000);
        let json = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(json["limit"], 100_000);
    }

    #[test]
    fn json_that_is_no_event_is_refused() {
        for (json, part) in [
            (r#"{"at_unix_ms":1,"kind":"party"}"#, "the kind"),
            (r#"{"kind":"refused","level":"HOT"}"#, "the level"),
            (
                r#"{"kind":"refused","unit":"usd","limit":"much"}"#,
                "an amount",
            ),
        ] {
            let error = serde_json::from_str::<Event>(json).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
