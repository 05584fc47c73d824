//! Keeps the number of live scopes bounded: a hand goes round over them, a little with every request.
//!
//! What it finds idle, with nothing left in any window, it drops. While more scopes are live than may be, it puts away
//! those that were not used since it last passed, so that often used ones stay (the clock algorithm, second chance).
//! Everything together and scopes with reservations always stay.

use super::Budgets;
use super::live::Place;
use crate::policy::budget::ScopeKind;

/// Scopes that it looks at with every request.
const LOOKS: usize = 2;

/// Most scopes that it looks at to find one to put away. If all of them were used since, the first has to go: the time
/// that a request can take stays bounded.
const MOST_LOOKS: usize = 1000;

/// What the hand finds.
enum Look {
    /// An empty place, or a scope that was idle and is dropped now.
    Empty,
    /// It must stay.
    Needed,
    /// It was used since the hand last passed.
    Recent(Place),
    /// It was not.
    Stale(Place),
}

impl Budgets {
    /// To be called once for every request.
    pub(super) fn tend(&mut self) {
        for _ in 0..LOOKS {
            self.look();
        }
        while self.live.len() > self.max_scopes && self.put_one_away() {}
    }

    /// From now on no more scopes than this are in memory at once, besides those that must stay.
    pub fn bound(&mut self, max_scopes: usize) {
        self.max_scopes = max_scopes;
        self.tend();
    }

    /// Whether there is one scope less now.
    fn put_one_away(&mut self) -> bool {
        let mut recent = None;
        // Twice round, so that those used since have had their second chance.
        for _ in 0..MOST_LOOKS.min(2 * self.live.places()) {
            let live = self.live.len();
            match self.look() {
                Look::Empty if self.live.len() < live => return true,
                Look::Empty | Look::Needed => {}
                Look::Recent(place) => recent = recent.or(Some(place)),
                Look::Stale(place) => {
                    self.live.put_away(place);
                    return true;
                }
            }
        }
        let Some(place) = recent else { return false };
        let put_away = self.live.get(place).is_some();
        self.live.put_away(place);
        put_away
    }

    fn look(&mut self) -> Look {
        let place = self.live.advance_hand();
        let Some(scope) = self.live.get_mut(place) else {
            return Look::Empty;
        };
        if scope.holders > 0 || scope.kind == ScopeKind::Global {
            return Look::Needed;
        }
        let plan = self.plans.get(scope.plan);
        scope.advance(plan, &self.present, &mut self.changes);
        if std::mem::take(&mut scope.recent) {
            return Look::Recent(place);
        }
        if scope.is_idle() {
            self.live.drop(place);
            return Look::Empty;
        }
        Look::Stale(place)
    }
}
