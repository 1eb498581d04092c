//! SQLite in a directory of its own.

use std::path::Path;
use std::sync::Arc;

use actors::base::store::StoreError;
use actors::metering::cache::{CacheEntry, MeterCache};
use actors::testing::{NOW, Place, Samples, block_on};
use device_flow_proxy::store::OpenError;
use device_flow_proxy::store::sqlite::{SqliteMeters, SqliteStore};
use tempfile::TempDir;

use crate::store_contract::kept::execute;

struct Directory(TempDir);

fn open(dir: &Path) -> SqliteMeters {
    SqliteStore::open(dir).expect("a store").meters().expect("a cache")
}

impl Place<dyn MeterCache> for Directory {
    async fn fresh() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    async fn open(&self) -> Arc<dyn MeterCache> {
        Arc::new(open(self.0.path()))
    }
}

actors::store_contract!(meters on Directory);

fn samples(seed: u64, count: usize) -> Vec<CacheEntry> {
    let mut samples = Samples::new(seed);
    let owner = samples.cache_key();
    (0..count).map(|_| samples.cache_entry(owner)).collect()
}

async fn found(cache: &SqliteMeters, entries: &[CacheEntry]) -> Result<usize, StoreError> {
    let found = cache.get(entries.iter().map(|entry| entry.key).collect(), NOW).await;
    found.map(|found| found.len())
}

/// The directory stays locked as long as the cache is open, though the sessions are not any more.
#[test]
fn the_cache_holds_the_lock_of_its_directory() {
    let place = tempfile::tempdir().expect("a directory");
    let cache = open(place.path());
    assert!(matches!(SqliteStore::open(place.path()), Err(OpenError::InUse(_))));
    drop(cache);
    SqliteStore::open(place.path()).expect("the directory is free again");
}

/// Whatever is wrong with the file, the server starts with an empty cache; what was there is moved, not destroyed.
#[test]
fn a_file_that_cannot_be_used_begins_anew() {
    let entries = samples(231, 50);
    let damages: [fn(&Path); 5] = [
        |file| std::fs::write(file, "not a database".repeat(500)).expect("text"),
        |file| {
            let bytes = std::fs::read(file).expect("a file");
            std::fs::write(file, &bytes[..8_192]).expect("a part of a file");
        },
        |file| {
            let mut bytes = std::fs::read(file).expect("a file");
            bytes[100..4_096].fill(0xFF);
            std::fs::write(file, bytes).expect("a file with a hole");
        },
        |file| drop(execute(file, "PRAGMA user_version = 99")),
        |file| drop(execute(file, "PRAGMA application_id = 7")),
    ];
    for damage in damages {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("meters.sqlite");
        block_on(async {
            let cache = open(place.path());
            cache.put(entries.clone()).await.expect("stored");
            drop(cache);
            damage(&file);
            let before = std::fs::read(&file).expect("a file");
            let cache = open(place.path());
            assert_eq!(found(&cache, &entries).await.expect("an answer"), 0);
            cache.put(entries.clone()).await.expect("stored");
            drop(cache);
            let cache = open(place.path());
            assert_eq!(found(&cache, &entries).await.expect("an answer"), 50);
            let aside = place.path().join("meters.sqlite.damaged");
            assert_eq!(std::fs::read(aside).expect("what was there"), before);
        });
    }
}

/// Damage that shows only in use is an error until the next start, which begins a new file.
#[test]
fn damage_found_in_use_ends_with_the_next_start() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("meters.sqlite");
    let entries = samples(232, 1_000);
    block_on(async {
        let cache = open(place.path());
        cache.put(entries.clone()).await.expect("stored");
        drop(cache);
        let mut bytes = std::fs::read(&file).expect("a file");
        // The pages of the tables and the schema stay; most of what is behind them goes.
        let start = bytes.len() / 2;
        bytes[start..].fill(0xFF);
        std::fs::write(&file, bytes).expect("a file with a hole");
        let cache = open(place.path());
        found(&cache, &entries).await.expect_err("damage");
        drop(cache);
        let cache = open(place.path());
        assert_eq!(found(&cache, &entries).await.expect("an answer"), 0);
        cache.put(entries.clone()).await.expect("stored");
        assert_eq!(found(&cache, &entries).await.expect("an answer"), 1_000);
    });
}

/// An operator who moves the file away need not know of the log beside it.
#[test]
fn a_log_without_its_file_is_not_played_into_a_new_one() {
    let place = tempfile::tempdir().expect("a directory");
    let copy = tempfile::tempdir().expect("a directory");
    let entries = samples(233, 20);
    block_on(async {
        let cache = open(place.path());
        cache.put(entries.clone()).await.expect("stored");
        let log = "meters.sqlite-wal";
        std::fs::copy(place.path().join(log), copy.path().join(log)).expect("a copy");
        let cache = open(copy.path());
        assert_eq!(found(&cache, &entries).await.expect("an answer"), 0);
        cache.put(entries.clone()).await.expect("stored");
        assert_eq!(found(&cache, &entries).await.expect("an answer"), 20);
    });
}
