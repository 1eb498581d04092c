//! The commands on a real store.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::{ManualClock, Timestamp};
use actors::base::code::BearerToken;
use actors::base::keyring::Keyring;
use actors::base::meter::parse_meters;
use actors::metering::tokens::{Access, Origin, TokenStore, sealed_meters};
use futures_util::{StreamExt, stream};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::*;
use crate::store::sqlite::SqliteTokens;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LAST_DIGITS: View = View { json: false, meters: Meters::LastDigits };

struct World {
    store: Arc<SqliteTokens>,
    installation: Installation,
    accesses: RefCell<Vec<TokenHash>>,
    // Behind its store: dropped last.
    _dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteTokens::open(dir.path()).unwrap());
        let (keys, clock) = (Keyring::new(&[7; 32]), Arc::new(ManualClock::new(NOW)));
        let installation = Installation { store: Arc::clone(&store) as Arc<dyn TokenStore>, keys, clock };
        Self { store, installation, accesses: RefCell::default(), _dir: dir }
    }

    /// Every grant, live or not.
    async fn all(&self) -> Vec<MeterGrant> {
        self.store.grants(None, Timestamp::EPOCH).await.unwrap().grants
    }

    /// Adds a grant for `meters` with an access token; answers its whole id.
    async fn grant(&self, n: u32, client: Option<&str>, meters: &str, life: u64) -> String {
        let mut rng = StdRng::seed_from_u64(n.into());
        let keys = &self.installation.keys;
        let refresh = keys.refresh(&BearerToken::generate(&mut rng));
        let meters = parse_meters(meters).unwrap();
        let (meters, owners) = sealed_meters(keys, &mut rng, &refresh, &meters);
        let expires_at = NOW + Duration::from_secs(life);
        let grant = MeterGrant {
            refresh,
            client_id: client.map(Into::into),
            meters,
            owners,
            consented_at: NOW,
            expires_at,
            origin: if client.is_some() { Origin::ConsentV2 } else { Origin::Import },
        };
        let token = keys.access(&BearerToken::generate(&mut rng));
        let access = Access { token, refresh, issued_at: NOW, expires_at };
        self.accesses.borrow_mut().push(token);
        self.store.add(grant, Some(access)).await.unwrap();
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
    let grants = stream::iter(0..1_005).map(|n| world.grant(n, None, "12345678901234", 60));
    let ids: Vec<String> = grants.buffered(64).collect().await;
    let ended = world.grant(2_000, None, "12345678901234", 0).await;
    let shown = world.list(None, LAST_DIGITS).await;
    assert!(ids.iter().all(|id| shown.contains(&id[..16])), "{shown}");
    assert!(!shown.contains(&ended[..16]) && shown.ends_with("1005 live grants\n"), "{shown}");
    let last = ids.iter().max().unwrap();
    world.perform(Parsed::RevokeId(last[..16].to_owned())).await.unwrap();
    assert!(!world.list(None, LAST_DIGITS).await.contains(&last[..16]));
}

#[tokio::test]
async fn a_grant_is_shown_without_its_meters_unless_asked_for() {
    let world = World::new();
    let id = world.grant(1, Some("box\u{1b}[2J"), "12345678901234,10284856584123", 60).await;
    let shown = world.list(None, LAST_DIGITS).await;
    let line = shown.lines().nth(1).unwrap();
    let expected = format!(
        "{}  consent-v2  2027-01-15T08:00:00Z  2027-01-15T08:01:00Z  box\\u{{1b}}[2J{}  2: …1234 …4123",
        &id[..16],
        " ".repeat(36 - 12)
    );
    assert_eq!(line, expected);
    let full = world.list(None, View { json: false, meters: Meters::Full }).await;
    assert!(full.contains("2: 12345678901234 10284856584123"), "{full}");
}

#[tokio::test]
async fn json_is_one_object_a_line() {
    let world = World::new();
    let id = world.grant(1, None, "12345678901234", 60).await;
    world.grant(2, Some("box"), "10284856584123", 60).await;
    let shown = world.list(None, View { json: true, meters: Meters::LastDigits }).await;
    let objects: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = objects.iter().find(|object| object["id"] == id[..16]).unwrap();
    assert_eq!(
        *found,
        serde_json::json!({
            "id": id[..16], "client_id": null, "origin": "imported", "consented_at": "2027-01-15T08:00:00Z",
            "expires_at": "2027-01-15T08:01:00Z", "meter_count": 1, "meters": ["…1234"]
        })
    );
    assert_eq!(objects.len(), 2);
    let full = world.list(Some("10284856584123"), View { json: true, meters: Meters::Full }).await;
    assert!(full.contains(r#""meters":["10284856584123"]"#) && full.lines().count() == 1, "{full}");
}

#[tokio::test]
async fn grants_of_another_key_are_listed_and_said_to_be_unreadable() {
    let mut world = World::new();
    world.grant(1, None, "12345678901234", 60).await;
    world.installation.keys = Keyring::new(&[8; 32]);
    let shown = world.list(None, LAST_DIGITS).await;
    assert!(shown.contains("1: unreadable") && shown.contains("the meters of 1 cannot be read"), "{shown}");
    let json = world.list(None, View { json: true, meters: Meters::Full }).await;
    assert!(json.contains(r#""meters":null"#), "{json}");
}

#[tokio::test]
async fn an_unambiguous_beginning_revokes_a_grant_and_its_tokens() {
    let world = World::new();
    let id = world.grant(1, None, "12345678901234", 60).await;
    let other = world.grant(2, None, "12345678901234", 60).await;
    let gone = world.perform(Parsed::RevokeId(id[..8].to_owned())).await.unwrap();
    assert_eq!(gone, "revoked 1 grant, with every token of theirs\n");
    let left: Vec<_> = world.all().await.iter().map(|grant| hex::encode(grant.refresh.as_bytes())).collect();
    assert_eq!(left, [other]);
    let accesses = world.accesses.borrow().clone();
    let opens = async |token| world.store.find_access(token, NOW).await.unwrap().is_some();
    assert_eq!([opens(accesses[0]).await, opens(accesses[1]).await], [false, true]);
    for id in [&id[..8], &id] {
        let again = world.perform(Parsed::RevokeId(id.to_owned())).await;
        assert!(matches!(again, Err(CommandError::NoGrant)), "{again:?}");
    }
}

#[tokio::test]
async fn an_ambiguous_beginning_revokes_nothing() {
    let world = World::new();
    world.grant(1, None, "12345678901234", 60).await;
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
        world.grant(n, None, "12345678901234", 60).await;
    }
    world.grant(250, None, "12345678901234,10284856584123", 60).await;
    world.grant(251, None, "10284856584123", 60).await;
    let listed = world.list(Some("12345678901234"), LAST_DIGITS).await;
    assert!(listed.contains("100 live grants\nonly the newest 100"), "{listed}");
    let meter = Meter::parse("12345678901234").unwrap();
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
    assert!(matches!(revoke(None, Some("12345678901234")), Ok(Parsed::RevokeMeter(_))));
}
