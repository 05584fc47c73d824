//! What routing saved, or would have saved in shadow mode, put together from the hourly sums.
//!
//! A request counts as routed if its record says why another model was chosen, and if it reached a model. Each row is of
//! one mode: with `on` the chosen model served and the asked one is what it would have cost; with `shadow` it is the
//! other way round. Amounts are compared only where the saving of each request is known; the others are counted apart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::query::{Dimension, Query};
use super::report::{decimal, decimal_or_null};
use super::sums::{Group, Sum};
use crate::units::Cost;

/// By what savings are told unless something else is asked for.
pub const BY: [Dimension; 3] = [Dimension::Rule, Dimension::Task, Dimension::Session];

/// Whether another model did serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It did.
    On,
    /// It would have.
    Shadow,
}

impl Mode {
    /// The name used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::On => "on",
            Mode::Shadow => "shadow",
        }
    }
}

/// What some routed requests of one mode add up to. Amounts are in USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// How many.
    pub requests: u64,
    /// What they cost in fact, as far as it is known. `None` when nothing of it is.
    #[serde(with = "decimal_or_null")]
    pub cost: Option<Cost>,
    /// What the models that were asked for cost, or would have cost, where the saving is known.
    #[serde(with = "decimal")]
    pub asked_cost: Cost,
    /// What the chosen models cost, or would have cost, for the same requests.
    #[serde(with = "decimal")]
    pub chosen_cost: Cost,
    /// The difference: saved, or would have been saved. Negative is a loss.
    #[serde(with = "decimal")]
    pub saving: Cost,
    /// The saving in tenths of a percent of `asked_cost`, rounded; `None` where that is nothing. In JSON it is percent.
    #[serde(rename = "saved_percent", with = "percent")]
    pub saved_permille: Option<i64>,
    /// Requests whose saving is not known: they are in `requests` and `cost` alone.
    pub unknown_saving_requests: u64,
}

impl Figures {
    fn add(&mut self, group: &Group, sum: &Sum) {
        self.requests = self.requests.saturating_add(sum.requests);
        let known = sum.cost.or((sum.unknown_cost == 0).then_some(Cost::ZERO));
        let cost = known.unwrap_or_default();
        if known.is_some() {
            self.cost = Some(self.cost.unwrap_or_default() + cost);
        }
        let Some(saving) = sum.saving.filter(|_| !group.saving_unknown) else {
            self.unknown_saving_requests =
                self.unknown_saving_requests.saturating_add(sum.requests);
            return;
        };
        let (asked, chosen) = match mode_of(group) {
            Mode::On => (cost + saving, cost),
            Mode::Shadow => (
                cost,
                cost + Cost::from_attos(saving.attos().saturating_neg()),
            ),
        };
        self.asked_cost += asked;
        self.chosen_cost += chosen;
        self.saving += saving;
        self.saved_permille = permille(self.saving, self.asked_cost);
    }
}

fn mode_of(group: &Group) -> Mode {
    match group.route_shadow {
        false => Mode::On,
        true => Mode::Shadow,
    }
}

/// A share in thousandths, rounded half away from zero.
fn permille(part: Cost, whole: Cost) -> Option<i64> {
    let (part, whole) = (part.attos().checked_mul(2000)?, whole.attos());
    if whole <= 0 {
        return None;
    }
    let doubled = part / whole;
    i64::try_from((doubled + doubled.signum()) / 2).ok()
}

/// All requests of the time asked for, routed or not: what the savings are a part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct All {
    /// How many.
    pub requests: u64,
    /// What they cost in fact, as far as it is known, in USD.
    #[serde(with = "decimal")]
    pub cost: Cost,
    /// Requests whose cost is not known: `cost` is too low by theirs.
    pub unknown_cost_requests: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// One label for each dimension; `None` where the requests have none.
    pub labels: Vec<Option<String>>,
    /// Whether it was saved, or would have been.
    pub mode: Mode,
    /// How much.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What routing saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savings {
    /// By what the rows are grouped.
    pub by: Vec<Dimension>,
    /// Beginning of the first hour that was asked for, in Unix milliseconds.
    pub since: Option<u64>,
    /// End of the last hour that was asked for, in Unix milliseconds.
    pub until: Option<u64>,
    /// By time where the first dimension is one, else what saved most first.
    pub rows: Vec<Row>,
    /// All rows in which another model served.
    pub on: Figures,
    /// All rows in which another model would have served.
    pub shadow: Figures,
    /// All requests that the query covers, also those that kept their model.
    pub all: All,
}

impl Savings {
    /// The part of all cost that was saved, in tenths of a percent of what all requests would have cost without routing.
    pub fn saved_permille_of_all(&self) -> Option<i64> {
        permille(self.on.saving, self.all.cost + self.on.saving)
    }

    /// The part of all cost that would have been saved, in tenths of a percent.
    pub fn would_save_permille_of_all(&self) -> Option<i64> {
        permille(self.shadow.saving, self.all.cost)
    }
}

