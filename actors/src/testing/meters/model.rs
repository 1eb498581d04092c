//! What a meter cache means, as a map behind a lock; and any sequence of operations, which ends as it does there.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Cache, Entries, Trial, evict, get_at};
use crate::base::clock::Timestamp;
use crate::base::keyring::CacheKey;
use crate::base::store::StoreError;
use crate::metering::cache::{CacheEntry, MeterCache};
use crate::testing::{Kept, NOW, Place, same};

/// Entries that one call evicts; few, so that a small test sees several calls.
const CHUNK: usize = 10;
/// Keys in play.
const KEYS: u8 = 60;
/// Owners in play.
const OWNERS: u8 = 5;
/// Steps of the random walk.
const STEPS: usize = 600;

/// What a meter cache means; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Model(Arc<Kept<Entries>>);

impl Model {
    /// Whether every question is an error.
    pub fn set_away(&self, is_away: bool) {
        self.0.set_away(is_away);
    }
}

#[async_trait]
impl MeterCache for Model {
    async fn get(&self, keys: Vec<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        let entries = self.0.lock()?;
        let live = |key: &CacheKey| entries.get(key).filter(|entry| entry.expires > now).cloned();
        Ok(keys.iter().filter_map(live).collect())
    }

    async fn put(&self, new: Vec<CacheEntry>) -> Result<(), StoreError> {
        let mut entries = self.0.lock()?;
        for entry in new {
            if entries.get(&entry.key).is_none_or(|stored| stored.fetched <= entry.fetched) {
                entries.insert(entry.key, entry);
            }
        }
        Ok(())
    }

    async fn evict(&self, now: Timestamp, max_bytes: u64) -> Result<u64, StoreError> {
        let mut entries = self.0.lock()?;
        let gone = evictions(entries.values(), now, max_bytes);
        let gone = gone.iter().take(CHUNK).filter(|key| entries.remove(*key).is_some()).count();
        Ok(gone as u64)
    }

    async fn page(&self, after: Option<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        let entries = self.0.lock()?;
        let rest = entries.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let live = rest.map(|(_, entry)| entry).filter(|entry| entry.expires > now);
        Ok(live.take(CHUNK).cloned().collect())
    }

    async fn reseal(&self, pairs: Vec<(CacheEntry, CacheEntry)>) -> Result<(), StoreError> {
        let mut entries = self.0.lock()?;
        for (before, after) in pairs {
            if let Some(entry) = entries.get_mut(&before.key).filter(|entry| entry.sealed == before.sealed) {
                entry.sealed = after.sealed;
            }
        }
        Ok(())
    }

    async fn forget(&self, owner: CacheKey) -> Result<u64, StoreError> {
        let mut entries = self.0.lock()?;
        let before = entries.len();
        entries.retain(|_, entry| entry.owner != owner);
        Ok((before - entries.len()) as u64)
    }
}

/// What an eviction deletes: what has expired, then what was fetched first, while more than `max_bytes` are left.
pub(in crate::testing) fn evictions<'a>(
    entries: impl IntoIterator<Item = &'a CacheEntry>,
    now: Timestamp,
    max_bytes: u64,
) -> Vec<CacheKey> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    let mut left: u64 = entries.iter().map(|entry| entry.sealed.len() as u64).sum();
    let is_full = left > max_bytes;
    entries.retain(|entry| is_full || entry.expires <= now);
    entries.sort_by_key(|entry| (entry.expires > now, entry.fetched, entry.key));
    let goes = |entry: &&&CacheEntry| {
        let goes = entry.expires <= now || left > max_bytes;
        left -= entry.sealed.len() as u64;
        goes
    };
    entries.iter().take_while(goes).map(|entry| entry.key).collect()
}

/// Random sequences of operations end as they do on a model.
pub async fn agrees_with_a_model<P: Place<dyn MeterCache>>((_, cache, _): Trial<P>) {
    let model: Cache = Arc::new(Model::default());
    let mut rng = StdRng::seed_from_u64(1);
    let (mut now, mut answers) = (NOW, 0);
    let all = (0..KEYS).map(key);
    for n in 0..STEPS {
        match rng.random_range(0..13) {
            0..=5 => {
                let mut batch = Vec::new();
                for _ in 0..rng.random_range(1..12) {
                    // Each at a time of its own, so that it is clear which was fetched first; some come late.
                    answers += 1;
                    let late = if rng.random_bool(0.2) { 1_000 } else { 0 };
                    batch.push(CacheEntry {
                        key: key(rng.random_range(0..KEYS)),
                        owner: key(200 + rng.random_range(0..OWNERS)),
                        sealed: vec![7; rng.random_range(0..600)],
                        fetched: Timestamp::from_millis(NOW.as_millis() + answers * 3 + 1 - late),
                        expires: now + Duration::from_secs(rng.random_range(0..60)),
                    });
                }
                same!(n, [cache, model].put(batch));
            }
            6 => {
                let owner = key(200 + rng.random_range(0..OWNERS));
                same!(n, [cache, model].forget(owner));
            }
            7 | 8 => {
                let max_bytes = rng.random_range(0..20_000);
                let (got, want) = tokio::join!(evict(&cache, now, max_bytes), evict(&model, now, max_bytes));
                assert_eq!(got, want, "evict at step {n}");
            }
            10 => {
                let mut pairs = Vec::new();
                for before in get_at(&model, all.clone(), now).await.into_values() {
                    let sealed = vec![8; before.sealed.len()];
                    let after = CacheEntry { sealed, ..before.clone() };
                    let before = CacheEntry { sealed: vec![7; before.sealed.len()], ..before };
                    // Some were changed meanwhile.
                    pairs.push(if rng.random_bool(0.7) { (before, after) } else { (after.clone(), after) });
                }
                same!(n, [cache, model].reseal(pairs));
            }
            9 => now = now + Duration::from_secs(rng.random_range(0..20)),
            _ => {
                let (got, want) =
                    tokio::join!(get_at(&cache, all.clone(), now), get_at(&model, all.clone(), now));
                assert_eq!(got, want, "entries at step {n}");
                assert_eq!(pages(&cache, now).await, want, "pages at step {n}");
            }
        }
    }
    assert_eq!(get_at(&cache, all.clone(), now).await, get_at(&model, all, now).await);
}

async fn pages(cache: &Cache, now: Timestamp) -> Entries {
    let mut all = Entries::new();
    loop {
        let after = all.keys().next_back().copied();
        let page = cache.page(after, now).await.expect("the cache can be read");
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|entry| (entry.key, entry)));
    }
}

fn key(slot: u8) -> CacheKey {
    CacheKey([slot; 32])
}
