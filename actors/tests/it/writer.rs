//! The store writer: groups, what each writer is told, and what happens when the store is slow or gone.

use std::time::Duration;

use actors::base::store::{StoreError, Written};
use actors::device_flow::session::{Lifetimes, Session};
use actors::device_flow::store::{SessionStore, Write};
use actors::device_flow::writer::WriterHandle;
use actors::testing::Samples;
use futures_util::future::join_all;

use crate::fake_store::{FakeStore, Fault};
use crate::universe::{Universe, pass, universe, universe_of};

fn sessions(universe: &Universe, count: usize) -> Vec<Session> {
    let mut samples = Samples::new(7);
    let now = universe.clock.now();
    let fresh = |session: Session| {
        Session::open(session.device, session.user, session.request, now, &Lifetimes::default())
    };
    samples.pendings(count).into_iter().map(fresh).collect()
}

async fn commit_all(writer: &WriterHandle, sessions: Vec<Session>) -> Vec<Result<Written, StoreError>> {
    join_all(sessions.into_iter().map(|session| writer.commit(Write::Insert(session)))).await
}

#[test]
fn writes_that_come_together_are_committed_together() {
    universe(async |universe| {
        let writer = universe.writer();
        universe.store.slow_down(Duration::from_millis(10));
        let written = commit_all(&writer, sessions(universe, 200)).await;
        assert!(written.iter().all(|written| matches!(written, Ok(Written::Applied))));
        // The first finds the store idle and goes alone; the others wait for it, and for each other.
        assert_eq!(universe.store.groups(), [1, 64, 64, 64, 7]);
        assert_eq!(universe.elapsed(), Duration::from_millis(50));
        let snapshot = writer.snapshot().await.unwrap();
        assert_eq!((snapshot.writes, snapshot.groups, snapshot.failed, snapshot.queued), (200, 5, 0, 0));
    });
}

#[test]
fn a_store_that_takes_two_groups_at_a_time_is_given_two() {
    universe_of(FakeStore::with_commits_at_once(2), async |universe| {
        let writer = universe.writer();
        universe.store.slow_down(Duration::from_millis(10));
        commit_all(&writer, sessions(universe, 130)).await;
        assert_eq!(universe.store.groups(), [1, 1, 64, 64]);
        assert_eq!(universe.elapsed(), Duration::from_millis(20));
    });
}

#[test]
fn a_conflict_in_a_group_is_its_writers_alone() {
    universe(async |universe| {
        let writer = universe.writer();
        let mut sessions = sessions(universe, 9);
        sessions[5].user = sessions[0].user;
        let written = commit_all(&writer, sessions).await;
        let conflicts = |written: &_| matches!(written, Ok(Written::Conflict));
        assert_eq!(
            written.iter().map(conflicts).collect::<Vec<_>>(),
            [false, false, false, false, false, true, false, false, false]
        );
        assert_eq!(writer.snapshot().await.unwrap().failed, 0);
    });
}

#[test]
fn a_failure_is_told_to_the_whole_group() {
    universe(async |universe| {
        let writer = universe.writer();
        universe.store.fail(Fault::Aborts);
        let written = commit_all(&writer, sessions(universe, 3)).await;
        assert!(written.iter().all(|written| matches!(written, Err(StoreError::Aborted(_)))));
        assert_eq!(writer.snapshot().await.unwrap().failed, 3);
    });
}

#[test]
fn after_ten_seconds_the_outcome_is_unknown() {
    universe(async |universe| {
        let writer = universe.writer();
        universe.store.slow_down(Duration::from_secs(15));
        let session = sessions(universe, 1).remove(0);
        let device = session.device;
        let written = writer.commit(Write::Insert(session)).await;
        assert!(matches!(written, Err(StoreError::Unknown(_))));
        assert_eq!((universe.elapsed(), writer.pending()), (Duration::from_secs(10), 1));
        pass(6).await;
        // It was written after all.
        let page = universe.store.model.page(None, universe.clock.now()).await.unwrap();
        assert_eq!((page.sessions[0].device, writer.pending()), (device, 0));
    });
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    universe(async |universe| {
        let writer = universe.writer();
        universe.store.slow_down(Duration::from_secs(15));
        let written = commit_all(&writer, sessions(universe, 100)).await;
        assert!(written.iter().all(|written| matches!(written, Err(StoreError::Unknown(_)))));
        assert!(writer.is_behind(universe.clock.now()));
        pass(20).await;
        // The one that was under way.
        assert_eq!((universe.store.groups(), writer.pending()), (vec![1], 0));
        assert!(!writer.is_behind(universe.clock.now()));
    });
}

#[test]
fn beyond_its_queue_a_write_is_refused_and_not_sent() {
    const QUEUE_MAX: usize = 20_000;
    universe(async |universe| {
        let writer = universe.writer();
        universe.store.slow_down(Duration::from_millis(10));
        universe.store.fail(Fault::Aborts);
        let write = Write::Insert(sessions(universe, 1).remove(0));
        let written = join_all((0..=QUEUE_MAX).map(|_| writer.commit(write.clone()))).await;
        let why = |written: &Result<Written, StoreError>| written.as_ref().unwrap_err().to_string();
        assert_eq!(why(written.last().unwrap()), "store refused: too many requests are waiting");
        assert!(written[..QUEUE_MAX].iter().all(|written| why(written) == "store refused: on purpose"));
        assert_eq!(universe.store.groups().iter().sum::<usize>(), QUEUE_MAX);
    });
}

#[test]
fn sessions_past_their_tombstone_are_deleted_every_ten_seconds() {
    universe(async |universe| {
        let writer = universe.writer();
        for session in sessions(universe, 3) {
            writer.commit(Write::Insert(session)).await.unwrap();
        }
        universe.store.go_blind();
        pass(605).await;
        assert_eq!(writer.snapshot().await.unwrap().purged, 0, "the store does not answer; later, then");
        universe.store.heal();
        pass(10).await;
        assert_eq!(writer.snapshot().await.unwrap().purged, 3);
    });
}
