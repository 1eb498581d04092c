//! What one of Enedis' APIs allows at a moment: its quota, and the circuit breaker in front of it.

use std::time::Duration;

use super::breaker::{Breaker, BreakerSettings};
use super::quota::{Quota, QuotaSettings};
use crate::base::clock::Timestamp;

const BREAKER: BreakerSettings = BreakerSettings {
    trip_after: 5,
    first_pause: Duration::from_secs(5),
    longest_pause: Duration::from_secs(60),
};

/// The allowance of one API. A call is [taken](Self::take), [begun](Self::begin), and then its end reported:
/// [answered](Self::answered), [failed](Self::failed) or [withdrawn](Self::withdrawn).
#[derive(Clone, Debug)]
pub struct Allowance {
    quota: Quota,
    breaker: Breaker,
}

impl Allowance {
    /// Nothing used, nothing known.
    pub fn new(quota: QuotaSettings, now: Timestamp) -> Self {
        Self { quota: Quota::new(quota, now), breaker: Breaker::default() }
    }

    /// Takes one call, or says how long to wait for it. `reserve` calls of the hour are left to others.
    pub fn take(&mut self, now: Timestamp, reserve: u32) -> Result<(), Duration> {
        self.breaker.check(now)?;
        self.quota.take(now, reserve)
    }

    /// The same for a call that cannot wait for a lease: where instances count together, it is leased afterwards.
    pub fn take_on_credit(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.breaker.check(now)?;
        self.quota.take_on_credit(now)
    }

    /// How long until `ahead` calls and one more have been made, or that it is longer than `limit`.
    pub fn look_ahead(&self, now: Timestamp, ahead: usize, limit: Duration) -> Duration {
        let opens = now + self.breaker.check(now).err().unwrap_or_default();
        if self.breaker.check(opens).is_err() {
            // A probe is under way: there is no telling.
            return limit;
        }
        let wait = opens.since(now);
        wait + self.quota.look_ahead(opens, ahead, limit.saturating_sub(wait))
    }

    /// Whether the breaker lets a call through; else how long to wait.
    pub fn check(&self, now: Timestamp) -> Result<(), Duration> {
        self.breaker.check(now)
    }

    /// A call that was taken goes out.
    pub fn begin(&mut self, now: Timestamp) {
        self.breaker.begin(now);
    }

    /// The API answered, whatever it said.
    pub fn answered(&mut self, now: Timestamp) {
        self.quota.ended(now);
        self.breaker.answered();
    }

    /// It did not, or only to say that it cannot; `is_news` as in [`Breaker::failed`].
    pub fn failed(&mut self, now: Timestamp, is_news: bool) {
        self.quota.ended(now);
        self.breaker.failed(now, &BREAKER, is_news);
    }

    /// A call that was begun tells nothing of the API.
    pub fn withdrawn(&mut self, now: Timestamp) {
        self.quota.ended(now);
        self.breaker.withdrawn();
    }

    /// Enedis said: nothing before `until`.
    pub fn close_until(&mut self, until: Timestamp) {
        self.quota.close_until(until);
    }

    /// There is no token of the application, and may be one after `wait`: until then nothing can be sent, whatever the
    /// state of this API.
    pub fn no_token(&mut self, now: Timestamp, wait: Duration) {
        self.quota.close_until(now + wait);
        self.breaker.note_trouble(now);
    }

    /// Whether the breaker holds calls back.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.breaker.is_open(now)
    }

    /// Whether it was held back, and has not answered since.
    pub const fn is_tripped(&self) -> bool {
        self.breaker.open_until().is_some()
    }

    /// How long there has been trouble, without an answer in between.
    pub fn in_trouble_for(&self, now: Timestamp) -> Duration {
        self.breaker.in_trouble_for(now)
    }

    /// The quota, to be shared with other instances.
    pub const fn quota(&mut self) -> &mut Quota {
        &mut self.quota
    }

    /// What there is to tell of it.
    pub fn snapshot(&self, now: Timestamp) -> AllowanceSnapshot {
        AllowanceSnapshot {
            used_this_hour: self.quota.used_this_hour(),
            breaker_open: self.breaker.is_open(now),
            in_trouble_for: self.breaker.in_trouble_for(now),
        }
    }
}

/// What an API allowed at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowanceSnapshot {
    /// Calls in the current clock hour, by all instances as far as is known.
    pub used_this_hour: u32,
    /// Whether the circuit breaker holds calls back.
    pub breaker_open: bool,
    /// How long there has been trouble, without an answer in between.
    pub in_trouble_for: Duration,
}
