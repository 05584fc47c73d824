//! What routing saved, as table, JSON or CSV.

use comfy_table::{CellAlignment, Table, presets};

use crate::commands::format::{self, Format, printable};
use crate::store::savings::{Figures, Mode, Savings};
use crate::units::Cost;

/// Writes savings.
pub(super) fn render(savings: &Savings, format: Format) -> String {
    match format {
        Format::Table => table(savings),
        Format::Json => {
            let text = serde_json::to_string_pretty(savings);
            text.expect("the keys are strings") + "\n"
        }
        Format::Csv => csv(savings),
    }
}

/// A share in percent, or a dash where there is nothing to have a share of.
fn percent(permille: Option<i64>) -> String {
    permille.map_or_else(|| "-".to_owned(), tenths)
}

fn tenths(permille: i64) -> String {
    let sign = if permille < 0 { "-" } else { "" };
    let size = permille.unsigned_abs();
    format!("{sign}{}.{}", size / 10, size % 10)
}

fn cells(mode: Mode, figures: &Figures) -> [String; 7] {
    [
        mode.as_str().to_owned(),
        figures.requests.to_string(),
        figures.asked_cost.display(4),
        figures.chosen_cost.display(4),
        figures.saving.display(4),
        percent(figures.saved_permille),
        figures.unknown_saving_requests.to_string(),
    ]
}

