//! What every meter cache promises, one property a function. Each panics where the property does not hold.
//!
//! Of entries that were fetched at the same time any may stay or go; the properties do not look.
#![expect(clippy::missing_panics_doc, reason = "a property panics where it does not hold, and says so above")]

pub(super) mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

pub use self::model::agrees_with_a_model;
use self::model::evictions;
use super::{ENTRY_LIFE, NOW, Place, drain};
use crate::base::clock::Timestamp;
use crate::base::keyring::CacheKey;
use crate::metering::cache::{BATCH_MAX, CacheEntry, MeterCache};

type Cache = Arc<dyn MeterCache>;
type Trial<P> = super::Trial<P, dyn MeterCache>;
type Entries = BTreeMap<CacheKey, CacheEntry>;

async fn put(cache: &Cache, entries: &[CacheEntry]) {
    for batch in entries.chunks(BATCH_MAX) {
        cache.put(batch.to_vec()).await.expect("the cache takes the entries");
    }
}

/// The entries of some keys at `now`, each of which must be answered once.
async fn get_at(cache: &Cache, keys: impl IntoIterator<Item = CacheKey>, now: Timestamp) -> Entries {
    let keys: Vec<_> = keys.into_iter().collect();
    let mut found = Entries::new();
    for batch in keys.chunks(BATCH_MAX) {
        for entry in cache.get(batch.to_vec(), now).await.expect("the cache can be read") {
            assert_eq!(found.insert(entry.key, entry), None, "answered once");
        }
    }
    found
}

async fn get(cache: &Cache, entries: &[CacheEntry]) -> Entries {
    get_at(cache, entries.iter().map(|entry| entry.key), NOW).await
}

/// Evicts until nothing is left to evict.
async fn evict(cache: &Cache, now: Timestamp, max_bytes: u64) -> u64 {
    drain(async || cache.evict(now, max_bytes).await).await
}

fn by_key(entries: &[CacheEntry]) -> Entries {
    entries.iter().map(|entry| (entry.key, entry.clone())).collect()
}

fn bytes(entries: &[CacheEntry]) -> u64 {
    entries.iter().map(|entry| entry.sealed.len() as u64).sum()
}

/// Of entries with one key that are stored at once by several tasks the last fetched stays.
pub async fn keeps_the_last_of_racing_entries<P: Place<dyn MeterCache>>((_, cache, mut samples): Trial<P>) {
    let owner = samples.cache_key();
    for _ in 0..5 {
        let key = samples.cache_key();
        let rivals: Vec<_> = (0..16)
            .map(|n| {
                let fetched = NOW + Duration::from_millis(n * 5 % 16);
                CacheEntry { key, fetched, ..samples.cache_entry(owner) }
            })
            .collect();
        let tasks = rivals.iter().map(|entry| {
            let (cache, entry) = (Arc::clone(&cache), entry.clone());
            tokio::spawn(async move { put(&cache, &[entry]).await })
        });
        for stored in join_all(tasks).await {
            stored.expect("no panic");
        }
        let last = rivals.iter().max_by_key(|entry| entry.fetched).expect("one of them");
        assert_eq!(get_at(&cache, [key], NOW).await.get(&key), Some(last));
    }
}

/// What is forgotten is all of one owner, expired or not, and nothing else.
pub async fn forgets_all_of_one_owner<P: Place<dyn MeterCache>>((_, cache, mut samples): Trial<P>) {
    let (owner, other) = (samples.cache_key(), samples.cache_key());
    let gone = samples.cache_entries(owner, 700);
    let stays = samples.cache_entries(other, 50);
    let expired = CacheEntry { expires: NOW, ..samples.cache_entry(owner) };
    put(&cache, &gone).await;
    put(&cache, &stays).await;
    put(&cache, std::slice::from_ref(&expired)).await;
    assert_eq!(cache.forget(owner).await.expect("an answer"), 701);
    assert!(get(&cache, &gone).await.is_empty());
    assert_eq!(get(&cache, &stays).await, by_key(&stays));
    assert_eq!(cache.forget(owner).await.expect("an answer"), 0);
    let again = CacheEntry { fetched: Timestamp::EPOCH, ..gone[0].clone() };
    put(&cache, std::slice::from_ref(&again)).await;
    assert_eq!(get(&cache, &gone).await, by_key(&[again]), "an older answer may come again");
}

/// A call takes and answers as many entries as a call may.
pub async fn takes_the_largest_batch<P: Place<dyn MeterCache>>((_, cache, mut samples): Trial<P>) {
    let owner = samples.cache_key();
    let entries = samples.cache_entries(owner, BATCH_MAX);
    put(&cache, &entries).await;
    assert_eq!(get(&cache, &entries).await, by_key(&entries));
    put(&cache, &entries).await;
    assert_eq!(get(&cache, &entries).await, by_key(&entries));
}

