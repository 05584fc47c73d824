//! The budgets as the path uses them: one lock around the engine, a guard for what a request holds, and what must be
//! told elsewhere (events, metrics, scopes that are put away into the ledger).
//!
//! The arithmetic is `policy::budgets`'; nothing is decided here. The lock is held for microseconds and never across an
//! await.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::gate::Gate;
use super::line::Line;
use super::standing::{self, Stats, ThrottleNow};
use crate::config::settings::{Settings, ThrottleMode};
use crate::llm::catalogue::Catalogue;
use crate::llm::usage::Usage;
use crate::policy::budget::{Amounts, Budget, ScopeKey, ScopeKind, Scopes};
use crate::policy::budgets::{
    self, Ask, Budgets, Denied, Filter, Held, Outgrown, Rules, Standing, Undecodable, Why,
};
use crate::policy::calendar::Calendar;
use crate::policy::learned::Learned;
use crate::policy::throttle::{Level, Verdict};
use crate::refusal::{BudgetRefusal, Ending, Refusal};
use crate::units::Priority;

/// The longest pause that a client is told to come back after.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What takes longer is final. The window of a minute lets everything go within a minute and the sixtieth to which it is
/// exact; a client that comes back too early by that is told so once more.
const LONGEST_CURABLE: Duration = Duration::from_secs(61);

/// After how long a client is told to come back when room depends on running requests, whose end nobody knows.
const PAUSE_FOR_RUNNING: Duration = Duration::from_secs(5);

/// How many scopes are looked at under one lock: well below a millisecond. All of 100,000 at once would take about a
/// hundred times as long as requests should wait.
const PIECE: usize = 128;

/// Budgets, what was learned for estimates, and the waiting line.
#[derive(Debug)]
pub(super) struct Throttle {
    pub(super) mode: ThrottleMode,
    budgets: Mutex<Budgets>,
    /// Held while scopes come back from the ledger: what was fetched must not grow old before it is restored.
    fetching: tokio::sync::Mutex<()>,
    learned: Mutex<Learned>,
    pub(super) line: Line,
}

/// What a request wants admitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) scopes: Scopes<'a>,
    pub(super) ask: Ask,
    pub(super) priority: Priority,
}

/// What an admitted request holds of its budgets. Dropping it gives everything back.
#[derive(Debug)]
pub(super) struct Reservation {
    gate: Arc<Gate>,
    held: Option<Held>,
    /// The request's level when it was admitted.
    pub(super) level: Level,
    /// The fullest of its budgets then, if any was above level NONE.
    pub(super) fullest: Option<Arc<Budget>>,
    /// Passed although a budget would have refused it (mode `shadow`).
    pub(super) overruled: Option<Box<Denied>>,
}

impl Reservation {
    /// What it holds.
    pub(super) fn reserved(&self) -> Ask {
        let held = self.held.as_ref();
        held.map(|held| *held.reserved()).unwrap_or_default()
    }

    /// The request has outgrown what it reserved.
    ///
    /// # Errors
    /// A hard budget has no room for more: the request must end.
    pub(super) fn grow(&mut self, ask: &Ask) -> Result<(), Outgrown> {
        match &mut self.held {
            Some(held) => {
                let now_ms = self.gate.clock.unix_ms();
                let throttle = &self.gate.throttle;
                let grown = throttle.with(&self.gate, |budgets| budgets.grow(held, ask, now_ms));
                // In the other modes nothing is cut off either.
                grown.or_else(|outgrown| match throttle.mode {
                    ThrottleMode::On => Err(outgrown),
                    ThrottleMode::Shadow | ThrottleMode::Off => Ok(()),
                })
            }
            None => Ok(()),
        }
    }

    /// The request has ended: what it used takes the place of what it reserved.
    pub(super) fn settle(mut self, used: &Amounts, now_ms: u64) {
        self.give_back(used, now_ms);
    }