fn table(savings: &Savings) -> String {
    let mut text = String::new();
    let all = &savings.all;
    let (on, shadow) = (&savings.on, &savings.shadow);
    if on.requests + shadow.requests == 0 {
        text.push_str(&format!(
            "no other model was chosen for any of {} requests\n",
            all.requests
        ));
        return text;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let names = savings.by.iter();
    let names = names.map(|dimension| dimension.as_str().to_owned());
    let figures = [
        "mode",
        "requests",
        "asked USD",
        "chosen USD",
        "saved USD",
        "saved %",
        "unknown",
    ];
    table.set_header(names.chain(figures.map(str::to_owned)));
    for row in &savings.rows {
        let labels = row.labels.iter();
        let labels = labels.map(|label| printable(label.as_deref().unwrap_or("-")));
        table.add_row(labels.chain(cells(row.mode, &row.figures)));
    }
    for (mode, figures) in [(Mode::On, on), (Mode::Shadow, shadow)] {
        if figures.requests > 0 {
            let mut labels = vec![String::new(); savings.by.len()];
            if let Some(first) = labels.first_mut() {
                "total".clone_into(first);
            }
            table.add_row(labels.into_iter().chain(cells(mode, figures)));
        }
    }
    for column in savings.by.len() + 1..savings.by.len() + figures.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    text.push_str(&format::lines(&table));
    if on.requests > 0 {
        text.push_str(&of_all(
            savings,
            on,
            ["went", "saved", "what they would have cost without"],
            savings.saved_permille_of_all(),
        ));
    }
    if shadow.requests > 0 {
        text.push_str(&of_all(
            savings,
            shadow,
            ["would have gone", "would have been saved", "that"],
            savings.would_save_permille_of_all(),
        ));
    }
    let unknown = on.unknown_saving_requests + shadow.unknown_saving_requests;
    if unknown > 0 {
        text.push_str(&format!(
            "unknown: what {unknown} requests saved cannot be told; they are in no amount above\n"
        ));
    }
    text
}

/// What a mode makes of the cost of all requests.
fn of_all(
    savings: &Savings,
    figures: &Figures,
    [went, saved, whole]: [&str; 3],
    permille: Option<i64>,
) -> String {
    let all = &savings.all;
    let unknown = match all.unknown_cost_requests {
        0 => String::new(),
        unknown => format!(" + {unknown} unknown"),
    };
    format!(
        "{} of {} requests {went} to another model; all of them cost {}{unknown} USD; {saved}: {} USD, {} % of {whole}\n",
        figures.requests,
        all.requests,
        all.cost.display(4),
        figures.saving.display(4),
        percent(permille),
    )
}

/// The names of what `exact` writes.
const EXACT: [&str; 8] = [
    "mode",
    "requests",
    "cost_usd",
    "asked_cost_usd",
    "chosen_cost_usd",
    "saving_usd",
    "saved_percent",
    "unknown_saving_requests",
];

fn csv(savings: &Savings) -> String {
    let names = savings.by.iter().map(|dimension| dimension.as_str());
    let rows = savings.rows.iter().map(|row| {
        let labels = row.labels.iter();
        let labels = labels.map(|label| label.clone().unwrap_or_default());
        labels.chain(exact(row.mode, &row.figures)).collect()
    });
    format::csv(names.chain(EXACT), rows)
}

/// Every figure for programs. A cost of which nothing is known is the word, not a zero.
fn exact(mode: Mode, figures: &Figures) -> [String; 8] {
    let unknown = || "unknown".to_owned();
    [
        mode.as_str().to_owned(),
        figures.requests.to_string(),
        figures.cost.as_ref().map_or_else(unknown, Cost::to_string),
        figures.asked_cost.to_string(),
        figures.chosen_cost.to_string(),
        figures.saving.to_string(),
        figures.saved_permille.map(tenths).unwrap_or_default(),
        figures.unknown_saving_requests.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::savings::{All, BY, Row};

    fn amount(text: &str) -> Cost {
        text.parse().expect("an amount")
    }

    fn saved() -> Figures {
        Figures {
            requests: 3,
            cost: Some(amount("0.25")),
            asked_cost: amount("1.23456789"),
            chosen_cost: amount("0.25"),
            saving: amount("0.98456789"),
            saved_permille: Some(798),
            unknown_saving_requests: 0,
        }
    }

    fn savings() -> Savings {
        let unknown = Figures {
            requests: 2,
            unknown_saving_requests: 2,
            ..Figures::default()
        };
        let row = |rule: &str, session: &str, mode, figures| Row {
            labels: vec![Some(rule.to_owned()), None, Some(session.to_owned())],
            mode,
            figures,
        };
        Savings {
            by: BY.to_vec(),
            since: None,
            until: None,
            rows: vec![
                row("rule:ui", "a,\u{1b}[31m b", Mode::On, saved()),
                row("rule:docs", "api", Mode::Shadow, unknown),
            ],
            on: saved(),
            shadow: unknown,
            all: All {
                requests: 40,
                cost: amount("8.765"),
                unknown_cost_requests: 2,
            },
        }
    }

    #[test]
    fn the_table_tells_saved_from_would_have_saved_and_what_is_not_known() {
        let text = render(&savings(), Format::Table);
        assert!(!text.contains('\u{1b}'), "{text}");
        let lines: Vec<_> = text.lines().collect();
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(lines[1])[4..],
            ["on", "3", "1.2346", "0.2500", "0.9846", "79.8", "0"],
            "{text}"
        );
        assert_eq!(
            words(lines[2]),
            [
                "rule:docs",
                "-",
                "api",
                "shadow",
                "2",
                "0.0000",
                "0.0000",
                "0.0000",
                "-",
                "2"
            ]
        );
        assert_eq!(words(lines[3])[..3], ["total", "on", "3"]);
        assert_eq!(words(lines[4])[..3], ["total", "shadow", "2"]);
        assert_eq!(
            lines[5],
            "3 of 40 requests went to another model; all of them cost 8.7650 + 2 unknown USD; saved: 0.9846 USD, \
             10.1 % of what they would have cost without"
        );
        assert!(
            lines[6].starts_with("2 of 40 requests would have gone"),
            "{text}"
        );
        assert!(text.contains("unknown: what 2 requests saved"), "{text}");
    }

    #[test]
    fn where_nothing_was_routed_the_table_says_so_in_words() {
        let none = Savings {
            rows: Vec::new(),
            on: Figures::default(),
            shadow: Figures::default(),
            ..savings()
        };
        let text = render(&none, Format::Table);
        assert_eq!(text, "no other model was chosen for any of 40 requests\n");
        let csv = render(&none, Format::Csv);
        assert_eq!(csv.lines().count(), 1, "only the names");
    }

    #[test]
    fn json_and_csv_hold_the_exact_amounts() {
        let text = render(&savings(), Format::Json);
        assert!(text.contains(r#""saving": "0.98456789""#), "{text}");
        assert_eq!(serde_json::from_str::<Savings>(&text).ok(), Some(savings()));
        let text = render(&savings(), Format::Csv);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "rule,task,session,mode,requests,cost_usd,asked_cost_usd,chosen_cost_usd,saving_usd,saved_percent,\
             unknown_saving_requests"
        );
        assert_eq!(
            lines[1],
            "rule:ui,,\"a,\u{1b}[31m b\",on,3,0.25,1.23456789,0.25,0.98456789,79.8,0"
        );
        assert_eq!(
            lines[2],
            "rule:docs,,api,shadow,2,unknown,0.00,0.00,0.00,,2"
        );
        assert_eq!(lines.len(), 3, "a totals line would be summed again");
    }

    #[test]
    fn a_loss_has_its_sign() {
        assert_eq!(tenths(-4), "-0.4");
        assert_eq!(tenths(-1234), "-123.4");
    }
}
