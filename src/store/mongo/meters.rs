//! Metering data that was fetched before, in the collection `meter_cache`.
//!
//! ```text
//!   { _id: key, owner, sealed, fetched_ms, expires_at }
//! ```
//!
//! Promises no more than a cache has to: a write is acknowledged before it is on any disk, a read takes what the primary
//! has, and both may be gone after a failure, which costs calls to Enedis. Only what is forgotten waits for a majority,
//! as it must not come back. Deleted by the server's TTL monitor and by evictions, which may run in several instances
//! at a time; every question tests the end itself.
//!
//! The size of all values is what the server counts for the collection, less what every document has beside its value.

use std::sync::Arc;

use actors::base::clock::Timestamp;
use actors::base::keyring::CacheKey;
use actors::base::store::{Damaged, StoreError, millis, timestamp};
use actors::metering::cache::{CacheEntry, MeterCache};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{self, Binary, Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Result as Answered;
use mongodb::options::{Acknowledgment, CollectionOptions, Hint, ReadConcern, WriteConcern};
use mongodb::{Collection, Database};
use serde::Deserialize;

use super::documents::{binary, date, live};
use super::errors::{DUPLICATE_KEY, failed_document, failed_write};
use super::indexes::{self, BY_FETCHED};
use super::link::Link;
use crate::store::{OpenError, undamaged};

const COLLECTION: &str = "meter_cache";
/// Entries read, stored or evicted with one command.
const CHUNK: u32 = 1_200;
/// Entries of one page, of 64 KiB at most, and how many are sealed anew with one command.
const PAGE: u32 = 200;
const RESEALED: usize = 50;
/// Bytes of values stored with one command, which is a document and as such has 16 MiB at most.
const CHUNK_BYTES: usize = 4 << 20;

/// The cache. See the module.
#[derive(derive_more::Debug)]
#[debug("MongoMeters({})", entries.namespace())]
pub struct MongoMeters {
    link: Arc<Link>,
    entries: Collection<RawDocumentBuf>,
    read: Collection<RawDocumentBuf>,
}

/// What an eviction looks at.
#[derive(Deserialize)]
struct Oldest {
    #[serde(rename = "_id")]
    key: Binary,
    fetched_ms: i64,
    bytes: i64,
}

impl MongoMeters {
    pub(super) async fn on(link: Arc<Link>) -> Result<Self, OpenError> {
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::local())
            .write_concern(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build())
            .build();
        let read = link.reads().collection_with_options(COLLECTION, options.clone());
        let entries: Collection<RawDocumentBuf> =
            link.database().collection_with_options(COLLECTION, options);
        let prepared = entries.clone();
        link.prepare(async move { prepared.create_indexes(indexes::meters()).await.map(drop) }).await?;
        Ok(Self { link, entries, read })
    }
}

#[async_trait]
impl MeterCache for MongoMeters {
    async fn get(&self, keys: Vec<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        let entries = self.read.clone();
        let keys: Vec<Bson> = keys.iter().map(|key| Bson::Binary(binary(key))).collect();
        let filter = doc! { "_id": { "$in": keys }, "expires_at": live(now) };
        let found = self.link.ask(async move {
            let found = entries.find(filter).hint(Hint::Keys(doc! { "_id": 1 })).batch_size(CHUNK).await?;
            found.try_collect::<Vec<_>>().await
        });
        Ok(undamaged(found.await?.iter().map(entry)))
    }

    async fn put(&self, entries: Vec<CacheEntry>) -> Result<(), StoreError> {
        let database = self.link.database().clone();
        self.link.write(async move { store(&database, entries).await }).await
    }

    async fn evict(&self, now: Timestamp, max_bytes: u64) -> Result<u64, StoreError> {
        let entries = self.entries.clone();
        self.link.change(async move { evict(&entries, now, max_bytes).await }).await
    }

    async fn page(&self, after: Option<CacheKey>, now: Timestamp) -> Result<Vec<CacheEntry>, StoreError> {
        let entries = self.read.clone();
        // An empty key is below every other.
        let after = after.map_or_else(|| binary(b""), binary);
        let filter = doc! { "_id": { "$gt": after }, "expires_at": live(now) };
        let page = async move {
            let found = entries.find(filter).sort(doc! { "_id": 1 }).hint(Hint::Keys(doc! { "_id": 1 }));
            found.limit(PAGE.into()).batch_size(PAGE).await?.try_collect::<Vec<_>>().await
        };
        Ok(undamaged(self.link.ask(page).await?.iter().map(entry)))
    }

