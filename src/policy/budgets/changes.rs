//! Remembers changes of level until they are fetched, for events and logs.

use std::sync::Arc;

use crate::policy::budget::{Budget, ScopeKey};
use crate::policy::throttle::Level;

/// Most changes that are remembered.
const MOST: usize = 1024;

/// A budget of a scope changed its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelChange {
    /// When it was noticed, in Unix milliseconds. Levels of scopes that nobody uses fall unseen until they are looked at.
    pub at_ms: u64,
    /// The budget.
    pub budget: Arc<Budget>,
    /// Whose.
    pub scope: ScopeKey,
    /// The level before.
    pub from: Level,
    /// The level since.
    pub to: Level,
    /// Settled and reserved, in the budget's unit.
    pub filled: i128,
    /// The limit, in the budget's unit.
    pub limit: i128,
}

/// What changed, oldest first.
#[derive(Debug, Default)]
pub struct Changes {
    /// The oldest 1,024 changes.
    pub changes: Vec<LevelChange>,
    /// How many came after these and were not kept.
    pub dropped: u64,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.dropped == 0
    }

    pub(super) fn push(&mut self, change: LevelChange) {
        if self.changes.len() < MOST {
            self.changes.push(change);
        } else {
            self.dropped += 1;
        }
    }
}
