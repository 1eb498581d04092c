//! The part of the cache in memory, in front of the stored one. Keys are keyed hashes, stored values are sealed for their
//! key; here they are opened, once, and kept in memory with their ends. Writes are collected for the store; nothing is
//! done here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::last_asked::LastAsked;
use crate::base::clock::Timestamp;
use crate::base::keyring::{CacheKey, Keyring};
use crate::base::meter::Meter;
use crate::metering::cache::{CacheEntry, HotCache, Subject, key_text, owner_text};
use crate::metering::civil::{parse_date, plus, today};
use crate::metering::day::{Day, Fullness};
use crate::metering::policy::{FOR_GOOD, LATE, LastingError, day_life};
use crate::metering::refusals::RefusalHistory;
use crate::metering::request::{DayRange, Direction, MeterRequest};
use crate::metering::resource_server::DataError;
use crate::metering::split::CURVE_CALL_DAYS;

pub struct SealedCache {
    hot: HotCache<Kept>,
    keys: Arc<Keyring>,
    rng: StdRng,
    /// Not yet handed to the store.
    fresh: Vec<CacheEntry>,
}

struct Kept {
    owner: CacheKey,
    fetched: Timestamp,
    plain: Box<[u8]>,
}

/// How long an error that Enedis would repeat is kept beyond its validity: it counts how often it came.
const ERROR_KEPT: Duration = Duration::from_secs(60 * 86_400);

/// How long a value is answered from memory without a look into the store.
const IN_MEMORY: Duration = Duration::from_secs(3_600);
/// How long a write may be on its way to the store.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// An error that Enedis would repeat, and until when it is answered from memory.
#[derive(Serialize, Deserialize)]
struct KeptError {
    #[serde(rename = "refusal")]
    error: LastingError,
    until: Timestamp,
}

/// What is remembered of a request's subjects.
#[derive(Debug, Default)]
pub struct Remembered {
    pub days: BTreeMap<Date, Day>,
    /// Those of them that are to be asked for again.
    pub due: BTreeSet<Date>,
    pub error: Option<LastingError>,
    /// By [`Direction`].
    pub refusals: [RefusalHistory; 2],
    /// The earliest day that ever had values.
    pub since: Option<Date>,
    /// Whether a box asks about the meter, and may.
    pub is_asked: bool,
}

/// A question of a box, and when its owner consented: nothing of before counts, as it may be of another person's time,
/// and what Enedis refused then is void. What is kept of it goes with the consent.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub request: MeterRequest,
    pub consented: Timestamp,
    pub ends: Timestamp,
    /// Enedis has confirmed the consent, or answered for one of its meters.
    pub is_proven: bool,
    /// Only days whose values came after this are wanted.
    pub changed_since: Option<Timestamp>,
}

impl SealedCache {
    pub fn new(keys: Arc<Keyring>, max_bytes: usize, seed: [u8; 32]) -> Self {
        let (hot, rng) = (HotCache::new(max_bytes), StdRng::from_seed(seed));
        Self { hot, keys, rng, fresh: Vec::new() }
    }

    pub fn entries(&self) -> usize {
        self.hot.entries()
    }

    pub const fn bytes(&self) -> usize {
        self.hot.bytes()
    }

    /// What is in memory of a question's subjects, and the keys of what the store may have. If it is the server's own
    /// question, the store has the word on whether a box asks: whoever ends a consent deletes it there.
    pub fn look(&mut self, question: Question, is_own: bool, now: Timestamp) -> (Remembered, Vec<CacheKey>) {
        let (mut remembered, mut missing) = (Remembered::default(), Vec::new());
        for subject in subjects(question.request, now) {
            let key = self.key(question.request.meter, subject);
            match self.hot.get(key, now) {
                Some(_) if is_own && subject == Subject::Asked => missing.push(key),
                Some(kept) if kept.fetched >= question.consented => {
                    remembered.note(subject, &kept.plain, now);
                    // A box loses its tokens by refusals: another instance may have been answered since.
                    let is_refused = remembered.refusals.iter().any(RefusalHistory::is_refused);
                    if matches!(subject, Subject::Consent(_)) && is_refused {
                        missing.push(key);
                    }
                }
                // Another instance may know better.
                Some(_) | None => missing.push(key),
            }
        }
        (remembered, missing)
    }

