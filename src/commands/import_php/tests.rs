//! The import on a real store: what becomes of each entry, that it can be repeated, and its bounds.

use std::cell::Cell;
use std::sync::Arc;

use actors::base::clock::ManualClock;
use actors::base::code::BearerToken;
use actors::base::meter::parse_meters;
use actors::metering::tokens::TokenStore;
use futures_util::future::ready;
use tempfile::TempDir;

use super::report::Counts;
use super::*;
use crate::store::sqlite::SqliteTokens;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const METERS: &str = "12345678901234,10284856584123";

struct World {
    store: Arc<SqliteTokens>,
    keys: Keyring,
    clock: Arc<ManualClock>,
    // Behind its store: dropped last.
    _dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteTokens::open(dir.path()).unwrap());
        Self { store, keys: Keyring::new(&[7; 32]), clock: Arc::new(ManualClock::new(NOW)), _dir: dir }
    }

    async fn import(&self, dry_run: bool, entries: Vec<Entry>) -> Report {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let installation = Installation { store, keys: self.keys.clone(), clock };
        let rng = StdRng::seed_from_u64(1);
        let mut importer = Importer { installation: Some(installation), rng, dry_run };
        let mut report = Report::default();
        import(source(entries), &*self.clock, &mut report, |token| importer.step(token, NOW)).await.unwrap();
        report
    }

    async fn grants(&self) -> Vec<MeterGrant> {
        self.store.grants(None, Timestamp::EPOCH).await.unwrap().grants
    }
}

fn source(entries: Vec<Entry>) -> Entries {
    stream::iter(entries.into_iter().map(Ok)).boxed_local()
}

