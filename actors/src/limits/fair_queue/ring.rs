//! Owners that take turns.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Where a call stands: its turn, and a number within it.
pub(super) type Place = (u64, i64);

/// One call of each owner in every turn, first in first out.
#[derive(Debug)]
pub(super) struct Ring<O, K> {
    calls: BTreeMap<Place, (O, K)>,
    /// How many calls an owner has here, and the turn of its last one.
    owners: HashMap<O, (usize, u64)>,
    turn: u64,
    serial: i64,
}

impl<O, K> Default for Ring<O, K> {
    fn default() -> Self {
        Self { calls: BTreeMap::new(), owners: HashMap::new(), turn: 0, serial: 0 }
    }
}

impl<O: Eq + Hash + Clone, K> Ring<O, K> {
    /// Behind the owner's other calls. Returns the place, to [remove](Self::remove) it by.
    pub(super) fn push(&mut self, owner: &O, key: K) -> Place {
        let turn = self.turn_of(owner);
        self.insert(owner, key, turn, 1)
    }

    /// In front of all.
    pub(super) fn push_front(&mut self, owner: &O, key: K) -> Place {
        self.insert(owner, key, 0, -1)
    }

    /// The call whose turn it is.
    pub(super) fn pop(&mut self) -> Option<K> {
        let place = *self.calls.keys().next()?;
        self.turn = self.turn.max(place.0);
        self.remove(place)
    }

    /// Takes one call out.
    pub(super) fn remove(&mut self, place: Place) -> Option<K> {
        let (owner, key) = self.calls.remove(&place)?;
        if let Some((calls, _)) = self.owners.get_mut(&owner) {
            *calls -= 1;
            if *calls == 0 {
                self.owners.remove(&owner);
            }
        }
        Some(key)
    }

    /// Calls of one owner.
    pub(super) fn of(&self, owner: &O) -> usize {
        self.owners.get(owner).map_or(0, |(calls, _)| *calls)
    }

    /// Calls that would be served before one more of `owner`.
    pub(super) fn ahead_of(&self, owner: &O) -> usize {
        self.calls.range(..(self.turn_of(owner), i64::MAX)).count()
    }

    /// Calls of all.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The turn of one more call: the next one, or the one after its owner's last.
    fn turn_of(&self, owner: &O) -> u64 {
        1 + self.owners.get(owner).map_or(self.turn, |(_, last)| self.turn.max(*last))
    }

    fn insert(&mut self, owner: &O, key: K, turn: u64, sign: i64) -> Place {
        self.serial += 1;
        let place = (turn, sign * self.serial);
        let (calls, last) = self.owners.entry(owner.clone()).or_default();
        (*calls, *last) = (*calls + 1, turn.max(*last));
        self.calls.insert(place, (owner.clone(), key));
        place
    }
}
