//! Which budgets apply to which scope, worked out once: a plan for each kind, and one for each thing that is named.

use std::collections::HashMap;
use std::sync::Arc;

use super::marks::Marks;
use super::{Ask, MOST_ATTOS};
use crate::policy::budget::{Amounts, Budget, Limit, ScopeKind, Window};
use crate::policy::throttle::Thresholds;

/// One budget, ready to be checked.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) budget: Arc<Budget>,
    /// Where its window is among the windows of its plan.
    pub(super) window: usize,
    /// In the budget's unit. Money beyond what the engine can hold counts as the most that it can.
    pub(super) limit: i128,
    pub(super) marks: Marks,
}

impl Rule {
    /// How much a request reserves: its worst case on hard budgets.
    pub(super) fn asked(&self, ask: &Ask) -> i128 {
        self.budget.share_of(if self.budget.hard {
            &ask.worst
        } else {
            &ask.expected
        })
    }

    /// How much of this budget the amounts are.
    pub(super) fn share_of(&self, amounts: &Amounts) -> i128 {
        self.budget.share_of(amounts)
    }
}

/// The budgets of a scope, in the order of the config, and the windows that they need.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rules: Box<[Rule]>,
    pub(super) windows: Box<[Window]>,
}

/// Where a plan is among all plans.
pub(super) type PlanId = u32;

/// All plans.
#[derive(Debug)]
pub(super) struct Plans {
    plans: Vec<Plan>,
    kinds: [Kind; ScopeKind::ALL.len()],
}

/// The plans of one kind of scope.
#[derive(Debug, Default)]
struct Kind {
    /// For names that no budget names; `None` if no budget is for each of the kind.
    each: Option<PlanId>,
    named: HashMap<String, PlanId>,
}

impl Plans {
    pub(super) fn new(budgets: Vec<Budget>, thresholds: &Thresholds) -> Self {
        let budgets: Vec<Arc<Budget>> = budgets.into_iter().map(Arc::new).collect();
        let mut plans = Vec::new();
        let kinds = ScopeKind::ALL.map(|kind| {
            let mut plan_of = |name: Option<&str>| {
                let applies = |budget: &&Arc<Budget>| {
                    budget.scope == kind
                        && (budget.only.is_none() || budget.only.as_deref() == name)
                };
                let plan = Plan::new(budgets.iter().filter(applies), thresholds);
                plans.push(plan);
                (plans.len() - 1) as PlanId
            };
            let of_kind = || budgets.iter().filter(|budget| budget.scope == kind);
            Kind {
                each: of_kind()
                    .any(|budget| budget.only.is_none())
                    .then(|| plan_of(None)),
                named: of_kind()
                    .filter_map(|budget| budget.only.clone())
                    .map(|name| {
                        let plan = plan_of(Some(&name));
                        (name, plan)
                    })
                    .collect(),
            }
        });
        Self { plans, kinds }
    }

    /// Whether any budget is for this kind of scope.
    pub(super) fn use_kind(&self, kind: ScopeKind) -> bool {
        let kind = &self.kinds[kind as usize];
        kind.each.is_some() || !kind.named.is_empty()
    }

    /// The plan of a scope; `None` if no budget is for it.
    pub(super) fn of(&self, kind: ScopeKind, name: &str) -> Option<PlanId> {
        let kind = &self.kinds[kind as usize];
        kind.named.get(name).copied().or(kind.each)
    }

    pub(super) fn get(&self, id: PlanId) -> &Plan {
        &self.plans[id as usize]
    }
}

impl Plan {
    fn new<'a>(budgets: impl Iterator<Item = &'a Arc<Budget>>, thresholds: &Thresholds) -> Self {
        let mut windows = Vec::new();
        let rules = budgets
            .map(|budget| {
                let window = windows
                    .iter()
                    .position(|window| *window == budget.window)
                    .unwrap_or_else(|| {
                        windows.push(budget.window);
                        windows.len() - 1
                    });
                let limit = match budget.limit {
                    Limit::Usd(cost) => cost.attos().min(MOST_ATTOS - 1),
                    Limit::Tokens(_) | Limit::Requests(_) => budget.limit.amount(),
                };
                debug_assert!(limit > 0, "a limit is never zero");
                Rule {
                    budget: Arc::clone(budget),
                    window,
                    limit,
                    marks: Marks::new(limit, thresholds),
                }
            })
            .collect();
        Self {
            rules,
            windows: windows.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::budgets::samples::budget;

    fn names(plans: &Plans, kind: ScopeKind, name: &str) -> Option<Vec<String>> {
        let plan = plans.get(plans.of(kind, name)?);
        Some(
            plan.rules
                .iter()
                .map(|rule| rule.budget.name.clone())
                .collect(),
        )
    }

    #[test]
    fn a_named_scope_has_its_own_budgets_and_those_of_its_kind() {
        let budgets = vec![
            budget("session-day", "session", "day", "10 tokens"),
            budget("research", "team:research", "hour", "5 usd"),
            budget("key-a", "key:a", "hour", "5 usd"),
            budget("team-day", "team", "day", "10 tokens"),
            budget("research-day", "team:research", "day", "5 usd"),
        ];
        let plans = Plans::new(budgets, &Thresholds::default());
        let names = |kind, name| names(&plans, kind, name);
        let named = ["research", "team-day", "research-day"].map(str::to_owned);
        assert_eq!(names(ScopeKind::Team, "research"), Some(named.into()));
        assert_eq!(
            names(ScopeKind::Team, "docs"),
            Some(vec!["team-day".to_owned()])
        );
        assert_eq!(names(ScopeKind::Key, "a"), Some(vec!["key-a".to_owned()]));
        assert_eq!(names(ScopeKind::Key, "b"), None);
        assert_eq!(names(ScopeKind::Global, ""), None);
        assert!(plans.use_kind(ScopeKind::Key) && !plans.use_kind(ScopeKind::Model));
    }

    #[test]
    fn budgets_of_one_window_share_it() {
        let budgets = vec![
            budget("tokens", "session", "day", "10 tokens"),
            budget("hour", "session", "hour", "10 tokens"),
            budget("usd", "session", "day", "5 usd"),
        ];
        let plans = Plans::new(budgets, &Thresholds::default());
        let plan = plans.get(plans.of(ScopeKind::Session, "any").expect("it has budgets"));
        assert_eq!(*plan.windows, [Window::Day, Window::Hour]);
        let windows: Vec<_> = plan.rules.iter().map(|rule| rule.window).collect();
        assert_eq!(windows, [0, 1, 0]);
    }
}
