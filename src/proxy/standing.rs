//! How every budget stands now, for people and programs: the JSON of `/api/v1/throttle` and `/api/throttle/stats`, which
//! `tollgate status` reads too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::lanes::{LaneNow, RateNow};
use crate::config::settings::ThrottleMode;
use crate::policy::budget::{Budget, Limit, ScopeKey, ScopeKind};
use crate::policy::budgets::Standing;
use crate::policy::throttle::{Level, Thresholds};
use crate::units::Cost;

/// Most budgets in one answer; then only the fullest are told, and that there are more.
const MAX_SHOWN: usize = 10_000;

/// How everything stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThrottleNow {
    /// `on`, `shadow` or `off`.
    pub mode: String,
    /// When this was so, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// The fills at which the levels begin, as shares of a limit.
    pub thresholds: BTreeMap<String, f64>,
    /// Requests that wait in line for their budgets.
    pub waiting: usize,
    /// Sessions, keys, teams, providers and models whose budgets are in memory.
    pub live_scopes: usize,
    /// How the lines to the providers stand.
    #[serde(default)]
    pub lanes: Vec<LaneNow>,
    /// Every budget of every one of them, by kind and name.
    pub budgets: Vec<BudgetNow>,
    /// How many more there are than `budgets` tells: the emptiest are left out.
    pub left_out: usize,
}

/// How one budget of one thing stands. Amounts are in `unit`: numbers of tokens or requests, exact decimals in US dollars
/// as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetNow {
    /// The budget's name in the config.
    pub budget: String,
    /// What kind of thing it is kept for.
    pub kind: String,
    /// Which one; null for everything together.
    pub name: Option<String>,
    /// Over which time.
    pub window: String,
    /// In what it is counted.
    pub unit: String,
    /// What is booked in the window.
    pub settled: Amount,
    /// What running requests have reserved.
    pub reserved: Amount,
    /// The limit.
    pub limit: Amount,
    /// Booked and reserved share of the limit.
    pub fill: f64,
    /// The level.
    pub level: String,
    /// Whether it is never exceeded.
    pub hard: bool,
    /// When the window lets the next part of what is booked go, in milliseconds from now; null if nothing is booked.
    pub eases_in_ms: Option<u64>,
}

/// An amount: tokens and requests as a number, money as an exact decimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// Tokens or requests.
    Count(u64),
    /// US dollars.
    Usd(String),
}

impl Amount {
    /// An amount in a budget's unit (money in atto-dollars).
    pub fn of(limit: Limit, amount: i128) -> Self {
        match limit {
            Limit::Usd(_) => Self::Usd(Cost::from_attos(amount).to_string()),
            Limit::Tokens(_) | Limit::Requests(_) => {
                Self::Count(u64::try_from(amount.max(0)).unwrap_or(u64::MAX))
            }
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Usd(usd) => write!(f, "${usd}"),
        }
    }
}

/// The levels and usage of every session, as the guide promises them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// When this was so, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// Everything together.
    pub global: ScopeNow,
    /// Every session that has used anything in its windows.
    pub sessions: BTreeMap<String, ScopeNow>,
    /// How many more sessions' budgets there are than are told here.
    pub left_out: usize,
}

/// One session, or everything together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeNow {
    /// The highest level of its budgets.
    pub level: String,
    /// What it has used, by window and unit: `hour` → `tokens` → 7100.
    pub used: BTreeMap<String, BTreeMap<String, Amount>>,
    /// Its budgets.
    pub budgets: Vec<BudgetNow>,
}

/// What there is to tell besides the budgets themselves.
#[derive(Debug, Clone)]
pub(super) struct About<'a> {
    pub(super) mode: ThrottleMode,
    pub(super) at_unix_ms: u64,
    pub(super) thresholds: &'a Thresholds,
    pub(super) waiting: usize,
    pub(super) live_scopes: usize,
    pub(super) lanes: Vec<LaneNow>,
}

