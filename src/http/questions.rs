//! The last questions for each meter and how they ended, for whoever wonders why a box shows nothing.
//!
//! In this process alone: after a restart, or at another instance, the list begins anew. Bounds: [`KEPT`] of a meter, and
//! [`METERS_MAX`] meters; beyond them, the meter that was asked about the longest ago is forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use actors::base::clock::Timestamp;
use actors::base::meter::Meter;
use actors::metering::request::{DayRange, Resource};

use crate::pages::AnswerEnd;

/// Questions kept of a meter. The plugin asks three a day.
const KEPT: usize = 12;
/// Meters that are kept, of about 1 KB each at most.
const METERS_MAX: usize = 10_000;

/// A question and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When its answer went out.
    pub at: Timestamp,
    /// For which values and days; `None`: for the contract.
    pub values: Option<(Resource, DayRange)>,
    /// How it ended.
    pub end: AnswerEnd,
}

/// The lists.
#[derive(Debug, Default)]
pub struct Questions(Mutex<HashMap<Meter, VecDeque<Asked>>>);

impl Questions {
    /// Adds a question.
    pub fn note(&self, meter: Meter, asked: Asked) {
        let mut lists = self.lists();
        if lists.len() >= METERS_MAX && !lists.contains_key(&meter) {
            let last = |list: &VecDeque<Asked>| list.back().map_or(Timestamp::EPOCH, |asked| asked.at);
            let oldest = lists.iter().min_by_key(|(_, list)| last(list)).map(|(meter, _)| *meter);
            oldest.map(|meter| lists.remove(&meter));
        }
        let list = lists.entry(meter).or_default();
        if list.len() >= KEPT {
            list.pop_front();
        }
        list.push_back(asked);
    }

    /// The questions for a meter, the newest first.
    pub fn of(&self, meter: Meter) -> Vec<Asked> {
        self.lists().get(&meter).map(|list| list.iter().rev().copied().collect()).unwrap_or_default()
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<Meter, VecDeque<Asked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(n: usize) -> Meter {
        Meter::parse(&format!("{n:014}")).unwrap()
    }

    fn asked(n: usize) -> Asked {
        Asked { at: Timestamp::from_millis(n as u64), values: None, end: AnswerEnd::Values }
    }

    #[test]
    fn lists_are_bounded_and_apart() {
        let questions = Questions::default();
        (0..20).for_each(|n| questions.note(meter(1), asked(n)));
        let times: Vec<_> = questions.of(meter(1)).iter().map(|asked| asked.at.as_millis()).collect();
        assert_eq!(times, (8..20).rev().collect::<Vec<_>>());
        assert_eq!(questions.of(meter(2)), []);
        (2..=METERS_MAX).for_each(|n| questions.note(meter(n), asked(100 + n)));
        questions.note(meter(1), asked(200_000));
        // Full: the one that was asked about the longest ago goes, and no other.
        questions.note(meter(METERS_MAX + 1), asked(200_001));
        assert_eq!(questions.of(meter(2)), []);
        assert!([1, 3, METERS_MAX, METERS_MAX + 1].iter().all(|n| !questions.of(meter(*n)).is_empty()));
        assert_eq!(questions.lists().len(), METERS_MAX);
    }
}
