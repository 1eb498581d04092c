//! Grants and access tokens in the collection `meter_grants`.
//!
//! ```text
//!   { _id: refresh, client_id, meters, owners: [...], consented_ms, expires_at, origin,
//!     access: [ { token, issued_ms, expires_ms, mark }, ... ] }                        (hashes and sealed bytes only)
//! ```
//!
//! and, in `claims`, which grant an authorisation of the v2 page belongs to: `{ _id: authorisation, refresh, browser, until }`.
//!
//! in `ended_grants`, which were revoked or have expired: `{ _id: refresh, until }`; and, in `installation`, its record: `{ _id: "installation", id, made_ms, accepted_ms, root }`.
//!
//! A grant is one document with its access tokens, of which there are [`ACCESS_MAX`] at most: a server without
//! transactions still changes one document as a whole. So a grant is stored with its first token or not at all, a token
//! is issued to a grant that is there or not at all, and a revocation takes all tokens with it; a crash leaves nothing
//! half done. A unique index on the tokens in the arrays keeps each with one grant. Whatever asks after a write sees it, in
//! any instance or command.

use std::sync::Arc;

use actors::base::clock::Timestamp;
use actors::base::keyring::{BrowserHash, GrantHash, MeterHash, TokenHash};
use actors::base::network::Network;
use actors::base::sealed::{RowMark, Sealed};
use actors::base::store::{Damaged, StoreError, Written, millis, timestamp};
use actors::metering::tokens::installation::Installation;
use actors::metering::tokens::places::Places;
use actors::metering::tokens::record::GrantRecord;
use actors::metering::tokens::{
    ACCESS_MAX, Access, CONSENT_MAX, Claim, GrantPage, MeterGrant, OF_METER_MAX, TokenStore,
};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::Hint;
use mongodb::results::UpdateResult;

use super::documents::{binary, date, fields, key, live, next, record};
use super::errors::is_duplicate;
use super::indexes::{BY_ACCESS, BY_END, BY_OWNER, UNPROVEN};
use super::link::Link;
use super::{MongoAudit, MongoSettings, indexes};
use crate::store::{OpenError, undamaged};

const COLLECTION: &str = "meter_grants";
const CLAIMS: &str = "claims";
const ENDED: &str = "ended_grants";
const INSTALLATION: &str = "installation";
/// Grants of one page.
const PAGE: u32 = 1000;
/// Grants deleted by one purge.
const PURGE: u32 = 200;

/// The store of tokens. See the module.
#[derive(derive_more::Debug)]
#[debug("MongoTokens({})", grants.namespace())]
pub struct MongoTokens {
    link: Arc<Link>,
    grants: Collection<RawDocumentBuf>,
    claims: Collection<Document>,
    ended: Collection<Document>,
    installation: Collection<Document>,
}

impl MongoTokens {
    /// Connects for the tokens alone, and makes the collection's indexes. Fails within some seconds if the server
    /// does not answer.
    pub async fn connect(settings: MongoSettings) -> Result<Self, OpenError> {
        Self::on(Link::open(settings).await?).await
    }

    pub(super) async fn on(link: Arc<Link>) -> Result<Self, OpenError> {
        let grants: Collection<RawDocumentBuf> = link.database().collection(COLLECTION);
        let claims: Collection<Document> = link.database().collection(CLAIMS);
        let ended: Collection<Document> = link.database().collection(ENDED);
        let prepared = (grants.clone(), [claims.clone(), ended.clone()]);
        let prepare = async move {
            // Gone before, or never there.
            let _ = prepared.0.drop_index(indexes::GRANTS_BEFORE).await;
            prepared.0.create_indexes(indexes::grants()).await?;
            for collection in prepared.1 {
                collection.create_indexes(indexes::until()).await?;
            }
            Ok(())
        };
        link.prepare(prepare).await?;
        let installation = link.database().collection(INSTALLATION);
        Ok(Self { link, grants, claims, ended, installation })
    }

