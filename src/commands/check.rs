//! `tollgate check`: whether the configuration holds, and what it means: every effective value and where it is from, the
//! budgets, levels and routes in words, and what the linter finds.

mod meaning;
mod routing;

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::{inputs, print};
use crate::cli::{CheckArgs, Options};
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::config::{self, ConfigError, Findings, Loaded, Origin};
use crate::failure::{Exit, Failure};
use crate::llm::catalogue::Catalogue;

/// Prints the configuration. With `--json` problems go to standard output too.
///
/// # Errors
/// The configuration does not hold: exit code 1, as that is the answer and not a mistake in asking. With `--strict` a
/// warning is an answer of that kind too; notes never are.
pub fn run(args: &CheckArgs, options: &Options) -> Result<ExitCode, Failure> {
    let loaded = match config::load(&inputs(options)) {
        Ok(loaded) => loaded,
        Err(ConfigError::Wrong(problems)) if args.json => {
            print(&format!(
                "{:#}\n",
                json!({ "ok": false, "problems": problems.to_json() })
            ))?;
            return Ok(Exit::Failure.into());
        }
        Err(error) => return Err(Failure::from(error).exiting(Exit::Failure)),
    };
    let catalogue = match Catalogue::builtin().extended(&loaded.settings.models) {
        Ok(catalogue) => catalogue,
        Err(error) if args.json => {
            let problem = json!({ "key": "models", "message": error.to_string() });
            let report = json!({ "ok": false, "problems": [problem] });
            print(&format!("{report:#}\n"))?;
            return Ok(Exit::Failure.into());
        }
        Err(error) => {
            let failure = Failure::new("the prices under [[models]] cannot be used");
            return Err(failure.because(error));
        }
    };
    let now = Clock::system().unix_ms();
    match loaded.check_routing(&catalogue, now) {
        Ok(()) => {}
        Err(ConfigError::Wrong(problems)) if args.json => {
            let report = json!({ "ok": false, "problems": problems.to_json() });
            print(&format!("{report:#}\n"))?;
            return Ok(Exit::Failure.into());
        }
        Err(error) => return Err(Failure::from(error).exiting(Exit::Failure)),
    }
    let findings = loaded.lint(&catalogue, now);
    let settings = &loaded.settings;
    print(&if args.json {
        let routing = routing::json(settings, &catalogue, now);
        json_report(&loaded, &findings, &routing)
    } else {
        let routing = routing::text(settings, &catalogue, now);
        text_report(&loaded, &findings, &routing)
    })?;
    if args.strict && findings.warnings() > 0 {
        return Ok(Exit::Failure.into());
    }
    Ok(Exit::Success.into())
}

/// A table for a terminal or a pipe: columns, no lines.
fn plain_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}

fn text_report(loaded: &Loaded, findings: &Findings, routing: &str) -> String {
    let settings = &loaded.settings;
    let file = loaded
        .file
        .as_ref()
        .map_or("none; defaults apply".to_owned(), |file| {
            file.display().to_string()
        });
    let mut table = plain_table(["setting", "value", "from"]);
    for value in &loaded.values {
        table.add_row([value.key.clone(), value.shown(), value.origin.to_string()]);
    }
    let changed = loaded
        .values
        .iter()
        .filter(|value| value.origin != Origin::Default)
        .count();
    let mut report = format!("config file: {file}\n{table}\n");
    let routing_blocks = routing_blocks(settings);
    for (count, blocks) in [
        (
            settings.classify.priority_rules.len(),
            "[[classify.priority]]",
        ),
        (settings.classify.tasks.tasks.len(), "[[classify.task]]"),
        (settings.models.len(), "[[models]]"),
        (routing_blocks.0, "[[routing.rules]]"),
        (routing_blocks.1, "[[routing.ladders]]"),
    ] {
        if count > 0 {
            report += &format!("{blocks}: {count}\n");
        }
    }
    report += &format!("\n{}\n{routing}\n", meaning::text(settings));
    let (warnings, notes) = (findings.warnings(), findings.notes());
    if warnings + notes > 0 {
        // Standard output takes the colours out where it is no terminal.
        report += &format!("{}\n\n", findings.render(true));
    }
    report
        + &format!(
            "the configuration holds; {changed} of {} values are not the built-in ones{}{}\n",
            loaded.values.len(),
            counted(warnings, "warning"),
            counted(notes, "note"),
        )
}

/// How many rules and ladders of routing are the user's.
fn routing_blocks(settings: &Settings) -> (usize, usize) {
    let routing = &settings.routing;
    let rules = routing.rules.iter().filter(|rule| rule.block.is_some());
    let ladders = routing
        .ladders
        .iter()
        .filter(|ladder| ladder.block.is_some());
    (rules.count(), ladders.count())
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!("; 1 {what}"),
        many => format!("; {many} {what}s"),
    }
}

fn json_report(loaded: &Loaded, findings: &Findings, routing: &serde_json::Value) -> String {
    let values: serde_json::Map<String, serde_json::Value> = loaded
        .values
        .iter()
        .map(|value| {
            let shown = if value.value.is_string() {
                value.shown().into()
            } else {
                value.value.clone()
            };
            (
                value.key.clone(),
                json!({ "value": shown, "from": value.origin.to_string() }),
            )
        })
        .collect();
    let settings = &loaded.settings;
    let routing_blocks = routing_blocks(settings);
    let report = json!({
        "ok": true,
        "file": loaded.file,
        "values": values,
        "blocks": {
            "classify.priority": settings.classify.priority_rules.len(),
            "classify.task": settings.classify.tasks.tasks.len(),
            "models": settings.models.len(),
            "routing.rules": routing_blocks.0,
            "routing.ladders": routing_blocks.1,
        },
        "budgets": meaning::budgets_json(settings),
        "levels": meaning::levels_json(settings),
        "routing": routing,
        "warnings": findings.warnings(),
        "findings": findings.to_json(),
    });
    format!("{report:#}\n")
}