    async fn reseal(&self, entries: Vec<(CacheEntry, CacheEntry)>) -> Result<(), StoreError> {
        let resealed = |(before, after): (CacheEntry, CacheEntry)| {
            let filter = doc! { "_id": binary(before.key), "sealed": binary(before.sealed) };
            doc! { "q": filter, "u": { "$set": { "sealed": binary(after.sealed) } } }
        };
        let (database, mut chunks) = (self.link.database().clone(), Vec::new());
        for chunk in entries.chunks(RESEALED) {
            chunks.push(chunk.iter().cloned().map(resealed).collect::<Vec<_>>());
        }
        let reseal = async move {
            for chunk in chunks {
                run_updates(&database, chunk).await?;
            }
            Ok(())
        };
        self.link.write(reseal).await
    }

    async fn forget(&self, owner: CacheKey) -> Result<u64, StoreError> {
        // With the database's own write concern.
        let entries = self.link.database().collection::<RawDocumentBuf>(COLLECTION);
        let forget =
            async move { Ok(entries.delete_many(doc! { "owner": binary(owner) }).await?.deleted_count) };
        self.link.change(forget).await
    }
}

/// Stores entries, some thousands or some mebibytes with one command.
async fn store(database: &Database, entries: Vec<CacheEntry>) -> Result<(), StoreError> {
    let (mut chunk, mut size) = (Vec::new(), 0);
    for entry in entries {
        size += entry.sealed.len();
        chunk.push(upsert(entry));
        if size >= CHUNK_BYTES {
            (size, chunk) = (0, store_chunk(database, chunk).await.map(|()| Vec::new())?);
        }
    }
    store_chunk(database, chunk).await
}

async fn store_chunk(database: &Database, updates: Vec<Document>) -> Result<(), StoreError> {
    let again = run_updates(database, updates).await?;
    // An upsert that meets a document it did not match has met one that was fetched later, or one that was stored at
    // the same instant. The second time the document is there, so that only the former meets it again.
    run_updates(database, again).await.map(drop)
}

/// Answers those that met another document.
async fn run_updates(database: &Database, updates: Vec<Document>) -> Result<Vec<Document>, StoreError> {
    if updates.is_empty() {
        return Ok(Vec::new());
    }
    // Each entry is on its own: one that is refused does not stop those behind it.
    let command = doc! {
        "update": COLLECTION,
        "updates": updates.clone(),
        "ordered": false,
        "writeConcern": { "w": 1 },
    };
    let reply = database.run_command(command).await.map_err(|error| failed_write(&error))?;
    let mut again = Vec::new();
    for error in reply.get_array("writeErrors").into_iter().flatten().filter_map(Bson::as_document) {
        let code = error.get_i32("code").unwrap_or_default();
        if code != DUPLICATE_KEY {
            return Err(failed_document(code, error.get_str("codeName").ok()));
        }
        let index = error.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
        again.extend(index.and_then(|index| updates.get(index)).cloned());
    }
    Ok(again)
}

pub(super) fn upsert(entry: CacheEntry) -> Document {
    let filter = doc! { "_id": binary(entry.key), "fetched_ms": { "$lte": millis(entry.fetched) } };
    let mut set = document(entry);
    set.remove("_id");
    doc! { "q": filter, "u": { "$set": set }, "upsert": true }
}

/// Deletes a bounded number of entries: what has expired, then what was fetched first while there is too much.
async fn evict(entries: &Collection<RawDocumentBuf>, now: Timestamp, max_bytes: u64) -> Answered<u64> {
    let expired = doc! { "$lte": date(now) };
    let found = entries
        .find(doc! { "expires_at": expired.clone() })
        .projection(doc! { "_id": 1 })
        .limit(CHUNK.into())
        .batch_size(CHUNK);
    let found: Vec<RawDocumentBuf> = found.await?.try_collect().await?;
    let keys = found.iter().filter_map(|found| found.get_binary("_id").ok());
    let keys: Vec<Bson> = keys.map(|key| Bson::Binary(binary(key.bytes))).collect();
    let mut gone = 0;
    if !keys.is_empty() {
        // One that was stored anew in the meantime stays.
        let filter = doc! { "_id": { "$in": keys }, "expires_at": expired };
        gone = entries.delete_many(filter).await?.deleted_count;
    }
    let room = CHUNK.saturating_sub(u32::try_from(found.len()).unwrap_or(CHUNK));
    let excess = total(entries).await?.saturating_sub(max_bytes);
    if room > 0 && excess > 0 {
        gone += evict_oldest(entries, excess, room).await?;
    }
    Ok(gone)
}

