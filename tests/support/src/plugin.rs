//! The box in the field: the DomoticzLinky plugin 2.6.0 as a state machine, and a shell that runs it over HTTP.
//!
//! The core ([`Plugin`]) owns what the plugin remembers; it takes the time and what happened, and returns the request
//! to send next, if any. It knows no socket and no clock, and promises the plugin's reactions, faults included: it
//! erases its tokens on a 403, it stops until the next morning where the plugin would throw. The shell
//! ([`FieldBox`]) owns the connections and the pace. Where the plugin draws minutes at random, a seed decides.
//!
//! ```text
//! heartbeat (10 s) ─► idle ─► device code ─► poll ◄─┐       a request that gets no usable answer is sent again,
//!                      │                      │ └───┘ pending   three times; then the box gives up for an hour
//!                      ├──► refresh ──────────┤
//!                      └──────────────────────┴─► per meter: consumption, largest power, production ─► idle
//! ```
//!
//! Not modelled: virtual counters that merge two meters, the dashboard, test mode.

mod clock;
mod fetch;
mod login;
mod memory;
mod message;
mod outcomes;
mod settings;
mod shell;
#[cfg(test)]
mod tests;
mod transport;

use std::time::Duration;

pub use self::clock::{Clock, Moment};
use self::fetch::Cycle;
use self::memory::Memory;
use self::message::Crash;
pub use self::message::{Kind, Reply, Request};
pub use self::outcomes::Outcomes;
pub use self::settings::{CLIENT_ID, Saved, Settings};
pub use self::shell::FieldBox;

/// Time between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// Heartbeats after which a request counts as lost.
const HEARTBEATS_TO_WAIT: u32 = 4;
/// Times a request is sent again.
const RESENDS: u32 = 3;
/// Least time between two new requests; a request that comes sooner waits as if it had failed.
const BREATH: Duration = Duration::from_secs(5);
/// Time until the next step when the server names none.
const INTERVAL: Duration = Duration::from_secs(5);
/// Hours of the day in which the box asks for data.
const AWAKE: std::ops::Range<i64> = 8..22;

/// Where the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Until the next connection.
    Idle,
    /// A request is under way.
    Sending,
    /// The last request is sent again at the next connection.
    Retry,
    /// The owner has not consented yet; the next connection polls.
    AskAgain,
    /// An answer about codes is due.
    DeviceCode,
    /// An answer about tokens is due.
    Token,
    /// A load curve is due.
    Hours,
    /// The largest powers are due.
    Peaks,
}

/// A box.
#[derive(Clone, Debug)]
pub struct Plugin {
    settings: Settings,
    saved: Saved,
    memory: Memory,
    enabled: bool,
    step: Step,
    next: Moment,
    interval: Duration,
    last_send: Option<Moment>,
    /// The last request, and the step its answer belongs to.
    request: Option<(Request, Step)>,
    resends: u32,
    heartbeats: u32,
    device_code: String,
    user_code: Option<String>,
    cycle: Cycle,
    /// From when on the whole history is wanted again.
    next_full: Option<Moment>,
    drawn: u64,
    outcomes: Outcomes,
}

/// What a step leads to.
enum Flow {
    Send(Request, Step),
    /// The last request once more.
    Again(Request),
    /// Nothing until the next connection or answer.
    Wait,
    /// Tokens are there: fetch.
    Start,
    Point,
    Direction,
    /// The load curve is in memory.
    HoursKnown,
    /// The largest powers are in memory.
    PeaksKnown,
    Production,
    Save,
    Done,
}

impl Plugin {
    /// A box switched on at `now`, with no tokens.
    pub fn new(settings: Settings, now: Moment) -> Self {
        let drawn = settings.seed;
        let mut plugin = Self {
            settings,
            saved: Saved::default(),
            memory: Memory::default(),
            enabled: true,
            step: Step::Idle,
            next: now,
            interval: INTERVAL,
            last_send: None,
            request: None,
            resends: 0,
            heartbeats: 0,
            device_code: String::new(),
            user_code: None,
            cycle: Cycle::default(),
            next_full: None,
            drawn,
            outcomes: Outcomes::default(),
        };
        plugin.in_a_while(now, Duration::ZERO);
        plugin
    }

    /// The same box with tokens of before, as after an import or a restart.
    #[must_use]
    pub fn with_saved(mut self, saved: Saved) -> Self {
        self.saved = saved;
        self
    }

    /// The owner clicks "Modify": the box starts again, with the tokens it still has.
    pub fn restart(&mut self, now: Moment) {
        self.enabled = true;
        (self.step, self.interval, self.last_send, self.request) = (Step::Idle, INTERVAL, None, None);
        (self.resends, self.heartbeats, self.cycle) = (0, 0, Cycle::default());
        self.in_a_while(now, Duration::ZERO);
    }

    /// The owner asks for a reset of the cache: values, and what was noted about directions without any, are forgotten,
    /// so that the whole history is wanted again. Tokens are kept. Takes effect at the next [`Plugin::restart`].
    pub fn forget_data(&mut self) {
        (self.memory, self.next_full) = (Memory::default(), None);
    }

    /// The heartbeat at `now`. `connected`: the connection of the last request about codes or tokens is still open.
    pub fn heartbeat(&mut self, now: Moment, connected: bool) -> Option<Request> {
        if !self.enabled {
            return None;
        }
        if now > self.next {
            // Tomorrow is planned at once; whatever goes wrong plans something sooner.
            self.next = self.tomorrow(now);
            self.handle(now, None, connected)
        } else if self.step == Step::Sending {
            self.handle(now, None, connected)
        } else {
            None
        }
    }

