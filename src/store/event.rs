//! Throttle events: what a person asks about afterwards. When a level changed, who was refused or waited and why, and
//! whose reservation was far off. Names and numbers only, never a word of what was asked or answered.
//!
//! Encoded as CBOR maps with numbered fields, as records are: numbers are added, never reused.

use std::borrow::Cow;

use minicbor::{Decode, Encode};

use super::codec::{self, is_false, is_zero};
use crate::policy::budget::Limit;
use crate::policy::throttle::Level;
use crate::units::{Cost, Priority, RequestId};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum EventKind {
    /// A budget's level rose or fell.
    #[n(0)]
    LevelChanged,
    /// A budget had no room for a request.
    #[n(1)]
    Refused,
    /// A request waited in line and then passed.
    #[n(2)]
    Waited,
    /// A rule of the caller's tier, team or key forbade a request.
    #[n(3)]
    PolicyViolation,
    /// A request used far more or far less than was reserved for it.
    #[n(4)]
    EstimateOff,
    /// The price of a request's model is not known.
    #[n(5)]
    UnknownPrice,
    /// A request asked for a higher priority than its caller may have.
    #[n(6)]
    PriorityCapped,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 7] = [
        EventKind::LevelChanged,
        EventKind::Refused,
        EventKind::Waited,
        EventKind::PolicyViolation,
        EventKind::EstimateOff,
        EventKind::UnknownPrice,
        EventKind::PriorityCapped,
    ];

    /// The name used on the command line, in query strings and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::LevelChanged => "level_changed",
            EventKind::Refused => "refused",
            EventKind::Waited => "waited",
            EventKind::PolicyViolation => "policy_violation",
            EventKind::EstimateOff => "estimate_off",
            EventKind::UnknownPrice => "unknown_price",
            EventKind::PriorityCapped => "priority_capped",
        }
    }
}

/// The text names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no kind of event: level_changed, refused, waited, policy_violation, estimate_off, unknown_price or priority_capped expected"
)]
pub struct EventKindError(String);

impl std::str::FromStr for EventKind {
    type Err = EventKindError;
    /// Reads a name in any case, with `_` or `-`.
    fn from_str(text: &str) -> Result<Self, EventKindError> {
        let name = text.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(&name))
            .ok_or_else(|| EventKindError(text.to_owned()))
    }
}

/// In what an event's amounts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Unit {
    /// Tokens.
    #[n(0)]
    Tokens,
    /// Atto-dollars.
    #[n(1)]
    Usd,
    /// Requests.
    #[n(2)]
    Requests,
}

impl Unit {
    /// The unit of a budget's limit.
    pub const fn of(limit: Limit) -> Self {
        match limit {
            Limit::Tokens(_) => Unit::Tokens,
            Limit::Usd(_) => Unit::Usd,
            Limit::Requests(_) => Unit::Requests,
        }
    }

    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Tokens => "tokens",
            Unit::Usd => "usd",
            Unit::Requests => "requests",
        }
    }
}

/// One throttle event. What does not apply to its kind is `None` or zero.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize)]
#[serde(
    into = "super::event_shown::Shown",
    try_from = "super::event_shown::Shown"
)]
#[cbor(map)]
pub struct Event {
    /// When it happened, in Unix milliseconds.
    #[n(0)]
    pub at_unix_ms: u64,
    /// What happened.
    #[n(1)]
    pub kind: EventKind,
    /// The session whose request it was, or whose budget's level changed.
    #[n(2)]
    pub session: Option<String>,
    /// The client's key.
    #[n(3)]
    pub key: Option<String>,
    /// The key's team.
    #[n(4)]
    pub team: Option<String>,
    /// The request's priority.
    #[n(5)]
    #[cbor(with = "codec::maybe_priority", default, skip_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The priority that it asked for, where that was more.
    #[n(6)]
    #[cbor(with = "codec::maybe_priority", default, skip_if = "Option::is_none")]
    pub asked_priority: Option<Priority>,
    /// The request.
    #[n(7)]
    #[cbor(with = "codec::maybe_id", default, skip_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The model that it asked for.
    #[n(8)]
    pub model: Option<String>,
    /// The budget or rule that decided: `session-tokens-hour`, `tiers.free.max_output`.
    #[n(9)]
    pub rule: Option<String>,
    /// Whose budget: `global`, `session docs`.
    #[n(10)]
    pub scope: Option<String>,
    /// In what `settled`, `reserved`, `asked` and `limit` are counted.
    #[n(11)]
    pub unit: Option<Unit>,
    /// The level now; of a request, the highest over its budgets.
    #[n(12)]
    pub level: Option<Level>,
    /// The level before it changed.
    #[n(13)]
    pub from_level: Option<Level>,
    /// Booked in the budget's window.
    #[n(14)]
    #[cbor(with = "codec::amount", default, skip_if = "Option::is_none")]
    pub settled: Option<i128>,
    /// Reserved by running requests.
    #[n(15)]
    #[cbor(with = "codec::amount", default, skip_if = "Option::is_none")]
    pub reserved: Option<i128>,
    /// What the request asked for.
    #[n(16)]
    #[cbor(with = "codec::amount", default, skip_if = "Option::is_none")]
    pub asked: Option<i128>,
    /// The budget's limit.
    #[n(17)]
    #[cbor(with = "codec::amount", default, skip_if = "Option::is_none")]
    pub limit: Option<i128>,
    /// When the same request would pass if nothing else happened, in Unix milliseconds; 0 if that is not known.
    #[n(18)]
    #[cbor(default, skip_if = "is_zero")]
    pub passes_at_unix_ms: u64,
    /// How long the request waited in line, in milliseconds.
    #[n(19)]
    #[cbor(default, skip_if = "is_zero")]
    pub waited_ms: u64,
    /// Tokens that were reserved for the request.
    #[n(20)]
    #[cbor(default, skip_if = "is_zero")]
    pub expected_tokens: u64,
    /// Tokens that it used.
    #[n(21)]
    #[cbor(default, skip_if = "is_zero")]
    pub actual_tokens: u64,
    /// Money that was reserved for it.
    #[n(22)]
    #[cbor(with = "codec::cost", default, skip_if = "Option::is_none")]
    pub expected_cost: Option<Cost>,
    /// What it cost.
    #[n(23)]
    #[cbor(with = "codec::cost", default, skip_if = "Option::is_none")]
    pub actual_cost: Option<Cost>,
    /// Shadow mode was on: the request passed all the same.
    #[n(24)]
    #[cbor(default, skip_if = "is_false")]
    pub shadow: bool,
    /// What else there is to say, in our own words.
    #[n(25)]
    pub detail: Option<String>,
}

