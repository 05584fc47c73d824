//! `tollgate status`: every budget with its fill and level, and who waits.

use std::fmt::Write as _;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::format::{self, printable};
use super::source::{self, Source};
use crate::config::settings::Settings;
use crate::llm::catalogue::Catalogue;
use crate::proxy::standing::{BudgetNow, LaneNow, ThrottleNow};
use crate::proxy::throttle_of_ledger;
use crate::store::WallClock;

/// Budgets that are shown without `--all`: the fullest.
const USUALLY_SHOWN: usize = 30;

/// What `tollgate status` is asked.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// Only this session
    #[arg(short, long)]
    pub session: Option<String>,
    /// Show every budget, not only the fullest
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Ask the proxy at this address, for example http://127.0.0.1:8402
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Tells how the budgets stand, as text that ends with a newline. Without a running proxy: as the ledger says.
///
/// # Errors
///
/// When there is no ledger, and when neither it nor the proxy can be reached.
pub fn run(args: &StatusArgs, settings: &Settings, clock: WallClock) -> anyhow::Result<String> {
    let now_ms = clock();
    let source = Source {
        url: args.url.as_deref(),
        settings: &settings.ledger,
        clock,
    };
    let now: ThrottleNow = source::answer(&source, "/api/v1/throttle", |ledger| {
        // Only the models' names matter here; `tollgate check` tells what is wrong with the prices.
        let catalogue = Catalogue::builtin();
        throttle_of_ledger(settings, &catalogue, ledger, now_ms)
    })?;
    let now = only(now, args.session.as_deref());
    if args.json {
        return Ok(serde_json::to_string_pretty(&now)? + "\n");
    }
    Ok(table(&now, args.all))
}

/// What concerns one session: its own budgets, and those for everything.
fn only(now: ThrottleNow, session: Option<&str>) -> ThrottleNow {
    let Some(session) = session else { return now };
    let concerns = |budget: &BudgetNow| {
        budget.kind == "global"
            || (budget.kind == "session" && budget.name.as_deref() == Some(session))
    };
    ThrottleNow {
        budgets: now.budgets.into_iter().filter(concerns).collect(),
        // The lines to the providers are everybody's.
        lanes: Vec::new(),
        ..now
    }
}

fn table(now: &ThrottleNow, all: bool) -> String {
    let mut budgets: Vec<&BudgetNow> = now.budgets.iter().collect();
    // The order is by kind and name; only what is left out is decided by fill.
    let shown = if all { budgets.len() } else { USUALLY_SHOWN };
    let hidden = budgets.len().saturating_sub(shown);
    if hidden > 0 {
        let mut fills: Vec<f64> = budgets.iter().map(|budget| budget.fill).collect();
        fills.sort_by(|a, b| b.total_cmp(a));
        let least = fills[shown - 1];
        let above = budgets.iter().filter(|budget| budget.fill > least).count();
        let mut equal = shown - above;
        budgets.retain(|budget| {
            let last = budget.fill == least && equal > 0;
            equal -= usize::from(last);
            budget.fill > least || last
        });
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "budget", "of", "level", "fill", "used", "reserved", "limit", "window", "eases in",
    ]);
    for budget in budgets {
        table.add_row([
            printable(&budget.budget),
            printable(&budget.scope()),
            budget.level.clone(),
            format!("{:.1} %", budget.fill * 100.0),
            budget.settled.to_string(),
            budget.reserved.to_string(),
            format!("{}{}", budget.limit, if budget.hard { " hard" } else { "" }),
            budget.window.clone(),
            budget.eases_in_ms.map_or_else(|| "-".to_owned(), eases),
        ]);
    }
    for column in [3, 4, 5, 6, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format::lines(&table);
    let left_out = hidden + now.left_out;
    if left_out > 0 {
        let _ = writeln!(
            text,
            "{left_out} emptier ones are not shown; --all shows them"
        );
    }
    let share = |level: &str| now.thresholds.get(level).copied().unwrap_or_default() * 100.0;
    let _ = writeln!(
        text,
        "levels: WARNING from {:.0} %, SOFT from {:.0} % (low waits), HARD from {:.0} % (normal refused), CRITICAL from \
         {:.0} % (only critical passes)",
        share("warning"),
        share("soft"),
        share("hard"),
        share("critical")
    );
    match now.mode.as_str() {
        "on" => {}
        "shadow" => text.push_str("mode shadow: nothing is refused\n"),
        _ => text.push_str("mode off: nothing is checked\n"),
    }
    if now.waiting > 0 {
        let _ = writeln!(text, "waiting in line: {}", now.waiting);
    }
    if !now.lanes.is_empty() {
        text.push('\n');
        text.push_str(&lanes(&now.lanes));
    }
    text
}

