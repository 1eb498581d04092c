//! What the relay remembers: the part in memory in front of the stored cache. Keys are keyed hashes, stored values are
//! sealed for their key; here they are opened, once, and kept in memory with their ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::MeterRelay;
use crate::clock::Timestamp;
use crate::keys::{Keyring, Sealed};
use crate::meter::belief::ConsentDoubt;
use crate::meter::cache::{CacheEntry, CacheKey, HotCache, MeterCache, Subject, key_text, owner_text};
use crate::meter::civil::{parse_date, today};
use crate::meter::day::Day;
use crate::meter::errors::DataError;
use crate::meter::policy::{FOR_GOOD, Refusal, day_life};
use crate::meter::request::{Meter, MeterRequest};
use crate::store::StoreError;

pub(super) struct Memory {
    hot: HotCache<Kept>,
    cache: Arc<dyn MeterCache>,
    keys: Arc<Keyring>,
    rng: StdRng,
    /// Not yet handed to the store.
    fresh: Vec<CacheEntry>,
}

struct Kept {
    owner: CacheKey,
    plain: Box<[u8]>,
}

/// What is known when a request comes.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub days: BTreeMap<Date, Day>,
    pub refusal: Option<Refusal>,
    pub doubt: ConsentDoubt,
    /// The earliest day that ever had values.
    pub since: Option<Date>,
}

/// A look into memory: what it has, and the keys of what the store may have.
pub(super) struct Look {
    pub known: Known,
    pub missing: Vec<CacheKey>,
}

impl Memory {
    pub fn new(cache: Arc<dyn MeterCache>, keys: Arc<Keyring>, max_bytes: usize, seed: [u8; 32]) -> Self {
        Self { hot: HotCache::new(max_bytes), cache, keys, rng: StdRng::from_seed(seed), fresh: Vec::new() }
    }

    pub fn cache(&self) -> Arc<dyn MeterCache> {
        Arc::clone(&self.cache)
    }

    pub fn entries(&self) -> usize {
        self.hot.entries()
    }

    pub const fn bytes(&self) -> usize {
        self.hot.bytes()
    }

    /// What memory knows of a request's days.
    pub fn look(&mut self, request: MeterRequest, now: Timestamp) -> Look {
        let mut look = Look { known: Known::default(), missing: Vec::new() };
        for subject in subjects(request, now) {
            let key = self.key(request.meter, subject);
            match self.hot.get(key, now) {
                Some(kept) => look.known.note(subject, &kept.plain),
                None => look.missing.push(key),
            }
        }
        look
    }

    /// Adds what the store had.
    pub fn take_in(
        &mut self,
        entries: Vec<CacheEntry>,
        known: &mut Known,
        request: MeterRequest,
        now: Timestamp,
    ) {
        let mut entries: BTreeMap<CacheKey, CacheEntry> =
            entries.into_iter().map(|entry| (entry.key, entry)).collect();
        for subject in subjects(request, now) {
            let key = self.key(request.meter, subject);
            let Some(entry) = entries.remove(&key).filter(|entry| entry.expires > now) else { continue };
            // Sealed under another key, or damaged: as good as missing.
            let Ok(plain) = self.keys.open(&key, &Sealed::from_bytes(entry.sealed)) else { continue };
            known.note(subject, &plain);
            let kept = Kept { owner: entry.owner, plain: plain.into_boxed_slice() };
            let size = kept.plain.len();
            self.hot.put(key, kept, size, entry.expires);
        }
    }

    /// Keeps the days a call brought, each for as long as it is good.
    pub fn keep_days(&mut self, call: MeterRequest, days: &BTreeMap<Date, Day>, today: Date, now: Timestamp) {
        for (date, day) in days {
            let fullness = day.fullness(call.resource, *date);
            if let Some(life) = day_life(*date, fullness, today) {
                self.keep(call.meter, Subject::Day(call.resource, *date), &day.pack(*date), now, now + life);
            }
        }
        let first = days.iter().find(|(_, day)| !day.points.is_empty()).map(|(date, _)| *date);
        let before = self.since(call, now);
        if let Some(first) = first.filter(|first| before.is_none_or(|before| *first < before)) {
            let text = first.to_string();
            self.keep(call.meter, Subject::Since(call.resource), text.as_bytes(), now, now + FOR_GOOD);
        }
    }

