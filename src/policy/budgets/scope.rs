//! What is kept of one live scope: what was used in each of its windows, and how full each of its budgets is.

use std::sync::Arc;

use super::Ask;
use super::changes::{Changes, LevelChange};
use super::plan::{Plan, PlanId};
use crate::policy::budget::{Amounts, ScopeKey, ScopeKind};
use crate::policy::throttle::Level;
use crate::policy::window::{Counter, Present};

/// One live scope.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) kind: ScopeKind,
    /// Shared with the index of live scopes.
    pub(super) name: Arc<str>,
    pub(super) plan: PlanId,
    /// How many running requests have reserved something.
    pub(super) holders: u32,
    /// Used since the hand last passed.
    pub(super) recent: bool,
    /// When something leaves one of the windows for the first time (Unix milliseconds); the largest number if all are
    /// empty. Until then nothing has to be counted anew.
    eases_at_ms: u64,
    /// One for each window of the plan.
    pub(super) counters: Box<[Counter]>,
    /// How full each budget of the plan is.
    pub(super) fills: Box<[Fill]>,
}

/// How full a budget is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fill {
    /// Used in its window, in the budget's unit.
    pub(super) settled: i128,
    /// By running requests, in the budget's unit.
    pub(super) reserved: i128,
    pub(super) level: Level,
}

impl Fill {
    pub(super) const fn filled(&self) -> i128 {
        self.settled.saturating_add(self.reserved)
    }
}

impl Scope {
    pub(super) fn new(kind: ScopeKind, name: Arc<str>, id: PlanId, plan: &Plan) -> Self {
        Self {
            kind,
            name,
            plan: id,
            holders: 0,
            recent: false,
            eases_at_ms: u64::MAX,
            counters: plan.windows.iter().copied().map(Counter::new).collect(),
            fills: vec![Fill::default(); plan.rules.len()].into(),
        }
    }

    pub(super) fn key(&self) -> ScopeKey {
        ScopeKey {
            kind: self.kind,
            name: self.name.to_string(),
        }
    }

    /// Forgets what has left the windows. To be called before anything is read or added.
    ///
    /// That this happens only when somebody looks changes nothing: between two looks a fill can only fall, and the level
    /// to which it falls does not depend on the way. But it must have fallen before something is added.
    pub(super) fn advance(&mut self, plan: &Plan, present: &Present, changes: &mut Changes) {
        if self.eases_at_ms <= present.now_ms {
            self.recount(plan, present, changes);
        }
    }

    /// Counts the windows anew, and lets the levels follow.
    pub(super) fn recount(&mut self, plan: &Plan, present: &Present, changes: &mut Changes) {
        for counter in &mut self.counters {
            counter.advance(present);
        }
        for (rule, fill) in plan.rules.iter().zip(&mut self.fills) {
            fill.settled = self.counters[rule.window].sum(|used| rule.share_of(used));
        }
        self.eases_at_ms = self.eases_at(present);
        self.follow(plan, present, changes);
    }

    fn eases_at(&self, present: &Present) -> u64 {
        let eases_at = |counter: &Counter| counter.eases_at(present);
        self.counters
            .iter()
            .filter_map(eases_at)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Lets the levels follow the fills. To be called after anything was added or taken back.
    pub(super) fn follow(&mut self, plan: &Plan, present: &Present, changes: &mut Changes) {
        for (place, rule) in plan.rules.iter().enumerate() {
            let fill = &mut self.fills[place];
            let (from, filled) = (fill.level, fill.filled());
            let to = rule.marks.level(filled, from);
            if to != from {
                fill.level = to;
                changes.push(LevelChange {
                    at_ms: present.now_ms,
                    budget: Arc::clone(&rule.budget),
                    scope: self.key(),
                    from,
                    to,
                    filled,
                    limit: rule.budget.limit.amount(),
                });
            }
        }
    }

    /// Begins to hold a request's reservation.
    pub(super) fn reserve(&mut self, plan: &Plan, ask: &Ask) {
        self.holders += 1;
        self.recent = true;
        self.raise(plan, &Ask::default(), ask);
    }

    /// Replaces a request's reservation by another one.
    pub(super) fn raise(&mut self, plan: &Plan, from: &Ask, to: &Ask) {
        for (rule, fill) in plan.rules.iter().zip(&mut self.fills) {
            fill.reserved += rule.asked(to) - rule.asked(from);
        }
    }

    /// Takes a request's reservation back.
    pub(super) fn release(&mut self, plan: &Plan, ask: &Ask) {
        self.holders -= 1;
        self.raise(plan, ask, &Ask::default());
    }

    /// Books what was used at an instant, which is not after the present.
    pub(super) fn book(&mut self, plan: &Plan, at_ms: u64, used: &Amounts, present: &Present) {
        self.recent = true;
        if *used == Amounts::default() {
            return;
        }
        for (window, counter) in self.counters.iter_mut().enumerate() {
            if !counter.add(at_ms, used, present) {
                continue;
            }
            for (rule, fill) in plan.rules.iter().zip(&mut self.fills) {
                if rule.window == window {
                    fill.settled = fill.settled.saturating_add(rule.share_of(used));
                }
            }
        }
        self.eases_at_ms = self.eases_at(present);
    }

    /// Whether it would be no loss to forget a scope without reservations, as of the last time that it was advanced.
    pub(super) fn is_idle(&self) -> bool {
        let no_level = |fill: &Fill| fill.level == Level::None;
        self.eases_at_ms == u64::MAX && self.fills.iter().all(no_level)
    }

    /// Bytes on the heap, without what the allocator adds.
    pub(super) fn heap_bytes(&self) -> usize {
        let slots: usize = self.counters.iter().map(Counter::heap_bytes).sum();
        slots + size_of_val(&*self.counters) + size_of_val(&*self.fills) + self.name.len() + 16
    }
}
