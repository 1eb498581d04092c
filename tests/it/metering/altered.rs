//! Whoever can write to the store, but has no key, opens nothing with it, and no box loses its tokens by it.

use ::mongodb::bson::{Bson, DateTime, Document, doc};
use ::mongodb::{Client, Collection};
use rusqlite::Connection;
use testkit::device::Tokens;
use testkit::enedis::{Options, Resource};

use super::{Linked, METER, get, link, question, yesterday};
use crate::fixture::{CLIENT, Plan, Store, World};
use crate::journey::on_both_stores;

on_both_stores!(altered_rows_open_nothing, access_tokens_of_before_are_refreshed);

/// The meter of a box whose tokens were imported.
const OTHER: &str = "64975835695673";

/// A linked box, and another with [`OTHER`], whose tokens were imported.
async fn two_boxes(store: Store) -> (World, Linked, Linked) {
    let world = Plan::metering(store, Options::default(), 2).await.start().await;
    world.enedis.grant(OTHER);
    let (path, refresh) = (world.builder.cwd_path().join("tokens.csv"), "5a".repeat(32));
    std::fs::write(&path, format!("key,meters,expires_at\nrefresh_token:{refresh},{OTHER},4102444800\n"))
        .unwrap();
    let imported = world.builder.run(["import-php", "--file", path.to_str().unwrap()]).unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let tokens = Tokens { access: String::new(), refresh };
    let mut other = Linked { device: world.client(CLIENT), tokens, meters: OTHER.into() };
    other.tokens = Tokens::read(&other.refresh().await.json).unwrap();
    let own = link(&world).await;
    (world, own, other)
}

/// The rows of both boxes, opened from outside.
enum Rows {
    Sqlite(Connection),
    Mongo { grants: Collection<Document>, own: Document, other: Document },
}

/// What is done to the rows of the linked box: to SQLite's, and to its document in MongoDB.
type Edit = (&'static str, &'static str, fn(&mut Document, &Document));

const OWN: &str = "(SELECT refresh FROM meter_grant WHERE origin <> 3)";
const THEIRS: &str = "(SELECT refresh FROM meter_grant WHERE origin = 3)";

const EDITS: [Edit; 7] = [
    ("meters", "meters = (SELECT meters FROM meter_grant WHERE origin = 3)", |own, other| {
        own.insert("meters", other.get("meters").unwrap());
    }),
    ("owners", "owners = (SELECT owners FROM meter_grant WHERE origin = 3)", |own, other| {
        own.insert("owners", other.get("owners").unwrap());
    }),
    (
        "meters and owners",
        "(meters, owners) = (SELECT meters, owners FROM meter_grant WHERE origin = 3)",
        |own, other| {
            for name in ["meters", "owners"] {
                own.insert(name, other.get(name).unwrap());
            }
        },
    ),
    ("end", "expires_ms = expires_ms + 1", |own, _| {
        let end = own.get_datetime("expires_at").unwrap().timestamp_millis();
        own.insert("expires_at", DateTime::from_millis(end + 1));
    }),
    ("consent", "consented_ms = consented_ms - 1", |own, _| {
        own.insert("consented_ms", own.get_i64("consented_ms").unwrap() - 1);
    }),
    ("client", "client_id = 'another'", |own, _| {
        own.insert("client_id", "another");
    }),
    ("origin", "origin = 1", |own, _| {
        own.insert("origin", 1);
    }),
];

impl Rows {
    async fn open(world: &World) -> Self {
        let Some(uri) = world.store.uri() else {
            let db = Connection::open(world.builder.data_path().join("tokens.sqlite")).unwrap();
            db.execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM meter_grant").unwrap();
            return Self::Sqlite(db);
        };
        let client = Client::with_uri_str(uri).await.unwrap();
        let grants = client.default_database().unwrap().collection("meter_grants");
        let of = async |origin| grants.find_one(doc! { "origin": origin }).await.unwrap().unwrap();
        let (own, other) = (of(2).await, of(3).await);
        Self::Mongo { grants, own, other }
    }

