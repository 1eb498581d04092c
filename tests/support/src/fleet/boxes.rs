//! Owns one box of the fleet with its owner: when it arrives, when its owner consents, and where it stands.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Plan;
use super::crowd::Board;
use crate::calendar::{DAY_SECS, Day};
use crate::enedis::GeneratedMeters;
use crate::person::{Choice, Person};
use crate::plugin::{Clock, FieldBox, HEARTBEAT, Moment, Outcomes, Plugin, Step};

/// Time on the box's clock within which an owner opens the link after it is shown.
const OWNER_WITHIN: Duration = Duration::from_secs(30);
/// Times an owner tries, and the time between two tries.
const OWNER_TRIES: u32 = 6;
const OWNER_AGAIN: Duration = Duration::from_secs(10);
/// A box that comes back sooner than this is not waited for, but watched.
const SOON: Duration = Duration::from_secs(60);
/// Longer than any round.
const A_DAY: Duration = Duration::from_secs(DAY_SECS);

/// How a round begins for a box.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// It arrives in the morning of this day; for the first time, it is switched on.
    Morning(Day),
    /// It goes on after the clocks were put forward, on this day.
    Resume(Day),
    /// It forgets its data and asks this day again.
    Again(Day),
}

/// Where a box stands on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// It is about to do something, or in the middle of it.
    Busy,
    /// It has given up until a later hour.
    Waiting,
    /// It has everything it wants today.
    Served,
    /// It has stopped for good.
    Disabled,
    /// It threw, and does nothing until tomorrow.
    Stuck,
}

impl State {
    pub(super) const ALL: [Self; 5] = [Self::Busy, Self::Waiting, Self::Served, Self::Disabled, Self::Stuck];

    /// Nothing more happens on this day.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Served | Self::Disabled | Self::Stuck)
    }

    /// Where `plugin` stands at `now` on a day that began with `before`.
    fn of(plugin: &Plugin, before: &Outcomes, now: Moment) -> Self {
        let outcomes = plugin.outcomes();
        if !plugin.is_enabled() {
            Self::Disabled
        } else if outcomes.served > before.served {
            Self::Served
        } else if outcomes.stuck > before.stuck {
            Self::Stuck
        } else if plugin.step() == Step::Idle && plugin.next_connection().since(now) > SOON {
            Self::Waiting
        } else {
            Self::Busy
        }
    }
}

/// A box with its owner.
pub(super) struct Resident {
    pub(super) index: u32,
    base_url: String,
    clock: Clock,
    arrival: Duration,
    phase: Duration,
    /// From the link being shown to the owner opening it, on the wall.
    owner_delay: Duration,
    seed: u64,
    history_days: i64,
    /// None until it is switched on.
    device: Option<FieldBox>,
    /// What had become of it before this day.
    before: Outcomes,
    /// The link that its owner was last given.
    link: Option<String>,
    owner: JoinSet<()>,
}

