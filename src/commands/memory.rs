//! A token store in memory, for the tests of the commands. Does what the port says, and fails when told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actors::clock::Timestamp;
use actors::keys::{MeterHash, TokenHash};
use actors::store::{StoreError, Written};
use actors::tokens::{Access, GrantPage, MeterGrant, OF_METER_MAX, TokenStore};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

/// Grants of one page; few, so that a small test sees several.
const PAGE: usize = 3;

/// The store; clones are handles of the same one.
#[derive(Clone, Default)]
pub struct MemoryTokens(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    grants: BTreeMap<TokenHash, MeterGrant>,
    accesses: BTreeMap<TokenHash, Access>,
    /// Adds until the store fails.
    adds_left: Option<u32>,
    under_way: usize,
    most_under_way: usize,
}

impl MemoryTokens {
    /// Lets that many adds succeed, then fails each further one; `None`: never.
    pub fn fail_after(&self, adds: Option<u32>) {
        self.lock().adds_left = adds;
    }

    /// Every grant, by hash.
    pub fn grants(&self) -> Vec<MeterGrant> {
        self.lock().grants.values().cloned().collect()
    }

    /// Every access token, by hash.
    pub fn accesses(&self) -> Vec<Access> {
        self.lock().accesses.values().copied().collect()
    }

    /// Most adds that were ever under way at a time.
    pub fn most_under_way(&self) -> usize {
        self.lock().most_under_way
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, grant: MeterGrant, access: Option<Access>) -> Result<Written, StoreError> {
        self.under_way -= 1;
        match &mut self.adds_left {
            Some(0) => return Err(StoreError::Aborted("told to fail".to_owned())),
            Some(left) => *left -= 1,
            None => {}
        }
        let taken = access.is_some_and(|access| self.accesses.contains_key(&access.token));
        if taken || self.grants.contains_key(&grant.refresh) {
            return Ok(Written::Conflict);
        }
        self.accesses.extend(access.map(|access| (access.token, access)));
        self.grants.insert(grant.refresh, grant);
        Ok(Written::Applied)
    }

    fn live(&self, refresh: TokenHash, now: Timestamp) -> Option<MeterGrant> {
        self.grants.get(&refresh).filter(|grant| grant.expires_at > now).cloned()
    }
}

impl TokenStore for MemoryTokens {
    fn add(
        &self,
        grant: MeterGrant,
        access: Option<Access>,
    ) -> BoxFuture<'static, Result<Written, StoreError>> {
        let mut inner = self.lock();
        inner.under_way += 1;
        inner.most_under_way = inner.most_under_way.max(inner.under_way);
        drop(inner);
        let store = self.clone();
        // Ends only when it is waited for, so that what is under way at a time can be counted.
        async move { store.lock().add(grant, access) }.boxed()
    }

    fn issue(&self, _: Access) -> BoxFuture<'static, Result<Written, StoreError>> {
        ready(Err(StoreError::Aborted("no command issues tokens".to_owned()))).boxed()
    }

    fn find_refresh(
        &self,
        refresh: TokenHash,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Option<MeterGrant>, StoreError>> {
        ready(Ok(self.lock().live(refresh, now))).boxed()
    }

    fn find_access(
        &self,
        token: TokenHash,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Option<MeterGrant>, StoreError>> {
        let inner = self.lock();
        let access = inner.accesses.get(&token).filter(|access| access.expires_at > now);
        ready(Ok(access.and_then(|access| inner.live(access.refresh, now)))).boxed()
    }

    fn of_meter(
        &self,
        owner: MeterHash,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Vec<MeterGrant>, StoreError>> {
        let grants = self.grants().into_iter().filter(|grant| grant.expires_at > now);
        let mut grants: Vec<_> = grants.filter(|grant| grant.owners.contains(&owner)).collect();
        grants.sort_by_key(|grant| std::cmp::Reverse(grant.consented_at));
        grants.truncate(OF_METER_MAX as usize);
        ready(Ok(grants)).boxed()
    }

    fn grants(
        &self,
        after: Option<TokenHash>,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<GrantPage, StoreError>> {
        let inner = self.lock();
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let live = inner.grants.range(range).map(|(_, grant)| grant).filter(|grant| grant.expires_at > now);
        let grants: Vec<MeterGrant> = live.take(PAGE).cloned().collect();
        let next = grants.last().filter(|_| grants.len() == PAGE).map(|grant| grant.refresh);
        ready(Ok(GrantPage { grants, next })).boxed()
    }

    fn revoke(&self, refresh: TokenHash) -> BoxFuture<'static, Result<bool, StoreError>> {
        let mut inner = self.lock();
        inner.accesses.retain(|_, access| access.refresh != refresh);
        ready(Ok(inner.grants.remove(&refresh).is_some())).boxed()
    }

    fn purge(&self, _: Timestamp) -> BoxFuture<'static, Result<u64, StoreError>> {
        ready(Ok(0)).boxed()
    }
}
