//! The table: each figure's median and range over the rounds, as ratios, with what was promised beside it.

use std::fmt::Write;

/// The four ways to the upstream, in the order of the columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Bare,
    Metered,
    Tollgate,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Direct, Way::Bare, Way::Metered, Way::Tollgate];
}

/// What was promised for a figure.
pub(crate) enum Promise {
    /// At most so many times that of the pass-through which parses and meters.
    Ratio(f64),
    /// At most so much.
    AtMost(f64),
    /// Not measurably more than the pass-through which parses and meters: the fastest round is not above its slowest.
    NotMore,
    None,
}

/// One figure of all ways, a value for each round.
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) values: [Vec<f64>; 4],
    pub(crate) promise: Promise,
}

impl Row {
    pub(crate) fn new(title: impl Into<String>, promise: Promise) -> Row {
        Row {
            title: title.into(),
            values: Default::default(),
            promise,
        }
    }

    pub(crate) fn push(&mut self, way: Way, value: f64) {
        self.values[way as usize].push(value);
    }

    fn of(&self, way: Way) -> &[f64] {
        &self.values[way as usize]
    }

    /// Tollgate's value over another one's, round by round.
    fn ratios(&self, other: Way) -> Vec<f64> {
        let pairs = self.of(Way::Tollgate).iter().zip(self.of(other));
        pairs
            .filter(|(_, other)| **other > 0.0)
            .map(|(mine, other)| mine / other)
            .collect()
    }

    fn verdict(&self) -> (String, &'static str) {
        let median = |values: &[f64]| Spread::of(values).map(|spread| spread.median);
        let (promised, held) = match self.promise {
            Promise::Ratio(most) => (
                format!("≤ {most} × metered"),
                median(&self.ratios(Way::Metered)).map(|it| it <= most),
            ),
            Promise::AtMost(most) => (
                format!("≤ {most}"),
                median(self.of(Way::Tollgate)).map(|it| it <= most),
            ),
            Promise::NotMore => {
                let pair =
                    Spread::of(self.of(Way::Tollgate)).zip(Spread::of(self.of(Way::Metered)));
                (
                    "not measurably more".to_owned(),
                    pair.map(|(mine, other)| mine.min <= other.max),
                )
            }
            Promise::None => (String::new(), None),
        };
        let verdict = match held {
            Some(true) => "held",
            Some(false) => "**missed**",
            None => "",
        };
        (promised, verdict)
    }
}

/// Median, smallest and largest.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Spread { median, min, max })
    }
}

/// Writes the rows as one Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | direct | bare | bare + parse + usage | tollgate | tollgate ÷ bare | tollgate ÷ metered | promised | |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |\n",
    );
    for row in rows {
        let [direct, bare, metered, tollgate] = Way::ALL.map(|way| cell(row.of(way)));
        let [to_bare, to_metered] = [Way::Bare, Way::Metered].map(|way| cell(&row.ratios(way)));
        let (promised, verdict) = row.verdict();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {direct} | {bare} | {metered} | {tollgate} | {to_bare} | {to_metered} | {promised} | {verdict} |",
            row.title
        );
    }
    text
}

fn cell(values: &[f64]) -> String {
    let Some(spread) = Spread::of(values) else {
        return String::new();
    };
    let median = number(spread.median);
    if values.len() == 1 {
        return median;
    }
    format!("{median} ({}–{})", number(spread.min), number(spread.max))
}

/// Three significant digits, without an exponent.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
