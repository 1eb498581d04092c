//! Lanes that take turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// One lane per meter, first in first out; lanes are served one call each in turn.
#[derive(Debug)]
pub(super) struct Ring<M, K> {
    lanes: HashMap<M, VecDeque<K>>,
    turn: VecDeque<M>,
    len: usize,
}

impl<M, K> Default for Ring<M, K> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), turn: VecDeque::new(), len: 0 }
    }
}

impl<M: Eq + Hash + Clone, K: Eq> Ring<M, K> {
    /// At the end of the meter's lane.
    pub(super) fn push(&mut self, meter: &M, key: K) {
        if !self.lanes.contains_key(meter) {
            self.turn.push_back(meter.clone());
        }
        self.lanes.entry(meter.clone()).or_default().push_back(key);
        self.len += 1;
    }

    /// In front of its lane, and its lane's turn is next.
    pub(super) fn push_front(&mut self, meter: &M, key: K) {
        self.turn.retain(|m| m != meter);
        self.turn.push_front(meter.clone());
        self.lanes.entry(meter.clone()).or_default().push_front(key);
        self.len += 1;
    }

    /// The first call of the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<K> {
        let meter = self.turn.pop_front()?;
        let lane = self.lanes.get_mut(&meter)?;
        let key = lane.pop_front();
        if lane.is_empty() {
            self.lanes.remove(&meter);
        } else {
            self.turn.push_back(meter);
        }
        self.len -= usize::from(key.is_some());
        key
    }

    /// Takes one call out of the meter's lane.
    pub(super) fn remove(&mut self, meter: &M, key: &K) {
        let Some(lane) = self.lanes.get_mut(meter) else { return };
        let before = lane.len();
        lane.retain(|k| k != key);
        self.len -= before - lane.len();
        if lane.is_empty() {
            self.lanes.remove(meter);
            self.turn.retain(|m| m != meter);
        }
    }

    /// Calls in the meter's lane.
    pub(super) fn of(&self, meter: &M) -> usize {
        self.lanes.get(meter).map_or(0, VecDeque::len)
    }

    /// Calls that would be served before one more of `meter`: every other lane has as many turns at most.
    pub(super) fn ahead_of(&self, meter: &M) -> usize {
        let mine = self.of(meter);
        let others = self.lanes.iter().filter(|(m, _)| *m != meter);
        mine + others.map(|(_, lane)| lane.len().min(mine + 1)).sum::<usize>()
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
