//! The cache of metering data: the port to the store, the form of its keys, and the part in memory with its bound.
//!
//! Nothing in it can be read without the keys of this server: a cache key is a keyed hash of [`key_text`], a value
//! is sealed by the caller. What is remembered and for how long is decided by [`super::policy`].

use async_trait::async_trait;
use jiff::civil::Date;
use lru::LruCache;
use rand::Rng;

use super::request::{Direction, Resource};
use crate::base::clock::Timestamp;
use crate::base::keyring::{CacheKey, Keyring};
use crate::base::meter::Meter;
use crate::base::sealed::{Purpose, Sealed};
use crate::base::store::{StoreError, millis};

/// What is remembered of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One packed [`super::day::Day`] of a resource.
    Day(Resource, Date),
    /// The [`super::policy::LastingError`] of a resource.
    Error(Resource),
    /// The earliest day of a resource that ever had a value, `YYYY-MM-DD`, kept for good.
    Since(Resource),
    /// The [`super::refusals::RefusalHistory`] of a direction.
    Consent(Direction),
    /// Its contract ([`super::contracts`]).
    Contract,
    /// When its resources were last asked for: what the server asks by itself.
    Asked,
}

/// The text whose keyed hash is the key of `subject`. Different subjects have different texts; the version at the
/// front changes with the packed forms. Never stored, never logged.
pub fn key_text(meter: Meter, subject: Subject) -> String {
    match subject {
        Subject::Day(resource, day) => format!("meter1|day|{meter}|{}|{day}", resource.name()),
        Subject::Error(resource) => format!("meter1|refusal|{meter}|{}", resource.name()),
        Subject::Since(resource) => format!("meter1|since|{meter}|{}", resource.name()),
        Subject::Contract => format!("meter1|contract|{meter}"),
        Subject::Consent(Direction::Consumption) => format!("meter1|consent|{meter}|cons"),
        Subject::Consent(Direction::Production) => format!("meter1|consent|{meter}|prod"),
        Subject::Asked => format!("meter1|asked|{meter}"),
    }
}

/// The text whose keyed hash groups all entries of a meter, so that they can be forgotten together.
pub fn owner_text(meter: Meter) -> String {
    format!("meter1|owner|{meter}")
}

/// One entry as it is stored.
#[derive(Clone, PartialEq, Eq, derive_more::Debug)]
#[debug("CacheEntry({key:?}, {} bytes, expires {expires})", sealed.len())]
pub struct CacheEntry {
    /// Its key.
    pub key: CacheKey,
    /// Hash of [`owner_text`].
    pub owner: CacheKey,
    /// The sealed value, at most 64 KiB.
    pub sealed: Vec<u8>,
    /// When Enedis answered. Of two entries with one key the later one stays.
    pub fetched: Timestamp,
    /// Not to be answered from then on.
    pub expires: Timestamp,
}

impl CacheEntry {
    /// An entry whose value opens only together with its key and owner, and with when it was fetched and expires.
    pub fn seal(
        keys: &Keyring,
        rng: &mut impl Rng,
        [key, owner]: [CacheKey; 2],
        [fetched, expires]: [Timestamp; 2],
        plain: &[u8],
    ) -> Self {
        let bound = bound(owner, fetched, expires);
        let sealed = keys.seal(rng, Purpose::Remembered(&bound), &key, plain).as_bytes().to_vec();
        Self { key, owner, sealed, fetched, expires }
    }

    /// The value; `None` if anything of the entry is not as it was made, or it was made under another key.
    pub fn open(&self, keys: &Keyring) -> Option<Vec<u8>> {
        let bound = bound(self.owner, self.fetched, self.expires);
        keys.open(Purpose::Remembered(&bound), &self.key, &Sealed::from_bytes(self.sealed.clone()))
    }

    /// The same sealed under today's key; `None` if it is already, or cannot be opened.
    pub fn resealed(&self, keys: &Keyring, rng: &mut impl Rng) -> Option<Self> {
        let bound = bound(self.owner, self.fetched, self.expires);
        let sealed = Sealed::from_bytes(self.sealed.clone());
        let sealed = keys.reseal(rng, Purpose::Remembered(&bound), &self.key, &sealed)?;
        Some(Self { sealed: sealed.as_bytes().to_vec(), ..self.clone() })
    }
}

fn bound(owner: CacheKey, fetched: Timestamp, expires: Timestamp) -> Vec<u8> {
    [owner.as_ref(), &millis(fetched).to_be_bytes(), &millis(expires).to_be_bytes()].concat()
}

/// Most entries read or stored in one call: the days of the longest request
/// ([`DAYS_MAX`](super::request::DAYS_MAX)), and what is remembered beside them.
pub const BATCH_MAX: usize = 1_200;

