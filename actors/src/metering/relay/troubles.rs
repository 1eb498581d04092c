//! Whose trouble it is that Enedis does not answer a question: everybody's, or the meter's own. Enedis answers 500 about some
//! meters for days, fresh consents most of all, while it serves all others.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::base::clock::Timestamp;
use crate::base::meter::Meter;
use crate::limits::breaker::{Breaker, BreakerSettings};
use crate::metering::api_choice::Api;
use crate::metering::request::{MeterRequest, Resource};

/// A resource of a meter that Enedis cannot answer about.
const OWN: BreakerSettings = BreakerSettings {
    trip_after: 2,
    first_pause: Duration::from_secs(2 * 60),
    longest_pause: Duration::from_secs(6 * 3_600),
};
/// Meters of failures in a row that are told apart: more than any breaker needs to open.
const IN_A_ROW_MAX: usize = 8;
/// Resources whose trouble is remembered; those that were asked for longest ago are forgotten.
const OWN_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

pub(super) struct Troubles {
    /// The meters of an API's failures since it last answered.
    in_a_row: [Vec<Meter>; 2],
    own: LruCache<(Meter, Resource), Breaker>,
}

impl Troubles {
    pub fn new() -> Self {
        Self { in_a_row: Default::default(), own: LruCache::new(OWN_MAX) }
    }

    /// An API did not answer about `meter`; whether that says something of the API.
    pub fn is_news(&mut self, api: Api, meter: Meter) -> bool {
        let meters = &mut self.in_a_row[api as usize];
        let is_news = !meters.contains(&meter);
        if is_news && meters.len() < IN_A_ROW_MAX {
            meters.push(meter);
        }
        is_news
    }

    /// An API answered. If it had been held to be down, so were all the meters it could not answer about.
    pub fn answered(&mut self, api: Api, was_down: bool) {
        self.in_a_row[api as usize].clear();
        if was_down {
            self.own.clear();
        }
    }

    /// How long a resource of a meter is to be left alone.
    pub fn pause(&self, question: MeterRequest, now: Timestamp) -> Option<Duration> {
        let breaker = self.own.peek(&(question.meter, question.resource))?;
        breaker.open_until().map(|until| until.since(now)).filter(|wait| !wait.is_zero())
    }

    /// No API answered a call.
    pub fn failed(&mut self, call: MeterRequest, now: Timestamp) {
        let breaker = self.own.get_or_insert_mut((call.meter, call.resource), Breaker::default);
        breaker.failed(now, &OWN, true);
    }

    /// One did.
    pub fn ended(&mut self, call: MeterRequest) {
        self.own.pop(&(call.meter, call.resource));
    }
}
