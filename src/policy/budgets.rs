//! The budgets of all scopes: what was used in their windows, what running requests have reserved, and who may pass.
//!
//! All of a request's budgets are checked and charged in one step, or none is. An admitted request holds its reservation
//! until it is settled: then what it used replaces it. One value owns all of it and is changed through `&mut self`; time
//! comes in as Unix milliseconds and never goes back: an earlier instant counts as the latest that was seen, so that no
//! step of a clock frees what was spent.
//!
//! Hard budgets reserve the worst case and are never exceeded as long as nobody uses more than that. An ordinary budget is
//! exceeded at most by what running requests use beyond what was reserved when they were let in, and by critical requests,
//! which it does not bind.

mod away;
mod changes;
mod decision;
mod hand;
mod live;
mod marks;
mod plan;
mod put_away;
#[cfg(test)]
mod samples;
mod scope;
mod standing;

use std::sync::Arc;

pub use self::changes::{Changes, LevelChange};
pub use self::decision::{Denied, Why};
pub use self::put_away::Undecodable;
pub use self::standing::{Filter, Standing, sort};

use self::live::{Live, Place};
use self::plan::{PlanId, Plans};
use self::scope::Scope;
use super::budget::{Amounts, Budget, ScopeKey, ScopeKind, Scopes};
use super::calendar::Calendar;
use super::throttle::{Level, Thresholds};
use super::window::{LAST_MS, Present};
use crate::units::{Cost, Priority};

/// The most money that one request can ask for or use, in atto-dollars: 79 thousand million dollars. More counts as this,
/// which is above every limit, and so sums of many requests stay exact.
const MOST_ATTOS: i128 = 1 << 96;

/// The kinds of scopes.
const KINDS: usize = ScopeKind::ALL.len();

/// What the engine is made of.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The budgets, in the order of the config.
    pub budgets: Vec<Budget>,
    /// Where the levels begin.
    pub thresholds: Thresholds,
    /// The months.
    pub calendar: Calendar,
    /// How many scopes are kept in memory at once, besides those with reservations.
    pub max_scopes: usize,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Reserved on ordinary budgets.
    pub expected: Amounts,
    /// Reserved on hard budgets. Where it is less than what is expected, that counts.
    pub worst: Amounts,
}

impl Ask {
    /// The same with money that the engine can hold, and with a worst case that is no better than the expected one.
    fn bounded(&self) -> Self {
        let expected = bounded(&self.expected);
        Self {
            expected,
            worst: bounded(&self.worst).max(&expected),
        }
    }
}

/// The same with money that the engine can hold: not negative and at most [`MOST_ATTOS`].
fn bounded(amounts: &Amounts) -> Amounts {
    Amounts {
        cost: Cost::from_attos(amounts.cost.attos().clamp(0, MOST_ATTOS)),
        ..*amounts
    }
}

/// What an admitted request has reserved. It must come back by [`Budgets::settle`] to the engine that gave it; not `Clone`,
/// so that it comes back once.
#[derive(Debug)]
#[must_use = "what is never settled stays reserved for ever"]
pub struct Held {
    places: [Option<Place>; KINDS],
    ask: Ask,
}

impl Held {
    /// What is reserved.
    pub const fn reserved(&self) -> &Ask {
        &self.ask
    }
}

/// A request that may go on.
#[derive(Debug)]
pub struct Admitted {
    /// What it has reserved.
    pub held: Held,
    /// Its level: the highest of the budgets that it takes from, before it did.
    pub level: Level,
    /// The first of those at that level; `None` at level NONE.
    pub fullest: Option<Arc<Budget>>,
}

/// A hard budget has no room for what a running request needs beyond its worst case: the request has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hard budget has no room for what the request has grown to")]
pub struct Outgrown;

/// The budgets of all scopes.
#[derive(Debug)]
pub struct Budgets {
    plans: Plans,
    live: Live,
    calendar: Calendar,
    present: Present,
    changes: Changes,
    max_scopes: usize,
}

/// A scope that a request charges, and where it is if it is live.
struct Found<'a> {
    kind: ScopeKind,
    name: &'a str,
    plan: PlanId,
    place: Option<Place>,
    /// Whether one of its budgets stands in the way.
    objects: bool,
}

