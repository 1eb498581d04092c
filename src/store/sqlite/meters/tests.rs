//! What only the inside can provoke or see: a full disk, the sum of the values, the settings of the file, the plans.

use actors::testing::{ENTRY_LIFE, NOW, Samples, block_on};

use super::*;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::inspect::{mode, plan, pragmas};

fn open(dir: &Path) -> SqliteMeters {
    SqliteStore::open(dir).expect("a store").meters().expect("a cache")
}

async fn probe<T: Send + 'static>(
    cache: &SqliteMeters,
    probe: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> T {
    cache.write(move |db| Ok(probe(db)?)).await.expect("the writer runs")
}

/// The total as it is kept, and as it is when it is added up.
async fn totals(cache: &SqliteMeters) -> (i64, i64) {
    let sum = "SELECT coalesce(sum(length(sealed)), 0) FROM entry";
    let kept = probe(cache, sql::total).await;
    (kept, probe(cache, move |db| db.query_row(sum, [], |row| row.get(0))).await)
}

#[test]
fn the_total_is_kept_whatever_happens() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(1);
    let (owner, other) = (samples.cache_key(), samples.cache_key());
    block_on(async {
        let cache = open(dir.path());
        let entries: Vec<_> = (0..300).map(|_| samples.cache_entry(owner)).collect();
        cache.put(entries.clone()).await.expect("stored");
        let (kept, sum) = totals(&cache).await;
        assert_eq!(kept, sum);
        assert_eq!(usize::try_from(kept), Ok(entries.iter().map(|entry| entry.sealed.len()).sum::<usize>()));
        let mut replaced = entries[..50].to_vec();
        for (n, entry) in replaced.iter_mut().enumerate() {
            entry.sealed.resize(n, 9);
            // Half of them come too late to count.
            entry.fetched = Timestamp::from_millis(NOW.as_millis() + n as u64 - 25);
        }
        cache.put(replaced).await.expect("stored");
        cache.put((0..20).map(|_| samples.cache_entry(other)).collect()).await.expect("stored");
        cache.forget(other).await.expect("forgotten");
        let (kept, sum) = totals(&cache).await;
        assert_eq!(kept, sum);
        assert!(cache.evict(NOW, 20_000).await.expect("evicted") > 0);
        let (kept, sum) = totals(&cache).await;
        assert_eq!(kept, sum);
        assert!(kept <= 20_000);
        cache.evict(NOW + ENTRY_LIFE + ENTRY_LIFE, 0).await.expect("evicted");
        assert_eq!(totals(&cache).await, (0, 0));
    });
}

#[test]
fn a_full_disk_undoes_the_whole_batch_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(2);
    let owner = samples.cache_key();
    let (first, batch): (Vec<_>, Vec<_>) =
        (0..600).map(|_| samples.cache_entry(owner)).enumerate().partition(|(n, _)| *n == 0);
    let plain = |entries: Vec<(usize, CacheEntry)>| entries.into_iter().map(|(_, entry)| entry).collect();
    let (first, batch): (Vec<_>, Vec<_>) = (plain(first), plain(batch));
    block_on(async {
        let cache = open(dir.path());
        cache.put(first.clone()).await.expect("stored");
        let pages: u32 =
            probe(&cache, |db| db.pragma_query_value(None, "page_count", |row| row.get(0))).await;
        let limit = format!("PRAGMA max_page_count = {}", pages + 4);
        probe(&cache, move |db| db.query_row(&limit, [], |_| Ok(()))).await;
        let full = cache.put(batch.clone()).await;
        assert!(matches!(full, Err(StoreError::Aborted(_))), "{full:?}");
        let keys = [&first[..], &batch[..]].concat().iter().map(|entry| entry.key).collect();
        assert_eq!(cache.get(keys, NOW).await.expect("an answer"), first);
        let (kept, sum) = totals(&cache).await;
        assert_eq!(kept, sum);
        probe(&cache, |db| db.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()))).await;
        cache.put(batch).await.expect("stored");
        let room = dir.path().join("meters.sqlite.damaged");
        assert!(!room.exists(), "a full disk is no damage");
    });
}

#[test]
fn an_eviction_goes_on_in_steps_and_gives_room_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut samples = Samples::new(3);
    let owner = samples.cache_key();
    block_on(async {
        let cache = open(dir.path());
        for _ in 0..15 {
            let mut entries: Vec<_> = (0..1_000).map(|_| samples.cache_entry(owner)).collect();
            for entry in &mut entries {
                entry.sealed.resize(700, 1);
            }
            cache.put(entries).await.expect("stored");
        }
        let pages = |db: &Connection| db.pragma_query_value(None, "page_count", |row| row.get::<_, u32>(0));
        let before = probe(&cache, pages).await;
        let (mut gone, mut calls) = (0, 0);
        while let some @ 1.. = cache.evict(NOW, 700 * 1_000).await.expect("an eviction") {
            assert!(some <= 1_000, "a call is bounded");
            (gone, calls) = (gone + some, calls + 1);
        }
        assert_eq!((gone, calls), (14_000, 14));
        let after = probe(&cache, pages).await;
        assert!(after < before, "{before} pages before, {after} after");
    });
}

#[test]
fn the_file_is_set_up_as_documented() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let cache = open(dir.path());
        let names = &["journal_mode", "synchronous", "auto_vacuum", "user_version"];
        let settings = probe(&cache, |db| pragmas(db, names)).await;
        assert_eq!(settings, ["Text(\"wal\")", "Integer(1)", "Integer(2)", "Integer(1)"]);
        for file in ["meters.sqlite", "meters.sqlite-wal", "meters.sqlite-shm"] {
            assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
        }
        drop(cache);
        assert!(!dir.path().join("meters.sqlite-wal").exists(), "the log is folded into the file");
    });
}

#[test]
fn every_statement_uses_an_index() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let cache = open(dir.path());
        for (sql, part) in [
            (sql::GET, "(key=?)"),
            (sql::EVICT_EXPIRED, "entry_expires (expires_ms<?)"),
            // In its order, as far as its limit.
            (sql::OLDEST, "SCAN entry USING INDEX entry_fetched"),
            (sql::DELETE, "INTEGER PRIMARY KEY (rowid=?)"),
            (sql::FORGET, "entry_owner (owner=?)"),
        ] {
            let plan = probe(&cache, move |db| plan(db, sql)).await;
            assert!(plan.contains(part), "{sql}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    });
}
