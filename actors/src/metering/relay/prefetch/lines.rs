//! The lines that active meters stand in: those that lack a day which Enedis has, those that lack one which nobody is known to
//! have yet, and those that rest.

use std::collections::{BTreeSet, HashMap};

use jiff::civil::Date;

use crate::base::clock::Timestamp;
use crate::base::meter::Meter;
use crate::metering::civil::{self, days_between};
use crate::metering::relay::sealed_cache::Question;
use crate::metering::request::Resource;

/// A prime, for an order of the meters that is another one each day.
const SHUFFLE: u64 = 99_991;

pub type Key = (Meter, Resource);
/// The order in which meters are asked: by the last day of which their boxes were given everything, who was refused first, and
/// another one each day.
type Rank = (Date, bool, u64, Meter, Resource);

#[derive(Clone, Copy, Debug)]
pub struct Active {
    pub question: Question,
    /// When a box last asked.
    pub asked: Date,
    /// The first day that is not in the cache.
    pub lacks: Date,
    /// The last day that its box was given of this.
    pub given: Date,
    /// The last day that its box was given of all that it asks for, as [`Lines::weigh`] found.
    pub all_given: Date,
    pub is_refused: bool,
    pub misses: u32,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In line, if it lacks the day.
    Free,
    Resting(Timestamp),
    Asked,
}

pub struct Lines {
    active: HashMap<Key, Active>,
    ready: BTreeSet<Rank>,
    scouts: BTreeSet<Rank>,
    resting: BTreeSet<(Timestamp, Meter, Resource)>,
    /// The day that is wanted.
    pub wanted: Date,
    /// The last one that Enedis is known to have.
    pub published: Date,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            active: HashMap::new(),
            ready: BTreeSet::new(),
            scouts: BTreeSet::new(),
            resting: BTreeSet::new(),
            wanted: Date::MIN,
            published: Date::MIN,
        }
    }
}

impl Lines {
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// All, and those of them that lack the wanted day.
    pub fn counts(&self) -> (usize, usize) {
        let lacking = self.active.values().filter(|active| active.lacks <= self.wanted).count();
        (self.active.len(), lacking)
    }

    /// Whether any in line lacks a day.
    pub fn is_lacking(&self) -> bool {
        !self.ready.is_empty() || !self.scouts.is_empty()
    }

    /// The first of those that lack a day which Enedis has.
    pub fn first(&self) -> Option<Key> {
        self.ready.first().map(|(.., meter, resource)| (*meter, *resource))
    }

    /// The first of the others.
    pub fn scout(&self) -> Option<Key> {
        self.scouts.first().map(|(.., meter, resource)| (*meter, *resource))
    }

    /// Whether the box of the first went without a day before the one that is wanted.
    pub fn is_overdue(&self) -> bool {
        self.ready.first().is_some_and(|(all_given, ..)| self.is_behind(*all_given))
    }

    /// Whether a box that was given everything up to this day went without one before the one that is wanted.
    pub fn is_behind(&self, all_given: Date) -> bool {
        all_given < civil::plus(self.wanted, -1)
    }

    /// What is known of a resource of a meter.
    pub fn get(&self, key: Key) -> Option<&Active> {
        self.active.get(&key)
    }

    /// What the box of a meter was given, or what it asks for, has changed: a box is served when it has everything that it
    /// asked for since yesterday.
    pub fn weigh(&mut self, meter: Meter) {
        let all = Resource::ALL.into_iter().filter_map(|resource| self.get((meter, resource)));
        let least = all.filter(|active| active.asked >= self.wanted).map(|active| active.given).min();
        for resource in Resource::ALL {
            self.change((meter, resource), |active| active.all_given = least.unwrap_or(active.given));
        }
    }

    /// When the next one has rested.
    pub fn rested_at(&self) -> Option<Timestamp> {
        self.resting.first().map(|(at, ..)| *at)
    }

    /// Who has rested stands in line again.
    pub fn end_rests(&mut self, now: Timestamp) {
        while let Some((_, meter, resource)) = self.resting.first().copied().filter(|(at, ..)| *at <= now) {
            self.change((meter, resource), |active| active.place = Place::Free);
        }
    }

    /// The wanted day is there: who was tried before it was is not late. To be [sorted](Self::sort).
    pub fn publish(&mut self) {
        self.published = self.wanted;
        for active in self.active.values_mut().filter(|active| matches!(active.place, Place::Resting(_))) {
            (active.place, active.misses) = (Place::Free, 0);
        }
    }

    /// All of a meter rests.
    pub fn rest(&mut self, meter: Meter, until: Timestamp, misses: u32) {
        for resource in Resource::ALL {
            self.change((meter, resource), |active| {
                active.misses = misses;
                if active.place != Place::Asked {
                    active.place = Place::Resting(until);
                }
            });
        }
    }

    /// Puts in line anew what `stays`, and what is under way.
    pub fn sort(&mut self, stays: impl Fn(&Active) -> bool) {
        self.ready.clear();
        self.scouts.clear();
        self.resting.clear();
        for (key, active) in std::mem::take(&mut self.active) {
            if active.place == Place::Asked || stays(&active) {
                self.put_in(key, active);
            }
        }
    }

    pub fn change(&mut self, key: Key, change: impl FnOnce(&mut Active)) {
        if let Some(mut active) = self.take_out(key) {
            change(&mut active);
            self.put_in(key, active);
        }
    }

    pub fn take_out(&mut self, key: Key) -> Option<Active> {
        let active = self.active.remove(&key)?;
        let rank = self.rank(key, &active);
        self.ready.remove(&rank);
        self.scouts.remove(&rank);
        if let Place::Resting(at) = active.place {
            self.resting.remove(&(at, key.0, key.1));
        }
        Some(active)
    }

    pub fn put_in(&mut self, key: Key, active: Active) {
        match active.place {
            Place::Free if active.lacks > self.wanted => {}
            Place::Free => {
                let rank = self.rank(key, &active);
                let line = if active.lacks > self.published { &mut self.scouts } else { &mut self.ready };
                line.insert(rank);
            }
            Place::Resting(at) => drop(self.resting.insert((at, key.0, key.1))),
            Place::Asked => {}
        }
        self.active.insert(key, active);
    }

    fn rank(&self, (meter, resource): Key, active: &Active) -> Rank {
        let day = days_between(civil::FIRST, self.wanted.max(civil::FIRST)).cast_unsigned();
        let shuffled = (meter.modulo(SHUFFLE) + 1) * (day % (SHUFFLE - 1) + 1) % SHUFFLE;
        (active.all_given, !active.is_refused, shuffled, meter, resource)
    }
}