/// Puts them together, sum by sum.
pub struct Saver<'a> {
    query: &'a Query,
    rows: HashMap<(Vec<Option<String>>, Mode), Figures>,
    on: Figures,
    shadow: Figures,
    all: All,
}

impl<'a> Saver<'a> {
    /// Starts with nothing.
    pub fn new(query: &'a Query) -> Self {
        Self {
            query,
            rows: HashMap::new(),
            on: Figures::default(),
            shadow: Figures::default(),
            all: All::default(),
        }
    }

    /// Adds a sum, if the query covers it.
    pub fn add(&mut self, group: &Group, sum: &Sum) {
        if !self.query.covers(group) {
            return;
        }
        let all = &mut self.all;
        all.requests = all.requests.saturating_add(sum.requests);
        all.cost += sum.cost.unwrap_or_default();
        all.unknown_cost_requests = all.unknown_cost_requests.saturating_add(sum.unknown_cost);
        if group.routed_by.is_none() {
            return;
        }
        let mode = mode_of(group);
        let row = (self.query.labels(group), mode);
        self.rows.entry(row).or_default().add(group, sum);
        match mode {
            Mode::On => self.on.add(group, sum),
            Mode::Shadow => self.shadow.add(group, sum),
        }
    }

    /// The savings.
    pub fn finish(self) -> Savings {
        let rows = self.rows.into_iter();
        let mut rows: Vec<Row> = rows
            .map(|((labels, mode), figures)| Row {
                labels,
                mode,
                figures,
            })
            .collect();
        let by_time = self.query.by.first().is_some_and(|first| first.is_time());
        rows.sort_by(|a, b| {
            let time = match by_time {
                true => a.labels.first().cmp(&b.labels.first()),
                false => std::cmp::Ordering::Equal,
            };
            time.then(b.figures.saving.cmp(&a.figures.saving))
                .then_with(|| (&a.labels, a.mode).cmp(&(&b.labels, b.mode)))
        });
        let (since, until) = self.query.covered();
        let none_is_free = |figures: Figures| Figures {
            cost: figures
                .cost
                .or((figures.requests == 0).then_some(Cost::ZERO)),
            ..figures
        };
        Savings {
            by: self.query.by.clone(),
            since,
            until,
            rows,
            on: none_is_free(self.on),
            shadow: none_is_free(self.shadow),
            all: self.all,
        }
    }
}

