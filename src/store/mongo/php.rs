//! The collection `cache` of the PHP server's MongoDB: documents `{key, value, expireAt}`.
//!
//! Only reads: all of it for `import-php`, single tokens and logins for the running server. Promises: an address is never
//! shown; batches are bounded by the driver; a server that stops answering is given up after [`DEADLINE`], and an answer
//! that did not come is never "nothing". The collection has no index on its keys, so that a look-up reads all of it: few
//! are under way at a time.

use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::code::{BearerToken, DeviceCode};
use actors::base::store::StoreError;
use actors::base::token_set::TokenSet;
use actors::metering::tokens::earlier::{EarlierLogin, EarlierToken, EarlierTokens, Kind};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection, Cursor};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::link::Link;
use super::{DEADLINE, MongoSettings, errors};
use crate::php::entry::{self, Class, Entry};
use crate::store::OpenError;

const COLLECTION: &str = "cache";
const BATCH: u32 = 1_000;
const SERVER_SELECTION: Duration = Duration::from_secs(4);
/// Look-ups under way at a time.
const LOOK_UPS: usize = 8;

/// Why the collection cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PhpError {
    /// Correct the address, or start the server.
    #[error(transparent)]
    Open(OpenError),
    /// Name the database in the address.
    #[error(
        "the address of the PHP server's MongoDB names no database: add it behind the host, as in mongodb://host/database"
    )]
    NoDatabase,
}

/// Begins to read the collection in the database that `uri` names; answers that name, too.
pub async fn open(uri: &str) -> Result<(String, BoxStream<'static, Result<Entry, PhpError>>), PhpError> {
    // What the driver says of an address it cannot read may repeat a password.
    let unreadable = |error| PhpError::Open(errors::unreadable(&error, uri));
    let mut options = within(ClientOptions::parse(uri).into_future()).await?.map_err(unreadable)?;
    let database = options.default_database.clone().ok_or(PhpError::NoDatabase)?;
    options.server_selection_timeout = Some(SERVER_SELECTION);
    options.app_name = Some(env!("CARGO_PKG_NAME").into());
    let client = Client::with_options(options).map_err(unreadable)?;
    let collection = client.database(&database).collection::<RawDocumentBuf>(COLLECTION);
    let found = collection.find(doc! {}).projection(parts()).batch_size(BATCH);
    let cursor = within(found.into_future()).await?.map_err(refused)?;
    let entries = stream::try_unfold(cursor, |mut cursor: Cursor<RawDocumentBuf>| async move {
        let next = within(cursor.try_next()).await?.map_err(refused)?;
        Ok(next.map(|document| (entry(&document), cursor)))
    });
    Ok((database, entries.boxed()))
}

/// What is read of a document.
fn parts() -> Document {
    doc! { "_id": 0, "key": 1, "value": 1, "expireAt": 1 }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn refused(error: mongodb::error::Error) -> PhpError {
    PhpError::Open(errors::refused(&error))
}

async fn within<T>(step: impl Future<Output = T>) -> Result<T, PhpError> {
    let late = |_| PhpError::Open(OpenError::Unreachable("no answer in time".into()));
    tokio::time::timeout(DEADLINE, step).await.map_err(late)
}

/// The tokens and logins in it, one by one.
pub struct PhpTokens {
    link: Arc<Link>,
    cache: Collection<RawDocumentBuf>,
    room: Semaphore,
}

impl PhpTokens {
    /// Reads the address. The server may be away: nothing is asked before the first token.
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        let settings = MongoSettings { pool_size: u32::try_from(LOOK_UPS).ok(), ..MongoSettings::new(uri) };
        let link = Link::open(settings).await?;
        let cache = link.database().collection(COLLECTION);
        Ok(Self { link, cache, room: Semaphore::new(LOOK_UPS) })
    }

    /// The document of a key, the last to end if there are several.
    async fn document(&self, key: String) -> Result<Option<RawDocumentBuf>, StoreError> {
        let busy = |_| StoreError::Aborted("too many look-ups in the PHP server's database".into());
        let _room = self.room.try_acquire().map_err(busy)?;
        let cache = self.cache.clone();
        let found = async move {
            cache.find_one(doc! { "key": key }).projection(parts()).sort(doc! { "expireAt": -1 }).await
        };
        self.link.ask(found).await
    }
}

