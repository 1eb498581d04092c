//! What the relay decides, without a runtime: an [`Event`] and the time go in, [`Effect`]s come out.
//!
//! Owns the requests that wait, the queue of calls, the allowance of each API and the choice between them, what is
//! remembered, and what speaks for and against the supplier's word on consents. Callers are numbers here.

mod calls;
mod own;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;

pub use self::calls::Call;
use self::own::Own;
use self::token::HeldToken;
use super::held::Held;
use super::prefetch::{End, Prefetch};
pub use super::sealed_cache::Question;
use super::sealed_cache::{Remembered, SealedCache};
use super::shares::Shares;
use super::troubles::Troubles;
use super::{ApiSnapshot, COME_BACK, RelaySettings, RelaySnapshot, Relayed};
use crate::base::clock::Timestamp;
use crate::base::keyring::{CacheKey, Keyring};
use crate::base::meter::Meter;
use crate::enedis::exchanger::Acquired;
use crate::enedis::port::Bearer;
use crate::limits::allowance::Allowance;
use crate::limits::fair_queue::{FairQueue, Offered};
use crate::limits::quota::{Lease, Wish};
use crate::metering::answer;
use crate::metering::api_choice::{Api, ApiChooser};
use crate::metering::cache::CacheEntry;
use crate::metering::civil::{plus, today};
use crate::metering::day::{Day, reading_since};
use crate::metering::queue;
use crate::metering::refusals::{Judgement, OutageDetector, is_young};
use crate::metering::request::{DayRange, MeterRequest};
use crate::metering::resource_server::{DataError, Verdict};
use crate::metering::split::{self, Merged, Trouble};

/// How long trouble is taken for short. The plugin asks again three times, within some two minutes, if it is told 429;
/// told 503, it gives up for an hour.
const SHORT: Duration = Duration::from_secs(120);
/// Shortest wait a box is told.
const BUSY_MIN: Duration = Duration::from_secs(1);
/// What a box is told to wait while Enedis does not answer. The plugin comes back after an hour anyway.
const DOWN_RETRY: Duration = Duration::from_secs(60);
/// What a box is told to wait whose consent is believed withdrawn while Enedis refuses everybody.
const OUTAGE_PAUSE: Duration = Duration::from_secs(3_600);

/// What the relay hears.
#[derive(Debug)]
pub enum Event {
    Asked {
        /// Below [`own::FIRST`].
        id: u64,
        question: Question,
    },
    /// What the store has of the keys of [`Effect::Look`]; `None`: it does not answer.
    Found {
        id: u64,
        entries: Option<Vec<CacheEntry>>,
    },
    Ended {
        call: Call,
        verdict: Verdict,
    },
    /// The application's token, or why there is none.
    Token(Acquired),
    /// What came of [`Effect::Lease`]; `None`: the store does not answer.
    Leased {
        api: Api,
        wish: Wish,
        lease: Option<Lease>,
    },
    /// What came of [`Effect::Claim`]; `None`: the store does not answer.
    Claimed {
        turn: u64,
        is_ours: Option<bool>,
    },
    /// The meters with a consent; `None`: the store does not answer.
    Held(Option<Vec<Held>>),
    /// Callers that wait no more.
    HungUp(Vec<u64>),
    /// The time of [`Effect::WakeAt`] has come.
    Woken,
}

/// What the relay does.
#[derive(Debug)]
pub enum Effect {
    Answer {
        id: u64,
        relayed: Relayed,
    },
    /// Look into the store, and come back with [`Event::Found`].
    Look {
        id: u64,
        keys: Vec<CacheKey>,
    },
    /// Send a call, and come back with [`Event::Ended`].
    Send(Call),
    /// Ask for the application's token, in place of one that was not accepted; come back with [`Event::Token`].
    AcquireToken {
        rejected: Option<Bearer>,
    },
    Write(Vec<CacheEntry>),
    /// Delete what the store has of an owner, then write.
    Forget {
        owner: CacheKey,
        then: Vec<CacheEntry>,
    },
    /// Take calls of the hour that all instances share, and come back with [`Event::Leased`].
    Lease {
        api: Api,
        wish: Wish,
    },
    /// Take this turn to ask of all instances, and come back with [`Event::Claimed`].
    Claim(u64),
    /// Read which meters have a consent, and come back with [`Event::Held`].
    ReadHeld,
    /// Come back with [`Event::Woken`] then, and at no time that was named before.
    WakeAt(Option<Timestamp>),
}

