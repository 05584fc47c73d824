//! The figures as Markdown: one table for each scenario, a line for each party.

use std::fmt::Write as _;

use crate::figures::Figures;
use crate::plan::Scenario;
use crate::trial::Way;

/// One scenario with all its parties.
pub(crate) fn table(scenario: &Scenario, rows: &[(Way, Figures)]) -> String {
    let mut text = format!("### {}\n\n{}.\n\n", scenario.name, scenario.about);
    let mut titles = vec![
        "",
        "goodput",
        "429s per 1,000",
        "sent",
        "done",
        "failed",
        "hung",
        "left",
    ];
    if scenario.equal {
        titles.push("Jain");
    }
    let has_high = rows.iter().any(|(_, figures)| figures.high.is_some());
    if has_high {
        titles.extend(["high done", "p99 wait, high"]);
    }
    if scenario.outage.is_some() {
        titles.extend(["peak", "during", "recovered", "back after"]);
    }
    titles.push("failures");
    line(&mut text, titles.iter().map(|title| (*title).to_owned()));
    line(
        &mut text,
        titles.iter().enumerate().map(|(column, title)| {
            let left = column == 0 || *title == "failures";
            if left { "---" } else { "---:" }.to_owned()
        }),
    );
    for (way, figures) in rows {
        let mut cells = vec![
            way.name().to_owned(),
            format!("{:.1} %", figures.goodput * 100.0),
            format!("{:.1}", figures.refused_per_1000),
            format!("{:.0}", figures.sent),
            figures.done.to_string(),
            figures.failed.to_string(),
            figures.hung.to_string(),
            figures.left.to_string(),
        ];
        if let Some(jain) = figures.jain {
            cells.push(format!("{jain:.3}"));
        }
        if let Some(high) = figures.high {
            cells.push(format!("{} of {}", high.done, high.asked));
            cells.push(format!("{:.2}", high.wait));
        } else if has_high {
            cells.extend(["–"; 2].map(str::to_owned));
        }
        match figures.outage {
            Some(outage) => cells.extend([
                format!("{:.2} ×", outage.peak),
                format!("{:.2} ×", outage.during),
                format!("{:.2}", outage.recovered),
                outage
                    .back_after
                    .map_or_else(|| "never".to_owned(), |after| format!("{after:.1} s")),
            ]),
            None if scenario.outage.is_some() => cells.extend(["–"; 4].map(str::to_owned)),
            None => {}
        }
        let failures = figures.failures.iter().take(3);
        let failures: Vec<String> = failures
            .map(|(problem, count)| format!("{count} × {problem}"))
            .collect();
        cells.push(failures.join(", "));
        line(&mut text, cells.into_iter());
    }
    text
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        // Writing into a string cannot fail.
        let _ = write!(text, "| {cell} ");
    }
    text.push_str("|\n");
}