fn entry(key: &str, expires_at: u64) -> Entry {
    let expires_at = Some(Timestamp::from_millis(expires_at));
    Entry { key: key.into(), value: Some(METERS.into()), expires_at }
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

fn counts(found: u64, taken: u64, already: u64, expired: u64, not_understood: u64) -> Counts {
    Counts { found, taken, already, expired, not_understood }
}

#[tokio::test]
async fn a_refresh_token_becomes_a_grant_that_lives_as_long() {
    let world = World::new();
    assert_eq!(world.import(false, vec![refresh(1)]).await.refresh, counts(1, 1, 0, 0, 0));
    let World { store, keys, .. } = &world;
    let hash = keys.refresh(&BearerToken::parse(&token(1)).unwrap());
    let grant = store.find_refresh(hash, NOW).await.unwrap().unwrap();
    assert_eq!(keys.open(&hash, &grant.meters).unwrap(), METERS.as_bytes());
    let meters = parse_meters(METERS).unwrap();
    assert_eq!(grant.owners, meters.iter().map(|meter| keys.meter(*meter)).collect::<Vec<_>>());
    assert_eq!((grant.client_id, grant.origin), (None, Origin::Import));
    assert_eq!(grant.expires_at.as_millis(), NOW.as_millis() + 60_000);
    assert_eq!(grant.expires_at.since(grant.consented_at), Duration::from_secs(126_144_000));
}

#[tokio::test]
async fn an_access_token_gets_a_grant_in_which_it_stands_alone() {
    let world = World::new();
    assert_eq!(world.import(false, vec![access(2)]).await.access, counts(1, 1, 0, 0, 0));
    let World { store, keys, .. } = &world;
    let bearer = BearerToken::parse(&token(2)).unwrap();
    let grant = store.find_access(keys.access(&bearer), NOW).await.unwrap().unwrap();
    assert_eq!(grant.refresh, keys.stand_in(&bearer));
    assert_eq!(keys.open(&grant.refresh, &grant.meters).unwrap(), METERS.as_bytes());
    assert_eq!(grant.expires_at.as_millis(), NOW.as_millis() + 60_000);
    let end = grant.expires_at;
    assert!(store.find_access(keys.access(&bearer), end).await.unwrap().is_none(), "it ends with its grant");
    // It is good for data and not for a refresh.
    assert!(store.find_refresh(keys.refresh(&bearer), NOW).await.unwrap().is_none());
}

/// One of everything.
fn mixture() -> Vec<Entry> {
    vec![
        refresh(1),
        refresh(2),
        access(3),
        entry(&format!("refresh_token:{}", token(4)), NOW.as_millis()),
        entry(&format!("access_token:{}", token(5)), 0),
        entry("refresh_token:short", u64::MAX),
        Entry { value: Some("1234".into()), ..access(6) },
        entry("client_credentials", u64::MAX),
        entry("ratelimit-30000000-ip-192.0.2.1", u64::MAX),
        entry("BCDFGHJK", u64::MAX),
    ]
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_a_dry_run_does_nothing() {
    let world = World::new();
    let report = world.import(true, mixture()).await;
    assert_eq!((report.refresh, report.access), (counts(4, 2, 0, 1, 1), counts(3, 1, 0, 1, 1)));
    assert!(world.grants().await.is_empty());

    let report = world.import(false, mixture()).await;
    assert_eq!((report.refresh, report.access), (counts(4, 2, 0, 1, 1), counts(3, 1, 0, 1, 1)));
    let stored = world.grants().await;
    assert_eq!(stored.len(), 3);

    for dry_run in [true, false] {
        let report = world.import(dry_run, mixture()).await;
        assert_eq!((report.refresh, report.access), (counts(4, 0, 2, 1, 1), counts(3, 0, 1, 1, 1)));
        assert_eq!(world.grants().await, stored);
    }
}

#[tokio::test]
async fn after_a_failure_what_is_under_way_is_finished_and_nothing_is_begun() {
    let (clock, mut report, begun) = (ManualClock::new(NOW), Report::default(), Cell::new(0));
    let step = |token: &Token| {
        begun.set(begun.get() + 1);
        let failed = begun.get() > 100;
        let added =
            if failed { Err(StoreError::Aborted("told to fail".into())) } else { Ok(Written::Applied) };
        ready((token.kind, added))
    };
    let done = import(source((0..200).map(refresh).collect()), &clock, &mut report, step).await;
    assert!(matches!(done, Err(CommandError::Store(_))), "{done:?}");
    assert_eq!(report.refresh.taken, 100);
    assert!(begun.get() <= 100 + IN_FLIGHT, "{}", begun.get());
}

#[tokio::test]
async fn a_source_that_fails_ends_the_import_after_what_it_gave() {
    let (clock, mut report) = (ManualClock::new(NOW), Report::default());
    let entries = stream::iter([Ok(refresh(1)), Err(SourceError::Empty), Ok(refresh(2))]).boxed_local();
    let step = |token: &Token| ready((token.kind, Ok(Written::Applied)));
    let done = import(entries, &clock, &mut report, step).await;
    assert!(matches!(done, Err(CommandError::Source(SourceError::Empty))), "{done:?}");
    assert_eq!(report.refresh, counts(1, 1, 0, 0, 0));
}

#[tokio::test]
async fn many_entries_are_taken_over_a_few_at_a_time() {
    let (clock, mut report) = (ManualClock::new(NOW), Report::default());
    let (under_way, most) = (Cell::new(0), Cell::new(0));
    let step = |token: &Token| {
        under_way.set(under_way.get() + 1);
        most.set(most.get().max(under_way.get()));
        let (kind, under_way) = (token.kind, &under_way);
        async move {
            tokio::task::yield_now().await;
            under_way.set(under_way.get() - 1);
            (kind, Ok(Written::Applied))
        }
    };
    import(source((0..500).map(refresh).collect()), &clock, &mut report, step).await.unwrap();
    assert_eq!((report.refresh.taken, most.get()), (500, IN_FLIGHT));
}

#[tokio::test]
async fn a_token_that_ends_during_the_import_is_not_taken_over() {
    let (clock, mut report) = (Arc::new(ManualClock::new(NOW)), Report::default());
    let later = Arc::clone(&clock);
    let entries = (1..=2).map(move |n| {
        if n == 2 {
            later.advance(Duration::from_secs(60));
        }
        Ok(access(n))
    });
    let step = |token: &Token| ready((token.kind, Ok(Written::Applied)));
    import(stream::iter(entries).boxed_local(), &*clock, &mut report, step).await.unwrap();
    assert_eq!(report.access, counts(2, 1, 0, 1, 0));
}

#[tokio::test]
async fn the_table_tells_numbers_and_no_secret() {
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
    let entries: Result<Vec<_>, _> = table::entries(csv.as_bytes()).unwrap().collect();
    let report = World::new().import(false, entries.unwrap()).await;
    let mut out = Vec::new();
    report.write(&mut out, false).unwrap();
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
async fn a_source_without_an_entry_fails_before_anything_is_made() {
    assert!(matches!(begin(source(vec![])).await.err(), Some(SourceError::Empty)));
    let broken = stream::iter([Err(SourceError::Columns), Ok(refresh(1))]).boxed_local();
    assert!(matches!(begin(broken).await.err(), Some(SourceError::Columns)));
    assert_eq!(begin(source(vec![refresh(1), refresh(2)])).await.unwrap().count().await, 2);
}
