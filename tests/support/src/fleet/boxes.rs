//! Owns one box of the fleet with its owner: when it arrives, when its owner consents, and where it stands.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Plan;
use crate::calendar::{DAY_SECS, Day};
use crate::person::{Choice, Person};
use crate::plugin::{Clock, FieldBox, HEARTBEAT, Moment, Outcomes, Plugin, Step};

/// Time on the box's clock within which an owner opens the link after it is shown.
const OWNER_WITHIN: Duration = Duration::from_secs(30);
/// Times an owner tries, and the time between two tries.
const OWNER_TRIES: u32 = 6;
const OWNER_AGAIN: Duration = Duration::from_secs(10);
/// A box that comes back sooner than this is not waited for, but watched.
const SOON: Duration = Duration::from_secs(60);
/// Tells the server who asks, as a reverse proxy in front of it does.
const FORWARDED_FOR: &str = "x-forwarded-for";
const A_DAY: Duration = Duration::from_secs(DAY_SECS);

/// How a round begins for a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It arrives in the morning; for the first time, it is switched on.
    Morning,
    /// It goes on after the clocks were put forward.
    Resume,
    /// It forgets its data and asks the same day again.
    Again,
}

/// Where a box stands on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Nothing more happens on this day.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Served | Self::Disabled | Self::Stuck)
    }

    /// Where `plugin`, whose outcomes are those of the day, stands at `now`.
    fn of(plugin: &Plugin, now: Moment) -> Self {
        let outcomes = plugin.outcomes();
        if !plugin.is_enabled() {
            Self::Disabled
        } else if outcomes.served > 0 {
            Self::Served
        } else if outcomes.stuck > 0 {
            Self::Stuck
        } else if plugin.step() == Step::Idle && plugin.next_connection().since(now) > SOON {
            Self::Waiting
        } else {
            Self::Busy
        }
    }
}

pub(super) struct Resident {
    index: u32,
    base_url: String,
    clock: Clock,
    arrival: Duration,
    phase: Duration,
    /// From the link being shown to the owner opening it, on the wall.
    owner_delay: Duration,
    seed: u64,
    /// None until it is switched on.
    device: Option<FieldBox>,
    /// The link that its owner was last given.
    link: Option<String>,
    /// Ends with what the owner read who found no way to consent.
    owner: JoinSet<Option<String>>,
}

impl Resident {
    /// Box number `index`, to be switched on in the morning of `day`.
    pub(super) fn new(plan: &Plan, base_url: &str, day: Day, index: u32) -> Self {
        let clock = Clock::new(Moment::at(day, 8, 0), plan.speed);
        let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(index));
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            index,
            base_url: base_url.to_owned(),
            arrival: plan.arrive_within.mul_f64(rng.random()),
            phase: clock.on_the_wall(HEARTBEAT).mul_f64(rng.random()),
            owner_delay: clock.on_the_wall(OWNER_WITHIN).mul_f64(rng.random()),
            clock,
            seed,
            device: None,
            link: None,
            owner: JoinSet::new(),
        }
    }

    /// What has become of it on this day, once it was switched on.
    pub(super) fn outcomes(&self) -> Option<&Outcomes> {
        self.device.as_ref().map(|device| device.plugin().outcomes())
    }

    pub(super) fn begin_day(&mut self) {
        if let Some(device) = &mut self.device {
            device.plugin_mut().forget_outcomes();
        }
    }

    pub(super) fn state(&self) -> State {
        let now = self.clock.now();
        self.device.as_ref().map_or(State::Busy, |device| State::of(device.plugin(), now))
    }

    /// How long it waits until it connects again, if that is on `day`.
    pub(super) fn waits(&self, day: Day) -> Option<Duration> {
        let next = self.device.as_ref()?.plugin().next_connection();
        let wait = next.since(self.clock.now());
        (self.state() == State::Waiting && next.day() == day).then_some(wait)
    }

    pub(super) fn skip(&self, by: Duration) {
        self.clock.skip(by);
    }

    /// What its owner read, if they found no way to consent.
    pub(super) fn complaint(&mut self) -> Option<String> {
        self.owner.try_join_next()?.ok()?
    }

    /// Lives until nothing more happens on this day, and tells where it stands. It may be dropped at any time, and called
    /// again.
    pub(super) async fn live(&mut self, day: Day, start: Start, state: &Cell<State>) {
        sleep(if start == Start::Resume { self.phase } else { self.arrival }).await;
        self.begin(day, start);
        let Some(device) = &mut self.device else { return };
        while !state.get().is_final() {
            let shown = |plugin: &Plugin| {
                state.set(State::of(plugin, self.clock.now()));
                state.get().is_final() || plugin.consent_path() != self.link
            };
            device.run_until(A_DAY, shown).await;
            let link = device.plugin().consent_path();
            if link != self.link {
                let url = link.as_ref().map(|path| format!("{}{path}&state=m{}", self.base_url, self.index));
                // The end of `state` tells the simulator who sits at the consent page.
                self.owner.spawn(consent(url.unwrap_or_default(), self.index, self.owner_delay));
                self.link = link;
            }
        }
    }

    fn begin(&mut self, day: Day, start: Start) {
        let Some(device) = &mut self.device else {
            let (seed, address) = (self.seed, address(self.index));
            self.device = Some(FieldBox::new(&self.base_url, &self.clock, |settings| {
                settings.seed = seed;
                settings.forwarded_for = Some(address.to_string());
            }));
            return;
        };
        match start {
            Start::Morning => {
                // Its own minute after eight has come.
                let next = device.plugin().next_connection().max(Moment::at(day, 8, 0));
                self.clock.skip_to(next.plus(Duration::from_millis(1)));
            }
            Start::Again if device.plugin().is_enabled() => {
                let now = self.clock.now();
                device.plugin_mut().forget_data();
                device.plugin_mut().restart(now);
            }
            Start::Again | Start::Resume => {}
        }
    }
}

/// A little later, the owner of box `index` opens `link` and consents; else what they read at last.
async fn consent(link: String, index: u32, delay: Duration) -> Option<String> {
    sleep(delay).await;
    let mut tries = OWNER_TRIES;
    loop {
        // Of the address, the path: the query carries codes.
        let reason = match Person::with_header(FORWARDED_FOR, &address(index).to_string())
            .link(&link, Choice::Allow)
            .await
        {
            Ok(visit) if visit.status == 200 => return None,
            Ok(visit) => format!("{} on {}", visit.status, visit.url.path()),
            Err(error) => error.to_string(),
        };
        tries -= 1;
        if tries == 0 {
            return Some(reason);
        }
        sleep(OWNER_AGAIN).await;
    }
}

/// Where box `index` and its owner live, as a reverse proxy tells it.
fn address(index: u32) -> IpAddr {
    let [_, high, middle, low] = index.to_be_bytes();
    Ipv4Addr::new(10, high, middle, low).into()
}