    /// The connection for the request under way is open, or has failed: the plugin sees no difference.
    pub fn connected(&mut self) {
        self.heartbeats = 0;
    }

    /// The answer to the request under way.
    pub fn answer(&mut self, now: Moment, reply: &Reply) -> Option<Request> {
        let awaited = self.request.as_ref().filter(|_| self.enabled && self.step == Step::Sending);
        let step = awaited.map(|(_, step)| *step)?;
        self.outcomes.saw(reply.status);
        self.step = step;
        self.handle(now, Some(reply), true)
    }

    /// Where it stands.
    pub fn step(&self) -> Step {
        self.step
    }

    /// False once it has stopped itself; only [`Plugin::restart`] helps.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// When it connects next, unless a request is under way.
    pub fn next_connection(&self) -> Moment {
        self.next
    }

    /// What it would keep over a restart.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The path and query of the link that it tells its owner to open, once it has codes.
    pub fn consent_path(&self) -> Option<String> {
        Some(format!("{}/device?code={}", self.settings.prefix, self.user_code.as_ref()?))
    }

    /// What became of its work so far.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Hours of consumption (or production) of `point` that it holds, over all days.
    pub fn hours_held(&self, point: &str, production: bool) -> u32 {
        self.memory.hours_held(point, production)
    }

    fn handle(&mut self, now: Moment, reply: Option<&Reply>, connected: bool) -> Option<Request> {
        if let Ok(flow) = self.react(now, reply, connected) {
            return self.run(now, flow);
        }
        // The plugin threw: its step stays, and it wakes up tomorrow.
        self.outcomes.stuck += 1;
        None
    }

    fn react(&mut self, now: Moment, reply: Option<&Reply>, connected: bool) -> Result<Flow, Crash> {
        match self.step {
            Step::Idle => Ok(self.begin(now)),
            Step::Sending => {
                self.heartbeats += 1;
                if self.heartbeats < HEARTBEATS_TO_WAIT {
                    return Ok(Flow::Wait);
                }
                self.outcomes.timeouts += 1;
                Ok(self.retry(now))
            }
            Step::Retry => Ok(self.resend()),
            Step::AskAgain if connected => Ok(self.poll()),
            Step::AskAgain => {
                self.outcomes.lost_while_polling += 1;
                Ok(self.fail())
            }
            Step::DeviceCode => self.on_device_code(now, reply),
            Step::Token => self.on_token(now, reply),
            Step::Hours => self.on_hours(now, reply),
            Step::Peaks => self.on_peaks(now, reply),
        }
    }

    fn run(&mut self, now: Moment, flow: Flow) -> Option<Request> {
        let mut flow = flow;
        loop {
            flow = match flow {
                Flow::Send(request, step) => return self.send(now, request, step),
                Flow::Again(request) => {
                    self.step = Step::Sending;
                    self.outcomes.sent(request.kind);
                    return Some(request);
                }
                Flow::Wait => return None,
                Flow::Start => self.start(now),
                Flow::Point => self.next_point(),
                Flow::Direction => self.next_direction(),
                Flow::HoursKnown => self.hours_known(),
                Flow::PeaksKnown => self.peaks_known(),
                Flow::Production => self.production(),
                Flow::Save => self.save(),
                Flow::Done => {
                    self.done(now);
                    return None;
                }
            }
        }
    }

    /// A request of its own, not a repetition.
    fn send(&mut self, now: Moment, request: Request, step: Step) -> Option<Request> {
        self.request = Some((request.clone(), step));
        (self.resends, self.heartbeats) = (0, 0);
        if self.last_send.is_some_and(|last| now <= last.plus(BREATH)) {
            self.step = Step::Retry;
            self.in_a_while(now, self.interval);
            return None;
        }
        self.last_send = Some(now);
        self.step = Step::Sending;
        self.outcomes.sent(request.kind);
        Some(request)
    }

    /// Plans the same request again.
    fn retry(&mut self, now: Moment) -> Flow {
        self.step = Step::Retry;
        self.in_a_while(now, self.interval);
        Flow::Wait
    }

    fn resend(&mut self) -> Flow {
        let Some((request, _)) = self.request.clone().filter(|_| self.resends < RESENDS) else {
            self.outcomes.too_many_failures += 1;
            return self.fail();
        };
        self.heartbeats = 0;
        self.resends += 1;
        self.outcomes.resends += 1;
        Flow::Again(request)
    }

    /// The cycle ends here and counts as failed.
    fn fail(&mut self) -> Flow {
        self.cycle.failed = true;
        Flow::Done
    }

    /// Stops until the owner helps: tokens are erased.
    fn disable(&mut self) -> Flow {
        self.enabled = false;
        self.saved = Saved::default();
        self.outcomes.disabled += 1;
        Flow::Wait
    }

    /// Connects again after `wait`, or in the morning if that is at night; at night the cycle is given up as well.
    fn in_a_while(&mut self, now: Moment, wait: Duration) {
        self.next = now.plus(wait);
        if AWAKE.contains(&self.next.hour()) {
            return;
        }
        let morning = if self.next.hour() >= AWAKE.end { self.tomorrow(now) } else { self.morning(now, 0) };
        self.next = morning;
        self.step = Step::Idle;
    }

    /// Tomorrow at 8 and some minutes.
    fn tomorrow(&mut self, now: Moment) -> Moment {
        self.morning(now, 1)
    }

    fn morning(&mut self, now: Moment, days: i64) -> Moment {
        let minutes = self.draw(60);
        Moment::at(now.day().plus(days), AWAKE.start, i64::try_from(minutes).unwrap_or(0))
    }

    /// A number below `bound`, from the seed.
    fn draw(&mut self, bound: u64) -> u64 {
        self.drawn =
            self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.drawn >> 33) % bound
    }
}
