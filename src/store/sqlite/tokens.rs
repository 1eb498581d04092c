//! Grants, access tokens and the installation's record in `tokens.sqlite`.
//!
//! Promises: each method is one transaction; what was
//! acknowledged survives `kill -9` and a power cut (`synchronous=FULL`); nothing is remembered between calls, so that
//! what another process writes counts at once. Several processes may have the file open: the server, and an
//! operator's command beside it. Each holds the lock for one short change at a time, for which the others wait some
//! seconds and then give up ([`StoreError::Aborted`]). Refuses work beyond its queues, and at the start a file that is
//! damaged or of a newer version: without grants every box would have to ask its owner again.

mod sql;

use std::path::Path;

use actors::base::clock::Timestamp;
use actors::base::keyring::{MeterHash, TokenHash};
use actors::base::network::Network;
use actors::base::sealed::Sealed;
use actors::base::store::{StoreError, Written, millis};
use actors::metering::tokens::installation::Installation;
use actors::metering::tokens::places::Places;
use actors::metering::tokens::record::GrantRecord;
use actors::metering::tokens::{Access, Claim, GrantPage, MeterGrant, OF_METER_MAX, TokenStore};
use async_trait::async_trait;
use rusqlite::params;

use super::columns::Columns;
use super::files;
use super::transaction::{delete_some, transact};
use super::worker::Workers;
use crate::store::{OpenError, undamaged};

pub(super) use self::sql::{SCHEMA, installation};

pub(super) const FILE: &str = "tokens.sqlite";
/// Changes that may wait for the thread that writes.
const WRITES_QUEUED: usize = 256;
/// Names of the threads that read and write.
const THREADS: [&str; 2] = ["tokens-reader", "tokens-writer"];

/// The store of tokens. See the module.
#[derive(Debug)]
pub struct SqliteTokens {
    workers: Workers,
}

impl SqliteTokens {
    /// Opens the store in `dir`, which is created if it is missing (mode 0700), as is the file (mode 0600). Takes no
    /// lock. Blocks while it recovers what a crash left in the write-ahead log.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        files::make_directory(dir)?;
        let workers = Workers::open(&dir.join(FILE), &sql::SCHEMA, THREADS, WRITES_QUEUED)?;
        files::make_durable(dir)?;
        Ok(Self { workers })
    }
}

#[async_trait]
impl TokenStore for SqliteTokens {
    async fn add(&self, grant: MeterGrant, access: Option<Access>) -> Result<Written, StoreError> {
        self.workers.write(move |db| transact(db, |db| sql::add(db, &grant, access))).await
    }

    async fn issue(&self, access: Access, places: Places) -> Result<Written, StoreError> {
        self.workers.write(move |db| transact(db, |db| sql::issue(db, access, places))).await
    }

    async fn find_refresh(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError> {
        let find = move |db: &_| GrantRecord::find_one(db, &sql::BY_REFRESH, token.as_bytes(), now);
        Ok(self.workers.read(find).await?.map(sql::grant).transpose()?)
    }

    async fn find_access(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<Option<(MeterGrant, Access)>, StoreError> {
        let found = self.workers.read(move |db| sql::find_access(db, token, now)).await?;
        let Some((record, access)) = found else { return Ok(None) };
        Ok(Some((sql::grant(record)?, access)))
    }

    async fn of_meter(&self, owner: MeterHash, now: Timestamp) -> Result<Vec<MeterGrant>, StoreError> {
        let found = move |db: &_| {
            GrantRecord::find(db, &sql::OF_METER, params![owner.as_bytes(), millis(now), OF_METER_MAX])
        };
        let found = self.workers.read(found).await?;
        Ok(undamaged(found.into_iter().map(sql::grant)))
    }

    async fn grants(&self, after: Option<TokenHash>, now: Timestamp) -> Result<GrantPage, StoreError> {
        let page = move |db: &_| GrantRecord::page(db, &sql::PAGE_AFTER, after, now);
        let (records, next) = self.workers.read(page).await?;
        let next = next.as_deref().and_then(TokenHash::from_slice);
        Ok(GrantPage { grants: undamaged(records.into_iter().map(sql::grant)), next })
    }

    async fn revoke(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        self.workers.write(move |db| transact(db, |db| sql::revoke(db, refresh))).await
    }

    async fn claim(&self, claim: Claim, instead_of: Option<TokenHash>) -> Result<Claim, StoreError> {
        self.workers.write(move |db| transact(db, |db| sql::claim(db, claim, instead_of))).await
    }

    async fn prove(
        &self,
        refresh: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.workers.write(move |db| transact(db, |db| sql::prove(db, refresh, now, expires_at))).await
    }

    async fn count_unproven(&self, network: Option<Network>, now: Timestamp) -> Result<u64, StoreError> {
        self.workers.read(move |db| sql::count_unproven(db, network, now)).await
    }

    async fn has_ended(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        self.workers.read(move |db| sql::has_ended(db, refresh)).await
    }

    async fn has_held_grants(&self) -> Result<bool, StoreError> {
        self.workers.read(sql::has_held_grants).await
    }

    async fn reseal(
        &self,
        refresh: TokenHash,
        before: Sealed,
        meters: Sealed,
    ) -> Result<Written, StoreError> {
        self.workers.write(move |db| transact(db, |db| sql::reseal(db, refresh, &before, &meters))).await
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.workers.read(sql::installation).await
    }

    async fn put_installation(
        &self,
        before: Option<Sealed>,
        record: Installation,
    ) -> Result<Written, StoreError> {
        let put = move |db: &_| transact(db, |db| sql::put_installation(db, before.as_ref(), &record));
        self.workers.write(put).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.workers.write(move |db| delete_some(db, |db| sql::purge(db, now))).await
    }
}

#[cfg(test)]
mod tests;