/// A request that waits for its calls.
struct Waiting {
    question: Question,
    days: BTreeMap<Date, Day>,
    errors: Vec<DataError>,
    troubles: Vec<Trouble>,
    outstanding: usize,
    /// A call was needed.
    is_asked: bool,
    /// Where a call begins that looks for the day of activation.
    probing: Option<Date>,
}

/// The decisions and their state.
pub struct Core {
    wall: Timestamp,
    per_hour: u32,
    chooser: ApiChooser,
    allowances: [Allowance; 2],
    queue: FairQueue<Meter, MeterRequest, u64>,
    /// Requests whose look into the store is under way.
    looking: HashMap<u64, (Question, Remembered)>,
    waiting: HashMap<u64, Waiting>,
    cache: SealedCache,
    outages: OutageDetector,
    shares: Shares,
    troubles: Troubles,
    prefetch: Prefetch,
    own: Own,
    token: HeldToken,
    stats: RelaySnapshot,
    effects: Vec<Effect>,
}

impl Core {
    pub fn new(settings: RelaySettings, keys: Arc<Keyring>, seed: [u8; 32], now: Timestamp) -> Self {
        Self {
            wall: now,
            per_hour: settings.quota.per_hour,
            chooser: ApiChooser::new(settings.mode),
            allowances: Api::ALL.map(|_| Allowance::new(settings.quota, now)),
            queue: FairQueue::new(queue::settings(settings.quota)),
            looking: HashMap::new(),
            waiting: HashMap::new(),
            cache: SealedCache::new(keys, settings.memory_max_bytes, seed),
            outages: OutageDetector::default(),
            shares: Shares::new(settings.quota.per_hour),
            troubles: Troubles::new(),
            prefetch: Prefetch::new(settings.prefetch),
            own: Own::default(),
            token: HeldToken::default(),
            stats: RelaySnapshot::default(),
            effects: Vec::new(),
        }
    }

    /// Takes an event in, and says what is to be done, in this order. Waits and the quota go by `now`; days, and what is
    /// remembered of them and of consents, by the wall clock.
    pub fn handle(&mut self, now: Timestamp, wall: Timestamp, event: Event) -> Vec<Effect> {
        self.wall = wall;
        match event {
            Event::Asked { id, question } => {
                // First, so that what it is answered is counted.
                let is_news = self.prefetch.asked(question, today(self.wall));
                self.look(now, id, question);
                if is_news {
                    self.pump(now);
                }
            }
            Event::Found { id, entries } => {
                if let Some((question, mut remembered)) = self.looking.remove(&id) {
                    if entries.is_none() && own::is_own(id) {
                        self.end_own(now, id, End::Later { until: now + COME_BACK, is_own: false });
                    } else {
                        self.cache.take_in(entries.unwrap_or_default(), &mut remembered, question, self.wall);
                        self.proceed(now, id, question, remembered);
                    }
                } else if let Some(held) = self.own.reading.remove(&id) {
                    self.restore(now, held, entries);
                }
                if own::is_own(id) {
                    self.pump(now);
                }
            }
            Event::Ended { call, verdict } => {
                self.ended(now, call, verdict);
                self.pump(now);
            }
            Event::Token(acquired) => {
                self.token_came(now, acquired);
                self.pump(now);
            }
            Event::Leased { api, wish, lease } => {
                self.allowances[api as usize].quota().lease(wish, lease);
                self.pump(now);
            }
            Event::Claimed { turn, is_ours } => {
                self.prefetch.claimed(now, turn, is_ours);
                self.pump(now);
            }
            Event::Held(held) => {
                self.held(now, held);
                self.pump(now);
            }
            Event::HungUp(ids) => {
                for id in ids {
                    self.looking.remove(&id);
                    self.waiting.remove(&id);
                }
                let waiting = &self.waiting;
                self.queue.retain_waiters(|id| waiting.contains_key(id));
            }
            Event::Woken => self.pump(now),
        }
        for api in Api::ALL {
            let wish = self.allowances[api as usize].quota().wish();
            self.effects.extend(wish.map(|wish| Effect::Lease { api, wish }));
        }
        std::mem::take(&mut self.effects)
    }

