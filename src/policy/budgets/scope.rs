//! What is kept of one live scope: what was used in each of its windows, and of each of its budgets what running requests
//! have reserved, and the level.

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
    /// One for each window of the plan.
    pub(super) counters: Box<[Counter]>,
    /// One for each budget of the plan.
    pub(super) meters: Box<[Meter]>,
}

/// What is kept of a budget of a scope besides its window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    /// By running requests, in the budget's unit.
    pub(super) reserved: i128,
    pub(super) level: Level,
}

/// How full a budget is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fill {
    pub(super) settled: i128,
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
            counters: plan.windows.iter().copied().map(Counter::new).collect(),
            meters: vec![Meter::default(); plan.rules.len()].into(),
        }
    }

    pub(super) fn key(&self) -> ScopeKey {
        ScopeKey {
            kind: self.kind,
            name: self.name.to_string(),
        }
    }

    /// How full the budget at a place of the plan is, as of the last time that it was advanced.
    pub(super) fn fill(&self, plan: &Plan, place: usize) -> Fill {
        let rule = &plan.rules[place];
        let meter = &self.meters[place];
        Fill {
            settled: rule.share_of(self.counters[rule.window].total()),
            reserved: meter.reserved,
            level: meter.level,
        }
    }

    /// Forgets what has left the windows. To be called before anything is read or added.
    ///
    /// That this happens only when somebody looks changes nothing: between two looks a fill can only fall, and the level
    /// to which it falls does not depend on the way. But it must have fallen before something is added.
    pub(super) fn advance(&mut self, plan: &Plan, present: &Present, changes: &mut Changes) {
        let mut eased = false;
        for counter in &mut self.counters {
            eased |= counter.advance(present);
        }
        if eased {
            self.follow(plan, present, changes);
        }
    }

    /// Lets the levels follow the fills. To be called after anything was added or taken back.
    pub(super) fn follow(&mut self, plan: &Plan, present: &Present, changes: &mut Changes) {
        for place in 0..self.meters.len() {
            let fill = self.fill(plan, place);
            let rule = &plan.rules[place];
            let level = rule.marks.level(fill.filled(), fill.level);
            if level != fill.level {
                self.meters[place].level = level;
                changes.push(LevelChange {
                    at_ms: present.now_ms,
                    budget: Arc::clone(&rule.budget),
                    scope: self.key(),
                    from: fill.level,
                    to: level,
                    filled: fill.filled(),
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

    /// Replaces a request's reservation by a larger one.
    pub(super) fn raise(&mut self, plan: &Plan, from: &Ask, to: &Ask) {
        for (rule, meter) in plan.rules.iter().zip(&mut self.meters) {
            meter.reserved += rule.asked(to) - rule.asked(from);
        }
    }

    /// Takes a request's reservation back.
    pub(super) fn release(&mut self, plan: &Plan, ask: &Ask) {
        self.holders -= 1;
        self.raise(plan, ask, &Ask::default());
    }

    /// Books what was used at an instant, which is not after the present.
    pub(super) fn book(&mut self, at_ms: u64, used: &Amounts, present: &Present) {
        self.recent = true;
        for counter in &mut self.counters {
            counter.add(at_ms, used, present);
        }
    }

    /// Whether it would be no loss to forget the scope, as of the last time that it was advanced.
    pub(super) fn is_idle(&self) -> bool {
        self.holders == 0
            && self.counters.iter().all(Counter::is_empty)
            && self.meters.iter().all(|meter| meter.level == Level::None)
    }

    /// Bytes on the heap, without what the allocator adds.
    pub(super) fn heap_bytes(&self) -> usize {
        let slots: usize = self.counters.iter().map(Counter::heap_bytes).sum();
        slots + size_of_val(&*self.counters) + size_of_val(&*self.meters) + self.name.len() + 16
    }
}
