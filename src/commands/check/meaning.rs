//! What budgets and levels mean, in words for people and in fields for scripts.

use std::fmt::Write as _;

use serde_json::json;

use super::plain_table;
use crate::config::settings::{Settings, ThrottleMode};
use crate::config::wording;
use crate::policy::budget::Limit;
use crate::policy::throttle::{Level, Verdict, verdict};
use crate::units::Priority;

/// The budgets as a table, and the levels as sentences.
pub(super) fn text(settings: &Settings) -> String {
    if settings.budgets.is_empty() {
        return "no budgets: nothing bounds what is spent\n".to_owned();
    }
    let mut table = plain_table(["budget", "whose", "limit", "over", "hard"]);
    for budget in &settings.budgets {
        let limit = wording::limit(budget.limit);
        let limit = if budget.counts_cache_reads && matches!(budget.limit, Limit::Tokens(_)) {
            format!("{limit}, cache reads too")
        } else {
            limit
        };
        let hard = if budget.hard { "never exceeded" } else { "no" };
        table.add_row([
            budget.name.as_str(),
            &wording::whose(budget),
            &limit,
            wording::window(budget.window),
            hard,
        ]);
    }
    let mode = match settings.throttle.mode {
        ThrottleMode::On => "all that match a request apply",
        ThrottleMode::Shadow => {
            "in shadow: what they would decide is recorded, and nothing waits or is refused"
        }
        ThrottleMode::Off => "switched off: nothing is checked",
    };
    let mut text = format!("{table}\nbudgets: {mode}\n");
    let thresholds = &settings.throttle.thresholds;
    for level in &Level::ALL[1..] {
        let begins = wording::percent(thresholds.begins(*level));
        let _ = writeln!(
            text,
            "{level} from {begins} of a limit: {}",
            decision(*level, settings)
        );
    }
    let _ = writeln!(
        text,
        "a request that does not fit is refused; a critical one by hard budgets only\n\
         a level ends {} of the limit below where it began; months are calendar months in {}",
        wording::percent(thresholds.hysteresis),
        zone(settings),
    );
    text
}

/// What the contract's table says for a level.
fn decision(level: Level, settings: &Settings) -> String {
    let with = |wanted: Verdict| -> Vec<&str> {
        let verdicts = Priority::ALL.map(|priority| (verdict(level, priority), priority.as_str()));
        verdicts
            .into_iter()
            .filter(|(verdict, _)| *verdict == wanted)
            .map(|(_, name)| name)
            .collect()
    };
    let queue = &settings.throttle.queue;
    let mut parts = Vec::new();
    let waiting = with(Verdict::Wait);
    if !waiting.is_empty() {
        parts.push(format!(
            "{} in line ({} at once, {} at most)",
            said(&waiting, "waits", "wait"),
            queue.max_waiting,
            humantime::format_duration(queue.max_wait),
        ));
    }
    let refused = with(Verdict::Refuse);
    if !refused.is_empty() {
        parts.push(said(&refused, "is refused", "are refused"));
    }
    if parts.is_empty() {
        return "all pass, and it is told".to_owned();
    }
    parts.push(said(&with(Verdict::Pass), "passes", "pass"));
    parts.join("; ")
}

/// `low and normal are refused`.
fn said(names: &[&str], of_one: &str, of_many: &str) -> String {
    match names {
        [] => format!("none {of_one}"),
        [name] => format!("{name} {of_one}"),
        [first @ .., last] => format!("{} and {last} {of_many}", first.join(", ")),
    }
}

fn zone(settings: &Settings) -> &str {
    settings
        .throttle
        .time_zone
        .iana_name()
        .unwrap_or("the system's time zone")
}

/// The budgets for scripts: limits as exact decimals in their unit.
pub(super) fn budgets_json(settings: &Settings) -> serde_json::Value {
    settings
        .budgets
        .iter()
        .map(|budget| {
            let limit = match budget.limit {
                Limit::Tokens(count) | Limit::Requests(count) => count.to_string(),
                Limit::Usd(cost) => cost.to_string(),
            };
            json!({
                "name": budget.name,
                "scope": budget.scope.as_str(),
                "only": budget.only,
                "window": budget.window.as_str(),
                "limit": limit,
                "unit": budget.limit.unit(),
                "hard": budget.hard,
                "count_cache_reads": budget.counts_cache_reads,
            })
        })
        .collect()
}

/// Each level with the share of a limit at which it begins, and what it means for each priority.
pub(super) fn levels_json(settings: &Settings) -> serde_json::Value {
    Level::ALL
        .iter()
        .map(|level| {
            let mut json = json!({
                "level": level.as_str(),
                "from": f64::from(settings.throttle.thresholds.begins(*level).0) / 1e6,
            });
            for priority in Priority::ALL {
                json[priority.as_str()] = match verdict(*level, priority) {
                    Verdict::Pass => "pass",
                    Verdict::Wait => "wait",
                    Verdict::Refuse => "refuse",
                }
                .into();
            }
            json
        })
        .collect()
}