    fn give_back(&mut self, used: &Amounts, now_ms: u64) {
        if let Some(held) = self.held.take() {
            let throttle = &self.gate.throttle;
            throttle.with(&self.gate, |budgets| budgets.settle(held, used, now_ms));
            throttle.line.room_may_have_come();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let now_ms = self.gate.clock.unix_ms();
        self.give_back(&Amounts::default(), now_ms);
    }
}

impl Throttle {
    /// The budgets as configured. One for a model is kept under the one name that the catalogue has for it, whatever
    /// name the config uses.
    pub(super) fn new(settings: &Settings, catalogue: &Catalogue) -> Self {
        let budgets = settings.budgets.iter().cloned().map(|mut budget| {
            if let (ScopeKind::Model, Some(name)) = (budget.scope, &budget.only) {
                let providers = settings.providers.iter();
                let mut names =
                    providers.map(|provider| catalogue.one_name(&provider.catalogue, name));
                let other = names.find(|other| other != name);
                budget.only = Some(other.unwrap_or(name).to_owned());
            }
            budget
        });
        let budgets = budgets.collect();
        let settings = &settings.throttle;
        let rules = Rules {
            budgets,
            thresholds: settings.thresholds,
            calendar: Calendar::new(settings.time_zone.clone()),
            // Until what the ledger knows has been counted.
            max_scopes: usize::MAX,
        };
        Self {
            mode: settings.mode,
            budgets: Mutex::new(Budgets::new(rules)),
            fetching: tokio::sync::Mutex::default(),
            learned: Mutex::new(Learned::new(settings.output_quantile)),
            line: Line::new(&settings.queue),
        }
    }

    /// Runs something on the budgets, and tells what came of it.
    fn with<T>(&self, gate: &Gate, work: impl FnOnce(&mut Budgets) -> T) -> T {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut budgets);
        let changes = budgets.take_changes();
        // Under the lock, which does not wait for the ledger: whoever finds a scope missing must find it there.
        Self::put_away(gate, &mut budgets);
        drop(budgets);
        if !changes.is_empty() {
            super::telling::levels_changed(gate, &changes);
        }
        result
    }

    /// Hands scopes that nobody uses to the ledger. If it cannot take them now, they stay in memory.
    fn put_away(gate: &Gate, budgets: &mut Budgets) {
        let evicted = budgets.take_evicted();
        if evicted.is_empty() {
            return;
        }
        let now_ms = gate.clock.unix_ms();
        let (keys, named): (Vec<_>, Vec<_>) = evicted
            .into_iter()
            .map(|(key, bytes)| {
                let name = name_of(&key);
                (key, (name, bytes))
            })
            .unzip();
        if let Err(back) = gate.ledger.put_away(named) {
            for (key, (_, bytes)) in keys.iter().zip(back) {
                // The engine's own bytes, made a moment ago.
                budgets.restore(key, Some(&bytes), now_ms).ok();
            }
        }
    }

    /// Tries to admit a request now. Waits only for the ledger, and only for scopes that were put away.
    ///
    /// # Errors
    /// The outer one: the ledger does not give back what was put away into it. The inner one: a budget says no.
    pub(super) async fn try_now(
        &self,
        gate: &Arc<Gate>,
        wish: &Wish<'_>,
    ) -> Result<Result<Reservation, Box<Denied>>, Refusal> {
        let admit = |budgets: &mut Budgets| {
            let now_ms = gate.clock.unix_ms();
            let admitted = budgets.admit(&wish.scopes, &wish.ask, wish.priority, now_ms);
            admitted.map_err(Box::new)
        };
        let admitted = self.with_all(gate, &wish.scopes, admit).await?;
        Ok(admitted.map(|admitted| Reservation {
            gate: Arc::clone(gate),
            held: Some(admitted.held),
            level: admitted.level,
            fullest: admitted.fullest,
            overruled: None,
        }))
    }

    /// The level at which a request would be decided upon now. Waits as [`Self::try_now`] does.
    ///
    /// # Errors
    /// The ledger does not give back what was put away into it.
    pub(super) async fn level(&self, gate: &Arc<Gate>, wish: &Wish<'_>) -> Result<Level, Refusal> {
        let level = |budgets: &mut Budgets| {
            let now_ms = gate.clock.unix_ms();
            budgets.level(&wish.scopes, &wish.ask, now_ms)
        };
        self.with_all(gate, &wish.scopes, level).await
    }

