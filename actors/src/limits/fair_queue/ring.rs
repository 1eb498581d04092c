//! Lanes that take turns.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// One lane per owner, first in first out; lanes are served one call each in turn. No operation but
/// [`ahead_of`](Self::ahead_of) looks at more than one lane.
#[derive(Debug)]
pub(super) struct Ring<O, K> {
    lanes: HashMap<O, Lane<K>>,
    /// The owners by the number of their lane's turn.
    turns: BTreeMap<i64, O>,
    len: usize,
    /// The numbers in use: turns, and places within a lane.
    first: i64,
    last: i64,
}

#[derive(Debug)]
struct Lane<K> {
    turn: i64,
    calls: BTreeMap<i64, K>,
}

impl<O, K> Default for Ring<O, K> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), turns: BTreeMap::new(), len: 0, first: 0, last: 0 }
    }
}

impl<O: Eq + Hash + Clone, K> Ring<O, K> {
    /// At the end of the owner's lane. Returns the place, to [remove](Self::remove) it by.
    pub(super) fn push(&mut self, owner: &O, key: K) -> i64 {
        self.last += 1;
        let place = self.last;
        if !self.lanes.contains_key(owner) {
            self.turns.insert(place, owner.clone());
        }
        let lane = self.lanes.entry(owner.clone());
        lane.or_insert_with(|| Lane { turn: place, calls: BTreeMap::new() }).calls.insert(place, key);
        self.len += 1;
        place
    }

    /// In front of its lane, and its lane's turn is next.
    pub(super) fn push_front(&mut self, owner: &O, key: K) -> i64 {
        self.first -= 1;
        let place = self.first;
        let lane = self.lanes.entry(owner.clone());
        let lane = lane.or_insert_with(|| Lane { turn: place, calls: BTreeMap::new() });
        self.turns.remove(&lane.turn);
        self.turns.insert(place, owner.clone());
        lane.turn = place;
        lane.calls.insert(place, key);
        self.len += 1;
        place
    }

    /// The first call of the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<K> {
        let (_, owner) = self.turns.pop_first()?;
        let lane = self.lanes.get_mut(&owner)?;
        let (_, key) = lane.calls.pop_first()?;
        if lane.calls.is_empty() {
            self.lanes.remove(&owner);
        } else {
            self.last += 1;
            lane.turn = self.last;
            self.turns.insert(self.last, owner);
        }
        self.len -= 1;
        Some(key)
    }

    /// Takes one call out of the owner's lane.
    pub(super) fn remove(&mut self, owner: &O, place: i64) {
        let Some(lane) = self.lanes.get_mut(owner) else { return };
        self.len -= usize::from(lane.calls.remove(&place).is_some());
        if lane.calls.is_empty() {
            self.turns.remove(&lane.turn);
            self.lanes.remove(owner);
        }
    }

    /// Calls in the owner's lane.
    pub(super) fn of(&self, owner: &O) -> usize {
        self.lanes.get(owner).map_or(0, |lane| lane.calls.len())
    }

    /// Calls that would be served before one more of `owner`: every other lane has as many turns at most.
    pub(super) fn ahead_of(&self, owner: &O) -> usize {
        let mine = self.of(owner);
        let others = self.lanes.iter().filter(|(other, _)| *other != owner);
        mine + others.map(|(_, lane)| lane.calls.len().min(mine + 1)).sum::<usize>()
    }

    /// Calls in all lanes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}
