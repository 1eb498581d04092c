//! The import on a real store: what becomes of each entry, that it can be repeated, and its bounds.

use std::sync::Arc;

use actors::base::clock::ManualClock;
use actors::base::code::BearerToken;
use actors::base::meter::parse_meters;
use actors::metering::tokens::TokenStore;

use super::*;
use crate::commands::watched::WatchedTokens;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const METERS: &str = "12345678901234,10284856584123";

struct World {
    store: WatchedTokens,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self { store: WatchedTokens::new(), clock: Arc::new(ManualClock::new(NOW)) }
    }

    fn keys() -> Keyring {
        Keyring::new(&[7; 32])
    }

    fn importer(&self, dry_run: bool) -> Importer {
        Importer {
            desk: Some(Desk {
                store: Arc::new(self.store.clone()),
                keys: Self::keys(),
                clock: Arc::clone(&self.clock) as SharedClock,
            }),
            clock: Arc::clone(&self.clock) as SharedClock,
            rng: StdRng::seed_from_u64(1),
            dry_run,
        }
    }

    async fn import(&self, dry_run: bool, entries: Vec<Entry>) -> (Report, Result<(), CommandError>) {
        let mut report = Report::default();
        let done =
            self.importer(dry_run).import(stream::iter(entries.into_iter().map(Ok)), &mut report).await;
        (report, done)
    }
}

fn entry(key: &str, expires_at: u64) -> Entry {
    Entry {
        key: key.into(),
        value: Some(METERS.into()),
        expires_at: Some(Timestamp::from_millis(expires_at)),
    }
}

fn token(n: u32) -> String {
    format!("{n:064x}")
}

fn refresh(n: u32) -> Entry {
    entry(&format!("refresh_token:{}", token(n)), NOW.as_millis() + 60_000)
}

fn access(n: u32) -> Entry {
    entry(&format!("access_token:{}", token(n)), NOW.as_millis() + 60_000)
}

fn counts(found: u64, taken: u64, already: u64, expired: u64, not_understood: u64) -> report::Counts {
    report::Counts { found, taken, already, expired, not_understood }
}

#[tokio::test]
async fn a_refresh_token_becomes_a_grant_that_lives_as_long() {
    let world = World::new();
    let (report, done) = world.import(false, vec![refresh(1)]).await;
    done.unwrap();
    assert_eq!(report.refresh, counts(1, 1, 0, 0, 0));
    let keys = World::keys();
    let hash = keys.refresh(&BearerToken::parse(&token(1)).unwrap());
    let grant = world.store.find_refresh(hash, NOW).await.unwrap().unwrap();
    assert_eq!(keys.open(&hash, &grant.meters).unwrap(), METERS.as_bytes());
    let meters = parse_meters(METERS).unwrap();
    assert_eq!(grant.owners, meters.iter().map(|meter| keys.meter(*meter)).collect::<Vec<_>>());
    assert_eq!((grant.client_id, grant.origin), (None, Origin::Import));
    assert_eq!(grant.expires_at.as_millis(), NOW.as_millis() + 60_000);
    assert_eq!(grant.expires_at.since(grant.consented_at), Duration::from_secs(126_144_000));
    assert!(world.store.accesses().await.is_empty());
}

#[tokio::test]
async fn an_access_token_gets_a_grant_in_which_it_stands_alone() {
    let world = World::new();
    let (report, done) = world.import(false, vec![access(2)]).await;
    done.unwrap();
    assert_eq!(report.access, counts(1, 1, 0, 0, 0));
    let keys = World::keys();
    let bearer = BearerToken::parse(&token(2)).unwrap();
    let grant = world.store.find_access(keys.access(&bearer), NOW).await.unwrap().unwrap();
    assert_eq!(grant.refresh, keys.stand_in(&bearer));
    assert_eq!(keys.open(&grant.refresh, &grant.meters).unwrap(), METERS.as_bytes());
    assert_eq!(grant.expires_at.as_millis(), NOW.as_millis() + 60_000);
    let access = world.store.accesses().await[0];
    assert_eq!((access.expires_at, access.issued_at), (grant.expires_at, grant.consented_at));
    // It is good for data and not for a refresh.
    assert!(world.store.find_refresh(keys.refresh(&bearer), NOW).await.unwrap().is_none());
}

