//! What one day cost, as its ledger says.

use tollgate::store::report::Report;
use tollgate::store::savings::Savings;
use tollgate::units::Cost;

use crate::day::Run;
use crate::load::Work;

/// Requests of one kind of work that were taken for the same task and served by the same model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Served {
    /// What kind of work they are in truth.
    pub(crate) work: String,
    /// What tollgate took them for.
    pub(crate) task: String,
    /// What served.
    pub(crate) model: String,
    /// How many.
    pub(crate) requests: u64,
}

/// One day.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    /// How routing was set.
    pub(crate) run: Run,
    /// What it cost.
    pub(crate) cost: Cost,
    /// What each kind of work cost, in the order of `Work::ALL`.
    pub(crate) by_work: [Cost; Work::ALL.len()],
    /// What served what.
    pub(crate) served: Vec<Served>,
    /// What tollgate says that it saved, or would have.
    pub(crate) savings: Savings,
}

impl Day {
    /// From a report by phase (the truth), task (as detected) and model.
    pub(crate) fn new(run: Run, report: &Report, savings: Savings) -> Self {
        let label = |labels: &[Option<String>], place: usize| -> String {
            labels
                .get(place)
                .cloned()
                .flatten()
                .unwrap_or_else(|| "–".to_owned())
        };
        let mut by_work = [Cost::ZERO; Work::ALL.len()];
        let mut served = Vec::new();
        for row in &report.rows {
            let work = label(&row.labels, 0);
            if let Some(place) = Work::ALL.iter().position(|known| known.name() == work) {
                by_work[place] += row.figures.cost.unwrap_or_default();
            }
            served.push(Served {
                work,
                task: label(&row.labels, 1),
                model: label(&row.labels, 2),
                requests: row.figures.requests,
            });
        }
        served.sort();
        Self {
            run,
            cost: report.total.cost.unwrap_or_default(),
            by_work,
            served,
            savings,
        }
    }
}

/// The difference of two amounts.
pub(crate) fn less(whole: Cost, part: Cost) -> Cost {
    Cost::from_attos(whole.attos() - part.attos())
}

/// A share in percent, for reading.
pub(crate) fn percent(part: Cost, whole: Cost) -> f64 {
    100.0 * part.as_f64_for_display() / whole.as_f64_for_display()
}
