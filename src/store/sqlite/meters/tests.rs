//! What only the inside can provoke or see: a full disk, the sum of the values, the settings of the file, the plans.

use actors::testing::{ENTRY_LIFE, NOW};

use super::*;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::inspect::{assert_plans, assert_set_up, on};

fn open(dir: &Path) -> Result<SqliteMeters, OpenError> {
    SqliteStore::open(dir)?.meters()
}

/// The total as it is kept, which is what it comes to when it is added up.
async fn total(cache: &SqliteMeters) -> i64 {
    let kept = cache.workers.number(sql::TOTAL).await;
    assert_eq!(kept, cache.workers.number("SELECT coalesce(sum(length(sealed)), 0) FROM entry").await);
    kept
}

#[test]
fn the_total_is_kept_whatever_happens() {
    on(open, async |cache, mut samples| {
        let (owner, other) = (samples.cache_key(), samples.cache_key());
        let entries = samples.cache_entries(owner, 300);
        cache.put(entries.clone()).await.expect("stored");
        let kept = total(cache).await;
        assert_eq!(usize::try_from(kept), Ok(entries.iter().map(|entry| entry.sealed.len()).sum::<usize>()));
        let mut replaced = entries[..50].to_vec();
        for (n, entry) in replaced.iter_mut().enumerate() {
            entry.sealed.resize(n, 9);
            // Half of them come too late to count.
            entry.fetched = Timestamp::from_millis(NOW.as_millis() + n as u64 - 25);
        }
        cache.put(replaced).await.expect("stored");
        cache.put(samples.cache_entries(other, 20)).await.expect("stored");
        cache.forget(other).await.expect("forgotten");
        total(cache).await;
        assert!(cache.evict(NOW, 20_000).await.expect("evicted") > 0);
        assert!(total(cache).await <= 20_000);
        cache.evict(NOW + ENTRY_LIFE + ENTRY_LIFE, 0).await.expect("evicted");
        assert_eq!(total(cache).await, 0);
    });
}

#[test]
fn a_full_disk_undoes_the_whole_batch_and_nothing_else() {
    on(open, async |cache, mut samples| {
        let owner = samples.cache_key();
        let (first, batch) = (samples.cache_entries(owner, 1), samples.cache_entries(owner, 599));
        cache.put(first.clone()).await.expect("stored");
        cache.workers.leave_room(4).await;
        let full = cache.put(batch.clone()).await;
        assert!(matches!(full, Err(StoreError::Aborted(_))), "{full:?}");
        let keys = [&first[..], &batch[..]].concat().iter().map(|entry| entry.key).collect();
        assert_eq!(cache.get(keys, NOW).await.expect("an answer"), first);
        total(cache).await;
        cache.workers.leave_room(1_000).await;
        cache.put(batch).await.expect("stored");
        assert!(!cache.path.with_extension("sqlite.damaged").exists(), "a full disk is no damage");
    });
}

#[test]
fn an_eviction_goes_on_in_steps_and_gives_room_back() {
    on(open, async |cache, mut samples| {
        let owner = samples.cache_key();
        for _ in 0..15 {
            let mut entries = samples.cache_entries(owner, 1_000);
            for entry in &mut entries {
                entry.sealed.resize(700, 1);
            }
            cache.put(entries).await.expect("stored");
        }
        let before = cache.workers.pages().await;
        let (mut gone, mut calls) = (0, 0);
        while let some @ 1.. = cache.evict(NOW, 700 * 1_000).await.expect("an eviction") {
            assert!(some <= 1_000, "a call is bounded");
            (gone, calls) = (gone + some, calls + 1);
        }
        assert_eq!((gone, calls), (14_000, 14));
        let after = cache.workers.pages().await;
        assert!(after < before, "{before} pages before, {after} after");
    });
}

#[test]
fn the_file_is_set_up_as_documented() {
    assert_set_up(open, |store| &store.workers, FILE, 1, 1);
}

#[test]
fn every_statement_uses_an_index() {
    assert_plans(
        open,
        |store| &store.workers,
        [
            (sql::GET, &["(key=?)"]),
            (sql::EVICT_EXPIRED, &["entry_expires (expires_ms<?)"]),
            // In its order, as far as its limit.
            (sql::OLDEST, &["SCAN entry USING INDEX entry_fetched"]),
            (sql::DELETE, &["INTEGER PRIMARY KEY (rowid=?)"]),
            (sql::FORGET, &["entry_owner (owner=?)"]),
        ],
    );
}