/// Longest text in an event, in bytes: seven of them and the numbers stay below the 4 KiB of a pack.
const MAX_TEXT: usize = 256;

impl Event {
    /// An event of which nothing else is known yet.
    pub fn new(kind: EventKind, at_unix_ms: u64) -> Self {
        Self {
            at_unix_ms,
            kind,
            session: None,
            key: None,
            team: None,
            priority: None,
            asked_priority: None,
            request: None,
            model: None,
            rule: None,
            scope: None,
            unit: None,
            level: None,
            from_level: None,
            settled: None,
            reserved: None,
            asked: None,
            limit: None,
            passes_at_unix_ms: 0,
            waited_ms: 0,
            expected_tokens: 0,
            actual_tokens: 0,
            expected_cost: None,
            actual_cost: None,
            shadow: false,
            detail: None,
        }
    }

    /// The event with texts that are not too long: itself nearly always.
    pub(super) fn clamped(&self) -> Cow<'_, Self> {
        let texts = [
            &self.session,
            &self.key,
            &self.team,
            &self.model,
            &self.rule,
            &self.scope,
            &self.detail,
        ];
        if texts
            .into_iter()
            .flatten()
            .all(|text| text.len() <= MAX_TEXT)
        {
            return Cow::Borrowed(self);
        }
        let mut event = self.clone();
        let texts = [
            &mut event.session,
            &mut event.key,
            &mut event.team,
            &mut event.model,
            &mut event.rule,
            &mut event.scope,
            &mut event.detail,
        ];
        for text in texts.into_iter().flatten() {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        Cow::Owned(event)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event in which everything has a value, as large as they get.
    pub(in crate::store) fn fullest() -> Event {
        let text = |letter: &str| Some(letter.repeat(5000));
        Event {
            session: text("s"),
            key: text("k"),
            team: text("t"),
            priority: Some(Priority::Normal),
            asked_priority: Some(Priority::Critical),
            request: Some(RequestId(u128::MAX)),
            model: text("m"),
            rule: text("r"),
            scope: text("ß"),
            unit: Some(Unit::Usd),
            level: Some(Level::Critical),
            from_level: Some(Level::Hard),
            settled: Some(i128::MAX),
            reserved: Some(-i128::MAX),
            asked: Some(0),
            limit: Some(i128::from(i64::MAX) + 1),
            passes_at_unix_ms: u64::MAX,
            waited_ms: u64::MAX,
            expected_tokens: u64::MAX,
            actual_tokens: u64::MAX,
            expected_cost: Some(Cost::from_attos(i128::MAX)),
            actual_cost: Some(Cost::ZERO),
            shadow: true,
            detail: text("d"),
            ..Event::new(EventKind::PriorityCapped, u64::MAX)
        }
    }

    #[test]
    fn an_event_reads_back_however_full_it_is_and_fits_a_pack() {
        for event in [
            fullest().clamped().into_owned(),
            Event::new(EventKind::LevelChanged, 5),
        ] {
            let bytes = minicbor::to_vec(&event).expect("encoding into memory cannot fail");
            assert!(bytes.len() <= 4096, "{} bytes", bytes.len());
            assert_eq!(minicbor::decode::<Event>(&bytes).ok(), Some(event));
        }
        let small = minicbor::to_vec(Event::new(EventKind::Waited, 5));
        let small = small.expect("encoding into memory cannot fail").len();
        assert!(small < 10, "what does not apply takes no room: {small}");
    }

    #[test]
    fn kinds_are_read_by_name() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!("Level-Changed".parse(), Ok(EventKind::LevelChanged));
        let error = "refusal".parse::<EventKind>().expect_err("no kind");
        assert!(error.to_string().contains("\"refusal\" is no kind"));
    }
}
