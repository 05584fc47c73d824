//! Events as table, JSON or CSV.

use comfy_table::{Table, presets};
use jiff::tz::TimeZone;

use crate::commands::format::{self, Format, printable};
use crate::commands::moment;
use crate::store::event::{Event, Unit};
use crate::store::event_query::Events;
use crate::units::{Cost, Priority};

/// Writes events. Only the table needs the zone: programs get Unix milliseconds.
pub(super) fn render(events: &Events, format: Format, zone: &TimeZone) -> String {
    match format {
        Format::Table => table(&events.events, zone),
        Format::Json => {
            let text = serde_json::to_string_pretty(events);
            text.expect("an event's keys are strings") + "\n"
        }
        Format::Csv => csv(&events.events),
    }
}

fn table(events: &[Event], zone: &TimeZone) -> String {
    if events.is_empty() {
        return "no events\n".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "time",
        "event",
        "scope",
        "budget or rule",
        "level",
        "priority",
        "numbers",
    ]);
    for event in events {
        table.add_row([
            moment::text(event.at_unix_ms, zone),
            event.kind.as_str().to_owned(),
            printable(&scope(event)),
            printable(event.rule.as_deref().unwrap_or("-")),
            level(event),
            priority(event),
            printable(&numbers(event, zone)),
        ]);
    }
    format::lines(&table)
}

/// Whose budget it was; of an event without a budget, whose request.
fn scope(event: &Event) -> String {
    let session = || {
        let session = event.session.as_ref();
        session.map_or_else(|| "-".to_owned(), |name| format!("session {name}"))
    };
    event.scope.clone().unwrap_or_else(session)
}

fn level(event: &Event) -> String {
    match (event.from_level, event.level) {
        (Some(before), Some(now)) => format!("{before} -> {now}"),
        (_, Some(now)) => now.to_string(),
        (_, None) => "-".to_owned(),
    }
}

fn priority(event: &Event) -> String {
    let name = |priority: Priority| priority.as_str();
    match (event.asked_priority, event.priority) {
        (Some(asked), Some(given)) => format!("{asked} -> {given}"),
        (asked, given) => given.or(asked).map_or("-", name).to_owned(),
    }
}

/// An amount as people read it: money to the hundredth of a cent.
fn amount(unit: Option<Unit>, amount: i128) -> String {
    match unit {
        Some(Unit::Usd) => Cost::from_attos(amount).display(4),
        Some(Unit::Tokens | Unit::Requests) | None => amount.to_string(),
    }
}

/// What else there is to say, in the order in which one would say it.
fn numbers(event: &Event, zone: &TimeZone) -> String {
    let mut parts = Vec::new();
    if let Some(limit) = event.limit {
        let of = |count: Option<i128>| amount(event.unit, count.unwrap_or(0));
        let reserved = match event.reserved {
            Some(reserved) if reserved != 0 => format!(" + {} reserved", of(event.reserved)),
            _ => String::new(),
        };
        let unit = event.unit.map_or("", Unit::as_str);
        parts.push(format!(
            "{}{reserved} of {} {unit}",
            of(event.settled),
            of(Some(limit))
        ));
    }
    parts.extend(
        event
            .asked
            .map(|asked| format!("asks {}", amount(event.unit, asked))),
    );
    if event.expected_tokens > 0 || event.actual_tokens > 0 {
        let (expected, actual) = (event.expected_tokens, event.actual_tokens);
        parts.push(format!("expected {expected}, used {actual} tokens"));
    }
    if let (Some(expected), Some(actual)) = (event.expected_cost, event.actual_cost) {
        let (expected, actual) = (expected.display(4), actual.display(4));
        parts.push(format!("expected {expected}, cost {actual} USD"));
    }
    if event.waited_ms > 0 {
        let waited = std::time::Duration::from_millis(event.waited_ms);
        parts.push(format!("waited {}", humantime::format_duration(waited)));
    }
    if event.passes_at_unix_ms > 0 {
        parts.push(format!(
            "passes {}",
            moment::text(event.passes_at_unix_ms, zone)
        ));
    }
    parts.extend(event.model.as_ref().map(|model| format!("model {model}")));
    parts.extend(event.detail.clone());
    if event.shadow {
        parts.push("passed all the same (shadow mode)".to_owned());
    }
    parts.join(", ")
}

fn csv(events: &[Event]) -> String {
    let header = [
        "at_unix_ms",
        "kind",
        "session",
        "key",
        "team",
        "priority",
        "asked_priority",
        "request",
        "model",
        "budget",
        "scope",
        "unit",
        "level",
        "from_level",
        "settled",
        "reserved",
        "asked",
        "limit",
        "passes_at_unix_ms",
        "waited_ms",
        "expected_tokens",
        "actual_tokens",
        "expected_cost_usd",
        "actual_cost_usd",
        "shadow",
        "detail",
    ];
    format::csv(header, events.iter().map(exact))
}

