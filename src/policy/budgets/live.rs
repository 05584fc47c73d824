//! The scopes in memory: found by name, each at a place that stays its own as long as it lives.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::put_away;
use super::scope::Scope;
use crate::policy::budget::{ScopeKey, ScopeKind};

/// Where a live scope is. A scope with reservations keeps its place.
pub(super) type Place = u32;

#[derive(Debug, Default)]
pub(super) struct Live {
    scopes: Vec<Option<Scope>>,
    free: Vec<Place>,
    /// By name, for each kind.
    index: [HashMap<Arc<str>, Place>; ScopeKind::ALL.len()],
    /// The place that the hand looks at next.
    hand: usize,
    /// What was put away and not yet fetched by the caller.
    pub(super) leaving: BTreeMap<ScopeKey, Vec<u8>>,
    /// How many scopes were put away since the start.
    pub(super) evicted: u64,
}

impl Live {
    pub(super) fn len(&self) -> usize {
        self.scopes.len() - self.free.len()
    }

    /// Finds a scope.
    pub(super) fn find(&self, kind: ScopeKind, name: &str) -> Option<Place> {
        self.index[kind as usize].get(name).copied()
    }

    /// Takes a scope in that is not here yet.
    pub(super) fn insert(&mut self, scope: Scope) -> Place {
        let name = Arc::clone(&scope.name);
        let kind = scope.kind;
        let place = match self.free.pop() {
            Some(place) => {
                self.scopes[place as usize] = Some(scope);
                place
            }
            None => {
                self.scopes.push(Some(scope));
                (self.scopes.len() - 1) as Place
            }
        };
        self.index[kind as usize].insert(name, place);
        place
    }

    pub(super) fn get(&self, place: Place) -> Option<&Scope> {
        self.scopes.get(place as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Scope> {
        self.scopes.get_mut(place as usize)?.as_mut()
    }

    /// Forgets a scope.
    pub(super) fn drop(&mut self, place: Place) {
        if let Some(scope) = self.scopes[place as usize].take() {
            self.index[scope.kind as usize].remove(&scope.name);
            self.free.push(place);
        }
    }

    /// Puts a scope away.
    pub(super) fn put_away(&mut self, place: Place) {
        if let Some(scope) = self.get(place) {
            let bytes = put_away::encode(scope);
            self.leaving.insert(scope.key(), bytes);
            self.evicted += 1;
            self.drop(place);
        }
    }

    /// Moves the hand on; the place that it looked at, which may be empty.
    pub(super) fn advance_hand(&mut self) -> Place {
        if self.hand >= self.scopes.len() {
            self.hand = 0;
        }
        self.hand += 1;
        (self.hand - 1) as Place
    }

    /// How many places there are, with those that are empty.
    pub(super) fn places(&self) -> usize {
        self.scopes.len()
    }

    /// The places of all live scopes.
    pub(super) fn occupied(&self) -> impl Iterator<Item = Place> {
        let places = 0..self.scopes.len() as Place;
        places.filter(|place| self.get(*place).is_some())
    }

    /// The places of the live scopes of one kind.
    pub(super) fn of_kind(&self, kind: ScopeKind) -> impl Iterator<Item = Place> {
        self.index[kind as usize].values().copied()
    }

    /// Bytes on the heap, without what the allocator adds.
    pub(super) fn heap_bytes(&self) -> usize {
        // A bucket of the standard map is its entry and one byte of control; it fills seven eighths of them at most.
        let index: usize = self.index.iter().map(HashMap::capacity).sum();
        let bucket = size_of::<(Arc<str>, Place)>() + 1;
        let scopes = self.scopes.iter().flatten();
        scopes.map(Scope::heap_bytes).sum::<usize>()
            + self.scopes.capacity() * size_of::<Option<Scope>>()
            + self.free.capacity() * size_of::<Place>()
            + index * bucket * 8 / 7
    }
}