    async fn alter(&self, (_, sql, change): Edit) {
        match self {
            Self::Sqlite(db) => {
                let sql = format!("UPDATE meter_grant SET {sql} WHERE refresh = {OWN}");
                assert_eq!(db.execute(&sql, []).unwrap(), 1);
            }
            Self::Mongo { own, other, .. } => {
                let mut altered = own.clone();
                change(&mut altered, other);
                self.put(altered).await;
            }
        }
    }

    async fn restore(&self) {
        match self {
            Self::Sqlite(db) => db
                .execute_batch(
                    "UPDATE meter_grant SET (meters, owners, expires_ms, consented_ms, client_id, origin) = (SELECT \
                     k.meters, k.owners, k.expires_ms, k.consented_ms, k.client_id, k.origin FROM kept k WHERE \
                     k.refresh = meter_grant.refresh)",
                )
                .unwrap(),
            Self::Mongo { own, .. } => self.put(own.clone()).await,
        }
    }

    async fn put(&self, document: Document) {
        if let Self::Mongo { grants, .. } = self {
            let id = doc! { "_id": document.get("_id").unwrap() };
            assert_eq!(grants.replace_one(id, document).await.unwrap().matched_count, 1);
        }
    }

    /// Gives the access tokens of the linked box to the other's grant.
    async fn move_access(&self) {
        match self {
            Self::Sqlite(db) => {
                let sql = format!("UPDATE access_token SET refresh = {THEIRS} WHERE refresh = {OWN}");
                assert!(db.execute(&sql, []).unwrap() > 0);
            }
            Self::Mongo { own, other, .. } => {
                let (mut own, mut other) = (own.clone(), other.clone());
                other.insert("access", own.remove("access").unwrap());
                self.put(own).await;
                self.put(other).await;
            }
        }
    }

    /// Takes the marks away, as if version 0.1.0 had written them.
    async fn unmark(&self) {
        match self {
            Self::Sqlite(db) => assert!(db.execute("UPDATE access_token SET mark = NULL", []).unwrap() > 0),
            Self::Mongo { own, .. } => {
                let mut own = own.clone();
                for token in own.get_array_mut("access").unwrap() {
                    let Bson::Document(token) = token else { panic!("{token}") };
                    token.remove("mark").unwrap();
                }
                self.put(own).await;
            }
        }
    }
}

async fn altered_rows_open_nothing(store: Store) {
    let (world, own, other) = two_boxes(store).await;
    let rows = Rows::open(&world).await;
    let day = yesterday(&world.enedis);
    let read = async |meter: &str| {
        get(&world, &question(Resource::MaxPower, meter, day, 1), Some(&own.tokens.access)).await
    };
    assert_eq!((read(METER).await.status, read(OTHER).await.status), (200, 404));
    for edit in EDITS {
        rows.alter(edit).await;
        for meter in [METER, OTHER] {
            assert_eq!(read(meter).await.outcome(), (503, Some("temporarily_unavailable")), "{}", edit.0);
        }
        assert_eq!(own.refresh().await.outcome(), (503, Some("temporarily_unavailable")), "{}", edit.0);
        rows.restore().await;
        assert_eq!(read(METER).await.status, 200, "{}", edit.0);
        assert_eq!(own.refresh().await.status, 200, "{}", edit.0);
    }
    rows.move_access().await;
    for meter in [METER, OTHER] {
        assert_eq!(read(meter).await.outcome(), (401, Some("invalid_token")));
    }
    assert!(world.server.logs().iter().any(|line| line.contains("was not written here")));
    assert_eq!((own.refresh().await.status, other.refresh().await.status), (200, 200));
}

async fn access_tokens_of_before_are_refreshed(store: Store) {
    let (world, own, _) = two_boxes(store).await;
    Rows::open(&world).await.unmark().await;
    let ask = question(Resource::MaxPower, METER, yesterday(&world.enedis), 1);
    assert_eq!(get(&world, &ask, Some(&own.tokens.access)).await.outcome(), (401, Some("invalid_token")));
    let fresh = Tokens::read(&own.refresh().await.json).unwrap();
    assert_eq!(get(&world, &ask, Some(&fresh.access)).await.status, 200);
}
