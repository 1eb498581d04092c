//! **`PollThrottler`**: keeps devices to their interval (RFC 8628 section 3.5, `slow_down`).
//!
//! Owns the pacing of every session that was polled lately, apart from the sessions themselves: a poll's instant
//! may be lost, a decision may not. It is asked last, by the registry, and only about polls that are still
//! pending and came from the right client; so a final answer is never masked, a stranger's poll changes nothing,
//! and an unknown code leaves no trace here. One throttler stands beside each shard, on its thread, and answers
//! the HTTP handler directly.

mod interval;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use self::interval::{Interval, Pace, Verdict};
use crate::base::admission::{Observe, Reply};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::identity_hash::BuildIdentity;
use crate::base::keyring::DeviceHash;
use crate::base::timer::every;
use crate::device_flow::poll::{AuthStyle, PollAnswer};
use crate::device_flow::poll_interval::PollInterval;
use crate::device_flow::store::Polled;

/// Pacing that was not touched for one to two of these spans is forgotten: longer than any spacing, so the next
/// poll would have been on time anyway.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Polls kept to tell other instances of; beyond it they are not told, which costs a little leniency.
const UNTOLD_MAX: usize = 100_000;

/// Counters of one throttler since its start.
#[derive(Clone, Copy, Debug, Default, derive_more::AddAssign)]
pub struct ThrottlerSnapshot {
    /// Sessions whose pacing is remembered.
    pub paced: usize,
    /// Polls that were on time.
    pub on_time: u64,
    /// Polls answered with `slow_down`.
    pub early: u64,
}

/// The actor. Reached only from the registry's shard beside it.
pub struct PollThrottler {
    clock: SharedClock,
    interval: Arc<PollInterval>,
    // Two generations: what was touched lately, and what was touched in the span before.
    recent: HashMap<DeviceHash, Pace, BuildIdentity>,
    older: HashMap<DeviceHash, Pace, BuildIdentity>,
    // Polls that were on time since another instance was told, if there are other instances.
    untold: Option<Vec<Polled>>,
    stats: ThrottlerSnapshot,
}

impl PollThrottler {
    /// A throttler for devices that were told `interval`. `shared` if other instances are to be told of polls.
    pub fn new(clock: SharedClock, interval: Arc<PollInterval>, shared: bool) -> Self {
        Self {
            untold: shared.then(Vec::new),
            clock,
            interval,
            recent: HashMap::default(),
            older: HashMap::default(),
            stats: ThrottlerSnapshot::default(),
        }
    }

    fn interval(&self) -> Interval {
        Interval { required: self.interval.base(), told: self.interval.told() }
    }

    fn judge(&mut self, device: DeviceHash, style: AuthStyle, now: Timestamp) -> Verdict {
        let interval = self.interval();
        let verdict = if let Some(pace) = self.recent.get_mut(&device) {
            pace.poll(now, interval, style)
        } else {
            let (pace, verdict) = match self.older.remove(&device) {
                Some(mut pace) => {
                    let verdict = pace.poll(now, interval, style);
                    (pace, verdict)
                }
                None => Pace::first(now, interval, style),
            };
            self.recent.insert(device, pace);
            verdict
        };
        if let Some(untold) = &mut self.untold
            && !verdict.early
            && untold.len() < UNTOLD_MAX
        {
            untold.push(Polled { device, at: now });
        }
        verdict
    }
}

impl Actor for PollThrottler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        every(FORGET_AFTER, ctx.address().downgrade(), || ForgetPaces);
    }
}

/// Forget the pacing of what was not polled lately. Sent by the throttler's own timer.
#[derive(Message)]
#[rtype(result = "()")]
struct ForgetPaces;

impl Handler<ForgetPaces> for PollThrottler {
    type Result = ();

    // Synchronous, as all handlers here.
    fn handle(&mut self, _: ForgetPaces, _: &mut Self::Context) {
        self.older = std::mem::take(&mut self.recent);
    }
}

/// Judge a poll that found its session pending, and answer the device. Sent by the registry's shard beside this
/// throttler; nothing becomes durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PacePoll {
    /// The session.
    pub device: DeviceHash,
    /// How the client authenticated.
    pub style: AuthStyle,
    /// When the registry found it pending.
    pub at: Timestamp,
    /// The HTTP handler that waits.
    pub reply: Reply<PollAnswer>,
}

impl Handler<PacePoll> for PollThrottler {
    type Result = ();

    fn handle(&mut self, msg: PacePoll, _: &mut Self::Context) {
        let Verdict { early, interval_secs } = self.judge(msg.device, msg.style, msg.at);
        msg.reply.send(if early {
            self.stats.early += 1;
            PollAnswer::SlowDown { interval_secs }
        } else {
            self.stats.on_time += 1;
            PollAnswer::Pending { interval_secs }
        });
    }
}

impl Handler<Observe<ThrottlerSnapshot>> for PollThrottler {
    type Result = ();

    fn handle(&mut self, msg: Observe<ThrottlerSnapshot>, _: &mut Self::Context) {
        let paced = self.recent.len() + self.older.len();
        msg.reply.send(ThrottlerSnapshot { paced, ..self.stats });
    }
}

/// Hand over the polls that were on time since the last time. Sent by the registry's handle where several instances
/// share a store; answered at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakePolls {
    /// Whoever tells the other instances.
    pub reply: Reply<Vec<Polled>>,
}

impl Handler<TakePolls> for PollThrottler {
    type Result = ();

    fn handle(&mut self, msg: TakePolls, _: &mut Self::Context) {
        msg.reply.send(self.untold.as_mut().map(std::mem::take).unwrap_or_default());
    }
}

/// Pace these sessions as if they had been polled here. Sent by the registry's handle; nothing becomes durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NotePolls {
    /// Polls that were on time at other instances.
    pub polled: Vec<Polled>,
}

impl Handler<NotePolls> for PollThrottler {
    type Result = ();

    fn handle(&mut self, msg: NotePolls, _: &mut Self::Context) {
        let now = self.clock.now();
        for Polled { device, at } in msg.polled {
            // Another machine's clock may be ahead of ours.
            let at = at.min(now);
            let (interval, older) = (self.interval(), &mut self.older);
            let first = || Pace::first(at, interval, AuthStyle::Body).0;
            let pace =
                self.recent.entry(device).or_insert_with(|| older.remove(&device).unwrap_or_else(first));
            pace.note(at);
        }
    }
}