    /// Keeps an error that Enedis would repeat.
    pub fn keep_refusal(&mut self, call: MeterRequest, error: &DataError, today: Date, now: Timestamp) {
        let subject = Subject::Refusal(call.resource);
        let before = self.peek(call.meter, subject, now).and_then(|plain| serde_json::from_slice(plain).ok());
        let had_data = self.since(call, now).is_some();
        let remembered = Refusal::remember(before.as_ref(), error, call, had_data, today);
        if let Some((refusal, life)) = remembered {
            // Plain data: writing it cannot fail.
            let plain = serde_json::to_vec(&refusal).unwrap_or_default();
            self.keep(call.meter, subject, &plain, now, now + life);
        }
    }

    fn since(&mut self, call: MeterRequest, now: Timestamp) -> Option<Date> {
        self.peek(call.meter, Subject::Since(call.resource), now).and_then(date)
    }

    /// What was said of a meter's consent lately.
    pub fn doubt(&mut self, meter: Meter, now: Timestamp) -> ConsentDoubt {
        let plain = self.peek(meter, Subject::Consent, now);
        plain.and_then(|plain| serde_json::from_slice(plain).ok()).unwrap_or_default()
    }

    /// Notes it; `None`: the consent stands.
    pub fn set_doubt(&mut self, meter: Meter, doubt: Option<ConsentDoubt>, now: Timestamp) {
        let known = self.peek(meter, Subject::Consent, now).is_some();
        if doubt.is_some() || known {
            let plain = serde_json::to_vec(&doubt.unwrap_or_default()).unwrap_or_default();
            self.keep(meter, Subject::Consent, &plain, now, now + ConsentDoubt::life());
        }
    }

    /// Forgets a meter: in memory at once, in the store when the future has ended.
    pub fn forget(&mut self, meter: Meter) -> BoxFuture<'static, Result<u64, StoreError>> {
        let owner = self.keys.cache(&owner_text(meter));
        self.hot.remove_where(|kept| kept.owner == owner);
        self.fresh.retain(|entry| entry.owner != owner);
        self.cache.forget(owner)
    }

    /// Hands what is new to the store.
    pub fn flush(&mut self, ctx: &mut Context<MeterRelay>) {
        if self.fresh.is_empty() {
            return;
        }
        let put = self.cache.put(std::mem::take(&mut self.fresh));
        let put = async move {
            if let Err(error) = put.await {
                tracing::warn!(%error, "the meter cache could not be written; values will be asked for again");
            }
        };
        ctx.spawn(actix::fut::wrap_future(put));
    }

    fn keep(&mut self, meter: Meter, subject: Subject, plain: &[u8], now: Timestamp, expires: Timestamp) {
        let (key, owner) = (self.key(meter, subject), self.keys.cache(&owner_text(meter)));
        let sealed = self.keys.seal(&mut self.rng, &key, plain).as_bytes().to_vec();
        self.fresh.push(CacheEntry { key, owner, sealed, fetched: now, expires });
        self.hot.put(key, Kept { owner, plain: plain.into() }, plain.len(), expires);
    }

    fn peek(&mut self, meter: Meter, subject: Subject, now: Timestamp) -> Option<&[u8]> {
        let key = self.key(meter, subject);
        self.hot.get(key, now).map(|kept| &*kept.plain)
    }

    fn key(&self, meter: Meter, subject: Subject) -> CacheKey {
        self.keys.cache(&key_text(meter, subject))
    }
}

impl Known {
    fn note(&mut self, subject: Subject, plain: &[u8]) {
        match subject {
            Subject::Day(_, date) => {
                if let Some(day) = Day::unpack(plain, date) {
                    self.days.insert(date, day);
                }
            }
            Subject::Refusal(_) => self.refusal = serde_json::from_slice(plain).ok(),
            Subject::Consent => self.doubt = serde_json::from_slice(plain).unwrap_or_default(),
            Subject::Since(_) => self.since = date(plain),
        }
    }
}

/// What may be remembered of a request: its days that are over, and what goes beyond days.
fn subjects(request: MeterRequest, now: Timestamp) -> impl Iterator<Item = Subject> {
    let (resource, today) = (request.resource, today(now));
    let days =
        request.range.days().take_while(move |day| *day < today).map(move |day| Subject::Day(resource, day));
    days.chain([Subject::Refusal(resource), Subject::Since(resource), Subject::Consent])
}

fn date(plain: &[u8]) -> Option<Date> {
    parse_date(std::str::from_utf8(plain).ok()?)
}
