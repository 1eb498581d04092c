//! A [`Record`] as a document, and a document as a [`Record`].

use actors::base::keyring::DeviceHash;
use actors::base::store::Damaged;
use actors::device_flow::session::Session;
use actors::device_flow::store::record::{Head, Record};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};
use serde::Deserialize;

/// What a document holds. Times are milliseconds since the epoch, hashes have 16 bytes, secrets are sealed; only
/// `purge_at` is a date, as the TTL monitor demands. A document that was updated also has `changed`, the server's
/// time of the last update.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "_id")]
    device: Binary,
    user: Binary,
    client_id: String,
    client_secret: Option<Binary>,
    scope: Option<String>,
    agent: Option<String>,
    requested_ms: i64,
    rev: i64,
    phase: i32,
    expires_ms: i64,
    purge_at: DateTime,
    browser: Option<Binary>,
    state: Option<Binary>,
    verifier: Option<Binary>,
    confirmed_ms: Option<i64>,
    grant: Option<Binary>,
    mark_ms: Option<i64>,
    sealed: Option<Binary>,
}

/// A fresh session as a document.
pub(super) fn insertion(session: &Session) -> Document {
    let Record { device, user, client_id, client_secret, scope, agent, requested_ms, head } =
        Record::from(session);
    let mut document = doc! {
        "_id": binary(&device),
        "user": binary(&user),
        "client_id": client_id,
        "requested_ms": requested_ms,
    };
    let (present, _) = split([
        ("client_secret", client_secret.map(bytes)),
        ("scope", scope.map(Bson::String)),
        ("agent", agent.map(Bson::String)),
    ]);
    document.extend(present);
    document.extend(columns(head).0);
    document
}

/// The change that takes a stored session to `to`. What `to` leaves out is removed.
pub(super) fn update(to: &Session) -> Document {
    let (set, unset) = columns(Head::from(to));
    let mut update = doc! { "$set": set, "$currentDate": { "changed": true } };
    if !unset.is_empty() {
        update.insert("$unset", unset);
    }
    update
}

/// What an event can change: the columns that are there, and the names of those that are not.
fn columns(head: Head) -> (Document, Document) {
    let Head {
        rev,
        phase,
        expires_ms,
        purge_ms,
        browser,
        state,
        verifier,
        confirmed_ms,
        grant,
        mark_ms,
        sealed,
    } = head;
    let (present, absent) = split([
        ("browser", browser.map(bytes)),
        ("state", state.map(bytes)),
        ("verifier", verifier.map(bytes)),
        ("confirmed_ms", confirmed_ms.map(Bson::Int64)),
        ("grant", grant.map(bytes)),
        ("mark_ms", mark_ms.map(Bson::Int64)),
        ("sealed", sealed.map(bytes)),
    ]);
    let mut set = doc! {
        "rev": rev,
        "phase": phase,
        "expires_ms": expires_ms,
        "purge_at": DateTime::from_millis(purge_ms),
    };
    set.extend(present);
    (set, absent)
}

fn split<const N: usize>(fields: [(&str, Option<Bson>); N]) -> (Document, Document) {
    let (mut present, mut absent) = (Document::new(), Document::new());
    for (name, value) in fields {
        match value {
            Some(value) => drop(present.insert(name, value)),
            None => drop(absent.insert(name, "")),
        }
    }
    (present, absent)
}

/// Reads a document.
pub(super) fn session(document: &RawDocumentBuf) -> Result<Session, Damaged> {
    record(document).and_then(Session::try_from)
}

fn record(document: &RawDocumentBuf) -> Result<Record, Damaged> {
    let stored: Stored =
        mongodb::bson::deserialize_from_slice(document.as_bytes()).map_err(|_| Damaged("document"))?;
    let bytes = |binary: Binary| binary.bytes;
    Ok(Record {
        device: bytes(stored.device),
        user: bytes(stored.user),
        client_id: stored.client_id,
        client_secret: stored.client_secret.map(bytes),
        scope: stored.scope,
        agent: stored.agent,
        requested_ms: stored.requested_ms,
        head: Head {
            rev: stored.rev,
            phase: stored.phase,
            expires_ms: stored.expires_ms,
            purge_ms: stored.purge_at.timestamp_millis(),
            browser: stored.browser.map(bytes),
            state: stored.state.map(bytes),
            verifier: stored.verifier.map(bytes),
            confirmed_ms: stored.confirmed_ms,
            grant: stored.grant.map(bytes),
            mark_ms: stored.mark_ms,
            sealed: stored.sealed.map(bytes),
        },
    })
}

/// The key of a document.
pub(super) fn device(document: &RawDocumentBuf) -> Option<DeviceHash> {
    document.get_binary("_id").ok().and_then(|id| DeviceHash::from_slice(id.bytes))
}

/// Bytes as BSON.
pub(super) fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// Bytes as BSON, not copied.
pub(super) fn bytes(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}
