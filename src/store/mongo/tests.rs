//! The form of the documents. It is on disk in the field, and instances of two versions may share a database: what is
//! written here and read back is spelt out, field by field and type by type.

use std::time::Duration;

use actors::base::keyring::{
    BrowserHash, CacheKey, DeviceHash, GrantHash, MeterHash, StateHash, TokenHash, UserHash,
};
use actors::base::network::Network;
use actors::base::sealed::Sealed;
use actors::base::store::Damaged;
use actors::device_flow::session::{Consent, Phase, Request, Session};
use actors::metering::cache::CacheEntry;
use actors::metering::tokens::places::Places;
use actors::metering::tokens::{Access, MeterGrant, Origin};
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};

use super::documents::binary;
use super::{commits, meters, sessions, tokens};

const MS: i64 = 1_790_000_000_000;

fn bytes(n: u8) -> Binary {
    binary([n; 16])
}

fn at(later: u64) -> actors::base::clock::Timestamp {
    actors::base::clock::Timestamp::from_millis(1_790_000_000_000 + later)
}

fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document.clone()).expect("a document")
}

fn pending() -> (Session, Document) {
    let session = Session {
        device: DeviceHash::from([1; 16]),
        user: UserHash::from([2; 16]),
        request: Request {
            client_id: "box".into(),
            client_secret: None,
            scope: None,
            agent: None,
            network: None,
        },
        requested_at: at(0),
        expires_at: at(1),
        purge_at: at(2),
        rev: 0,
        consent: None,
        phase: Phase::Pending,
    };
    let document = doc! {
        "_id": bytes(1), "user": bytes(2), "client_id": "box", "requested_ms": MS,
        "rev": 0_i64, "phase": 0_i32, "expires_ms": MS + 1, "purge_at": DateTime::from_millis(MS + 2),
    };
    (session, document)
}

fn exchanging() -> (Session, Document) {
    let session = Session {
        request: Request {
            client_secret: Some(Sealed::from_bytes(vec![3; 50])),
            scope: Some("s".into()),
            agent: Some("a".into()),
            network: Some(Network::LOCALHOST),
            ..pending().0.request
        },
        rev: 2,
        consent: Some(Box::new(Consent {
            browser: BrowserHash::from([4; 16]),
            state: StateHash::from([5; 16]),
            verifier: Some(Sealed::from_bytes(vec![6; 60])),
            confirmed_at: at(3),
        })),
        phase: Phase::Exchanging { grant: GrantHash::from([7; 16]), until: at(4) },
        ..pending().0
    };
    let document = doc! {
        "_id": bytes(1), "user": bytes(2), "client_id": "box", "client_secret": binary([3; 50]), "scope": "s",
        "agent": "a", "network": 0x7f00_0001_i64, "requested_ms": MS, "rev": 2_i64, "phase": 2_i32, "expires_ms": MS + 1,
        "purge_at": DateTime::from_millis(MS + 2), "browser": bytes(4), "state": bytes(5), "verifier": binary([6; 60]),
        "confirmed_ms": MS + 3, "grant": bytes(7), "mark_ms": MS + 4,
    };
    (session, document)
}

#[test]
fn sessions_are_inserted_and_read_field_by_field() {
    for (session, mut document) in [pending(), exchanging()] {
        assert_eq!(commits::insertion(&session), document);
        document.insert("changed", DateTime::from_millis(MS));
        assert_eq!(sessions::session(&raw(&document)), Ok(session));
    }
    let token = Phase::Approved { token: Sealed::from_bytes(vec![8; 70]), issued_at: at(5) };
    let approved = commits::insertion(&Session { phase: token, ..pending().0 });
    assert_eq!(approved.get("mark_ms"), Some(&Bson::Int64(MS + 5)));
    assert_eq!(approved.get("sealed"), Some(&binary([8; 70]).into()));
}

#[test]
fn an_update_sets_what_an_event_can_change_and_removes_the_rest() {
    let set = doc! {
        "rev": 2_i64, "phase": 2_i32, "expires_ms": MS + 1, "purge_at": DateTime::from_millis(MS + 2),
        "browser": bytes(4), "state": bytes(5), "verifier": binary([6; 60]), "confirmed_ms": MS + 3,
        "grant": bytes(7), "mark_ms": MS + 4, "client_secret": binary([3; 50]),
    };
    let changed = doc! { "changed": true };
    let update = doc! { "$set": set, "$currentDate": changed.clone(), "$unset": { "sealed": "" } };
    assert_eq!(commits::update(&exchanging().0), update);
    let set = doc! { "rev": 0_i64, "phase": 0_i32, "expires_ms": MS + 1, "purge_at": DateTime::from_millis(MS + 2) };
    let unset = doc! {
        "browser": "", "state": "", "verifier": "", "confirmed_ms": "", "grant": "", "mark_ms": "", "sealed": "",
        "client_secret": "",
    };
    let update = doc! { "$set": set, "$currentDate": changed, "$unset": unset };
    assert_eq!(commits::update(&pending().0), update);
}

#[test]
fn grants_are_inserted_and_read_field_by_field() {
    let mut grant = MeterGrant {
        refresh: TokenHash::from([1; 16]),
        client_id: Some("box".into()),
        meters: Sealed::from_bytes(vec![2; 40]),
        owners: vec![MeterHash::from([3; 16]), MeterHash::from([4; 16])],
        consented_at: at(0),
        expires_at: at(1),
        origin: Origin::Import,
        network: None,
        unproven: false,
        used_at: None,
        places: Places::default(),
    };
    let access = Access {
        token: TokenHash::from([5; 16]),
        refresh: grant.refresh,
        issued_at: at(2),
        expires_at: at(2) + Duration::from_secs(1),
        mark: Some([6; 16].into()),
    };
    let mut document = doc! {
        "_id": bytes(1), "client_id": "box", "meters": binary([2; 40]), "owners": [bytes(3), bytes(4)],
        "consented_ms": MS, "expires_at": DateTime::from_millis(MS + 1), "origin": 3_i32, "unproven": false,
        "access": [{ "token": bytes(5), "issued_ms": MS + 2, "expires_ms": MS + 1_002, "mark": bytes(6) }],
    };
    assert_eq!(tokens::insertion(&grant, Some(access)), document);
    document.remove("access");
    assert_eq!(tokens::grant(&raw(&document)), Ok(grant.clone()));
    document.remove("client_id");
    grant.client_id = None;
    assert_eq!(tokens::insertion(&grant, None), document);
    assert_eq!(tokens::grant(&raw(&document)), Ok(grant));
    document.insert("owners", vec![binary([3; 17])]);
    assert_eq!(tokens::grant(&raw(&document)), Err(Damaged("document")));
}

#[test]
fn entries_are_stored_and_read_field_by_field() {
    let (key, owner) = (CacheKey([1; 32]), CacheKey([2; 32]));
    let entry = CacheEntry { key, owner, sealed: vec![3; 9], fetched: at(0), expires: at(1) };
    let set = doc! {
        "owner": binary([2; 32]), "sealed": binary([3; 9]), "fetched_ms": MS,
        "expires_at": DateTime::from_millis(MS + 1),
    };
    let filter = doc! { "_id": binary([1; 32]), "fetched_ms": { "$lte": MS } };
    let upsert = doc! { "q": filter, "u": { "$set": set.clone() }, "upsert": true };
    assert_eq!(meters::upsert(entry.clone()), upsert);
    let mut document = doc! { "_id": binary([1; 32]) };
    document.extend(set);
    assert_eq!(meters::entry(&raw(&document)), Ok(entry));
}