/// Values may be empty and may have 64 KiB, several hundred of them in one call.
pub async fn takes_values_of_every_size<P: Place<dyn MeterCache>>((_, cache, mut samples): Trial<P>) {
    let owner = samples.cache_key();
    let mut entries = samples.cache_entries(owner, 400);
    for (entry, len) in entries.iter_mut().zip([0, 1, 3_000, 4_096, 65_536].into_iter().cycle()) {
        entry.sealed.resize(len, 0xA5);
    }
    for big in entries.iter_mut().skip(20).take(300) {
        big.sealed.resize(65_536, 0x5A);
    }
    put(&cache, &entries).await;
    assert_eq!(get(&cache, &entries).await, by_key(&entries));
}

/// Evicted is what the model says: what has expired, then what was fetched first until the rest fits.
pub async fn evicts_what_has_expired_then_the_oldest<P: Place<dyn MeterCache>>(
    (_, cache, mut samples): Trial<P>,
) {
    let owner = samples.cache_key();
    let mut entries = samples.cache_entries(owner, 120);
    for (n, entry) in (0..).zip(&mut entries) {
        entry.fetched = NOW + Duration::from_secs(n * 53 % 120);
        if n % 4 == 0 {
            entry.expires = NOW + Duration::from_millis(n);
        }
    }
    put(&cache, &entries).await;
    let mut left = entries.clone();
    let total = bytes(&entries);
    // Time and the bound in steps: nothing to do, some expired, none, the oldest, nearly all, all.
    for (passed, max_bytes) in
        [(0, total), (60, total), (60, total), (60, total / 2), (60, total / 2), (60, 700), (60, 0)]
    {
        let now = NOW + Duration::from_millis(passed);
        let gone: BTreeSet<_> = evictions(&left, now, max_bytes).into_iter().collect();
        assert_eq!(evict(&cache, now, max_bytes).await, gone.len() as u64, "{passed} ms, {max_bytes} bytes");
        left.retain(|entry| !gone.contains(&entry.key));
        assert_eq!(get(&cache, &entries).await, by_key(&left), "{passed} ms, {max_bytes} bytes");
    }
    assert!(left.is_empty());
}

/// However many entries are to go, all of them do, after some calls; what is replaced or forgotten does not count
/// any more.
pub async fn evicts_many_in_steps<P: Place<dyn MeterCache>>((_, cache, mut samples): Trial<P>) {
    let (owner, other) = (samples.cache_key(), samples.cache_key());
    let sized = |entry, len| {
        let mut entry: CacheEntry = entry;
        entry.sealed.resize(len, 7);
        entry
    };
    let old: Vec<_> =
        (0..4_000).map(|_| CacheEntry { expires: NOW, ..sized(samples.cache_entry(owner), 50) }).collect();
    let mut new: Vec<_> = (0..4_000).map(|_| sized(samples.cache_entry(owner), 50)).collect();
    for (n, entry) in (1..).zip(&mut new) {
        entry.fetched = NOW + Duration::from_millis(n);
    }
    let bystanders: Vec<_> = (0..100).map(|_| sized(samples.cache_entry(other), 5_000)).collect();
    put(&cache, &old).await;
    put(&cache, &new).await;
    put(&cache, &bystanders).await;
    assert_eq!(cache.forget(other).await.expect("an answer"), 100);
    // The last hundred are replaced by smaller ones.
    for entry in &mut new[3_900..] {
        entry.fetched = entry.fetched + Duration::from_secs(60);
        entry.sealed.resize(25, 8);
    }
    put(&cache, &new[3_900..]).await;
    let max_bytes = 100 * 25 + 900 * 50;
    assert_eq!(evict(&cache, NOW, max_bytes).await, 4_000 + 3_000);
    assert_eq!(get(&cache, &new).await, by_key(&new[3_000..]));
    assert_eq!(evict(&cache, NOW, max_bytes).await, 0);
    assert_eq!(evict(&cache, NOW + 2 * ENTRY_LIFE, u64::MAX).await, 1_000);
}

/// Entries are there when the cache is opened again, and so is their weight.
pub async fn keeps_entries_when_opened_again<P: Place<dyn MeterCache>>(
    (place, cache, mut samples): Trial<P>,
) {
    let owner = samples.cache_key();
    let mut entries = samples.cache_entries(owner, 100);
    for (n, entry) in (0..).zip(&mut entries) {
        entry.fetched = NOW + Duration::from_millis(n);
    }
    put(&cache, &entries).await;
    drop(cache);
    let cache = place.open().await;
    assert_eq!(get(&cache, &entries).await, by_key(&entries));
    let half = bytes(&entries[50..]);
    assert_eq!(evict(&cache, NOW, half).await, 50);
    assert_eq!(get(&cache, &entries).await, by_key(&entries[50..]));
}