    /// Adds what the store had.
    pub fn take_in(
        &mut self,
        entries: Vec<CacheEntry>,
        remembered: &mut Remembered,
        Question { request, consented, .. }: Question,
        now: Timestamp,
    ) {
        let entries = entries.into_iter().filter(|entry| entry.expires > now && entry.fetched >= consented);
        let mut entries: BTreeMap<CacheKey, CacheEntry> = entries.map(|entry| (entry.key, entry)).collect();
        for subject in subjects(request, now) {
            let key = self.key(request.meter, subject);
            let Some(entry) = entries.remove(&key) else {
                // A call may have ended meanwhile, and its days be on their way to the store.
                let kept = self.hot.get(key, now).filter(|kept| kept.fetched >= consented);
                if let Some(kept) = kept.filter(|_| subject != Subject::Asked) {
                    remembered.note(subject, &kept.plain, now);
                }
                continue;
            };
            // Sealed under another key, altered or damaged: as good as missing.
            let Some(plain) = entry.open(&self.keys) else { continue };
            match self.hot.get(key, now) {
                // A call may have ended meanwhile.
                Some(newer) if newer.fetched > entry.fetched => remembered.note(subject, &newer.plain, now),
                _ => {
                    remembered.note(subject, &plain, now);
                    let (owner, fetched, size) = (entry.owner, entry.fetched, plain.len());
                    let until = entry.expires.min(now + IN_MEMORY);
                    self.hot.put(key, Kept { owner, fetched, plain: plain.into() }, size, until);
                }
            }
        }
    }

    /// Keeps the days a call brought, where nothing better is `known` of them or in memory; answers the better ones. Each is
    /// asked for again in its time, and kept all the same: what is said of it then may be worse. One that is
    /// late, while others have theirs, the server asks for by itself.
    pub fn keep_days(
        &mut self,
        asked: Question,
        days: BTreeMap<Date, Day>,
        known: &BTreeMap<Date, Day>,
        is_late: impl Fn(Date) -> bool,
        now: Timestamp,
    ) -> BTreeMap<Date, Day> {
        let (call, today) = (asked.request, today(now));
        let mut kept = BTreeMap::new();
        for (date, mut day) in days {
            day.came = Some(now);
            let subject = Subject::Day(call.resource, date);
            let memory = self.peek(call.meter, subject, asked.consented, now);
            let memory = memory.and_then(|plain| Day::unpack(due_of(plain).1, date));
            for before in memory.into_iter().chain(known.get(&date).cloned()) {
                day = before.or_better(day);
            }
            let fullness = day.fullness(call.resource, date);
            if let Some(life) = day_life(date, fullness, today) {
                let is_late = fullness == Fullness::Empty && is_late(date);
                let life = if is_late { life.max(LATE) } else { life };
                let due = now + life;
                let expires = if fullness == Fullness::Empty { due } else { now + FOR_GOOD };
                self.keep(asked, subject, &with_due(due, &day.pack(date)), now, expires);
            }
            kept.insert(date, day);
        }
        let days = &kept;
        let first = days.iter().find(|(_, day)| !day.points.is_empty()).map(|(date, _)| *date);
        let before = self.since(asked, now);
        if let Some(first) = first.filter(|first| before.is_none_or(|before| *first < before)) {
            self.set_since(asked, first, now);
        }
        kept
    }

    /// Keeps an error that Enedis would repeat.
    pub fn keep_error(&mut self, asked: Question, error: &DataError, now: Timestamp) {
        let (call, today) = (asked.request, today(now));
        let subject = Subject::Error(call.resource);
        let before = self.kept_error(asked, now);
        let had_data = self.since(asked, now).is_some();
        let remembered =
            LastingError::remember(before.as_ref().map(|kept| &kept.error), error, call, had_data, today);
        if let Some((error, life)) = remembered {
            let kept = KeptError { error, until: now + life };
            // Plain data: writing it cannot fail.
            let plain = serde_json::to_vec(&kept).unwrap_or_default();
            self.keep(asked, subject, &plain, now, now + life + ERROR_KEPT);
        }
    }