#[async_trait]
impl EarlierTokens for PhpTokens {
    async fn find(
        &self,
        kind: Kind,
        token: &BearerToken,
        now: Timestamp,
    ) -> Result<Option<EarlierToken>, StoreError> {
        let Some(document) = self.document(entry::key(kind, token)).await? else { return Ok(None) };
        Ok(match entry(&document).classify(now) {
            Class::Live(token) => Some(token),
            Class::Faulty(_, reason) => {
                tracing::warn!(reason, "a token of the PHP server cannot be taken over");
                None
            }
            Class::Expired(_) | Class::Other(_) => None,
        })
    }

    async fn login(&self, code: &DeviceCode, now: Timestamp) -> Result<Option<EarlierLogin>, StoreError> {
        let found = self.document(code.expose()).await?;
        let live = found.filter(|document| entry(document).expires_at.is_some_and(|at| now < at));
        Ok(live.as_deref().and_then(login))
    }
}

/// `{status: "pending"}` or `{status: "complete", token_response: {…}}`.
fn login(document: &RawDocument) -> Option<EarlierLogin> {
    let value = document.get_document("value").ok()?;
    match value.get_str("status").ok()? {
        "pending" => Some(EarlierLogin::Pending),
        "complete" => {
            let answer = Document::try_from(value.get_document("token_response").ok()?).ok()?;
            let Ok(Value::Object(members)) = serde_json::to_value(answer) else { return None };
            TokenSet::new(members).map(EarlierLogin::Done)
        }
        _ => None,
    }
}

fn entry(document: &RawDocument) -> Entry {
    let text = |name: &str| match document.get(name) {
        Ok(Some(RawBsonRef::String(text))) => Some(text.to_owned()),
        _ => None,
    };
    let expires_at = match document.get("expireAt") {
        // Before 1970 is expired, as is 1970.
        Ok(Some(RawBsonRef::DateTime(at))) => Some(u64::try_from(at.timestamp_millis()).unwrap_or_default()),
        _ => None,
    };
    Entry {
        key: text("key").unwrap_or_default(),
        value: text("value"),
        expires_at: expires_at.map(Timestamp::from_millis),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{DateTime, doc};

    use super::*;

    #[test]
    fn documents_are_read_as_the_php_server_writes_them() {
        let read = |document| super::entry(&RawDocumentBuf::try_from(&document).unwrap());
        let entry = read(doc! {
            "key": "refresh_token:1", "value": "1,2", "expireAt": DateTime::from_millis(1_835_440_496_000),
        });
        assert_eq!((&entry.key[..], entry.value.as_deref()), ("refresh_token:1", Some("1,2")));
        assert_eq!(entry.expires_at, Some(Timestamp::from_millis(1_835_440_496_000)));
        let entry = read(doc! { "key": 7, "value": { "status": "pending" }, "expireAt": 1_835_440_496_i64 });
        assert!(entry.key.is_empty() && entry.value.is_none() && entry.expires_at.is_none());
        assert_eq!(read(doc! { "expireAt": DateTime::from_millis(-1) }).expires_at, Some(Timestamp::EPOCH));
    }

    #[tokio::test]
    async fn an_address_is_never_repeated() {
        for uri in
            ["mongodb://u:p4ssw0rd@127.0.0.1:1", "mongodb://u:p4ss@w0rd@h/db", "http://u:p4ssw0rd@h/db"]
        {
            let error = open(uri).await.err().unwrap();
            let mut text = format!("{error:?} {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text += &error.to_string();
                source = error.source();
            }
            assert!(!text.contains("p4ss") && !text.contains("w0rd"), "{text}");
        }
    }
}
