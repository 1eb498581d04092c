//! Which instances are running on this database, in the collection `instances`.
//!
//! ```text
//!   { _id, settings: { NAME: digest, … }, seen }
//! ```
//!
//! Each instance keeps a document, and takes it away when it stops. `seen` is the server's time, so that no clock of an
//! instance is compared with another's. An instance that has not said so for [`DEAD_AFTER`] is not running.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use mongodb::options::UpdateOptions;

use super::indexes;
use super::link::Link;
use crate::store::OpenError;

const COLLECTION: &str = "instances";
/// How often an instance says that it is running.
pub const BEAT_EVERY: Duration = Duration::from_secs(10);
/// Beyond this it is taken for gone.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// An instance's own document, and its view of the others.
#[derive(derive_more::Debug)]
#[debug("Instances({me})")]
pub struct Instances {
    link: Arc<Link>,
    documents: Collection<Document>,
    me: ObjectId,
    settings: Document,
}

impl Instances {
    /// Joins those that are running, by `settings` that have to be the same everywhere. Refuses, leaving nothing behind, if
    /// one of theirs differs.
    pub(super) async fn join(
        link: Arc<Link>,
        settings: &[(&'static str, String)],
    ) -> Result<Self, OpenError> {
        let digest = |value: &String| hex::encode(&blake3::hash(value.as_bytes()).as_bytes()[..8]).into();
        let own: Document =
            settings.iter().map(|(name, value)| ((*name).to_owned(), digest(value))).collect();
        let documents: Collection<Document> = link.database().collection(COLLECTION);
        let prepared = documents.clone();
        let prepare = async move { prepared.create_indexes(indexes::instances(DEAD_AFTER)).await.map(drop) };
        link.prepare(prepare).await?;
        let joined = Self { link, documents, me: ObjectId::new(), settings: own };
        // First: of two that start together at least one sees the other.
        joined.beat().await?;
        let others = joined.others().await?;
        let differs = |name: &&str| others.iter().any(|other| differ(other, &joined.settings, name));
        match settings.iter().map(|(name, _)| *name).find(differs) {
            None => Ok(joined),
            Some(name) => {
                joined.leave().await;
                Err(OpenError::Disagrees(name))
            }
        }
    }

    /// Says that this instance is running.
    pub async fn beat(&self) -> Result<(), OpenError> {
        let (documents, me) = (self.documents.clone(), doc! { "_id": self.me });
        // Only a pipeline knows the server's time.
        let beat = vec![doc! { "$set": { "settings": self.settings.clone(), "seen": "$$NOW" } }];
        let options = UpdateOptions::builder().upsert(true).build();
        let beat = async move { documents.update_one(me, beat).with_options(options).await.map(drop) };
        self.link.prepare(beat).await
    }

    /// The settings of every other instance that is running.
    pub async fn others(&self) -> Result<Vec<Document>, OpenError> {
        let since =
            doc! { "$subtract": ["$$NOW", i64::try_from(DEAD_AFTER.as_millis()).unwrap_or(i64::MAX)] };
        let filter = doc! { "_id": { "$ne": self.me }, "$expr": { "$gt": ["$seen", since] } };
        let documents = self.documents.clone();
        let found = self.link.ask(async move { documents.find(filter).await?.try_collect::<Vec<_>>().await });
        let found = found.await.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        Ok(found.into_iter().filter_map(|other| other.get_document("settings").ok().cloned()).collect())
    }

    /// How many instances are running, this one included.
    pub async fn count(&self) -> Result<u32, OpenError> {
        Ok(u32::try_from(self.others().await?.len()).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Says that this instance is no longer running. Best effort: the others find out by themselves.
    pub async fn leave(&self) {
        let (documents, me) = (self.documents.clone(), doc! { "_id": self.me });
        if let Err(error) = self.link.prepare(async move { documents.delete_one(me).await.map(drop) }).await {
            tracing::warn!(%error, "the other instances could not be told that this one stops");
        }
    }
}

/// Whether two instances have different values of a setting. What only one of them has is of another version.
fn differ(other: &Document, own: &Document, name: &str) -> bool {
    other.get(name).is_some_and(|digest| Some(digest) != own.get(name))
}