    /// Notes that values begin no earlier than `first`: what was known of earlier ones is void.
    pub fn set_since(&mut self, asked: Question, first: Date, now: Timestamp) {
        let text = first.to_string();
        self.keep(asked, Subject::Since(asked.request.resource), text.as_bytes(), now, now + FOR_GOOD);
    }

    /// What it has kept of a question's resource, valid or not.
    fn kept_error(
        &mut self,
        Question { request, consented, .. }: Question,
        now: Timestamp,
    ) -> Option<KeptError> {
        let plain = self.peek(request.meter, Subject::Error(request.resource), consented, now)?;
        serde_json::from_slice(plain).ok()
    }

    /// The last day on which a call about a question's resource is known to begin too early.
    pub fn too_early(&mut self, question: Question, now: Timestamp) -> Option<Date> {
        let kept = self.kept_error(question, now).filter(|kept| now < kept.until)?;
        kept.error.too_early()
    }

    /// The earliest day that ever had values.
    pub fn since(&mut self, Question { request, consented, .. }: Question, now: Timestamp) -> Option<Date> {
        self.peek(request.meter, Subject::Since(request.resource), consented, now).and_then(date)
    }

    /// What was said lately of the consent for a direction of a question's meter.
    pub fn history(&mut self, asked: Question, direction: Direction, now: Timestamp) -> RefusalHistory {
        let plain = self.peek(asked.request.meter, Subject::Consent(direction), asked.consented, now);
        plain.and_then(|plain| serde_json::from_slice(plain).ok()).unwrap_or_default()
    }

    /// Notes it.
    pub fn set_history(
        &mut self,
        asked: Question,
        direction: Direction,
        history: &RefusalHistory,
        now: Timestamp,
    ) {
        let plain = serde_json::to_vec(history).unwrap_or_default();
        self.keep(asked, Subject::Consent(direction), &plain, now, now + RefusalHistory::life());
    }

    /// When a meter was last asked for.
    pub fn last_asked(&mut self, Question { request, consented, .. }: Question, now: Timestamp) -> LastAsked {
        let plain = self.peek(request.meter, Subject::Asked, consented, now);
        plain.and_then(|plain| serde_json::from_slice(plain).ok()).unwrap_or_default()
    }

    /// Whether that was so lately that the store may not know it yet.
    pub fn is_just_asked(&mut self, Question { request, consented, .. }: Question, now: Timestamp) -> bool {
        let key = self.key(request.meter, Subject::Asked);
        let kept = self.hot.get(key, now).filter(|kept| kept.fetched >= consented);
        kept.is_some_and(|kept| now.since(kept.fetched) < ON_ITS_WAY)
    }

    /// Notes it.
    pub fn set_last_asked(&mut self, asked: Question, last: &LastAsked, now: Timestamp) {
        let plain = serde_json::to_vec(last).unwrap_or_default();
        self.keep(asked, Subject::Asked, &plain, now, now + LastAsked::LIFE);
    }

    /// The key under which it is kept.
    pub fn last_asked_key(&self, meter: Meter) -> CacheKey {
        self.key(meter, Subject::Asked)
    }

    /// What the store has of it, unless it is of before the consent.
    pub fn open_last_asked(&self, entry: &CacheEntry, consented: Timestamp) -> Option<LastAsked> {
        let plain = if entry.fetched >= consented { entry.open(&self.keys) } else { None };
        serde_json::from_slice(&plain?).ok()
    }

    /// Forgets a meter in memory; whose entries are to be deleted from the store.
    pub fn forget(&mut self, meter: Meter) -> CacheKey {
        let owner = self.keys.cache(&owner_text(meter));
        self.hot.remove_where(|kept| kept.owner == owner);
        self.fresh.retain(|entry| entry.owner != owner);
        owner
    }

