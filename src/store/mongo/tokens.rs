//! Grants and access tokens in the collection `meter_grants`.
//!
//! ```text
//!   { _id: refresh, client_id, meters, owners: [...], consented_ms, expires_at, origin,
//!     access: [ { token, issued_ms, expires_ms }, ... ] }                        (hashes and sealed bytes only)
//! ```
//!
//! A grant is one document with its access tokens, of which there are [`ACCESS_MAX`] at most: a server without
//! transactions still changes one document as a whole. So a grant is stored with its first token or not at all, a token
//! is issued to a grant that is there or not at all, and a revocation takes all tokens with it; a crash leaves nothing
//! half done. A unique index on the tokens in the arrays keeps each with one grant. Whatever asks after a write sees it, in
//! any instance or command.

use std::sync::Arc;

use actors::base::clock::Timestamp;
use actors::base::keyring::{MeterHash, TokenHash};
use actors::base::store::{Damaged, StoreError, Written, millis};
use actors::metering::tokens::record::GrantRecord;
use actors::metering::tokens::{ACCESS_MAX, Access, GrantPage, MeterGrant, OF_METER_MAX, TokenStore};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::Hint;

use super::documents::{binary, fields, live, next, record};
use super::errors::is_duplicate;
use super::indexes::{BY_ACCESS, BY_OWNER};
use super::link::Link;
use super::{MongoSettings, indexes};
use crate::store::{OpenError, undamaged};

const COLLECTION: &str = "meter_grants";
/// Grants of one page.
const PAGE: u32 = 1000;

/// The store of tokens. See the module.
#[derive(derive_more::Debug)]
#[debug("MongoTokens({})", grants.namespace())]
pub struct MongoTokens {
    link: Arc<Link>,
    grants: Collection<RawDocumentBuf>,
}

impl MongoTokens {
    /// Connects for the tokens alone, and makes the collection's indexes. Fails within some seconds if the server
    /// does not answer.
    pub async fn connect(settings: MongoSettings) -> Result<Self, OpenError> {
        Self::on(Link::open(settings).await?).await
    }

    pub(super) async fn on(link: Arc<Link>) -> Result<Self, OpenError> {
        let grants: Collection<RawDocumentBuf> = link.database().collection(COLLECTION);
        let prepared = grants.clone();
        link.prepare(async move { prepared.create_indexes(indexes::grants()).await.map(drop) }).await?;
        Ok(Self { link, grants })
    }

    /// Finds grants, without their access tokens, by an index of ours.
    async fn find(
        &self,
        filter: Document,
        hint: Hint,
        sort: Document,
        limit: u32,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let grants = self.grants.clone();
        let found = async move {
            let found = grants.find(filter).hint(hint).sort(sort).limit(limit.into()).batch_size(limit);
            found.projection(doc! { "access": 0 }).await?.try_collect().await
        };
        self.link.ask(found).await
    }

    async fn find_one(&self, filter: Document, hint: Hint) -> Result<Option<MeterGrant>, StoreError> {
        let found = self.find(filter, hint, Document::new(), 1).await?;
        Ok(found.first().map(grant).transpose()?)
    }

    /// Runs a change of one document, which conflicts where it meets a token that is stored already.
    async fn change(
        &self,
        change: impl Future<Output = mongodb::error::Result<Written>> + Send + 'static,
    ) -> Result<Written, StoreError> {
        let change = async {
            match change.await {
                Err(error) if is_duplicate(&error) => Ok(Written::Conflict),
                done => done,
            }
        };
        self.link.change(change).await
    }
}

#[async_trait]
impl TokenStore for MongoTokens {
    async fn add(&self, grant: MeterGrant, access: Option<Access>) -> Result<Written, StoreError> {
        let grants = self.grants.clone_with_type::<Document>();
        let document = insertion(&grant, access);
        self.change(async move { grants.insert_one(document).await.map(|_| Written::Applied) }).await
    }

    async fn issue(&self, access: Access) -> Result<Written, StoreError> {
        let grants = self.grants.clone();
        let filter = doc! {
            "_id": binary(access.refresh),
            "expires_at": live(access.issued_at),
            // The index does not tell a token from itself within one array.
            "access.token": { "$ne": binary(access.token) },
        };
        // What was pushed last is kept: the order of issue, whatever the clocks of two instances say.
        let keep = -i64::from(ACCESS_MAX);
        let update = doc! { "$push": { "access": { "$each": [token(access)], "$slice": keep } } };
        let issue = async move {
            let updated = grants.update_one(filter, update).await?;
            Ok(if updated.matched_count == 1 { Written::Applied } else { Written::Conflict })
        };
        self.change(issue).await
    }

    async fn find_refresh(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError> {
        let filter = doc! { "_id": binary(token), "expires_at": live(now) };
        self.find_one(filter, by_id()).await
    }

    async fn find_access(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError> {
        let access = doc! { "token": binary(token), "expires_ms": { "$gt": millis(now) } };
        let filter = doc! { "access": { "$elemMatch": access }, "expires_at": live(now) };
        self.find_one(filter, Hint::Name(BY_ACCESS.into())).await
    }

    async fn of_meter(&self, owner: MeterHash, now: Timestamp) -> Result<Vec<MeterGrant>, StoreError> {
        let filter = doc! { "owners": binary(owner), "expires_at": live(now) };
        let newest = doc! { "consented_ms": -1 };
        let found = self.find(filter, Hint::Name(BY_OWNER.into()), newest, OF_METER_MAX).await?;
        Ok(undamaged(found.iter().map(grant)))
    }

    async fn grants(&self, after: Option<TokenHash>, now: Timestamp) -> Result<GrantPage, StoreError> {
        // An empty key is below every other.
        let after = after.map_or_else(|| binary(b""), binary);
        let filter = doc! { "_id": { "$gt": after }, "expires_at": live(now) };
        let found = self.find(filter, by_id(), doc! { "_id": 1 }, PAGE).await?;
        let next = next(&found, PAGE).and_then(TokenHash::from_slice);
        Ok(GrantPage { next, grants: undamaged(found.iter().map(grant)) })
    }

    async fn revoke(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        let grants = self.grants.clone();
        let filter = doc! { "_id": binary(refresh) };
        self.link.change(async move { Ok(grants.delete_one(filter).await?.deleted_count == 1) }).await
    }
}

fn by_id() -> Hint {
    Hint::Keys(doc! { "_id": 1 })
}

/// A grant with its first access token as a document.
pub(super) fn insertion(grant: &MeterGrant, access: Option<Access>) -> Document {
    let (mut document, _) = fields(&GrantRecord::of(grant, DateTime::from_millis));
    if let Some(access) = access {
        document.insert("access", vec![token(access)]);
    }
    document
}

/// An access token in its grant's document.
fn token(access: Access) -> Document {
    let Access { token, refresh: _, issued_at, expires_at } = access;
    doc! { "token": binary(token), "issued_ms": millis(issued_at), "expires_ms": millis(expires_at) }
}

pub(super) fn grant(document: &RawDocumentBuf) -> Result<MeterGrant, Damaged> {
    record::<GrantRecord<DateTime>>(document)?.grant(DateTime::timestamp_millis)
}