/// One of everything.
fn mixture() -> Vec<Entry> {
    let mut entries = vec![refresh(1), refresh(2), access(3)];
    entries.push(entry(&format!("refresh_token:{}", token(4)), NOW.as_millis()));
    entries.push(entry(&format!("access_token:{}", token(5)), 0));
    entries.push(entry("refresh_token:short", u64::MAX));
    entries.push(Entry { value: Some("1234".into()), ..access(6) });
    entries.push(entry("client_credentials", u64::MAX));
    entries.push(entry("ratelimit-30000000-ip-192.0.2.1", u64::MAX));
    entries.push(entry("BCDFGHJK", u64::MAX));
    entries
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_a_dry_run_does_nothing() {
    let world = World::new();
    let (report, done) = world.import(true, mixture()).await;
    done.unwrap();
    assert_eq!((report.refresh, report.access), (counts(4, 2, 0, 1, 1), counts(3, 1, 0, 1, 1)));
    assert!(world.store.all().await.is_empty());

    let (report, done) = world.import(false, mixture()).await;
    done.unwrap();
    assert_eq!((report.refresh, report.access), (counts(4, 2, 0, 1, 1), counts(3, 1, 0, 1, 1)));
    let stored = (world.store.all().await, world.store.accesses().await);
    assert_eq!((stored.0.len(), stored.1.len()), (3, 1));

    for dry_run in [true, false] {
        let (report, done) = world.import(dry_run, mixture()).await;
        done.unwrap();
        assert_eq!((report.refresh, report.access), (counts(4, 0, 2, 1, 1), counts(3, 0, 1, 1, 1)));
        assert_eq!((world.store.all().await, world.store.accesses().await), stored);
    }
}

#[tokio::test]
async fn what_was_done_before_a_failure_stays_and_a_repeat_goes_on() {
    let world = World::new();
    let entries = || (0..200).map(refresh).collect();
    world.store.fail_after(Some(100));
    let (report, done) = world.import(false, entries()).await;
    assert!(matches!(done, Err(CommandError::Store(_))), "{done:?}");
    assert_eq!(report.refresh.taken, 100);
    assert_eq!(world.store.all().await.len(), 100);
    world.store.fail_after(None);
    let (report, done) = world.import(false, entries()).await;
    done.unwrap();
    assert_eq!(report.refresh, counts(200, 100, 100, 0, 0));
}

#[tokio::test]
async fn a_source_that_fails_ends_the_import_after_what_it_gave() {
    let world = World::new();
    let mut report = Report::default();
    let entries = vec![Ok(refresh(1)), Err(SourceError::Empty), Ok(refresh(2))];
    let done = world.importer(false).import(stream::iter(entries), &mut report).await;
    assert!(matches!(done, Err(CommandError::Source(SourceError::Empty))), "{done:?}");
    assert_eq!(report.refresh, counts(1, 1, 0, 0, 0));
}

#[tokio::test]
async fn many_entries_are_taken_over_a_few_at_a_time() {
    let world = World::new();
    let entries = stream::iter((0..500).map(|n| Ok(refresh(n))));
    let mut report = Report::default();
    world.importer(false).import(entries, &mut report).await.unwrap();
    assert_eq!(report.refresh.taken, 500);
    assert_eq!(world.store.most_under_way(), IN_FLIGHT);
}

#[tokio::test]
async fn a_token_that_ends_during_the_import_is_not_taken_over() {
    let world = World::new();
    let clock = Arc::clone(&world.clock);
    let entries = (1..=2).map(move |n| {
        if n == 2 {
            clock.advance(Duration::from_secs(60));
        }
        Ok(access(n))
    });
    let mut report = Report::default();
    world.importer(false).import(stream::iter(entries), &mut report).await.unwrap();
    assert_eq!(report.access, counts(2, 1, 0, 1, 0));
}

#[tokio::test]
async fn the_table_tells_numbers_and_no_secret() {
    let world = World::new();
    let csv = format!(
        "key,meters,expires_at\n\
         refresh_token:{},\"{METERS}\",1830000000\n\
         refresh_token:{},11111111111111,1830000000\n\
         access_token:{},12345678901234,1577836800\n\
         refresh_token:secret,12345678901234,1830000000\n\
         access_token:{},,1830000000\n\
         BCDFGHJK,,1577836800\n",
        token(0xabc),
        token(0xdef),
        token(0x123),
        token(0x123)
    );
    let mut out = Vec::new();
    let entries = stream::iter(table::entries(csv.as_bytes()).unwrap());
    world.importer(false).import_and_report(entries, &mut out).await.unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(
        out,
        "                         found      taken over    already here         expired  not understood\n\
         refresh tokens               3               2               0               0               1\n\
         access tokens                2               0               0               1               1\n\
         not understood: 1 × the token is not 64 hex digits\n\
         not understood: 1 × the value is not a list of 1 to 20 meters of 14 digits\n\
         left out: 1 of logins under way\n"
    );
    for secret in ["abc", "1234", "secret"] {
        assert!(!out.contains(secret), "{secret}: {out}");
    }
}

#[tokio::test]
async fn a_source_without_a_row_fails_before_anything_is_made() {
    assert!(matches!(begin(stream::iter([])).await.err(), Some(SourceError::Empty)));
    let broken = stream::iter([Err(SourceError::Columns), Ok(refresh(1))]);
    assert!(matches!(begin(broken).await.err(), Some(SourceError::Columns)));
    let entries = stream::iter([Ok(refresh(1)), Ok(refresh(2))]);
    assert_eq!(begin(entries).await.unwrap().count().await, 2);
}
