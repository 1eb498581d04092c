//! What only the inside can provoke or see: a full disk, a damaged row, the settings of the file, the plans.

use actors::testing::NOW;
use rusqlite::Connection;

use super::*;
use crate::store::sqlite::inspect::{assert_plans, assert_set_up, on};

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    on(SqliteTokens::open, async |store, mut samples| {
        let first = samples.meter_grant();
        assert_eq!(store.add(first.clone(), None).await.expect("stored"), Written::Applied);
        store.workers.leave_room(4).await;
        let (mut refused, mut stored) = (Vec::new(), 0);
        while refused.len() < 20 {
            let grant = samples.meter_grant();
            let access = samples.access(&grant, NOW);
            match store.add(grant.clone(), Some(access)).await {
                Ok(written) => {
                    assert_eq!(written, Written::Applied);
                    stored += 1;
                }
                Err(StoreError::Aborted(_)) => refused.push((grant, access)),
                Err(unknown) => panic!("{unknown}"),
            }
        }
        assert!(stored > 0, "there was some room");
        for (grant, access) in &refused {
            assert_eq!(store.find_refresh(grant.refresh, NOW).await.expect("an answer"), None);
            assert_eq!(store.find_access(access.token, NOW).await.expect("an answer"), None);
            assert!(store.of_meter(grant.owners[0], NOW).await.expect("an answer").is_empty());
        }
        // Nothing points at nothing, in any table.
        let strays = "SELECT (SELECT count(*) FROM access_token WHERE refresh NOT IN (SELECT refresh FROM meter_grant)) \
            + (SELECT count(*) FROM grant_owner WHERE refresh NOT IN (SELECT refresh FROM meter_grant))";
        assert_eq!(store.workers.number(strays).await, 0);
        assert_eq!(store.find_refresh(first.refresh, NOW).await.expect("an answer"), Some(first));
        store.workers.leave_room(1_000).await;
        for (grant, access) in refused {
            assert_eq!(store.add(grant, Some(access)).await.expect("stored"), Written::Applied);
        }
    });
}

#[test]
fn a_file_that_cannot_be_written_aborts_and_recovers() {
    on(SqliteTokens::open, async |store, mut samples| {
        let grant = samples.meter_grant();
        store.workers.let_write(false).await;
        assert!(matches!(store.add(grant.clone(), None).await, Err(StoreError::Aborted(_))));
        assert!(matches!(store.purge(NOW).await, Err(StoreError::Aborted(_))));
        store.workers.let_write(true).await;
        // Nor does a transaction that was left open stop the store.
        store.workers.probe(|db| db.execute_batch("BEGIN IMMEDIATE; DELETE FROM meter_grant")).await;
        assert_eq!(store.add(grant.clone(), None).await.expect("stored"), Written::Applied);
        assert_eq!(
            store.issue(samples.access(&grant, NOW), Places::default()).await.expect("stored"),
            Written::Applied
        );
    });
}

#[test]
fn a_damaged_grant_is_reported_alone() {
    on(SqliteTokens::open, async |store, mut samples| {
        let grants: Vec<_> = (0..3).map(|_| samples.meter_grant()).collect();
        for grant in &grants {
            store.add(grant.clone(), None).await.expect("stored");
        }
        let refresh = grants[1].refresh;
        let damage = "UPDATE meter_grant SET origin = 77 WHERE refresh = ?1";
        let damaged = move |db: &Connection| db.execute(damage, [refresh.as_bytes().as_slice()]);
        assert_eq!(store.workers.probe(damaged).await, 1);
        assert!(store.find_refresh(refresh, NOW).await.is_err());
        assert!(store.find_refresh(grants[0].refresh, NOW).await.expect("an answer").is_some());
        let page = store.grants(None, NOW).await.expect("a page");
        assert_eq!((page.grants.len(), page.next), (2, None));
        assert!(store.revoke(refresh).await.expect("it can be revoked all the same"));
    });
}

#[test]
fn a_purge_goes_on_in_steps_and_gives_room_back() {
    on(SqliteTokens::open, async |store, mut samples| {
        let mut grants: Vec<_> = (0..3_000).map(|_| samples.meter_grant()).collect();
        for grant in &mut grants {
            grant.client_id = Some("x".repeat(3_000).into());
        }
        let stored: Vec<_> =
            grants.iter().cloned().map(|grant| (samples.access(&grant, NOW), grant)).collect();
        store
            .workers
            .probe(move |db| {
                let all = db.unchecked_transaction()?;
                for (access, grant) in &stored {
                    sql::add(db, grant, Some(*access))?;
                }
                all.commit()
            })
            .await;
        let before = store.workers.pages().await;
        let (mut gone, mut calls) = (0, 0);
        while let some @ 1.. = store.purge(grants[0].expires_at).await.expect("a purge") {
            (gone, calls) = (gone + some, calls + 1);
        }
        assert_eq!(gone, 6_000);
        assert!(calls > 2, "a call is bounded");
        let rows = "SELECT (SELECT count(*) FROM meter_grant) + (SELECT count(*) FROM grant_owner) \
            + (SELECT count(*) FROM access_token)";
        assert_eq!(store.workers.number(rows).await, 0);
        let after = store.workers.pages().await;
        assert!(after < before, "{before} pages before, {after} after");
    });
}

#[test]
fn the_file_is_set_up_as_documented() {
    assert_set_up(SqliteTokens::open, |store| &store.workers, FILE, 2, 7);
}

#[test]
fn every_statement_uses_an_index() {
    assert_plans(
        SqliteTokens::open,
        |store| &store.workers,
        [
            (&sql::BY_REFRESH, &["PRIMARY KEY (refresh=?)"]),
            (sql::BY_TOKEN, &["PRIMARY KEY (token=?)"]),
            (&sql::OF_METER, &["PRIMARY KEY (owner=?)", "PRIMARY KEY (refresh=?)"]),
            (&sql::PAGE_AFTER, &["PRIMARY KEY (refresh>?)"]),
            (sql::IS_TAKEN, &["PRIMARY KEY (refresh=?)", "PRIMARY KEY (token=?)"]),
            (sql::TRIM_ACCESS, &["PRIMARY KEY (token=?)", "access_token_refresh (refresh=?"]),
            (sql::DELETE_GRANT, &["PRIMARY KEY (refresh=?)"]),
            (sql::HAS_ENDED, &["meter_grant USING PRIMARY KEY (refresh=?)", "ended_grant USING PRIMARY KEY"]),
            (sql::PURGE_ENDED, &["ended_grant_until (until_ms<?)"]),
            (sql::DELETE_OWNERS, &["grant_owner_refresh (refresh=?)"]),
            (sql::DELETE_ACCESS, &["access_token_refresh (refresh=?)"]),
            (sql::EXPIRED_GRANTS, &["meter_grant_expires (expires_ms<?)"]),
        ],
    );
}
