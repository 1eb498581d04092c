//! Owns the boxes together: rounds in which all of them live at once, and where each stands.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Plan;
use super::boxes::{Resident, Start, State};
use crate::calendar::Day;
use crate::plugin::Outcomes;

/// Time between two looks at the boxes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Complaints of owners that are kept.
const COMPLAINTS: usize = 1_000;

/// Where every box stands, written by the boxes.
pub(super) struct Board {
    states: Vec<AtomicU8>,
    /// When the last box was served.
    last_served: Mutex<Option<Instant>>,
    /// What owners read who found no way to consent.
    complaints: Mutex<Vec<String>>,
}

/// How many boxes stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) busy: usize,
    pub(super) waiting: usize,
    pub(super) served: usize,
    pub(super) disabled: usize,
    pub(super) stuck: usize,
}

/// All boxes.
pub(super) struct Crowd {
    residents: Vec<Resident>,
    board: Arc<Board>,
    day_began: Instant,
}

impl Board {
    fn new(boxes: usize) -> Self {
        let states = (0..boxes).map(|_| AtomicU8::new(State::Busy as u8)).collect();
        Self { states, last_served: Mutex::default(), complaints: Mutex::default() }
    }

    /// Box `index` stands here now.
    pub(super) fn set(&self, index: u32, state: State) {
        let Some(place) = usize::try_from(index).ok().and_then(|index| self.states.get(index)) else {
            return;
        };
        let before = place.swap(state as u8, Ordering::Relaxed);
        if state == State::Served && before != state as u8 {
            *locked(&self.last_served) = Some(Instant::now());
        }
    }

    /// An owner found no way to consent.
    pub(super) fn complain(&self, reason: String) {
        let mut complaints = locked(&self.complaints);
        if complaints.len() < COMPLAINTS {
            complaints.push(reason);
        }
    }

    fn tally(&self) -> Tally {
        let count = |wanted: State| {
            self.states.iter().filter(|state| state.load(Ordering::Relaxed) == wanted as u8).count()
        };
        let [busy, waiting, served, disabled, stuck] = State::ALL.map(count);
        Tally { busy, waiting, served, disabled, stuck }
    }
}

impl Crowd {
    /// The boxes of `plan`, all to be switched on in the morning of `day`.
    pub(super) fn new(plan: &Plan, base_url: &str, day: Day) -> Self {
        let residents: Vec<_> =
            (0..plan.boxes).map(|index| Resident::new(plan, base_url, day, index)).collect();
        let board = Arc::new(Board::new(residents.len()));
        Self { residents, board, day_began: Instant::now() }
    }

    /// A new day begins for every box; what had become of them before it.
    pub(super) fn begin_day(&mut self) -> Outcomes {
        self.residents.iter_mut().for_each(Resident::begin_day);
        self.day_began = Instant::now();
        *locked(&self.board.last_served) = None;
        for state in &self.board.states {
            state.store(State::Busy as u8, Ordering::Relaxed);
        }
        self.outcomes()
    }

    /// Lets all boxes live until none is busy, at most for `within`; `look` is called now and then.
    pub(super) async fn round(&mut self, start: Start, within: Duration, mut look: impl FnMut(Tally)) {
        for resident in &self.residents {
            // Until they have looked at the clock, all that may still do something today are about to.
            if !resident.state().is_final() {
                self.board.set(resident.index, State::Busy);
            }
        }
        let (stop, stopped) = watch::channel(false);
        let mut living = JoinSet::new();
        for resident in self.residents.drain(..) {
            living.spawn(resident.live(start, Arc::clone(&self.board), stopped.clone()));
        }
        let deadline = Instant::now() + within;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tally = self.board.tally();
            look(tally);
            if tally.busy == 0 || Instant::now() > deadline {
                break;
            }
        }
        stop.send_replace(true);
        while let Some(resident) = living.join_next().await {
            match resident {
                Ok(resident) => self.residents.push(resident),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        self.residents.sort_unstable_by_key(|resident| resident.index);
    }

    /// How long it takes until the first box that gave up comes back on `day`; `None`: none does.
    pub(super) fn until_next(&self, day: Day) -> Option<Duration> {
        self.residents.iter().filter_map(|resident| resident.waits(day)).min()
    }

    /// Puts every box's clock forward.
    pub(super) fn skip(&self, by: Duration) {
        self.residents.iter().for_each(|resident| resident.skip(by));
    }

    /// The boxes.
    pub(super) fn residents(&self) -> &[Resident] {
        &self.residents
    }

    /// What has become of all boxes since they were switched on.
    pub(super) fn outcomes(&self) -> Outcomes {
        let outcomes: Vec<_> = self.residents.iter().map(Resident::outcomes).collect();
        outcomes.iter().sum()
    }

    /// Time on the wall from the beginning of the day until the last box was served.
    pub(super) fn served_after(&self) -> Option<Duration> {
        locked(&self.board.last_served).map(|at| at.saturating_duration_since(self.day_began))
    }

    /// What owners read who found no way to consent, and how many.
    pub(super) fn owners_said(&self) -> BTreeMap<String, u64> {
        let mut said = BTreeMap::new();
        for complaint in locked(&self.board.complaints).iter() {
            *said.entry(complaint.clone()).or_default() += 1;
        }
        said
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