/// The lines to the providers: what is in flight and at most may be, who waits, what rests and why.
fn lanes(lanes: &[LaneNow]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "provider",
        "models",
        "key",
        "in flight",
        "waiting",
        "rates",
        "breaker",
        "rests",
    ]);
    let listed = |parts: Vec<String>| match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(", "),
    };
    for lane in lanes {
        let in_flight = match lane.concurrency {
            Some(most) => format!("{} of {most}", lane.in_flight),
            None => lane.in_flight.to_string(),
        };
        let waiting = lane.waiting.iter().filter(|(_, count)| **count > 0);
        let rates = lane.rates.iter();
        let pauses = lane.pauses.iter();
        table.add_row([
            printable(&lane.provider),
            printable(&lane.class),
            printable(lane.credential.as_deref().unwrap_or("-")),
            in_flight,
            listed(
                waiting
                    .map(|(priority, count)| format!("{count} {priority}"))
                    .collect(),
            ),
            listed(
                rates
                    .map(|rate| format!("{} {} ({})", rate.limit, rate.of, rate.source))
                    .collect(),
            ),
            lane.breaker.clone(),
            listed(
                pauses
                    .map(|(why, ms)| match ms {
                        0 => why.clone(),
                        _ => format!("{why} for {}", eases(*ms)),
                    })
                    .collect(),
            ),
        ]);
    }
    format::lines(&table)
}

/// A time to come in its two largest units.
fn eases(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::standing::Amount;

    fn budget(name: &str, fill: f64) -> BudgetNow {
        BudgetNow {
            budget: "session-tokens-hour".to_owned(),
            kind: "session".to_owned(),
            name: Some(name.to_owned()),
            window: "hour".to_owned(),
            unit: "tokens".to_owned(),
            settled: Amount::Count((fill * 1e5) as u64),
            reserved: Amount::Count(0),
            limit: Amount::Count(100_000),
            fill,
            level: "NONE".to_owned(),
            hard: false,
            eases_in_ms: Some(61_000),
        }
    }

    fn now(budgets: Vec<BudgetNow>) -> ThrottleNow {
        ThrottleNow {
            mode: "on".to_owned(),
            at_unix_ms: 0,
            thresholds: [("soft".to_owned(), 0.8)].into(),
            waiting: 2,
            live_scopes: budgets.len(),
            lanes: Vec::new(),
            budgets,
            left_out: 0,
        }
    }

    #[test]
    fn the_fullest_are_shown_in_their_order_and_the_rest_is_counted() {
        let budgets = (0..100).map(|n| budget(&format!("s{n:03}"), f64::from(n % 50) / 100.0));
        let now = now(budgets.collect());
        let text = table(&now, false);
        assert_eq!(text.matches("session s").count(), USUALLY_SHOWN);
        assert!(text.contains("70 emptier ones"), "{text}");
        assert!(text.contains("session s049") && text.contains("session s099"));
        assert!(!text.contains("session s000"));
        assert!(text.contains("waiting in line: 2"));
        assert_eq!(table(&now, true).matches("session s").count(), 100);
    }

    #[test]
    fn times_to_come_are_told_in_two_units() {
        for (ms, text) in [
            (1, "1s"),
            (59_001, "1m 0s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(eases(ms), text);
        }
    }

    #[test]
    fn one_session_is_shown_with_what_bounds_everybody() {
        let mut budgets = vec![budget("a", 0.1), budget("b", 0.2)];
        budgets.push(BudgetNow {
            kind: "global".to_owned(),
            name: None,
            ..budget("", 0.5)
        });
        let now = only(now(budgets), Some("b"));
        let scopes: Vec<_> = now.budgets.iter().map(BudgetNow::scope).collect();
        assert_eq!(scopes, ["session b", "global"]);
    }
}