    /// What is to be written to the store.
    pub fn take_fresh(&mut self) -> Vec<CacheEntry> {
        std::mem::take(&mut self.fresh)
    }

    /// No longer than the consent; in memory no longer than [`IN_MEMORY`], as an operator's command deletes from the store.
    fn keep(&mut self, asked: Question, subject: Subject, plain: &[u8], now: Timestamp, expires: Timestamp) {
        let (meter, expires) = (asked.request.meter, expires.min(asked.ends));
        let (key, owner) = (self.key(meter, subject), self.keys.cache(&owner_text(meter)));
        self.fresh.push(CacheEntry::seal(&self.keys, &mut self.rng, [key, owner], [now, expires], plain));
        let kept = Kept { owner, fetched: now, plain: plain.into() };
        self.hot.put(key, kept, plain.len(), expires.min(now + IN_MEMORY));
    }

    /// What memory has of a subject, unless it is of before `consented`.
    fn peek(
        &mut self,
        meter: Meter,
        subject: Subject,
        consented: Timestamp,
        now: Timestamp,
    ) -> Option<&[u8]> {
        let key = self.key(meter, subject);
        self.hot.get(key, now).filter(|kept| kept.fetched >= consented).map(|kept| &*kept.plain)
    }

    fn key(&self, meter: Meter, subject: Subject) -> CacheKey {
        self.keys.cache(&key_text(meter, subject))
    }
}

impl Remembered {
    fn note(&mut self, subject: Subject, plain: &[u8], now: Timestamp) {
        match subject {
            Subject::Day(_, date) => {
                let (due, packed) = due_of(plain);
                if let Some(day) = Day::unpack(packed, date) {
                    self.days.insert(date, day);
                    let is_due = due.is_some_and(|due| due <= now);
                    if is_due {
                        self.due.insert(date)
                    } else {
                        self.due.remove(&date)
                    };
                }
            }
            Subject::Error(_) => {
                let kept = serde_json::from_slice::<KeptError>(plain).ok();
                self.error = kept.filter(|kept| now < kept.until).map(|kept| kept.error);
            }
            Subject::Consent(direction) => {
                self.refusals[direction as usize] = serde_json::from_slice(plain).unwrap_or_default();
            }
            Subject::Since(_) => self.since = date(plain),
            // Not among the subjects of a question for values.
            Subject::Contract => {}
            Subject::Asked => self.is_asked = true,
        }
    }
}

/// When a day is to be asked for again, in front of the packed day.
fn with_due(due: Timestamp, packed: &[u8]) -> Vec<u8> {
    [&due.as_millis().to_be_bytes(), packed].concat()
}

/// Both again. Packed days begin with a brace, times with a zero; days that were stored without one are good until they
/// expire.
fn due_of(plain: &[u8]) -> (Option<Timestamp>, &[u8]) {
    match plain.split_first_chunk::<8>() {
        Some((due, packed)) if due[0] == 0 => {
            (Some(Timestamp::from_millis(u64::from_be_bytes(*due))), packed)
        }
        _ => (None, plain),
    }
}

/// What may be remembered of a request: its days that are over, those before them that a call about yesterday
/// brings along, and what goes beyond days.
fn subjects(request: MeterRequest, now: Timestamp) -> impl Iterator<Item = Subject> {
    let (resource, range, today) = (request.resource, request.range, today(now));
    let along = if range.end() < today { range.start() } else { plus(range.end(), -CURVE_CALL_DAYS) };
    let along = DayRange::new(along, range.start()).into_iter().flat_map(DayRange::days);
    let days = along.chain(range.days().take_while(move |day| *day < today));
    let days = days.map(move |day| Subject::Day(resource, day));
    let direction = resource.direction();
    let consents = [direction, direction.other()].map(Subject::Consent);
    days.chain([Subject::Error(resource), Subject::Since(resource), Subject::Asked]).chain(consents)
}

fn date(plain: &[u8]) -> Option<Date> {
    parse_date(std::str::from_utf8(plain).ok()?)
}

#[cfg(test)]
mod tests;
