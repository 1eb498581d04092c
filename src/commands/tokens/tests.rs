//! The commands on a real store.

use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::{ManualClock, Timestamp};
use actors::base::code::BearerToken;
use actors::base::keyring::{Keyring, TokenHash};
use actors::base::meter::parse_meters;
use actors::base::network::Network;
use actors::metering::tokens::places::Places;
use actors::metering::tokens::{Access, Origin, Terms, TokenStore};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::*;
use crate::store::sqlite::{SqliteAudit, SqliteTokens};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const METER: &str = "12345678901234";
const OTHER: &str = "10284856584123";
const BOTH: &str = "12345678901234,10284856584123";
const TABLE: View = View { json: false, show_meters: false };
const JSON: View = View { json: true, show_meters: false };

struct World {
    store: Arc<SqliteTokens>,
    installation: Installation,
    // Behind its store: dropped last.
    _dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteTokens::open(dir.path()).unwrap());
        let (keys, clock) = (Keyring::new(&[7; 32]), Arc::new(ManualClock::new(NOW)));
        let log = Arc::new(SqliteAudit::open(dir.path()).unwrap());
        let installation =
            Installation { store: Arc::clone(&store) as Arc<dyn TokenStore>, cache: None, log, keys, clock };
        Self { store, installation, _dir: dir }
    }

    /// Every grant, live or not.
    async fn all(&self) -> Vec<MeterGrant> {
        self.store.grants(None, Timestamp::EPOCH).await.unwrap().grants
    }

    /// Adds a grant for `meters` that lives for a minute; answers its whole id.
    async fn grant(&self, n: u32, client: Option<&str>, meters: &str) -> String {
        self.grant_until(n, client, meters, NOW + Duration::from_secs(60)).await
    }

    async fn grant_until(&self, n: u32, client: Option<&str>, meters: &str, expires_at: Timestamp) -> String {
        let mut rng = StdRng::seed_from_u64(n.into());
        let keys = &self.installation.keys;
        let refresh = keys.refresh(&BearerToken::generate(&mut rng));
        let meters = parse_meters(meters).unwrap();
        let origin = if client.is_some() { Origin::ConsentV2 } else { Origin::Import };
        let (client_id, consented_at) = (client.map(Into::into), NOW);
        let terms = Terms { refresh, client_id, consented_at, ends_at: expires_at, origin };
        self.store.add(terms.grant(keys, &mut rng, &meters), None).await.unwrap();
        hex::encode(refresh.as_bytes())
    }

    async fn perform(&self, action: Parsed) -> Result<String, CommandError> {
        let mut out = Vec::new();
        self.installation.perform(action, &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    async fn list(&self, meter: Option<&str>, view: View) -> String {
        let meter = meter.map(|meter| Meter::parse(meter).unwrap());
        self.perform(Parsed::List { meter, view }).await.unwrap()
    }
}

#[tokio::test]
async fn a_listing_goes_through_all_pages_and_leaves_out_what_has_ended() {
    let world = World::new();
    // More than the thousand of a page.
    let grants = stream::iter(0..1_005).map(|n| world.grant(n, None, METER));
    let ids: Vec<String> = grants.buffered(64).collect().await;
    let ended = world.grant_until(2_000, None, METER, NOW).await;
    let shown = world.list(None, TABLE).await;
    assert!(ids.iter().all(|id| shown.contains(&id[..16])), "{shown}");
    assert!(!shown.contains(&ended[..16]) && shown.ends_with("1005 live grants\n"), "{shown}");
    let last = ids.iter().max().unwrap();
    world.perform(Parsed::RevokeId(last[..16].to_owned())).await.unwrap();
    assert!(!world.list(None, TABLE).await.contains(&last[..16]));
}

#[tokio::test]
async fn a_grant_in_two_places_is_marked() {
    let world = World::new();
    let id = world.grant(1, Some("box"), METER).await;
    let (mut places, refresh) =
        (Places::default(), TokenHash::from_slice(&hex::decode(id).unwrap()).unwrap());
    for address in ["198.51.100.7", "203.0.113.9"].repeat(2) {
        places.used_from(Network::of(address.parse().unwrap()), NOW);
    }
    let expires_at = NOW + Duration::from_secs(10);
    let keys = &world.installation.keys;
    let access = Access::new(keys, TokenHash::from([9; 16]), refresh, NOW, expires_at);
    world.store.issue(access, places).await.unwrap();
    let shown = world.list(None, TABLE).await;
    assert!(
        shown.contains("1: …1234  (two places)") && shown.contains("1 used from two networks"),
        "{shown}"
    );
    let json = world.list(None, JSON).await;
    assert!(json.contains(r#""used_from":"203.0.113.…","two_places":true"#), "{json}");
}

#[tokio::test]
async fn a_grant_is_shown_without_its_meters_unless_asked_for() {
    let mut world = World::new();
    let id = &world.grant(1, Some("box\u{1b}[2J"), BOTH).await[..16];
    let times = "2027-01-15T08:00:00Z  2027-01-15T08:01:00Z";
    let client = "box\\u{1b}[2J";
    let expected = format!("{id}  consent-v2  {times}  {client:36}  2: …1234 …4123");
    assert_eq!(world.list(None, TABLE).await.lines().nth(1), Some(&*expected));
    let full = world.list(None, View { show_meters: true, ..TABLE }).await;
    assert!(full.contains("2: 12345678901234 10284856584123"), "{full}");

    let id = &world.grant(2, None, METER).await[..16];
    let shown = world.list(None, JSON).await;
    let objects = shown.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let objects: Vec<_> = objects.collect();
    let expected = serde_json::json!({
        "id": id, "client_id": null, "origin": "imported", "consented_at": "2027-01-15T08:00:00Z",
        "expires_at": "2027-01-15T08:01:00Z", "used_at": null, "used_from": null, "two_places": false,
        "meter_count": 1, "meters": ["…1234"]
    });
    assert!(objects.len() == 2 && objects.contains(&expected), "{shown}");
    let full = world.list(Some(OTHER), View { show_meters: true, ..JSON }).await;
    let both = r#""meters":["12345678901234","10284856584123"]"#;
    assert!(full.contains(both) && full.lines().count() == 1, "{full}");

    world.installation.keys = Keyring::new(&[8; 32]);
    let shown = world.list(None, TABLE).await;
    assert!(shown.contains("1: unreadable") && shown.contains("the meters of 2 cannot be read"), "{shown}");
    let json = world.list(None, JSON).await;
    assert!(json.contains(r#""meters":null"#), "{json}");
}

#[tokio::test]
async fn an_unambiguous_beginning_revokes_a_grant() {
    let world = World::new();
    let id = world.grant(1, None, METER).await;
    let other = world.grant(2, None, METER).await;
    let gone = world.perform(Parsed::RevokeId(id[..8].to_owned())).await.unwrap();
    assert_eq!(gone, "revoked 1 grant, with every token of theirs\n");
    let left: Vec<_> = world.all().await.iter().map(|grant| hex::encode(grant.refresh.as_bytes())).collect();
    assert_eq!(left, [other]);
    for id in [&id[..8], &id] {
        let again = world.perform(Parsed::RevokeId(id.to_owned())).await;
        assert!(matches!(again, Err(CommandError::NoGrant)), "{again:?}");
    }
}

#[tokio::test]
async fn an_ambiguous_beginning_revokes_nothing() {
    let world = World::new();
    world.grant(1, None, METER).await;
    let first = world.installation.store.grants(None, NOW).await.unwrap();
    // Ids that differ in their last digit.
    for last in 1..=8_u8 {
        let mut twin = first.grants[0].clone();
        let mut bytes = *twin.refresh.as_bytes();
        bytes[15] ^= last;
        twin.refresh = TokenHash::from_slice(&bytes).unwrap();
        world.store.add(twin, None).await.unwrap();
    }
    let count = world.all().await.len();
    let id = hex::encode(first.grants[0].refresh.as_bytes());
    for length in [8, 16, 31] {
        let refused = world.perform(Parsed::RevokeId(id[..length].to_owned())).await;
        assert!(matches!(refused, Err(CommandError::Ambiguous)), "{refused:?}");
    }
    assert_eq!(world.all().await.len(), count);
    world.perform(Parsed::RevokeId(id)).await.unwrap();
    assert_eq!(world.all().await.len(), count - 1);
}

#[tokio::test]
async fn all_grants_of_a_meter_are_revoked_however_many() {
    let world = World::new();
    for n in 0..250 {
        world.grant(n, None, METER).await;
    }
    world.grant(250, None, BOTH).await;
    world.grant(251, None, OTHER).await;
    let listed = world.list(Some(METER), TABLE).await;
    assert!(listed.contains("100 live grants\nonly the newest 100"), "{listed}");
    let meter = Meter::parse(METER).unwrap();
    let gone = world.perform(Parsed::RevokeMeter(meter)).await.unwrap();
    assert_eq!(gone, "revoked 251 grants, with every token of theirs\n");
    assert_eq!(world.all().await.len(), 1);
    let gone = world.perform(Parsed::RevokeMeter(meter)).await.unwrap();
    assert_eq!(gone, "revoked 0 grants, with every token of theirs\n");
}

#[test]
fn what_cannot_be_an_id_or_a_meter_is_refused_without_repeating_it() {
    let revoke = |id: Option<&str>, meter: Option<&str>| {
        let text = |value: Option<&str>| value.map(str::to_owned);
        Parsed::new(&Action::Revoke(Revoke { id: text(id), meter: text(meter) }))
    };
    let token = "0f".repeat(32);
    for id in ["", "0123456", "0123456g", &token] {
        let refused = revoke(Some(id), None).err().unwrap();
        assert!(refused.is_usage() && (id.is_empty() || !refused.to_string().contains(id)), "{refused}");
    }
    assert!(revoke(None, Some("1234")).err().unwrap().is_usage());
    assert!(matches!(revoke(Some(" 0123ABCD "), None), Ok(Parsed::RevokeId(id)) if id == "0123abcd"));
    assert!(matches!(revoke(None, Some(METER)), Ok(Parsed::RevokeMeter(_))));
}