    /// Charges a request whatever the budgets say. Waits as [`Self::try_now`] does.
    ///
    /// # Errors
    /// The ledger does not give back what was put away into it.
    pub(super) async fn overrule(
        &self,
        gate: &Arc<Gate>,
        wish: &Wish<'_>,
        denied: Box<Denied>,
    ) -> Result<Reservation, Refusal> {
        let charge = |budgets: &mut Budgets| {
            let now_ms = gate.clock.unix_ms();
            budgets.charge(&wish.scopes, &wish.ask, now_ms)
        };
        let held = self.with_all(gate, &wish.scopes, charge).await?;
        Ok(Reservation {
            gate: Arc::clone(gate),
            held: Some(held),
            level: denied.level,
            fullest: None,
            overruled: Some(denied),
        })
    }

    /// Runs something on the budgets while all scopes of a request are in memory.
    ///
    /// # Errors
    /// The ledger does not give back what was put away into it.
    async fn with_all<T>(
        &self,
        gate: &Gate,
        scopes: &Scopes<'_>,
        work: impl Fn(&mut Budgets) -> T,
    ) -> Result<T, Refusal> {
        let now = |budgets: &mut Budgets| {
            let missing = budgets.missing(scopes);
            if missing.is_empty() {
                Ok(work(budgets))
            } else {
                Err(missing)
            }
        };
        if let Ok(done) = self.with(gate, now) {
            return Ok(done);
        }
        // One at a time: a scope that somebody else brought back, used and put away meanwhile would be restored as it was
        // before.
        let _fetching = self.fetching.lock().await;
        loop {
            let missing = match self.with(gate, now) {
                Ok(done) => return Ok(done),
                Err(missing) => missing,
            };
            let names = missing.iter().map(name_of).collect();
            let found = gate.ledger.fetch_away(names).await;
            let found = found.map_err(|error| unreadable(&error))?;
            // Used in the step in which they come back, because the next one may put them away again.
            let done = self.with(gate, |budgets| {
                let now_ms = gate.clock.unix_ms();
                for (key, bytes) in missing.iter().zip(found) {
                    budgets.restore(key, bytes.as_deref(), now_ms)?;
                }
                Ok(now(budgets).ok())
            });
            if let Some(done) = done.map_err(|error: Undecodable| unreadable(&error))? {
                return Ok(done);
            }
        }
    }

    /// Lets somebody count requests that ended before this process began. Nothing is put away meanwhile; see
    /// [`Self::bound`].
    pub(super) fn recall<T>(&self, count: impl FnOnce(&mut Budgets, &mut Learned) -> T) -> T {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = count(&mut budgets, &mut learned);
        // What happened before is in the events already.
        drop(budgets.take_changes());
        counted
    }

    /// From now on no more scopes stay in memory than the config says.
    pub(super) fn bound(&self, gate: &Gate) {
        let max_live = gate.settings.throttle.max_live;
        self.with(gate, |budgets| budgets.bound(max_live));
    }

    /// What a request is expected to use.
    pub(super) fn expect(&self, model: &str, caller: &str, estimated_input: u64) -> Usage {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.expect(model, caller, estimated_input)
    }

    /// Learns from what a request used.
    pub(super) fn learn(&self, model: &str, caller: &str, estimated_input: u64, used: &Usage) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.learn(model, caller, estimated_input, used);
    }

    /// How many scopes are in memory, and how often one was put away.
    fn live(&self) -> (usize, u64) {
        let budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        (budgets.live(), budgets.evicted())
    }

    /// Every budget with its numbers. All of them come in pieces, so that requests need not wait for the whole.
    pub(super) fn standings(&self, gate: &Gate, filter: &Filter) -> Vec<Standing> {
        let now_ms = gate.clock.unix_ms();
        if *filter != Filter::All {
            return self.with(gate, |budgets| budgets.standings(now_ms, filter));
        }
        let mut standings = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let piece = |budgets: &mut Budgets| budgets.standings_from(now_ms, from, PIECE);
            let (piece, then) = self.with(gate, piece);
            standings.extend(piece);
            next = then;
        }
        budgets::sort(&mut standings);
        standings
    }
}

