//! A usage report as table, JSON or CSV.

use comfy_table::{CellAlignment, Table, presets};

use crate::commands::format::{self, Format, printable};
use crate::store::report::{Figures, Report};

/// Writes a report.
pub fn render(report: &Report, format: Format) -> String {
    match format {
        Format::Table => table(report),
        Format::Json => {
            let text = serde_json::to_string_pretty(report);
            text.expect("a report's keys are strings") + "\n"
        }
        Format::Csv => csv(report),
    }
}

/// A cost as people read it: to the hundredth of a cent, and never a known-looking number where a part is unknown.
fn cost_text(figures: &Figures) -> String {
    match (figures.cost, figures.unknown_cost_requests) {
        (None, _) => "unknown".to_owned(),
        (Some(known), 0) => known.display(4),
        (Some(known), unknown) => format!("{} + {unknown} unknown", known.display(4)),
    }
}

/// A count of tokens, marked where a part of it is estimated.
fn tokens_text(count: u64, figures: &Figures) -> String {
    let uncertain = figures.estimated_tokens + figures.partial_tokens > 0;
    format!("{}{count}", if uncertain && count > 0 { "~" } else { "" })
}

fn cells(figures: &Figures) -> Vec<String> {
    vec![
        figures.requests.to_string(),
        figures.failed.to_string(),
        tokens_text(figures.input, figures),
        figures.cached_read.to_string(),
        figures.cache_write.to_string(),
        tokens_text(figures.output, figures),
        cost_text(figures),
    ]
}

fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let names = report
        .by
        .iter()
        .map(|dimension| dimension.as_str().to_owned());
    let figures = [
        "requests",
        "failed",
        "input",
        "cache read",
        "cache write",
        "output",
        "cost USD",
    ];
    table.set_header(names.chain(figures.map(str::to_owned)));
    for row in &report.rows {
        let labels = row.labels.iter();
        let labels = labels.map(|label| printable(label.as_deref().unwrap_or("-")));
        table.add_row(labels.chain(cells(&row.figures)));
    }
    let mut labels = vec![String::new(); report.by.len()];
    if let Some(first) = labels.first_mut() {
        "total".clone_into(first);
    }
    table.add_row(labels.into_iter().chain(cells(&report.total)));
    for column in report.by.len()..report.by.len() + figures.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format::lines(&table);
    let total = &report.total;
    let uncertain = total.estimated_requests + total.partial_requests;
    if uncertain > 0 {
        text.push_str(&format!(
            "~ contains estimates: {} requests estimated, {} completed by an estimate, {} tokens in all\n",
            total.estimated_requests,
            total.partial_requests,
            total.estimated_tokens + total.partial_tokens,
        ));
    }
    if total.unknown_cost_requests > 0 {
        text.push_str(&format!(
            "unknown: {} requests to models whose price is not known\n",
            total.unknown_cost_requests
        ));
    }
    if total.assumed_cost_requests > 0 {
        text.push_str(&format!(
            "assumed: {} requests to models whose price is not known count {} USD at the ceiling price\n",
            total.assumed_cost_requests,
            total.assumed_cost.display(4),
        ));
    }
    text
}

/// The names of what `exact` writes.
const EXACT: [&str; 17] = [
    "requests",
    "failed",
    "input",
    "cached_read",
    "cache_write",
    "output",
    "reasoning",
    "web_searches",
    "cost_usd",
    "stated_cost_usd",
    "unknown_cost_requests",
    "estimated_requests",
    "estimated_tokens",
    "partial_requests",
    "partial_tokens",
    "assumed_cost_usd",
    "assumed_cost_requests",
];

fn csv(report: &Report) -> String {
    let names = report.by.iter().map(|dimension| dimension.as_str());
    let rows = report.rows.iter().map(|row| {
        let labels = row.labels.iter();
        let labels = labels.map(|label| label.clone().unwrap_or_default());
        labels.chain(exact(&row.figures)).collect()
    });
    format::csv(names.chain(EXACT), rows)
}

/// Every figure for programs. A cost of which nothing is known is the word, not a zero.
fn exact(figures: &Figures) -> [String; 17] {
    let unknown = || "unknown".to_owned();
    let cost = figures.cost.map_or_else(unknown, |cost| cost.to_string());
    [
        figures.requests.to_string(),
        figures.failed.to_string(),
        figures.input.to_string(),
        figures.cached_read.to_string(),
        figures.cache_write.to_string(),
        figures.output.to_string(),
        figures.reasoning.to_string(),
        figures.web_searches.to_string(),
        cost,
        figures.stated_cost.to_string(),
        figures.unknown_cost_requests.to_string(),
        figures.estimated_requests.to_string(),
        figures.estimated_tokens.to_string(),
        figures.partial_requests.to_string(),
        figures.partial_tokens.to_string(),
        figures.assumed_cost.to_string(),
        figures.assumed_cost_requests.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query::Dimension;
    use crate::store::report::Row;

    fn report() -> Report {
        let known = Figures {
            requests: 3,
            input: 1200,
            output: 34,
            cost: Some("1.23456789".parse().expect("an amount")),
            ..Figures::default()
        };
        let unknown = Figures {
            requests: 2,
            failed: 1,
            input: 70,
            unknown_cost_requests: 2,
            estimated_requests: 1,
            estimated_tokens: 70,
            ..Figures::default()
        };
        let row = |label: Option<&str>, figures| Row {
            labels: vec![label.map(str::to_owned)],
            figures,
        };
        Report {
            by: vec![Dimension::Model],
            since: None,
            until: None,
            rows: vec![row(Some("opus, \u{1b}[31m4"), known), row(None, unknown)],
            total: Figures {
                requests: 5,
                failed: 1,
                input: 1270,
                output: 34,
                cost: known.cost,
                unknown_cost_requests: 2,
                estimated_requests: 1,
                estimated_tokens: 70,
                ..Figures::default()
            },
        }
    }

    #[test]
    fn the_table_marks_what_is_estimated_or_unknown_and_obeys_no_label() {
        let text = render(&report(), Format::Table);
        assert!(!text.contains('\u{1b}'), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].contains("1.2346") && lines[1].contains(" 1200 "),
            "{text}"
        );
        assert!(
            lines[2].contains("~70") && lines[2].contains("unknown"),
            "{text}"
        );
        assert!(
            lines[3].contains("total") && lines[3].contains("1.2346 + 2 unknown"),
            "{text}"
        );
        assert!(text.contains("1 requests estimated"), "{text}");
        assert!(!text.contains("assumed"), "{text}");
        let mut report = report();
        report.total.assumed_cost_requests = 3;
        report.total.assumed_cost = "0.5".parse().expect("an amount");
        let text = render(&report, Format::Table);
        assert!(
            text.contains("assumed: 3 requests") && text.contains("count 0.5000 USD"),
            "{text}"
        );
    }

    #[test]
    fn json_and_csv_hold_the_exact_amounts() {
        let text = render(&report(), Format::Json);
        assert!(text.contains(r#""cost": "1.23456789""#), "{text}");
        assert!(text.contains(r#""cost": null"#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).ok(), Some(report()));
        let text = render(&report(), Format::Csv);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[1].starts_with("\"opus, \u{1b}[31m4\",3,0,1200,"),
            "{text}"
        );
        assert!(lines[1].contains(",1.23456789,0.00,"), "{text}");
        assert!(lines[2].contains(",unknown,"), "{text}");
        assert_eq!(lines.len(), 3, "a totals line would be summed again");
    }
}