/// Durable cache, shared by all instances. It holds nothing that cannot be fetched again: a lost entry costs a
/// call, so acknowledgement need not wait for the disk, and an error is treated as a miss.
///
/// Backends: one table or collection with `key` as its primary key, an index on `owner` and one on `expires`
/// (MongoDB: a TTL index; `get` tests `expires` itself all the same), the size of the sealed values summed up or
/// estimated from the number of entries.
#[async_trait]
pub trait MeterCache: Send + Sync + 'static {
    /// The entries of `keys` that have not expired at `now`, in any order. At most [`BATCH_MAX`] keys a call; one query.
    async fn get(&self, keys: Vec<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError>;

    /// Stores entries, each on its own; an entry fetched earlier than the stored one is ignored. At most
    /// [`BATCH_MAX`].
    async fn put(&self, entries: Vec<CacheEntry>) -> Result<(), StoreError>;

    /// Deletes what has expired at `now`; then, while more than `max_bytes` of sealed values are stored, those that
    /// were fetched first. A bounded number a call; answers how many went. 0 means: done.
    async fn evict(&self, now: Timestamp, max_bytes: u64) -> Result<u64, StoreError>;

    /// Live entries behind `after`, in the order of their keys, some hundred a call; empty at the end.
    async fn page(&self, after: Option<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError>;

    /// Seals values anew: each second one takes the first one's place, unless another has taken it, or it is gone.
    async fn reseal(&self, entries: Vec<(CacheEntry, CacheEntry)>) -> Result<(), StoreError>;

    /// Deletes every entry of one owner: its consent was withdrawn, or given anew.
    async fn forget(&self, owner: CacheKey) -> Result<u64, StoreError>;
}

/// Bytes an entry takes in memory beside its value.
pub const ENTRY_OVERHEAD: usize = 200;

/// The part of the cache that is in memory: least recently used entries go first. Bounded by bytes, each
/// entry counted with [`ENTRY_OVERHEAD`].
#[derive(Debug)]
pub struct HotCache<V> {
    max_bytes: usize,
    bytes: usize,
    slots: LruCache<CacheKey, Slot<V>>,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    bytes: usize,
    expires: Timestamp,
}

impl<V> HotCache<V> {
    /// An empty cache of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, slots: LruCache::unbounded() }
    }

    /// The value of `key`, if it has not expired at `now`. Counts as a use.
    pub fn get(&mut self, key: CacheKey, now: Timestamp) -> Option<&V> {
        if self.slots.peek(&key)?.expires <= now {
            self.remove(key);
        }
        self.slots.get(&key).map(|slot| &slot.value)
    }

    /// Keeps `value` of `size` bytes until `expires`; what was used longest ago makes room. A value larger than
    /// the whole cache is not kept.
    pub fn put(&mut self, key: CacheKey, value: V, size: usize, expires: Timestamp) {
        self.remove(key);
        let bytes = size.saturating_add(ENTRY_OVERHEAD);
        if bytes > self.max_bytes {
            return;
        }
        while self.bytes + bytes > self.max_bytes
            && let Some((_, oldest)) = self.slots.pop_lru()
        {
            self.bytes -= oldest.bytes;
        }
        self.slots.put(key, Slot { value, bytes, expires });
        self.bytes += bytes;
    }

    /// Forgets one entry.
    pub fn remove(&mut self, key: CacheKey) {
        self.bytes -= self.slots.pop(&key).map_or(0, |slot| slot.bytes);
    }

    /// Forgets every entry whose value `gone` says so of: all of one owner. Looks at each.
    pub fn remove_where(&mut self, gone: impl Fn(&V) -> bool) {
        let gone = self.slots.iter().filter(|(_, slot)| gone(&slot.value));
        for key in gone.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    /// Bytes taken, overhead included; never above the bound.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries, expired ones included.
    pub fn entries(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::meter;

    fn key(n: u8) -> CacheKey {
        CacheKey([n; 32])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn every_subject_has_its_own_key() {
        let meters = [1, 2].map(meter);
        let mut texts: Vec<String> = meters.map(owner_text).to_vec();
        for meter in meters {
            texts.push(key_text(meter, Subject::Consent(Direction::Consumption)));
            texts.push(key_text(meter, Subject::Consent(Direction::Production)));
            texts.push(key_text(meter, Subject::Contract));
            texts.push(key_text(meter, Subject::Asked));
            for resource in Resource::ALL {
                texts.push(key_text(meter, Subject::Error(resource)));
                texts.push(key_text(meter, Subject::Since(resource)));
                texts.push(key_text(meter, Subject::Day(resource, date(2026, 11, 2))));
                texts.push(key_text(meter, Subject::Day(resource, date(2026, 11, 12))));
            }
        }
        assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len());
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = HotCache::new(3 * (ENTRY_OVERHEAD + 10));
        for n in 0..3 {
            cache.put(key(n), n, 10, at(1_000));
        }
        assert_eq!(cache.get(key(0), at(0)), Some(&0));
        cache.put(key(3), 3, 10, at(1_000));
        assert_eq!(cache.get(key(1), at(0)), None);
        assert_eq!(cache.get(key(0), at(0)), Some(&0));
        assert_eq!(cache.entries(), 3);
        assert_eq!(cache.get(key(0), at(1_000)), None, "expired");
        cache.put(key(9), 9, 1_000_000, at(1_000));
        assert_eq!(cache.entries(), 2, "too large is not kept, and evicts nothing");
        cache.remove_where(|value| *value == 3);
        assert_eq!(cache.get(key(3), at(0)), None);
    }

    proptest! {
        #[test]
        fn never_above_its_bound(ops in proptest::collection::vec((any::<u8>(), 0_usize..3_000, any::<bool>()), 0..300)) {
            let mut cache = HotCache::new(10_000);
            for (n, size, read) in ops {
                if read {
                    let _ = cache.get(key(n), at(0));
                } else {
                    cache.put(key(n), size, size, at(1));
                    prop_assert_eq!(cache.get(key(n), at(0)), Some(&size));
                }
                let sum: usize = cache.slots.iter().map(|(_, slot)| slot.bytes).sum();
                prop_assert_eq!(cache.bytes(), sum);
                prop_assert!(cache.bytes() <= 10_000);
            }
        }
    }
}
