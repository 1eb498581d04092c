//! Owns the boxes together: rounds in which all of them live at once, and where each stands.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::Plan;
use super::boxes::{Resident, Start, State};
use crate::calendar::Day;
use crate::plugin::Outcomes;

/// Time between two looks at the boxes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Crowd {
    residents: Vec<Resident>,
}

impl Crowd {
    /// The boxes of `plan`, divided between the instances at `urls`, all to be switched on in the morning of `day`.
    pub(super) fn new(plan: &Plan, urls: &[String], day: Day) -> Self {
        let homes = (0..plan.boxes).zip(urls.iter().cycle());
        let residents = homes.map(|(index, url)| Resident::new(plan, url, day, index)).collect();
        Self { residents }
    }

    pub(super) fn begin_day(&mut self) {
        self.residents.iter_mut().for_each(Resident::begin_day);
    }

    /// Lets all boxes live until none is busy, at most for `within`; `look` is told now and then how many
    /// are served.
    pub(super) async fn round(
        &mut self,
        day: Day,
        start: Start,
        within: Duration,
        mut look: impl FnMut(usize),
    ) {
        // Until they have looked at the clock, all that may still do something today are about to.
        let about_to = |state: State| Cell::new(if state.is_final() { state } else { State::Busy });
        let states: Vec<_> = self.residents.iter().map(|each| about_to(each.state())).collect();
        let living = self.residents.iter_mut().zip(&states).map(|(each, state)| each.live(day, start, state));
        let busy = async {
            loop {
                sleep(LOOK_EVERY).await;
                let count = |wanted| states.iter().filter(|state| state.get() == wanted).count();
                look(count(State::Served));
                if count(State::Busy) == 0 {
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

    pub(super) fn skip(&self, by: Duration) {
        self.residents.iter().for_each(|resident| resident.skip(by));
    }

    pub(super) fn len(&self) -> usize {
        self.residents.len()
    }

    /// How many boxes stand there now.
    pub(super) fn standing(&self, wanted: State) -> usize {
        self.residents.iter().filter(|resident| resident.state() == wanted).count()
    }

    /// What has become of each box on this day.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = &Outcomes> {
        self.residents.iter().filter_map(Resident::outcomes)
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
