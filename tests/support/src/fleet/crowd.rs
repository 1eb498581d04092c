//! Owns the boxes together: rounds in which all of them live at once, and where each stands.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::Plan;
use super::boxes::{Resident, Start, State};
use crate::calendar::Day;
use crate::plugin::Outcomes;

/// Time between two looks at the boxes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many boxes stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) busy: usize,
    pub(super) waiting: usize,
    pub(super) served: usize,
    pub(super) disabled: usize,
    pub(super) stuck: usize,
}

impl Tally {
    fn of(states: impl IntoIterator<Item = State>) -> Self {
        let mut tally = Self::default();
        for state in states {
            let count = match state {
                State::Busy => &mut tally.busy,
                State::Waiting => &mut tally.waiting,
                State::Served => &mut tally.served,
                State::Disabled => &mut tally.disabled,
                State::Stuck => &mut tally.stuck,
            };
            *count += 1;
        }
        tally
    }
}

/// All boxes.
pub(super) struct Crowd {
    residents: Vec<Resident>,
    day_began: Instant,
}

impl Crowd {
    /// The boxes of `plan`, all to be switched on in the morning of `day`.
    pub(super) fn new(plan: &Plan, base_url: &str, day: Day) -> Self {
        let residents = (0..plan.boxes).map(|index| Resident::new(plan, base_url, day, index)).collect();
        Self { residents, day_began: Instant::now() }
    }

    /// A new day begins for every box.
    pub(super) fn begin_day(&mut self) {
        self.residents.iter_mut().for_each(Resident::begin_day);
        self.day_began = Instant::now();
    }

    /// Lets all boxes live until none is busy, at most for `within`; `look` is called now and then.
    pub(super) async fn round(
        &mut self,
        day: Day,
        start: Start,
        within: Duration,
        mut look: impl FnMut(Tally),
    ) {
        // Until they have looked at the clock, all that may still do something today are about to.
        let about_to = |state: State| Cell::new(if state.is_final() { state } else { State::Busy });
        let states: Vec<_> = self.residents.iter().map(|each| about_to(each.state())).collect();
        let living = self.residents.iter_mut().zip(&states).map(|(each, state)| each.live(day, start, state));
        let busy = async {
            loop {
                sleep(LOOK_EVERY).await;
                let tally = Tally::of(states.iter().map(Cell::get));
                look(tally);
                if tally.busy == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = busy => {}
            () = sleep(within) => {}
            () = async { join_all(living).await; std::future::pending().await } => {}
        }
    }

    /// How long it takes until the first box that gave up comes back on `day`; `None`: none does.
    pub(super) fn until_next(&self, day: Day) -> Option<Duration> {
        self.residents.iter().filter_map(|resident| resident.waits(day)).min()
    }

    /// Puts every box's clock forward.
    pub(super) fn skip(&self, by: Duration) {
        self.residents.iter().for_each(|resident| resident.skip(by));
    }

    /// How many boxes there are.
    pub(super) fn len(&self) -> usize {
        self.residents.len()
    }

    /// Where the boxes stand now.
    pub(super) fn tally(&self) -> Tally {
        Tally::of(self.residents.iter().map(Resident::state))
    }

    /// What has become of each box on this day.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = &Outcomes> {
        self.residents.iter().filter_map(Resident::outcomes)
    }

    /// Time on the wall from the beginning of the day until the last box was served.
    pub(super) fn served_after(&self) -> Option<Duration> {
        let last = self.residents.iter().filter_map(|resident| resident.served_at).max();
        last.map(|at| at.saturating_duration_since(self.day_began))
    }

    /// What owners read who found no way to consent, and how many.
    pub(super) fn owners_said(&mut self) -> BTreeMap<String, u64> {
        let mut said = BTreeMap::new();
        for resident in &mut self.residents {
            while let Some(complaint) = resident.complaint() {
                *said.entry(complaint).or_default() += 1;
            }
        }
        said
    }
}