    /// Forgets a meter, and says whose entries are to be deleted from the store.
    pub fn forget(&mut self, meter: Meter) -> CacheKey {
        self.prefetch.forget(meter);
        self.cache.forget(meter)
    }

    /// From now on the calls of each API are counted together with those of other instances.
    pub fn share(&mut self, instances: u32) {
        self.prefetch.share(instances);
        self.queue.set_low_share_of(self.per_hour / instances.max(1));
        self.allowances.iter_mut().for_each(|allowance| allowance.quota().share(instances));
    }

    pub fn snapshot(&self, now: Timestamp) -> RelaySnapshot {
        let apis = Api::ALL.map(|api| {
            let allowance = self.allowances[api as usize].snapshot(now);
            ApiSnapshot { allowance, ..self.stats.apis[api as usize] }
        });
        let (active, lacking) = self.prefetch.counts();
        RelaySnapshot {
            active,
            lacking,
            waiting: self.waiting.len(),
            queued: self.queue.waiting(),
            in_flight: self.queue.running(),
            remembered: self.cache.entries(),
            memory_bytes: self.cache.bytes(),
            apis,
            ..self.stats
        }
    }

    /// Whether the direction of a question was refused since it was last answered, as far as that is in memory.
    pub fn is_refused(&mut self, question: Question, wall: Timestamp) -> bool {
        self.cache.history(question, question.request.resource.direction(), wall).is_refused()
    }

    fn look(&mut self, now: Timestamp, id: u64, question: Question) {
        let is_own = own::is_own(id) && self.prefetch.is_on();
        let (remembered, missing) = self.cache.look(question, is_own, self.wall);
        if missing.is_empty() {
            self.proceed(now, id, question, remembered);
        } else {
            self.looking.insert(id, (question, remembered));
            self.effects.push(Effect::Look { id, keys: missing });
        }
    }

    /// Decides what a request needs, now that what is remembered of it is at hand.
    fn proceed(&mut self, now: Timestamp, id: u64, question: Question, remembered: Remembered) {
        let (Question { request, consented, .. }, today) = (question, today(self.wall));
        if own::is_own(id) && !self.may_ask(question, &remembered) {
            return self.end_own(now, id, End::Gone);
        }
        let wanted = self.own_days(id, question, &remembered);
        let Remembered { days, due, error: lasting, refusals, since, .. } = remembered;
        let direction = request.resource.direction();
        let [own, other] = [direction, direction.other()].map(|direction| refusals[direction as usize]);
        let known = |day: Date| days.contains_key(&day) && !due.contains(&day);
        let mut calls = if let Some(wanted) = wanted {
            split::calls(request, today, |day| !wanted.contains(&day))
        } else {
            self.note_asked(question);
            split::calls(request, today, known)
        };
        if let (Some(call), Some(since), None) = (calls.first_mut(), since, &lasting) {
            *call = split::widened(*call, since, today);
        }
        let (errors, troubles) = (Vec::new(), Vec::new());
        let (outstanding, is_asked, probing) = (0, false, None);
        let mut waiting = Waiting { question, days, errors, troubles, outstanding, is_asked, probing };
        match own.judge(&other, self.wall, consented) {
            Judgement::Withdrawn if !self.outages.is_outage(self.wall) => {
                waiting.errors.push(DataError::no_consent());
                return self.settle(now, id, &waiting);
            }
            Judgement::OneSided => {
                if !calls.is_empty() {
                    waiting.errors.push(DataError::no_data());
                }
                return self.settle(now, id, &waiting);
            }
            Judgement::AskLater(retry_after) if !calls.is_empty() => {
                return self.answer(now, id, retry_after);
            }
            Judgement::Withdrawn if !calls.is_empty() => {
                return self.answer(now, id, OUTAGE_PAUSE);
            }
            Judgement::Ask | Judgement::AskLater(_) | Judgement::Withdrawn => {}
        }
        match self.troubles.pause(request, now) {
            Some(retry_after) if !calls.is_empty() && retry_after >= SHORT => {
                return self.answer(now, id, retry_after);
            }
            Some(retry_after) if !calls.is_empty() => {
                waiting.troubles.push(Trouble::Busy(now + retry_after));
                return self.settle(now, id, &waiting);
            }
            Some(_) | None => {}
        }
        // Nothing shows that Enedis opens this meter, and most of what was tried of that kind today was in vain.
        let is_stranger = waiting.days.is_empty()
            && lasting.is_none()
            && !self.outages.has_answered(request.meter, self.wall);
        let wait = if is_stranger { self.shares.strangers_wait(now) } else { None };
        if let Some(wait) = wait.filter(|_| is_young(self.wall, consented)) {
            waiting.troubles.push(Trouble::Busy(now + wait));
            return self.settle(now, id, &waiting);
        }
        for call in calls {
            let mut call = call;
            if let Some((lasting, error)) = lasting.as_ref().and_then(|l| Some((l, l.answers(call)?))) {
                // The part of it after the day of activation, if there is one.
                let early = lasting.too_early();
                let later = early.and_then(|early| DayRange::new(plus(early, 1), call.range.end()));
                let Some(later) = later else {
                    waiting.errors.push(error.clone());
                    continue;
                };
                call = call.with_range(later);
                waiting.probing = Some(later.start());
            }
            if let Some(wait) = self.shares.wait(call.meter, now) {
                waiting.troubles.push(Trouble::Busy(now + wait));
                break;
            }
            match self.offer(now, id, call) {
                Ok(offered) => {
                    (waiting.outstanding, waiting.is_asked) = (waiting.outstanding + 1, true);
                    self.stats.shared += u64::from(offered == Offered::Joined);
                }
                Err(_) if self.is_down(now) => waiting.troubles.push(Trouble::Down),
                Err(busy) => {
                    waiting.troubles.push(busy);
                    // The rest would wait behind it.
                    break;
                }
            }
        }
        if waiting.outstanding == 0 {
            self.stats.from_memory += u64::from(waiting.troubles.is_empty() && !own::is_own(id));
            return self.settle(now, id, &waiting);
        }
        self.waiting.insert(id, waiting);
        self.pump(now);
    }

