//! The box in the field: the DomoticzLinky plugin 2.6.0 as a state machine, and a shell that runs it over HTTP.
//!
//! The core ([`Plugin`]) owns what the plugin remembers; it takes the time and what happened, and returns the request
//! to send next, if any. It knows no socket and no clock, and promises the plugin's reactions, faults included: it
//! erases its tokens on a 403, it stops until the next morning where the plugin would throw. The shell
//! ([`FieldBox`]) owns the connections and the pace; a simulated clock can take its place. Where the plugin draws
//! minutes at random, a seed decides.
//!
//! ```text
//! heartbeat (10 s) ─► idle ─► device code ─► poll ◄─┐       a request that gets no usable answer is sent again,
//!                      │                      │ └───┘ pending   three times; then the box gives up for an hour
//!                      ├──► refresh ──────────┤
//!                      └──────────────────────┴─► per meter: consumption, largest power, production ─► idle
//! ```
//!
//! Not modelled: virtual counters that merge two meters, the dashboard, test mode, and that a long history is asked for
//! again only after half of its length.

mod clock;
mod fetch;
mod login;
mod memory;
mod message;
mod shell;
#[cfg(test)]
mod tests;
mod transport;

use std::time::Duration;

pub use self::clock::{Clock, Moment};
use self::fetch::Cycle;
use self::memory::Memory;
use self::message::Crash;
pub use self::message::{CLIENT_ID, Kind, Outcomes, Reply, Request};
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

/// How a box is set up; all else is as in a fresh installation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Value of `Host`, with the port unless that is 80 or 443.
    pub host: String,
    /// Decides the minutes drawn at random.
    pub seed: u64,
    /// Days of load curves it wants: 7 unless its owner set more.
    pub history_days: i64,
    /// Address that a reverse proxy in front of the server adds as `X-Forwarded-For`; boxes themselves send none.
    pub forwarded_for: Option<String>,
}

impl Settings {
    /// The plugin as it is installed, towards `host`.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), seed: 0, history_days: 7, forwarded_for: None }
    }
}

/// What survives a restart of the box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Meters, in the order of the token answer.
    pub usage_points: Vec<String>,
    /// `token_type`.
    pub token_type: String,
    /// `access_token`.
    pub access_token: String,
    /// `refresh_token`.
    pub refresh_token: String,
    /// Ten minutes before the access token ends; `None`: no tokens.
    pub expires_at: Option<Moment>,
}

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
    /// An answer to such a request is read. It stays so where the plugin throws.
    Reading(Kind),
}

/// A box.
#[derive(Clone, Debug)]
pub struct Plugin {
    settings: Settings,
    saved: Saved,
    memory: Memory,
    now: Moment,
    enabled: bool,
    step: Step,
    next: Moment,
    interval: Duration,
    last_send: Option<Moment>,
    /// The last request.
    request: Option<Request>,
    resends: u32,
    heartbeats: u32,
    device_code: String,
    user_code: Option<String>,
    cycle: Cycle,
    drawn: u64,
    outcomes: Outcomes,
}

impl Plugin {
    /// A box switched on at `now`, with no tokens.
    pub fn new(settings: Settings, now: Moment) -> Self {
        let mut plugin = Self {
            drawn: settings.seed,
            settings,
            saved: Saved::default(),
            memory: Memory::default(),
            now,
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
            outcomes: Outcomes::default(),
        };
        plugin.in_a_while(Duration::ZERO);
        plugin
    }

    /// The owner clicks "Modify" at `now`: the box starts again, with the tokens it still has.
    pub fn restart(&mut self, now: Moment) {
        (self.now, self.enabled, self.step, self.interval) = (now, true, Step::Idle, INTERVAL);
        (self.last_send, self.request, self.resends, self.heartbeats) = (None, None, 0, 0);
        self.cycle = Cycle::default();
        self.in_a_while(Duration::ZERO);
    }

    /// The owner asks for a reset of the cache: values, and what was noted about directions without any, are forgotten.
    /// Tokens are kept. Takes effect at the next [`Plugin::restart`].
    pub fn forget_data(&mut self) {
        self.memory = Memory::default();
    }

    /// The heartbeat at `now`. `connected`: the connection of the last request about codes or tokens is still open.
    pub fn heartbeat(&mut self, now: Moment, connected: bool) -> Option<Request> {
        self.now = now;
        let due = now > self.next;
        if !self.enabled || !due && self.step != Step::Sending {
            return None;
        }
        if due {
            // Tomorrow is planned at once; whatever goes wrong plans something sooner.
            self.next = self.morning(1);
        }
        self.react(None, connected)
    }

