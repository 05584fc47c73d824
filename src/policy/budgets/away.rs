//! Scopes that leave memory and come back: the hand puts them away, the ledger keeps them, and a request that needs one
//! has it restored before it is admitted.

use super::live::Place;
use super::plan::PlanId;
use super::put_away::{self, Undecodable};
use super::{Budgets, Found};
use crate::policy::budget::{ScopeKey, ScopeKind, Scopes};

impl Budgets {
    /// The scopes that this request needs and that may have been put away: they must be [`restore`](Self::restore)d before
    /// the request is admitted or recalled. Empty, and without cost, as long as nothing was ever put away.
    pub fn missing(&mut self, scopes: &Scopes<'_>) -> Vec<ScopeKey> {
        if self.live.evicted == 0 {
            return Vec::new();
        }
        let found = self.find(scopes);
        let missing = found.iter().flatten().filter(|found| found.place.is_none());
        missing.map(Found::key).collect()
    }

    /// The scopes that were put away since the last call, for the ledger to keep. Until they are taken, the engine brings
    /// them back by itself.
    pub fn take_evicted(&mut self) -> Vec<(ScopeKey, Vec<u8>)> {
        std::mem::take(&mut self.live.leaving).into_iter().collect()
    }

    /// Brings back a scope that was put away: `bytes` is what the ledger got last, `None` if it got nothing. A scope that
    /// is live stays as it is.
    ///
    /// Scopes that are restored are put away at the earliest by the next request, so they are best restored and admitted
    /// under one lock.
    ///
    /// # Errors
    /// [`Undecodable`] if the bytes are damaged. The scope is still missing then.
    pub fn restore(
        &mut self,
        key: &ScopeKey,
        bytes: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<(), Undecodable> {
        self.tick(now_ms);
        let Some(id) = self.plans.of(key.kind, &key.name) else {
            return Ok(());
        };
        if self.place_of(key.kind, &key.name).is_some() {
            return Ok(());
        }
        let place = match bytes {
            Some(bytes) => self.bring_back(key, id, bytes)?,
            None => self.make_live((key.kind, &key.name), id),
        };
        if let Some(scope) = self.live.get_mut(place) {
            scope.recent = true;
        }
        Ok(())
    }

    /// How many scopes were put away since the start.
    pub const fn evicted(&self) -> u64 {
        self.live.evicted
    }

    /// Where a scope is. One that was put away, but not yet taken by the caller, comes back.
    pub(super) fn place_of(&mut self, kind: ScopeKind, name: &str) -> Option<Place> {
        let place = self.live.find(kind, name);
        if place.is_some() || self.live.leaving.is_empty() {
            return place;
        }
        let key = ScopeKey {
            kind,
            name: name.to_owned(),
        };
        let bytes = self.live.leaving.remove(&key)?;
        let id = self.plans.of(kind, name)?;
        let place = self.bring_back(&key, id, &bytes);
        Some(place.expect("this process wrote these bytes for this scope"))
    }

    /// Makes a scope live as it was when it was put away.
    fn bring_back(
        &mut self,
        key: &ScopeKey,
        id: PlanId,
        bytes: &[u8],
    ) -> Result<Place, Undecodable> {
        let plan = self.plans.get(id);
        let mut scope = put_away::decode(key, id, plan, bytes)?;
        scope.recount(plan, &self.present, &mut self.changes);
        Ok(self.live.insert(scope))
    }
}