impl Budgets {
    /// Nothing is used, nothing reserved.
    pub fn new(rules: Rules) -> Self {
        let month = rules.calendar.month_of(0);
        let mut budgets = Self {
            plans: Plans::new(rules.budgets, &rules.thresholds),
            live: Live::default(),
            calendar: rules.calendar,
            present: Present { now_ms: 0, month },
            changes: Changes::default(),
            max_scopes: rules.max_scopes,
        };
        if let Some(plan) = budgets.plans.of(ScopeKind::Global, "") {
            let everything = (ScopeKind::Global, "");
            budgets.make_live(everything, plan);
        }
        budgets
    }

    /// Checks all of a request's budgets, and reserves on all of them what it asks for, or on none.
    ///
    /// A budget of whose unit it asks nothing does not bind it.
    ///
    /// # Errors
    /// [`Denied`] if any budget stands in the way. Nothing is reserved then.
    #[expect(
        clippy::result_large_err,
        reason = "what is admitted is as large, so a box would win nothing"
    )]
    pub fn admit(
        &mut self,
        scopes: &Scopes<'_>,
        ask: &Ask,
        priority: Priority,
        now_ms: u64,
    ) -> Result<Admitted, Denied> {
        self.tick(now_ms);
        let ask = ask.bounded();
        let mut found = self.find(scopes);
        let (level, fullest) = self.check(&mut found, &ask, priority);
        let outcome = match self.denied(&found, &ask, priority, level, now_ms) {
            Some(denied) => Err(denied),
            None => {
                let held = self.reserve(&found, ask);
                Ok(Admitted {
                    held,
                    level,
                    fullest,
                })
            }
        };
        self.tend();
        outcome
    }

    /// The level at which a request would be decided upon now. Nothing is reserved.
    pub fn level(&mut self, scopes: &Scopes<'_>, ask: &Ask, now_ms: u64) -> Level {
        self.tick(now_ms);
        let mut found = self.find(scopes);
        let (level, _) = self.check(&mut found, &ask.bounded(), Priority::Critical);
        self.tend();
        level
    }

    /// Reserves what a request asks for whatever the budgets say: for a proxy that records what it would refuse, but
    /// refuses nothing.
    pub fn charge(&mut self, scopes: &Scopes<'_>, ask: &Ask, now_ms: u64) -> Held {
        self.tick(now_ms);
        let found = self.find(scopes);
        let held = self.reserve(&found, ask.bounded());
        self.tend();
        held
    }

    /// Raises a running request's reservation to `ask`, which is all that it needs, not only what it needs more. What is
    /// less than it holds already changes nothing. Ordinary budgets always follow.
    ///
    /// # Errors
    /// [`Outgrown`] if its worst case became worse and a hard budget has no room for that. Nothing is changed then.
    pub fn grow(&mut self, held: &mut Held, ask: &Ask, now_ms: u64) -> Result<(), Outgrown> {
        self.tick(now_ms);
        let ask = ask.bounded();
        let grown = Ask {
            expected: held.ask.expected.max(&ask.expected),
            worst: held.ask.worst.max(&ask.worst),
        };
        let fits = held.places.iter().flatten().all(|place| {
            let Some(scope) = self.live.get_mut(*place) else {
                return true;
            };
            let plan = self.plans.get(scope.plan);
            scope.advance(plan, &self.present, &mut self.changes);
            plan.rules.iter().zip(&scope.fills).all(|(rule, fill)| {
                let more = rule.asked(&grown) - rule.asked(&held.ask);
                more == 0 || !rule.budget.hard || fill.filled().saturating_add(more) <= rule.limit
            })
        });
        if !fits {
            return Err(Outgrown);
        }
        for place in held.places.iter().flatten() {
            if let Some(scope) = self.live.get_mut(*place) {
                let plan = self.plans.get(scope.plan);
                scope.raise(plan, &held.ask, &grown);
                scope.follow(plan, &self.present, &mut self.changes);
            }
        }
        held.ask = grown;
        Ok(())
    }

    /// Replaces a request's reservation by what it used, which counts from now on. A request that used nothing, not even
    /// itself, is settled with nothing.
    pub fn settle(&mut self, held: Held, used: &Amounts, now_ms: u64) {
        self.tick(now_ms);
        let used = bounded(used);
        for place in held.places.into_iter().flatten() {
            if let Some(scope) = self.live.get_mut(place) {
                let plan = self.plans.get(scope.plan);
                scope.advance(plan, &self.present, &mut self.changes);
                scope.release(plan, &held.ask);
                scope.book(plan, self.present.now_ms, &used, &self.present);
                scope.follow(plan, &self.present, &mut self.changes);
            }
        }
    }

    /// Books what was used at an instant by a request that holds nothing: one of the past, found in the ledger at start. An
    /// instant after now counts as now.
    pub fn recall(&mut self, scopes: &Scopes<'_>, used: &Amounts, at_ms: u64, now_ms: u64) {
        self.tick(now_ms);
        let at_ms = at_ms.min(self.present.now_ms);
        let used = bounded(used);
        for found in self.find(scopes).into_iter().flatten() {
            let place = found
                .place
                .unwrap_or_else(|| self.make_live((found.kind, found.name), found.plan));
            if let Some(scope) = self.live.get_mut(place) {
                let plan = self.plans.get(scope.plan);
                scope.advance(plan, &self.present, &mut self.changes);
                scope.book(plan, at_ms, &used, &self.present);
                scope.follow(plan, &self.present, &mut self.changes);
            }
        }
        self.tend();
    }

    /// What changed its level since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// How many scopes are in memory.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Bytes of memory that the live scopes take, without what the allocator adds. It looks at all of them.
    pub fn memory_bytes(&self) -> usize {
        self.live.heap_bytes()
    }

    /// Lets the present follow the clock, if it is ahead.
    fn tick(&mut self, now_ms: u64) {
        let now_ms = now_ms.min(LAST_MS).max(self.present.now_ms);
        if now_ms >= self.present.month.ends_ms {
            self.present.month = self.calendar.month_of(now_ms);
        }
        self.present.now_ms = now_ms;
    }

    /// The scopes that a request charges and that have budgets.
    fn find<'a>(&mut self, scopes: &Scopes<'a>) -> [Option<Found<'a>>; KINDS] {
        ScopeKind::ALL.map(|kind| {
            let name = match kind {
                ScopeKind::Global => Some(""),
                ScopeKind::Session => Some(scopes.session),
                ScopeKind::Key => scopes.key,
                ScopeKind::Team => scopes.team,
                ScopeKind::Provider => Some(scopes.provider),
                ScopeKind::Model => scopes.model,
            }?;
            if !self.plans.use_kind(kind) {
                return None;
            }
            let place = self.place_of(kind, name);
            let plan = match place.and_then(|place| self.live.get(place)) {
                Some(scope) => scope.plan,
                None => self.plans.of(kind, name)?,
            };
            Some(Found {
                kind,
                name,
                plan,
                place,
                objects: false,
            })
        })
    }

    /// The request's level. Marks the scopes that stand in its way.
    fn check(
        &mut self,
        found: &mut [Option<Found<'_>>],
        ask: &Ask,
        priority: Priority,
    ) -> (Level, Option<Arc<Budget>>) {
        let mut highest = Level::None;
        let mut fullest = None;
        for found in found.iter_mut().flatten() {
            let plan = self.plans.get(found.plan);
            let mut scope = found.place.and_then(|place| self.live.get_mut(place));
            if let Some(scope) = &mut scope {
                scope.recent = true;
                scope.advance(plan, &self.present, &mut self.changes);
            }
            for (place, rule) in plan.rules.iter().enumerate() {
                let asked = rule.asked(ask);
                if asked > 0 {
                    let fill = scope.as_ref().map(|scope| scope.fills[place]);
                    let fill = fill.unwrap_or_default();
                    if fill.level > highest {
                        (highest, fullest) = (fill.level, Some(&rule.budget));
                    }
                    found.objects |= rule.objection(&fill, asked, priority).is_some();
                }
            }
        }
        (highest, fullest.cloned())
    }

    /// Takes what was checked, or what passes unchecked.
    fn reserve(&mut self, found: &[Option<Found<'_>>; KINDS], ask: Ask) -> Held {
        let places = found.each_ref().map(|found| {
            let found = found.as_ref()?;
            let place = found
                .place
                .unwrap_or_else(|| self.make_live((found.kind, found.name), found.plan));
            let scope = self.live.get_mut(place)?;
            let plan = self.plans.get(scope.plan);
            scope.advance(plan, &self.present, &mut self.changes);
            scope.reserve(plan, &ask);
            scope.follow(plan, &self.present, &mut self.changes);
            Some(place)
        });
        Held { places, ask }
    }

    /// Makes a scope live of which nothing is known.
    fn make_live(&mut self, (kind, name): (ScopeKind, &str), id: PlanId) -> Place {
        let scope = Scope::new(kind, name.into(), id, self.plans.get(id));
        self.live.insert(scope)
    }
}

impl Found<'_> {
    fn key(&self) -> ScopeKey {
        ScopeKey {
            kind: self.kind,
            name: self.name.to_owned(),
        }
    }
}