/// Everything that is told of budgets.
pub(super) fn throttle_now(standings: &[Standing], about: &About<'_>) -> ThrottleNow {
    let shown = fullest(standings);
    let share = |level: Level| f64::from(about.thresholds.begins(level).0) / 1e6;
    let levels = Level::ALL.into_iter().skip(1);
    let mut thresholds: BTreeMap<String, f64> = levels
        .map(|level| (level.as_str().to_ascii_lowercase(), share(level)))
        .collect();
    let hysteresis = f64::from(about.thresholds.hysteresis.0) / 1e6;
    thresholds.insert("hysteresis".to_owned(), hysteresis);
    ThrottleNow {
        mode: about.mode.as_str().to_owned(),
        at_unix_ms: about.at_unix_ms,
        thresholds,
        waiting: about.waiting,
        live_scopes: about.live_scopes,
        lanes: about.lanes.clone(),
        left_out: standings.len() - shown.len(),
        budgets: shown.into_iter().map(BudgetNow::of).collect(),
    }
}

/// The same by session.
pub(super) fn stats(standings: &[Standing], at_unix_ms: u64) -> Stats {
    let shown = fullest(standings);
    let left_out = standings.len() - shown.len();
    let mut global = ScopeNow::default();
    let mut sessions: BTreeMap<String, ScopeNow> = BTreeMap::new();
    for standing in shown {
        match standing.scope.kind {
            ScopeKind::Global => global.add(standing),
            ScopeKind::Session => sessions
                .entry(standing.scope.name.clone())
                .or_default()
                .add(standing),
            ScopeKind::Key | ScopeKind::Team | ScopeKind::Provider | ScopeKind::Model => {}
        }
    }
    Stats {
        at_unix_ms,
        global,
        sessions,
        left_out,
    }
}

/// As many as are shown, in their order; the emptiest are left out.
fn fullest(standings: &[Standing]) -> Vec<&Standing> {
    let mut shown: Vec<(usize, &Standing)> = standings.iter().enumerate().collect();
    if shown.len() > MAX_SHOWN {
        shown.sort_by(|(_, a), (_, b)| fill(b).total_cmp(&fill(a)));
        shown.truncate(MAX_SHOWN);
        shown.sort_by_key(|(place, _)| *place);
    }
    shown.into_iter().map(|(_, standing)| standing).collect()
}

/// The share of the limit that is booked or reserved, for display.
pub(super) fn fill(standing: &Standing) -> f64 {
    standing.settled.saturating_add(standing.reserved) as f64 / standing.limit as f64
}

impl Default for ScopeNow {
    fn default() -> Self {
        Self {
            level: Level::None.as_str().to_owned(),
            used: BTreeMap::new(),
            budgets: Vec::new(),
        }
    }
}

impl ScopeNow {
    fn add(&mut self, standing: &Standing) {
        let budget = BudgetNow::of(standing);
        let rank = |name: &str| Level::ALL.iter().position(|level| level.as_str() == name);
        if rank(&budget.level) > rank(&self.level) {
            self.level.clone_from(&budget.level);
        }
        self.used
            .entry(budget.window.clone())
            .or_default()
            .insert(budget.unit.clone(), budget.settled.clone());
        self.budgets.push(budget);
    }
}

impl BudgetNow {
    fn of(standing: &Standing) -> Self {
        let Standing { budget, scope, .. } = standing;
        let Budget { limit, .. } = **budget;
        let ScopeKey { kind, name } = scope;
        Self {
            budget: budget.name.clone(),
            kind: kind.as_str().to_owned(),
            name: (*kind != ScopeKind::Global).then(|| name.clone()),
            window: budget.window.as_str().to_owned(),
            unit: limit.unit().to_owned(),
            settled: Amount::of(limit, standing.settled),
            reserved: Amount::of(limit, standing.reserved),
            limit: Amount::of(limit, standing.limit),
            fill: (fill(standing) * 1e4).round() / 1e4,
            level: standing.level.as_str().to_owned(),
            hard: budget.hard,
            eases_in_ms: standing.resets_in_ms,
        }
    }

    /// Whose it is: `global`, `session docs`.
    pub fn scope(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.kind),
            None => self.kind.clone(),
        }
    }
}
