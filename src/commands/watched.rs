//! The real token store in a directory of the test's own, watched: its adds are counted, and fail when told to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actors::base::clock::Timestamp;
use actors::base::keyring::{MeterHash, TokenHash};
use actors::base::store::{StoreError, Written};
use actors::metering::tokens::{Access, GrantPage, MeterGrant, TokenStore};
use async_trait::async_trait;
use tempfile::TempDir;

use crate::store::sqlite::SqliteTokens;

/// Grants of one page; few, so that a small test sees several.
const PAGE: usize = 3;

/// The store; clones are handles of the same one.
#[derive(Clone)]
pub struct WatchedTokens {
    // Before its directory: dropped first.
    store: Arc<SqliteTokens>,
    seen: Arc<Mutex<Seen>>,
    _dir: Arc<TempDir>,
}

#[derive(Default)]
struct Seen {
    /// Access tokens that were added.
    accesses: Vec<Access>,
    /// Adds until the store fails.
    adds_left: Option<u32>,
    under_way: usize,
    most_under_way: usize,
}

impl WatchedTokens {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteTokens::open(dir.path()).expect("a store");
        Self { store: Arc::new(store), seen: Arc::default(), _dir: Arc::new(dir) }
    }

    /// Lets that many adds succeed, then fails each further one; `None`: never.
    pub fn fail_after(&self, adds: Option<u32>) {
        self.seen().adds_left = adds;
    }

    /// Every grant, live or not, by hash.
    pub async fn all(&self) -> Vec<MeterGrant> {
        let page = self.store.grants(None, Timestamp::EPOCH).await.expect("an answer");
        assert_eq!(page.next, None, "one page is all");
        page.grants
    }

    /// Every access token that still is one, in the order they were added.
    pub async fn accesses(&self) -> Vec<Access> {
        let mut accesses = self.seen().accesses.clone();
        for at in (0..accesses.len()).rev() {
            let found = self.store.find_access(accesses[at].token, Timestamp::EPOCH).await;
            if found.expect("an answer").is_none() {
                accesses.remove(at);
            }
        }
        accesses
    }

    /// Most adds that were ever under way at a time.
    pub fn most_under_way(&self) -> usize {
        self.seen().most_under_way
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for WatchedTokens {
    async fn add(&self, grant: MeterGrant, access: Option<Access>) -> Result<Written, StoreError> {
        {
            let mut seen = self.seen();
            match &mut seen.adds_left {
                Some(0) => return Err(StoreError::Aborted("told to fail".to_owned())),
                Some(left) => *left -= 1,
                None => {}
            }
            seen.under_way += 1;
            seen.most_under_way = seen.most_under_way.max(seen.under_way);
        }
        let added = self.store.add(grant, access).await;
        let mut seen = self.seen();
        seen.under_way -= 1;
        if let Ok(Written::Applied) = added {
            seen.accesses.extend(access);
        }
        added
    }

    async fn issue(&self, access: Access) -> Result<Written, StoreError> {
        self.store.issue(access).await
    }

    async fn find_refresh(
        &self,
        refresh: TokenHash,
        now: Timestamp,
    ) -> Result<Option<MeterGrant>, StoreError> {
        self.store.find_refresh(refresh, now).await
    }

    async fn find_access(&self, token: TokenHash, now: Timestamp) -> Result<Option<MeterGrant>, StoreError> {
        self.store.find_access(token, now).await
    }

    async fn of_meter(&self, owner: MeterHash, now: Timestamp) -> Result<Vec<MeterGrant>, StoreError> {
        self.store.of_meter(owner, now).await
    }

    async fn grants(&self, after: Option<TokenHash>, now: Timestamp) -> Result<GrantPage, StoreError> {
        let GrantPage { mut grants, next } = self.store.grants(after, now).await?;
        let more = next.is_some() || grants.len() > PAGE;
        grants.truncate(PAGE);
        let next = grants.last().filter(|_| more).map(|grant| grant.refresh);
        Ok(GrantPage { grants, next })
    }

    async fn revoke(&self, refresh: TokenHash) -> Result<bool, StoreError> {
        self.store.revoke(refresh).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.store.purge(now).await
    }
}