    /// The audit record in the same database, through the same connections.
    pub async fn audit(&self) -> Result<MongoAudit, OpenError> {
        MongoAudit::on(Arc::clone(&self.link)).await
    }

    /// The grants, and those that have ended, to be read.
    fn read(&self) -> (Collection<Document>, Collection<Document>) {
        let database = self.link.reads();
        (database.collection(COLLECTION), database.collection(ENDED))
    }

    /// Finds grants, without their access tokens, by an index of ours.
    async fn find(
        &self,
        filter: Document,
        hint: Hint,
        sort: Document,
        limit: u32,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let grants = self.link.reads().collection::<RawDocumentBuf>(COLLECTION);
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

    async fn issue(&self, access: Access, places: Places) -> Result<Written, StoreError> {
        let grants = self.grants.clone();
        let filter = doc! {
            "_id": binary(access.refresh),
            "expires_at": live(access.issued_at),
            // The index does not tell a token from itself within one array.
            "access.token": { "$ne": binary(access.token) },
        };
        // What was pushed last is kept: the order of issue, whatever the clocks of two instances say.
        let keep = -i64::from(ACCESS_MAX);
        let update = doc! {
            "$push": { "access": { "$each": [token(access)], "$slice": keep } },
            "$set": { "used_ms": millis(access.issued_at), "places": places.to_bytes().map(binary) },
        };
        let issue = async move { grants.update_one(filter, update).await.map(|done| written(&done)) };
        self.change(issue).await
    }

    async fn find_refresh(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError> {
        let filter = doc! { "_id": binary(token), "expires_at": live(now) };
        self.find_one(filter, by_id()).await
    }

    async fn find_access(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(MeterGrant, Access)>, StoreError> {
        let access = doc! { "token": binary(token), "expires_ms": { "$gt": millis(now) } };
        let filter = doc! { "access": { "$elemMatch": access }, "expires_at": live(now) };
        let (grants, hint) = (self.link.reads().collection(COLLECTION), Hint::Name(BY_ACCESS.into()));
        let found = self.link.ask(async move { grants.find_one(filter).hint(hint).await }).await?;
        let Some(found) = found else { return Ok(None) };
        let grant = grant(&found)?;
        let access = access_of(&found, grant.refresh, token).ok_or(Damaged("access"))?;
        Ok(Some((grant, access)))
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
        let (grants, ended) = (self.grants.clone(), self.ended.clone());
        let filter = doc! { "_id": binary(refresh) };
        let revoke = async move {
            let known = grants
                .find_one(filter.clone())
                .projection(doc! { "consented_ms": 1, "expires_at": 1 })
                .await?;
            let Some(known) = known else { return Ok(false) };
            // First: what has gone must be known to have ended.
            note_ended(&ended, &known).await?;
            Ok(grants.delete_one(filter).await?.deleted_count == 1)
        };
        self.link.change(revoke).await
    }

    async fn has_ended(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        let (grants, ended) = self.read();
        let id = doc! { "_id": binary(refresh) };
        // In this order: it is noted before it goes.
        let asked = async move {
            Ok(grants.find_one(id.clone()).projection(doc! { "_id": 1 }).await?.is_some()
                || ended.find_one(id).await?.is_some())
        };
        self.link.ask(asked).await
    }

    async fn has_held_grants(&self) -> Result<bool, StoreError> {
        let (grants, ended) = self.read();
        let asked = async move {
            Ok(grants.find_one(doc! {}).projection(doc! { "_id": 1 }).await?.is_some()
                || ended.find_one(doc! {}).await?.is_some())
        };
        self.link.ask(asked).await
    }

    async fn claim(&self, claim: Claim, instead_of: Option<TokenHash>) -> Result<Claim, StoreError> {
        let (claims, authorisation) = (self.claims.clone(), claim.authorisation);
        let fields = doc! {
            "refresh": binary(claim.refresh),
            "browser": binary(claim.browser),
            "until": DateTime::from_millis(millis(claim.until)),
        };
        let id = doc! { "_id": binary(authorisation) };
        let stand = async move {
            // The first to insert has it.
            let first = doc! { "$setOnInsert": fields.clone() };
            match claims.update_one(id.clone(), first).upsert(true).await {
                Err(error) if !is_duplicate(&error) => return Err(error),
                _ => {}
            }
            if let Some(old) = instead_of {
                let of_old = doc! { "_id": binary(authorisation), "refresh": binary(old) };
                claims.update_one(of_old, doc! { "$set": fields }).await?;
            }
            claims.find_one(id).await
        };
        let stands = self.link.change(stand).await?;
        // Deleted in this very moment, because its time was over.
        Ok(stands.as_ref().map_or(Ok(claim), |stands| read_claim(authorisation, stands))?)
    }

    async fn prove(
        &self,
        refresh: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let grants = self.grants.clone();
        let filter = doc! { "_id": binary(refresh), "expires_at": live(now) };
        let proven = doc! { "unproven": false, "expires_at": DateTime::from_millis(millis(expires_at)) };
        let prove = async move { grants.update_one(filter, doc! { "$set": proven }).await.map(drop) };
        self.link.change(prove).await
    }

    async fn reseal(
        &self,
        refresh: TokenHash,
        before: Sealed,
        meters: Sealed,
    ) -> Result<Written, StoreError> {
        let grants = self.grants.clone();
        let filter = doc! { "_id": binary(refresh), "meters": binary(before.as_bytes()) };
        let update = doc! { "$set": { "meters": binary(meters.as_bytes()) } };
        self.change(async move { grants.update_one(filter, update).await.map(|done| written(&done)) }).await
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        let installation = self.link.reads().collection(INSTALLATION);
        let found = self.link.ask(async move { installation.find_one(the_one()).await }).await?;
        Ok(found.as_ref().map(read_installation).transpose()?)
    }

    async fn put_installation(
        &self,
        before: Option<Sealed>,
        record: Installation,
    ) -> Result<Written, StoreError> {
        let installation = self.installation.clone();
        let Installation { id, made_at, accepted_at, root } = record;
        let mut document = the_one();
        document.extend(doc! {
            "id": binary(id),
            "made_ms": millis(made_at),
            "accepted_ms": accepted_at.map(millis),
            "root": binary(root.as_bytes()),
        });
        let put = async move {
            let Some(before) = before else {
                return installation.insert_one(document).await.map(|_| Written::Applied);
            };
            let mut filter = the_one();
            filter.insert("root", binary(before.as_bytes()));
            installation.replace_one(filter, document).await.map(|done| written(&done))
        };
        self.change(put).await
    }

    async fn count_unproven(&self, network: Option<Network>, now: Timestamp) -> Result<u64, StoreError> {
        let (grants, _) = self.read();
        let mut filter = doc! { "unproven": true, "expires_at": live(now) };
        if let Some(network) = network {
            filter.insert("network", network.number());
        }
        let hint = Hint::Name(UNPROVEN.into());
        self.link.ask(async move { grants.count_documents(filter).hint(hint).await }).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (grants, claims, noted) = (self.grants.clone(), self.claims.clone(), self.ended.clone());
        let ended = doc! { "expires_at": { "$lte": date(now) } };
        let purge = async move {
            let mut gone = claims.delete_many(doc! { "until": { "$lte": date(now) } }).await?.deleted_count;
            let found = grants.find(ended.clone()).hint(Hint::Name(BY_END.into())).limit(PURGE.into());
            let found = found.projection(doc! { "consented_ms": 1 }).await?;
            let found: Vec<RawDocumentBuf> = found.try_collect().await?;
            // First: what has gone must be known to have ended.
            try_join_all(found.iter().map(|grant| note_ended(&noted, grant))).await?;
            let ids: Vec<_> = found.iter().filter_map(key).map(|id| Bson::Binary(binary(id))).collect();
            if !ids.is_empty() {
                let mut filter = doc! { "_id": { "$in": ids } };
                filter.extend(ended);
                gone += grants.delete_many(filter).await?.deleted_count;
            }
            Ok(gone)
        };
        self.link.change(purge).await
    }
}

fn written(done: &UpdateResult) -> Written {
    if done.matched_count == 1 { Written::Applied } else { Written::Conflict }
}

/// Notes that a grant has ended.
async fn note_ended(ended: &Collection<Document>, grant: &RawDocumentBuf) -> mongodb::error::Result<()> {
    let consented = timestamp(grant.get_i64("consented_ms").unwrap_or_default());
    let expires = grant.get_datetime("expires_at").map_or(0, DateTime::timestamp_millis);
    // A token of the PHP server lives longer than a consent may.
    let until = (consented + CONSENT_MAX).max(timestamp(expires));
    let until = doc! { "$set": { "until": date(until) } };
    let id = doc! { "_id": binary(key(grant).unwrap_or_default()) };
    ended.update_one(id, until).upsert(true).await.map(drop)
}

fn the_one() -> Document {
    doc! { "_id": INSTALLATION }
}

fn read_installation(document: &Document) -> Result<Installation, Damaged> {
    let bytes = |name| document.get_binary_generic(name).map_err(|_| Damaged("installation"));
    Ok(Installation {
        id: bytes("id")?.as_slice().try_into().map_err(|_| Damaged("installation"))?,
        made_at: timestamp(document.get_i64("made_ms").map_err(|_| Damaged("installation"))?),
        accepted_at: document.get_i64("accepted_ms").ok().map(timestamp),
        root: Sealed::from_bytes(bytes("root")?.clone()),
    })
}

fn by_id() -> Hint {
    Hint::Keys(doc! { "_id": 1 })
}

/// The claim in a document.
fn read_claim(authorisation: GrantHash, document: &Document) -> Result<Claim, Damaged> {
    let hash = |name| document.get_binary_generic(name).map_err(|_| Damaged("claim"));
    Ok(Claim {
        authorisation,
        refresh: TokenHash::from_slice(hash("refresh")?).ok_or(Damaged("claim"))?,
        browser: BrowserHash::from_slice(hash("browser")?).ok_or(Damaged("claim"))?,
        until: timestamp(document.get_datetime("until").map_err(|_| Damaged("claim"))?.timestamp_millis()),
    })
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
    let Access { token, refresh: _, issued_at, expires_at, mark } = access;
    let mut token =
        doc! { "token": binary(token), "issued_ms": millis(issued_at), "expires_ms": millis(expires_at) };
    if let Some(mark) = mark {
        token.insert("mark", binary(mark.as_bytes()));
    }
    token
}

/// An access token in the document of its grant.
fn access_of(document: &RawDocumentBuf, refresh: TokenHash, token: TokenHash) -> Option<Access> {
    let tokens = document.get_array("access").ok()?;
    let mut tokens = tokens.into_iter().filter_map(|element| element.ok()?.as_document());
    let found =
        tokens.find(|found| found.get_binary("token").is_ok_and(|id| id.bytes == token.as_bytes()))?;
    let mark = found.get_binary("mark").ok().and_then(|mark| RowMark::from_slice(mark.bytes));
    let [issued_at, expires_at] = ["issued_ms", "expires_ms"].map(|name| found.get_i64(name).map(timestamp));
    Some(Access { token, refresh, issued_at: issued_at.ok()?, expires_at: expires_at.ok()?, mark })
}

pub(super) fn grant(document: &RawDocumentBuf) -> Result<MeterGrant, Damaged> {
    record::<GrantRecord<DateTime>>(document)?.grant(DateTime::timestamp_millis)
}