impl Gate {
    /// How every budget stands now; of one scope, if one is named.
    pub fn throttle_now(&self, only: Option<ScopeKey>) -> ThrottleNow {
        let filter = only.map_or(Filter::All, Filter::Scope);
        let standings = self.throttle.standings(self, &filter);
        let about = standing::About {
            mode: self.throttle.mode,
            at_unix_ms: self.clock.unix_ms(),
            thresholds: &self.settings.throttle.thresholds,
            waiting: self.throttle.line.len(),
            live_scopes: self.throttle.live().0,
            lanes: self.lanes_now(),
        };
        standing::throttle_now(&standings, &about)
    }

    /// The levels and usage of every session.
    pub fn throttle_stats(&self) -> Stats {
        let standings = self.throttle.standings(self, &Filter::All);
        standing::stats(&standings, self.clock.unix_ms())
    }

    /// Sets the gauges of budgets whose scopes are bounded by the config.
    pub fn observe_budgets(&self) {
        let standings: Vec<Standing> = [ScopeKind::Global, ScopeKind::Provider, ScopeKind::Team]
            .into_iter()
            .flat_map(|kind| self.throttle.standings(self, &Filter::Kind(kind)))
            .collect();
        let fills = standings.iter().map(|standing| {
            let fill = standing::fill(standing);
            let scope = match standing.scope.kind {
                ScopeKind::Global => "global",
                _ => standing.scope.name.as_str(),
            };
            (standing.budget.name.as_str(), scope, fill, standing.level)
        });
        let (live, put_away) = self.throttle.live();
        self.metrics.observe_budgets(fills, live, put_away);
    }
}

/// The name under which the ledger keeps a scope that was put away.
fn name_of(key: &ScopeKey) -> Vec<u8> {
    minicbor::to_vec(key).expect("encoding into memory cannot fail")
}

fn unreadable(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "the ledger does not give back what a session has spent");
    Refusal::LedgerUnavailable
}

/// A budget's no, as the client's answer.
pub(super) fn refusal(
    denied: &Denied,
    priority: Priority,
    waited: Option<Duration>,
    line_full: bool,
) -> Refusal {
    let passes_in = denied.passes_in_ms.map(Duration::from_millis);
    let soon = passes_in
        .filter(|pause| *pause <= LONGEST_CURABLE)
        .map(|pause| pause.min(LONGEST_PAUSE));
    let running = denied.may_pass_earlier.then_some(PAUSE_FOR_RUNNING);
    let pause = match (soon, running) {
        (Some(soon), Some(running)) => Some(soon.min(running)),
        (soon, running) => soon.or(running),
    };
    let ending = match (denied.why, pause) {
        (Why::NeverFits, _) => Ending::NeverFits,
        (_, Some(retry_after)) => Ending::Transient { retry_after },
        (_, None) => Ending::Final,
    };
    Refusal::Budget(Box::new(BudgetRefusal {
        ending,
        budget: Arc::clone(&denied.budget),
        scope: denied.scope.clone(),
        level: denied.level,
        priority,
        settled: denied.settled,
        reserved: denied.reserved,
        asked: denied.asked,
        limit: denied.limit,
        passes_in,
        passes_at_unix_ms: denied
            .passes_in_ms
            .map(|pause| denied.asked_at_ms.saturating_add(pause)),
        waited,
        line_full,
    }))
}

/// Whether waiting up to `patience` may let the request pass.
pub(super) fn waiting_may_help(denied: &Denied, patience: Duration) -> bool {
    denied.verdict == Verdict::Wait
        && (denied.may_pass_earlier
            || denied
                .passes_in_ms
                .is_some_and(|pause| Duration::from_millis(pause) <= patience))
}