    /// The connection for the request under way is open, or has failed: the plugin sees no difference.
    pub fn connected(&mut self) {
        self.heartbeats = 0;
    }

    /// The answer to the request under way.
    pub fn answer(&mut self, now: Moment, reply: &Reply) -> Option<Request> {
        let kind = self.request.as_ref().filter(|_| self.enabled && self.step == Step::Sending)?.kind;
        self.now = now;
        self.outcomes.saw(reply.status);
        self.step = Step::Reading(kind);
        self.react(Some(reply), true)
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
        Some(format!("/device?code={}", self.user_code.as_ref()?))
    }

    /// What became of its work so far.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// What becomes of its work is counted from now on.
    pub fn forget_outcomes(&mut self) {
        self.outcomes = Outcomes::default();
    }

    /// Hours of consumption (or production) of `point` that it holds, over all days.
    pub fn hours_held(&self, point: &str, production: bool) -> u32 {
        self.memory.hours_held(point, production)
    }

    /// One step; the request to send then, if any.
    fn react(&mut self, reply: Option<&Reply>, connected: bool) -> Option<Request> {
        let next = match self.step {
            Step::Idle => Ok(self.begin()),
            Step::Sending => Ok(self.wait()),
            Step::Retry => Ok(self.resend()),
            Step::AskAgain if connected => Ok(self.poll()),
            // The connection was closed while the owner's consent was awaited.
            Step::AskAgain => Ok(self.fail()),
            Step::Reading(Kind::DeviceCode) => self.on_device_code(reply),
            Step::Reading(Kind::Poll | Kind::Refresh) => self.on_token(reply),
            Step::Reading(Kind::Consumption | Kind::Production) => self.on_hours(reply),
            Step::Reading(Kind::MaxPower) => self.on_peaks(reply),
        };
        next.unwrap_or_else(|Crash| {
            // The plugin threw: its step stays, and it wakes up tomorrow.
            self.outcomes.stuck += 1;
            None
        })
    }

    /// A request of its own, not a repetition.
    fn send(&mut self, request: Request) -> Option<Request> {
        let kind = request.kind;
        (self.resends, self.heartbeats) = (0, 0);
        self.request = Some(request);
        if self.last_send.is_some_and(|last| self.now <= last.plus(BREATH)) {
            return self.retry();
        }
        self.last_send = Some(self.now);
        self.step = Step::Sending;
        self.outcomes.sent(kind);
        self.request.clone()
    }

    /// Waits for the answer some more heartbeats.
    fn wait(&mut self) -> Option<Request> {
        self.heartbeats += 1;
        if self.heartbeats < HEARTBEATS_TO_WAIT {
            return None;
        }
        self.outcomes.timeouts += 1;
        self.retry()
    }

    /// Plans the same request again.
    fn retry(&mut self) -> Option<Request> {
        self.step = Step::Retry;
        self.in_a_while(self.interval);
        None
    }

    fn resend(&mut self) -> Option<Request> {
        let Some(request) = self.request.clone().filter(|_| self.resends < RESENDS) else {
            return self.fail();
        };
        self.heartbeats = 0;
        self.resends += 1;
        self.outcomes.resends += 1;
        self.step = Step::Sending;
        self.outcomes.sent(request.kind);
        Some(request)
    }

    /// The cycle ends here and counts as failed.
    fn fail(&mut self) -> Option<Request> {
        self.cycle.failed = true;
        self.done()
    }

    /// Stops until the owner helps: tokens are erased.
    fn disable(&mut self) -> Option<Request> {
        self.enabled = false;
        self.saved = Saved::default();
        self.outcomes.disabled += 1;
        None
    }

    /// Connects again after `wait`, or in the morning if that is at night; at night the cycle is given up as well.
    fn in_a_while(&mut self, wait: Duration) {
        self.next = self.now.plus(wait);
        if !AWAKE.contains(&self.next.hour()) {
            self.next = self.morning(i64::from(self.next.hour() >= AWAKE.end));
            self.step = Step::Idle;
        }
    }

    /// That many days from now at 8 and some minutes.
    fn morning(&mut self, days: i64) -> Moment {
        let minutes = self.draw(60);
        Moment::at(self.now.day().plus(days), AWAKE.start, minutes)
    }

    /// A number below `bound`, from the seed.
    fn draw(&mut self, bound: u32) -> i64 {
        self.drawn =
            self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.drawn >> 33) % u64::from(bound)).unwrap_or(0)
    }
}
