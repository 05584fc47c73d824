//! Virtual time: whose turn it is among names that each have something waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names that are idle are forgotten when there are so many more than those who wait.
const IDLE_KEPT: usize = 64;

/// Names, each with its own time and something of its own (`V`).
#[derive(Debug)]
pub(super) struct Turns<V> {
    names: HashMap<Arc<str>, Name<V>>,
    /// Names with something waiting, by their time; of the same time, who came first.
    order: BTreeMap<(u128, u64), Arc<str>>,
    /// Counts who comes.
    came: u64,
    /// The time of the last one served.
    present: u128,
    /// Idle names are looked at when there are so many names.
    sweep_at: usize,
}

#[derive(Debug)]
struct Name<V> {
    time: u128,
    /// When it came into the order.
    came: u64,
    waits: bool,
    value: V,
}

impl<V> Default for Turns<V> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            order: BTreeMap::new(),
            came: 0,
            present: 0,
            sweep_at: IDLE_KEPT,
        }
    }
}

impl<V: Default> Turns<V> {
    /// Something of a name waits from now on.
    pub(super) fn enter(&mut self, name: &str) -> (Arc<str>, &mut V) {
        let present = self.present;
        let name: Arc<str> = match self.names.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => name.into(),
        };
        let known = self.names.entry(Arc::clone(&name)).or_insert_with(|| Name {
            time: present,
            came: 0,
            waits: false,
            value: V::default(),
        });
        if !known.waits {
            known.waits = true;
            known.time = known.time.max(present);
            known.came = self.came;
            self.came += 1;
            self.order
                .insert((known.time, known.came), Arc::clone(&name));
        }
        (name, &mut known.value)
    }

    /// Changes what a name has; `change` tells whether anything of it still waits. Its time goes on by `weight`, which
    /// is zero when nothing was served.
    pub(super) fn change(
        &mut self,
        name: &Arc<str>,
        weight: u64,
        change: impl FnOnce(&mut V) -> bool,
    ) {
        let Some(known) = self.names.get_mut(name) else {
            return;
        };
        let waits = change(&mut known.value);
        if weight > 0 || !waits {
            self.order.remove(&(known.time, known.came));
            if weight > 0 {
                self.present = self.present.max(known.time);
                known.time += u128::from(weight);
            }
            known.waits = waits;
            if waits {
                known.came = self.came;
                self.came += 1;
                self.order
                    .insert((known.time, known.came), Arc::clone(name));
            }
        }
        self.forget_idle();
    }

    /// What the names have that have something waiting, in the order of their turns.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &V> {
        self.order
            .values()
            .filter_map(|name| Some(&self.names.get(name)?.value))
    }

    /// What a name has.
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.names.get(name).map(|known| &known.value)
    }

    /// How many names have something waiting.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// Names that wait for nothing and are not ahead of the others need not be remembered; none need be when nobody
    /// waits.
    fn forget_idle(&mut self) {
        if self.order.is_empty() {
            self.names.clear();
        } else if self.names.len() >= self.sweep_at {
            let present = self.present;
            self.names
                .retain(|_, known| known.waits || known.time > present);
            // Each look is paid for by as many names that came.
            self.sweep_at = IDLE_KEPT + 2 * self.names.len();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.names.len()
    }

    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        self.names.is_empty() && self.order.is_empty()
    }
}