mod percent {
    //! Tenths of a percent as a number of percent, or null.
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        permille: &Option<i64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        permille
            .map(|permille| permille as f64 / 10.0)
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
        let percent = Option::<f64>::deserialize(from)?;
        Ok(percent.map(|percent| (percent * 10.0).round() as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::HOUR_MS;
    use crate::store::record::{CostSource, Outcome, Record};
    use crate::units::RequestId;

    fn record(rule: Option<&str>, task: &str, cost: i128, saving: Option<i128>) -> Record {
        let mut record = Record::new(RequestId(0));
        record.session = "docs".to_owned();
        record.task = Some(task.to_owned());
        record.finished_unix_ms = 7 * HOUR_MS;
        record.outcome = Outcome::Complete;
        record.cost = Some(Cost::from_attos(cost));
        record.cost_source = CostSource::Table;
        record.routed_by = rule.map(str::to_owned);
        record.saving = saving.map(Cost::from_attos);
        record
    }

    fn savings(query: &Query, records: &[Record]) -> Savings {
        let mut saver = Saver::new(query);
        for record in records {
            saver.add(&Group::of(record), &Sum::of(record));
        }
        saver.finish()
    }

    fn by(dimensions: &[Dimension]) -> Query {
        Query {
            by: dimensions.to_vec(),
            ..Query::default()
        }
    }

    fn told(figures: &Figures) -> (u64, Option<i128>, i128, i128, i128, Option<i64>, u64) {
        (
            figures.requests,
            figures.cost.map(Cost::attos),
            figures.asked_cost.attos(),
            figures.chosen_cost.attos(),
            figures.saving.attos(),
            figures.saved_permille,
            figures.unknown_saving_requests,
        )
    }

    #[test]
    fn saved_and_would_have_saved_are_rows_of_their_own_that_compare_the_same_two_models() {
        let mut shadow = record(Some("rule:ui"), "ui", 100, Some(80));
        shadow.flags.route_shadow = true;
        let records = [
            record(Some("rule:ui"), "ui", 20, Some(80)),
            shadow,
            record(Some("rule:docs"), "documentation", 50, Some(-5)),
            record(None, "coding", 1000, None),
        ];
        let savings = savings(&by(&[Dimension::Rule, Dimension::Task]), &records);
        let rows: Vec<_> = savings
            .rows
            .iter()
            .map(|row| (row.labels[0].as_deref(), row.mode, told(&row.figures)))
            .collect();
        assert_eq!(
            rows,
            [
                (
                    Some("rule:ui"),
                    Mode::On,
                    (1, Some(20), 100, 20, 80, Some(800), 0)
                ),
                (
                    Some("rule:ui"),
                    Mode::Shadow,
                    (1, Some(100), 100, 20, 80, Some(800), 0)
                ),
                (
                    Some("rule:docs"),
                    Mode::On,
                    (1, Some(50), 45, 50, -5, Some(-111), 0)
                ),
            ]
        );
        assert_eq!(told(&savings.on), (2, Some(70), 145, 70, 75, Some(517), 0));
        assert_eq!(told(&savings.shadow), told(&savings.rows[1].figures));
        assert_eq!((savings.all.requests, savings.all.cost.attos()), (4, 1170));
        assert_eq!(savings.saved_permille_of_all(), Some(60), "75 of 1245");
        assert_eq!(savings.would_save_permille_of_all(), Some(68), "80 of 1170");
    }

    #[test]
    fn a_request_whose_saving_is_not_known_is_counted_and_changes_no_share() {
        let mut priceless = record(Some("rule:ui"), "ui", 0, None);
        priceless.cost = None;
        priceless.cost_source = CostSource::Unknown;
        let alone = savings(&by(&[]), std::slice::from_ref(&priceless));
        assert_eq!(
            told(&alone.on),
            (1, None, 0, 0, 0, None, 1),
            "unknown is not zero"
        );
        let records = [
            record(Some("rule:ui"), "ui", 20, Some(80)),
            record(Some("rule:ui"), "ui", 900, None),
            priceless,
        ];
        let savings = savings(&by(&[Dimension::Rule]), &records);
        assert_eq!(savings.rows.len(), 1);
        assert_eq!(told(&savings.on), (3, Some(920), 100, 20, 80, Some(800), 2));
        assert_eq!(savings.all.unknown_cost_requests, 1);
    }

    #[test]
    fn a_free_model_saves_everything_and_what_reached_no_model_saves_nothing() {
        let mut refused = record(Some("rule:ui"), "ui", 0, Some(80));
        refused.outcome = Outcome::Refused;
        let free = record(Some("rule:ui"), "ui", 0, Some(80));
        let savings = savings(&by(&[]), &[free, refused]);
        assert_eq!(told(&savings.on), (1, Some(0), 80, 0, 80, Some(1000), 0));
        assert_eq!(savings.all.requests, 2);
    }

    #[test]
    fn hours_and_filters_choose_and_days_come_in_order() {
        let mut old = record(Some("rule:ui"), "ui", 1, Some(1));
        old.finished_unix_ms = 2 * HOUR_MS;
        let mut other = record(Some("rule:ui"), "ui", 1, Some(50));
        other.session = "api".to_owned();
        other.finished_unix_ms = 30 * HOUR_MS;
        let records = [other, record(Some("rule:docs"), "ui", 1, Some(9)), old];
        let mut query = by(&[Dimension::Day]);
        let days = |query: &Query| -> Vec<_> {
            let rows = savings(query, &records).rows.into_iter();
            rows.map(|row| {
                (
                    row.labels[0].clone().unwrap_or_default(),
                    row.figures.saving.attos(),
                )
            })
            .collect()
        };
        let first = ("1970-01-01".to_owned(), 10);
        assert_eq!(days(&query), [first, ("1970-01-02".to_owned(), 50)]);
        query.since = Some(3 * HOUR_MS);
        query.filters = vec![(Dimension::Session, "docs".to_owned())];
        assert_eq!(days(&query), [("1970-01-01".to_owned(), 9)]);
        assert_eq!(savings(&query, &records).since, Some(3 * HOUR_MS));
        assert_eq!(savings(&query, &records).all.requests, 1);
        query.filters = vec![(Dimension::Rule, "rule:nobody's".to_owned())];
        assert_eq!(days(&query), []);
    }

    #[test]
    fn nothing_routed_is_nothing_saved_and_json_holds_exact_amounts() {
        let empty = savings(&by(&BY), &[]);
        assert_eq!(told(&empty.on), (0, Some(0), 0, 0, 0, None, 0));
        assert_eq!(empty.saved_permille_of_all(), None);
        let full = savings(&by(&BY), &[record(Some("rule:ui"), "ui", 3, Some(4))]);
        let json = serde_json::to_value(&full).expect("savings are JSON");
        assert_eq!(json["on"]["saved_percent"], 57.1);
        assert_eq!(json["rows"][0]["mode"], "on");
        for savings in [empty, full] {
            let json = serde_json::to_string(&savings).expect("savings are JSON");
            assert_eq!(serde_json::from_str::<Savings>(&json).ok(), Some(savings));
            assert!(json.contains(r#""saving":"0.00"#), "{json}");
            assert!(!json.contains("permille"), "{json}");
        }
    }

    #[test]
    fn a_share_is_rounded_to_the_nearest_tenth_of_a_percent() {
        let share = |part, whole| permille(Cost::from_attos(part), Cost::from_attos(whole));
        assert_eq!(share(1, 3), Some(333));
        assert_eq!(share(2, 3), Some(667));
        assert_eq!(share(-2, 3), Some(-667));
        assert_eq!(share(1, 2000), Some(1));
        assert_eq!(share(0, 5), Some(0));
        assert_eq!(share(5, 0), None);
    }
}
