//! What a meter cache means, as a map behind a lock; and any sequence of operations, which ends as it does there.
//! Nothing but the contract uses the reference.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Cache, Entries, evict, get_at, put, weights};
use crate::base::clock::Timestamp;
use crate::base::keyring::CacheKey;
use crate::base::store::StoreError;
use crate::metering::cache::{CacheEntry, MeterCache, evictions};
use crate::testing::{NOW, Place};

/// Entries that one call evicts; few, so that a small test sees several calls.
const CHUNK: usize = 10;
/// Keys in play.
const KEYS: u8 = 60;
/// Owners in play.
const OWNERS: u8 = 5;
/// Steps of one random walk.
const STEPS: usize = 200;

/// What a meter cache means; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub(in crate::testing) struct Model(Arc<Mutex<Entries>>);

impl Model {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MeterCache for Model {
    async fn get(&self, keys: Vec<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        let entries = self.lock();
        let live = |key: &CacheKey| entries.get(key).filter(|entry| entry.expires > now).cloned();
        Ok(keys.iter().filter_map(live).collect())
    }

    async fn put(&self, new: Vec<CacheEntry>) -> Result<(), StoreError> {
        let mut entries = self.lock();
        for entry in new {
            if entries.get(&entry.key).is_none_or(|stored| stored.fetched <= entry.fetched) {
                entries.insert(entry.key, entry);
            }
        }
        Ok(())
    }

    async fn evict(&self, now: Timestamp, max_bytes: u64) -> Result<u64, StoreError> {
        let mut entries = self.lock();
        let stored: Vec<_> = entries.values().cloned().collect();
        let gone = evictions(weights(&stored), now, max_bytes);
        let gone = gone.iter().take(CHUNK).filter(|key| entries.remove(*key).is_some()).count();
        Ok(gone as u64)
    }

    async fn forget(&self, owner: CacheKey) -> Result<u64, StoreError> {
        let mut entries = self.lock();
        let before = entries.len();
        entries.retain(|_, entry| entry.owner != owner);
        Ok((before - entries.len()) as u64)
    }
}

/// Random sequences of operations end as they do on a model.
pub async fn agrees_with_a_model<P: Place<dyn MeterCache>>() {
    for seed in 0..3 {
        let place = P::fresh().await;
        let cache = place.open().await;
        walk(&cache, seed).await;
    }
}

async fn walk(cache: &Cache, seed: u64) {
    let model: Cache = Arc::new(Model::default());
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut now, mut answers) = (NOW, 0);
    for n in 0..STEPS {
        match rng.random_range(0..12) {
            0..=5 => {
                let mut batch = Vec::new();
                for _ in 0..rng.random_range(1..12) {
                    // Each at a time of its own, so that it is clear which was fetched first; some come late.
                    answers += 1;
                    let late = if rng.random_bool(0.2) { 1_000 } else { 0 };
                    let fetched = Timestamp::from_millis(NOW.as_millis() + answers * 3 + 1 - late);
                    batch.push(CacheEntry {
                        key: key(rng.random_range(0..KEYS)),
                        owner: key(200 + rng.random_range(0..OWNERS)),
                        sealed: vec![7; rng.random_range(0..600)],
                        fetched,
                        expires: now + Duration::from_secs(rng.random_range(0..60)),
                    });
                }
                put(cache, &batch).await;
                put(&model, &batch).await;
            }
            6 => {
                let owner = key(200 + rng.random_range(0..OWNERS));
                let (got, want) = tokio::join!(cache.forget(owner), model.forget(owner));
                assert_eq!(got.ok(), want.ok(), "forget at step {n}");
            }
            7 | 8 => {
                let max_bytes = rng.random_range(0..20_000);
                let (got, want) = tokio::join!(evict(cache, now, max_bytes), evict(&model, now, max_bytes));
                assert_eq!(got, want, "evict at step {n}");
            }
            9 => now = now + Duration::from_secs(rng.random_range(0..20)),
            _ => {
                let keys = (0..KEYS).map(key);
                let (got, want) =
                    tokio::join!(get_at(cache, keys.clone(), now), get_at(&model, keys.clone(), now));
                assert_eq!(got, want, "entries at step {n}");
            }
        }
    }
    let keys = (0..KEYS).map(key);
    assert_eq!(get_at(cache, keys.clone(), now).await, get_at(&model, keys, now).await);
}

fn key(slot: u8) -> CacheKey {
    CacheKey([slot; 32])
}