    /// Puts a call in line for a caller; else the trouble it is told.
    fn offer(&mut self, now: Timestamp, id: u64, call: MeterRequest) -> Result<Offered, Trouble> {
        let priority = self.priority(now, id, call);
        let allowance = &self.allowances[self.chooser.preferred(now) as usize];
        let wait = |ahead, limit| allowance.look_ahead(now, ahead, limit);
        let offered = self.queue.offer(now, &call.meter, &call, priority, id, wait);
        offered.map_err(|retry_after| Trouble::Busy(now + retry_after))
    }

    /// Answers a request none of whose calls is outstanding.
    fn settle(&mut self, now: Timestamp, id: u64, waiting: &Waiting) {
        let Waiting { question, days, errors, troubles, .. } = waiting;
        let last = self.note_days(waiting);
        let relayed = match split::merge(question.request, days, errors, troubles) {
            Merged::Values(reading) => {
                let changed = |since| reading_since(question.request, days, since);
                let reading = question.changed_since.map_or(reading, changed);
                Relayed::Answer(answer::body(question.request, &reading))
            }
            Merged::Error(error) => Relayed::Error(error.told()),
            Merged::Trouble(Trouble::Busy(until)) => {
                Relayed::Busy { retry_after: until.since(now).max(BUSY_MIN) }
            }
            // While trouble is young, a box is told to ask again at once.
            Merged::Trouble(Trouble::Down) if self.preferred(now).in_trouble_for(now) < SHORT => {
                Relayed::Busy { retry_after: COME_BACK }
            }
            Merged::Trouble(Trouble::Down | Trouble::Closed) => {
                Relayed::Unavailable { retry_after: DOWN_RETRY }
            }
        };
        if own::is_own(id) {
            return self.settle_own(now, id, waiting, last, &relayed);
        }
        self.count(waiting, last, &relayed);
        self.effects.push(Effect::Answer { id, relayed });
    }

    /// Answers a request that is not to be asked about now.
    fn answer(&mut self, now: Timestamp, id: u64, retry_after: Duration) {
        if own::is_own(id) {
            return self.end_own(now, id, End::Later { until: now + retry_after, is_own: true });
        }
        self.effects.push(Effect::Answer { id, relayed: Relayed::Unavailable { retry_after } });
    }

    /// The allowance of the API that calls go to at `now`.
    fn preferred(&self, now: Timestamp) -> &Allowance {
        &self.allowances[self.chooser.preferred(now) as usize]
    }

    /// Whether that API's breaker holds calls back.
    fn is_down(&self, now: Timestamp) -> bool {
        self.preferred(now).is_open(now)
    }
}

#[cfg(test)]
mod tests;