impl Resident {
    /// Box number `index`, to be switched on in the morning of `day`.
    pub(super) fn new(plan: &Plan, base_url: &str, day: Day, index: u32) -> Self {
        let clock = Clock::new(Moment::at(day, 8, 0), plan.speed);
        let draw = |what| fraction(plan.seed, index, what);
        Self {
            index,
            base_url: base_url.to_owned(),
            arrival: plan.arrive_within.mul_f64(draw(1)),
            phase: clock.on_the_wall(HEARTBEAT).mul_f64(draw(2)),
            owner_delay: clock.on_the_wall(OWNER_WITHIN).mul_f64(draw(3)),
            clock,
            seed: plan.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(index)),
            history_days: plan.history_days,
            device: None,
            before: Outcomes::default(),
            link: None,
            owner: JoinSet::new(),
        }
    }

    /// What has become of it since it was switched on.
    pub(super) fn outcomes(&self) -> Outcomes {
        self.device.as_ref().map(|device| device.plugin().outcomes().clone()).unwrap_or_default()
    }

    /// A new day begins.
    pub(super) fn begin_day(&mut self) {
        self.before = self.outcomes();
    }

    /// What has become of it on this day.
    pub(super) fn of_today(&self) -> Outcomes {
        self.outcomes().since(&self.before)
    }

    /// Where it stands now.
    pub(super) fn state(&self) -> State {
        let now = self.clock.now();
        self.device.as_ref().map_or(State::Busy, |device| State::of(device.plugin(), &self.before, now))
    }

    /// How long it waits until it connects again, if that is on `day`.
    pub(super) fn waits(&self, day: Day) -> Option<Duration> {
        let next = self.device.as_ref()?.plugin().next_connection();
        let wait = next.since(self.clock.now());
        (self.state() == State::Waiting && next.day() == day).then_some(wait)
    }

    /// Puts its clock forward.
    pub(super) fn skip(&self, by: Duration) {
        self.clock.skip(by);
    }

    /// Lives until nothing more happens on this day, or until told to stop.
    pub(super) async fn live(
        mut self,
        start: Start,
        board: Arc<Board>,
        mut stop: watch::Receiver<bool>,
    ) -> Self {
        let delay = if matches!(start, Start::Resume(_)) { self.phase } else { self.arrival };
        tokio::select! {
            () = tokio::time::sleep(delay) => self.begin(start),
            _ = stop.wait_for(|stop| *stop) => return self,
        }
        while !self.until_next_link(&board, &mut stop).await {
            self.call_owner(&board);
        }
        self
    }

    fn begin(&mut self, start: Start) {
        let Some(device) = &mut self.device else {
            let (seed, history_days, address) = (self.seed, self.history_days, address(self.index));
            self.device = Some(FieldBox::new(&self.base_url, &self.clock, |settings| {
                settings.seed = seed;
                settings.history_days = history_days;
                settings.forwarded_for = Some(address.to_string());
            }));
            return;
        };
        match start {
            Start::Morning(day) => {
                // Its own minute after eight has come.
                let next = device.plugin().next_connection().max(Moment::at(day, 8, 0));
                self.clock.skip_to(next.plus(Duration::from_millis(1)));
            }
            Start::Again(_) if device.plugin().is_enabled() => {
                let now = self.clock.now();
                device.plugin_mut().forget_data();
                device.plugin_mut().restart(now);
            }
            Start::Again(_) | Start::Resume(_) => {}
        }
    }

    /// Runs the box until it shows a new link; true: no more is to be done.
    async fn until_next_link(&mut self, board: &Board, stop: &mut watch::Receiver<bool>) -> bool {
        let Some(device) = &mut self.device else { return true };
        let (before, known, clock, index) = (&self.before, self.link.clone(), &self.clock, self.index);
        let mut settled = false;
        let run = device.run_until(A_DAY, |plugin| {
            let state = State::of(plugin, before, clock.now());
            board.set(index, state);
            settled = state.is_final();
            settled || plugin.consent_path() != known
        });
        let stopped = tokio::select! {
            shown = run => !shown,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        stopped || settled
    }

    /// Its owner reads the link and consents a little later.
    fn call_owner(&mut self, board: &Arc<Board>) {
        self.link = self.device.as_ref().and_then(|device| device.plugin().consent_path());
        let Some(path) = &self.link else { return };
        // The end of `state` tells the simulator who sits at the consent page.
        let link = format!("{}{path}&state=m{}", self.base_url, self.index);
        let (delay, board, index) = (self.owner_delay, Arc::clone(board), self.index);
        self.owner.spawn(async move {
            tokio::time::sleep(delay).await;
            for again in (0..OWNER_TRIES).rev() {
                match consent(&link, index).await {
                    Ok(()) => return,
                    Err(reason) if again == 0 => board.complain(reason),
                    Err(_) => tokio::time::sleep(OWNER_AGAIN).await,
                }
            }
        });
    }
}

/// The owner of box `index` opens `link` and consents; else what they read.
async fn consent(link: &str, index: u32) -> Result<(), String> {
    let visit = Person::at_address(address(index)).link(link, Choice::Allow).await;
    let visit = visit.map_err(|error| error.to_string())?;
    // Of the address, the path: the query carries codes.
    if visit.status == 200 { Ok(()) } else { Err(format!("{} on {}", visit.status, visit.url.path())) }
}

/// The usage point of box `index`.
pub(super) fn point(index: u32) -> String {
    GeneratedMeters::point(index)
}

/// Where box `index` and its owner live, as a reverse proxy tells it.
fn address(index: u32) -> IpAddr {
    let [_, high, middle, low] = index.to_be_bytes();
    Ipv4Addr::new(10, high, middle, low).into()
}

/// A number from 0 to 1 for box `index`, from the seed (the finaliser of `SplitMix64`).
fn fraction(seed: u64, index: u32, what: u64) -> f64 {
    let mixed = seed ^ (u64::from(index) << 20) ^ (what << 56);
    let mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_arrive_all_over_the_minute() {
        let plan = Plan { boxes: 500, ..Plan::new("none") };
        let arrivals: Vec<_> = (0..plan.boxes)
            .map(|index| Resident::new(&plan, "http://localhost:1", Day::from_epoch(20_000), index).arrival)
            .collect();
        assert!(arrivals.iter().all(|arrival| *arrival < plan.arrive_within));
        for tenth in 0..10 {
            let range = Duration::from_secs(6 * tenth)..Duration::from_secs(6 * tenth + 6);
            let some = arrivals.iter().filter(|arrival| range.contains(*arrival)).count();
            assert!((25..80).contains(&some), "{some} in tenth {tenth}");
        }
        let other = Plan { seed: 2, ..plan };
        let moved = Resident::new(&other, "http://localhost:1", Day::from_epoch(20_000), 3).arrival;
        assert_ne!(moved, arrivals[3]);
    }

    #[test]
    fn addresses_differ() {
        assert_eq!([address(0), address(258)].map(|each| each.to_string()), ["10.0.0.0", "10.0.1.2"]);
    }
}
