//! What becomes of a token, and the bounds of an import. `tests/it/import.rs` runs the command on real stores.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::ManualClock;
use actors::base::code::BearerToken;
use actors::base::keyring::Keyring;
use actors::base::meter::parse_meters;
use actors::metering::tokens::{Access, Covered, Origin};
use futures_util::future::ready;

use super::report::Counts;
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const END: Timestamp = Timestamp::from_millis(1_800_000_060_000);
const METERS: &str = "12345678901234,10284856584123";

fn entry(n: u32) -> Entry {
    Entry { key: format!("refresh_token:{n:064x}"), value: Some(METERS.into()), expires_at: Some(END) }
}

fn entries(count: u32) -> Entries {
    stream::iter((0..count).map(|n| Ok(entry(n)))).boxed_local()
}

/// Imports with `step`, and says what was counted.
async fn count<F: Future<Output = Added>>(
    entries: Entries,
    clock: &ManualClock,
    step: impl FnMut(&EarlierToken) -> F,
) -> (Counts, Result<(), CommandError>) {
    let mut report = Report::default();
    let done = import(entries, clock, &mut report, step).await;
    (report.refresh, done)
}

#[test]
fn a_token_becomes_a_grant_that_lives_as_long() {
    let (keys, mut rng) = (Keyring::new(&[7; 32]), StdRng::seed_from_u64(1));
    let bearer = BearerToken::parse(&"5a".repeat(32)).unwrap();
    let meters = parse_meters(METERS).unwrap();
    let owners: Vec<_> = meters.iter().map(|meter| keys.meter(*meter)).collect();
    for (kind, hash) in [
        (Kind::Refresh, keys.refresh(&bearer)),
        // Stands alone: it is good for data, of any time of its consent, and not for a refresh.
        (Kind::Access, keys.stand_in(&bearer)),
    ] {
        let token = EarlierToken { kind, bearer: bearer.clone(), meters: meters.clone(), expires_at: END };
        let (grant, access) = token.grant(&keys, &mut rng);
        assert_eq!(grant.refresh, hash, "{kind:?}");
        assert_eq!(grant.covered(&keys).unwrap(), Covered { meters: meters.clone(), ends_at: Some(END) });
        assert_eq!((grant.owners, grant.client_id, grant.origin), (owners.clone(), None, Origin::Import));
        assert_eq!(grant.expires_at, END);
        assert_eq!(END.since(grant.consented_at), Duration::from_secs(126_144_000), "{kind:?}");
        let issued_at = Timestamp::from_millis(END.as_millis() - 12_600_000);
        let alone = Access::new(&keys, keys.access(&bearer), hash, issued_at, END);
        assert_eq!(access, (kind == Kind::Access).then_some(alone));
    }
}

#[tokio::test]
async fn after_a_failure_what_is_under_way_is_finished_and_nothing_is_begun() {
    let begun = Cell::new(0);
    let step = |token: &EarlierToken| {
        begun.set(begun.get() + 1);
        let fails = begun.get() > 100;
        ready((token.kind, if fails { Err(StoreError::Aborted("x".into())) } else { Ok(Written::Applied) }))
    };
    let (counts, done) = count(entries(200), &ManualClock::new(NOW), step).await;
    assert!(matches!(done, Err(CommandError::Store(_))), "{done:?}");
    assert_eq!(counts.taken, 100);
    assert!(begun.get() <= 100 + IN_FLIGHT, "{}", begun.get());
}

#[tokio::test]
async fn a_source_that_fails_ends_the_import_after_what_it_gave() {
    let broken = entries(1).chain(stream::iter([Err(SourceError::Columns)])).chain(entries(2));
    let step = |token: &EarlierToken| ready((token.kind, Ok(Written::Applied)));
    let (counts, done) = count(broken.boxed_local(), &ManualClock::new(NOW), step).await;
    assert!(matches!(done, Err(CommandError::Source(SourceError::Columns))), "{done:?}");
    assert_eq!(counts, Counts { found: 1, taken: 1, ..Counts::default() });
}

#[tokio::test]
async fn many_entries_are_taken_over_a_few_at_a_time() {
    let (under_way, most) = (Cell::new(0), Cell::new(0));
    let step = |token: &EarlierToken| {
        under_way.set(under_way.get() + 1);
        most.set(most.get().max(under_way.get()));
        let (kind, under_way) = (token.kind, &under_way);
        async move {
            tokio::task::yield_now().await;
            under_way.set(under_way.get() - 1);
            (kind, Ok(Written::Applied))
        }
    };
    let (counts, done) = count(entries(500), &ManualClock::new(NOW), step).await;
    done.unwrap();
    assert_eq!((counts.taken, most.get()), (500, IN_FLIGHT));
}

#[tokio::test]
async fn a_token_that_ends_during_the_import_is_not_taken_over() {
    let clock = Arc::new(ManualClock::new(NOW));
    let later = Arc::clone(&clock);
    let late = stream::once(async move {
        later.advance(Duration::from_secs(60));
        Ok(entry(2))
    });
    let step = |token: &EarlierToken| ready((token.kind, Ok(Written::Applied)));
    let (counts, done) = count(entries(1).chain(late).boxed_local(), &clock, step).await;
    done.unwrap();
    assert_eq!(counts, Counts { found: 2, taken: 1, expired: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_source_without_an_entry_fails_before_anything_is_made() {
    assert!(matches!(begin(entries(0)).await.err(), Some(SourceError::Empty)));
    let broken = stream::iter([Err(SourceError::Columns)]).chain(entries(1)).boxed_local();
    assert!(matches!(begin(broken).await.err(), Some(SourceError::Columns)));
    assert_eq!(begin(entries(2)).await.unwrap().count().await, 2);
}
