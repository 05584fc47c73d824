//! `tollgate check`: whether the configuration holds, and what it means: every effective value and where it is from.

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::{inputs, print};
use crate::cli::{CheckArgs, Options};
use crate::config::{self, ConfigError, Loaded, Origin};
use crate::failure::{Exit, Failure};

/// Prints the configuration. With `--json` problems go to standard output too.
///
/// # Errors
/// The configuration does not hold: exit code 1, as that is the answer and not a mistake in asking.
pub fn run(args: &CheckArgs, options: &Options) -> Result<ExitCode, Failure> {
    match config::load(&inputs(options)) {
        Ok(loaded) => {
            print(&if args.json {
                json_report(&loaded)
            } else {
                table_report(&loaded)
            })?;
            Ok(Exit::Success.into())
        }
        Err(ConfigError::Wrong(problems)) if args.json => {
            print(&format!(
                "{:#}\n",
                json!({ "ok": false, "problems": problems.to_json() })
            ))?;
            Ok(Exit::Failure.into())
        }
        Err(error) => Err(Failure::from(error).exiting(Exit::Failure)),
    }
}

fn table_report(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let file = loaded
        .file
        .as_ref()
        .map_or("none; defaults apply".to_owned(), |file| {
            file.display().to_string()
        });
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["setting", "value", "from"]);
    for value in &loaded.values {
        table.add_row([value.key.clone(), value.shown(), value.origin.to_string()]);
    }
    let changed = loaded
        .values
        .iter()
        .filter(|value| value.origin != Origin::Default)
        .count();
    let mut report = format!("config file: {file}\n{table}\n");
    for (count, blocks) in [
        (
            settings.classify.priority_rules.len(),
            "[[classify.priority]]",
        ),
        (settings.classify.tasks.tasks.len(), "[[classify.task]]"),
        (settings.models.len(), "[[models]]"),
    ] {
        if count > 0 {
            report += &format!("{blocks}: {count}\n");
        }
    }
    report
        + &format!(
            "the configuration holds; {changed} of {} values are not the built-in ones\n",
            loaded.values.len()
        )
}

fn json_report(loaded: &Loaded) -> String {
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
    let report = json!({
        "ok": true,
        "file": loaded.file,
        "values": values,
        "blocks": {
            "classify.priority": settings.classify.priority_rules.len(),
            "classify.task": settings.classify.tasks.tasks.len(),
            "models": settings.models.len(),
        },
    });
    format!("{report:#}\n")
}