/// Deletes `room` of the entries that were fetched first, fewer if those have `excess` bytes.
async fn evict_oldest(entries: &Collection<RawDocumentBuf>, excess: u64, room: u32) -> Answered<u64> {
    let pipeline = [
        doc! { "$sort": { "fetched_ms": 1 } },
        doc! { "$limit": room },
        doc! { "$project": { "fetched_ms": 1, "bytes": { "$toLong": { "$binarySize": "$sealed" } } } },
    ];
    let oldest = entries.aggregate(pipeline).hint(Hint::Name(BY_FETCHED.into())).with_type::<Oldest>();
    let oldest: Vec<Oldest> = oldest.await?.try_collect().await?;
    let (mut keys, mut weight, mut until) = (Vec::<Bson>::new(), 0, 0);
    for Oldest { key, fetched_ms, bytes } in oldest {
        if weight >= excess {
            break;
        }
        keys.push(Bson::Binary(key));
        weight += u64::try_from(bytes).unwrap_or(0);
        until = fetched_ms;
    }
    // One that was fetched anew in the meantime stays.
    let filter = doc! { "_id": { "$in": keys }, "fetched_ms": { "$lte": until } };
    Ok(entries.delete_many(filter).await?.deleted_count)
}

/// Bytes of all values, by the server's own counts, one a shard. They may be off after a crash of the server.
async fn total(entries: &Collection<RawDocumentBuf>) -> Answered<u64> {
    let counts = [doc! { "$collStats": { "storageStats": {} } }];
    let counts: Vec<Document> = entries.aggregate(counts).await?.try_collect().await?;
    let number = |stats: &Document, name| match stats.get(name) {
        Some(Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count that is no whole number is an estimate"
        )]
        Some(Bson::Double(n)) => *n as u64,
        _ => 0,
    };
    let beside = beside_value();
    let values = counts.iter().filter_map(|shard| shard.get_document("storageStats").ok());
    Ok(values.map(|s| number(s, "size").saturating_sub(number(s, "count") * beside)).sum())
}

/// Bytes of a document beside its value: every one has the same.
fn beside_value() -> u64 {
    let none = CacheKey([0; 32]);
    let (key, owner, sealed) = (none, none, Vec::new());
    let empty = CacheEntry { key, owner, sealed, fetched: Timestamp::EPOCH, expires: Timestamp::EPOCH };
    bson::serialize_to_vec(&document(empty)).map_or(0, |bytes| bytes.len() as u64)
}

fn document(CacheEntry { key, owner, sealed, fetched, expires }: CacheEntry) -> Document {
    let sealed = Binary { subtype: BinarySubtype::Generic, bytes: sealed };
    doc! {
        "_id": binary(key),
        "owner": binary(owner),
        "sealed": sealed,
        "fetched_ms": millis(fetched),
        "expires_at": date(expires),
    }
}

pub(super) fn entry(document: &RawDocumentBuf) -> Result<CacheEntry, Damaged> {
    let read = || -> bson::error::Result<_> {
        let bytes = |name| document.get_binary(name).map(|found| found.bytes);
        let fetched = timestamp(document.get_i64("fetched_ms")?);
        let expires = timestamp(document.get_datetime("expires_at")?.timestamp_millis());
        Ok((bytes("_id")?, bytes("owner")?, bytes("sealed")?.to_vec(), fetched, expires))
    };
    let (key, owner, sealed, fetched, expires) = read().map_err(|_| Damaged("document"))?;
    let key_of = |bytes: &[u8], part| bytes.try_into().map(CacheKey).map_err(|_| Damaged(part));
    Ok(CacheEntry { key: key_of(key, "key")?, owner: key_of(owner, "owner")?, sealed, fetched, expires })
}