/// Every field for programs; what does not apply is empty.
fn exact(event: &Event) -> Vec<String> {
    fn text(value: Option<impl ToString>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let unit = event.unit.unwrap_or(Unit::Tokens);
    let amount = |amount: Option<i128>| text(amount.map(|amount| unit.text(amount)));
    let known = |count: u64| text((count > 0).then_some(count));
    vec![
        event.at_unix_ms.to_string(),
        event.kind.as_str().to_owned(),
        text(event.session.as_deref()),
        text(event.key.as_deref()),
        text(event.team.as_deref()),
        text(event.priority),
        text(event.asked_priority),
        text(event.request),
        text(event.model.as_deref()),
        text(event.rule.as_deref()),
        text(event.scope.as_deref()),
        text(event.unit.map(Unit::as_str)),
        text(event.level),
        text(event.from_level),
        amount(event.settled),
        amount(event.reserved),
        amount(event.asked),
        amount(event.limit),
        known(event.passes_at_unix_ms),
        known(event.waited_ms),
        known(event.expected_tokens),
        known(event.actual_tokens),
        text(event.expected_cost),
        text(event.actual_cost),
        event.shadow.to_string(),
        text(event.detail.as_deref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::throttle::Level;
    use crate::store::event::EventKind;

    fn events() -> Events {
        let mut refused = Event::new(EventKind::Refused, 1_795_000_000_000);
        refused.session = Some("docs".to_owned());
        refused.rule = Some("session-usd-hour".to_owned());
        refused.scope = Some("session d\u{1b}[31mocs".to_owned());
        refused.priority = Some(Priority::Low);
        refused.level = Some(Level::Hard);
        refused.unit = Some(Unit::Usd);
        let usd = |text: &str| text.parse().ok().map(Cost::attos);
        refused.settled = usd("4.2");
        refused.reserved = usd("0.5");
        refused.asked = usd("0.00001");
        refused.limit = usd("5");
        refused.passes_at_unix_ms = 1_795_000_060_000;
        let mut level = Event::new(EventKind::LevelChanged, 1_795_000_000_000);
        level.scope = Some("global".to_owned());
        level.from_level = Some(Level::None);
        level.level = Some(Level::Warning);
        level.unit = Some(Unit::Tokens);
        level.settled = Some(70_000);
        level.limit = Some(100_000);
        let mut capped = Event::new(EventKind::PriorityCapped, 1_795_000_000_000);
        capped.session = Some("api".to_owned());
        capped.asked_priority = Some(Priority::Critical);
        capped.priority = Some(Priority::Normal);
        capped.shadow = true;
        Events {
            events: vec![refused, level, capped],
        }
    }

    #[test]
    fn the_table_says_what_happened_and_obeys_no_name() {
        let text = render(&events(), Format::Table, &TimeZone::UTC);
        assert!(!text.contains('\u{1b}'), "{text}");
        let lines: Vec<_> = text.lines().collect();
        for (line, part) in [
            (1, "2026-11-18 11:06:40"),
            (1, "session-usd-hour"),
            (
                1,
                "4.2000 + 0.5000 reserved of 5.0000 usd, asks 0.0000, passes 2026-11-18 11:07:40",
            ),
            (2, "global"),
            (2, "NONE -> WARNING"),
            (2, "70000 of 100000 tokens"),
            (3, "session api"),
            (3, "critical -> normal"),
            (3, "shadow mode"),
        ] {
            assert!(lines[line].contains(part), "{part}: {text}");
        }
        let none = Events { events: Vec::new() };
        assert_eq!(render(&none, Format::Table, &TimeZone::UTC), "no events\n");
    }

    #[test]
    fn json_and_csv_hold_the_exact_amounts() {
        let text = render(&events(), Format::Json, &TimeZone::UTC);
        assert!(text.contains(r#""asked": "0.00001""#), "{text}");
        assert_eq!(serde_json::from_str::<Events>(&text).ok(), Some(events()));
        let text = render(&events(), Format::Csv, &TimeZone::UTC);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let column = |name: &str| {
            let header = text.lines().next().unwrap_or_default();
            header.split(',').position(|known| known == name)
        };
        let asked = column("asked").expect("a column");
        let level = column("from_level").expect("a column");
        let rows: Vec<_> = reader
            .records()
            .map(|row| row.expect("as many fields as columns"))
            .map(|row| (row[asked].to_owned(), row[level].to_owned()))
            .collect();
        let expected = [("0.00001", ""), ("", "NONE"), ("", "")];
        assert_eq!(rows, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
