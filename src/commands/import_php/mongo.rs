//! The collection `cache` of the PHP server's MongoDB: documents `{key, value, expireAt}`.
//!
//! Only reads. Promises: an address is never shown; batches are bounded by the driver; a server that stops answering is
//! given up after [`DEADLINE`].

use std::time::Duration;

use actors::base::clock::Timestamp;
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{RawBsonRef, RawDocument, RawDocumentBuf, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Cursor};

use super::Entries;
use super::entry::Entry;
use crate::commands::SourceError;
use crate::store::OpenError;
use crate::store::mongo::{DEADLINE, errors};

const COLLECTION: &str = "cache";
const BATCH: u32 = 1_000;
const SERVER_SELECTION: Duration = Duration::from_secs(4);

/// Begins to read the collection in the database that `uri` names; answers that name, too.
pub async fn open(uri: &str) -> Result<(String, Entries), SourceError> {
    // What the driver says of an address it cannot read may repeat a password.
    let unreadable = |error| SourceError::Mongo(errors::unreadable(&error, uri));
    let mut options = within(ClientOptions::parse(uri).into_future()).await?.map_err(unreadable)?;
    let database = options.default_database.clone().ok_or(SourceError::NoDatabase)?;
    options.server_selection_timeout = Some(SERVER_SELECTION);
    options.app_name = Some(env!("CARGO_PKG_NAME").into());
    let client = Client::with_options(options).map_err(unreadable)?;
    let collection = client.database(&database).collection::<RawDocumentBuf>(COLLECTION);
    let wanted = doc! { "_id": 0, "key": 1, "value": 1, "expireAt": 1 };
    let found = collection.find(doc! {}).projection(wanted).batch_size(BATCH);
    let cursor = within(found.into_future()).await?.map_err(refused)?;
    let entries = stream::try_unfold(cursor, |mut cursor: Cursor<RawDocumentBuf>| async move {
        let next = within(cursor.try_next()).await?.map_err(refused)?;
        Ok(next.map(|document| (entry(&document), cursor)))
    });
    Ok((database, entries.boxed_local()))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err calls")]
fn refused(error: mongodb::error::Error) -> SourceError {
    SourceError::Mongo(errors::refused(&error))
}

async fn within<T>(step: impl Future<Output = T>) -> Result<T, SourceError> {
    let late = |_| SourceError::Mongo(OpenError::Unreachable("no answer in time".into()));
    tokio::time::timeout(DEADLINE, step).await.map_err(late)
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
