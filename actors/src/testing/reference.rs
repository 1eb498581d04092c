//! The reference that the contract compares backends with: what a store means, as a map behind a lock. Nothing but
//! the contract uses it; tests of the server run on real stores.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use crate::base::clock::Timestamp;
use crate::base::keyring::DeviceHash;
use crate::base::store::{StoreError, Written};
use crate::device_flow::session::Session;
use crate::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};

/// Sessions of one page; few, so that a small test sees several.
const PAGE: usize = 100;

/// What a store means; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    inner: Arc<Mutex<Inner>>,
    shared: bool,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<DeviceHash, Session>,
    /// Every update since the start; a cursor is an index into it.
    log: Vec<Session>,
}

impl Model {
    /// An empty store that says it is not shared.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An empty store that says it is shared, and reports changes.
    #[cfg(test)]
    pub(crate) fn shared() -> Self {
        Self { shared: true, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(&mut self, write: Write) -> Written {
        match write {
            Write::Insert(session) => {
                let taken =
                    self.sessions.values().any(|s| s.device == session.device || s.user == session.user);
                if taken {
                    return Written::Conflict;
                }
                self.sessions.insert(session.device, session);
            }
            Write::Update { to } => {
                let Some(stored) = self.sessions.get_mut(&to.device) else { return Written::Conflict };
                if stored.rev != to.rev.wrapping_sub(1) {
                    return Written::Conflict;
                }
                stored.rev = to.rev;
                stored.phase = to.phase;
                stored.consent = to.consent;
                stored.expires_at = to.expires_at;
                stored.purge_at = to.purge_at;
                self.log.push(stored.clone());
            }
        }
        Written::Applied
    }
}

fn has_key(session: &Session, key: SessionKey) -> bool {
    match key {
        SessionKey::Device(device) => session.device == device,
        SessionKey::User(user) => session.user == user,
        SessionKey::State(state) => session.consent.as_ref().is_some_and(|consent| consent.state == state),
    }
}

impl SessionStore for Model {
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Vec<Result<Written, StoreError>>> {
        let mut inner = self.lock();
        ready(writes.into_iter().map(|write| Ok(inner.apply(write))).collect()).boxed()
    }

    fn find(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Session>, StoreError>> {
        let inner = self.lock();
        let found = inner.sessions.values().find(|s| has_key(s, key) && !s.is_purgeable(now));
        ready(Ok(found.cloned())).boxed()
    }

    fn page(
        &self,
        after: Option<DeviceHash>,
        now: Timestamp,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        let inner = self.lock();
        let rest = inner.sessions.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let live = rest.map(|(_, s)| s).filter(|s| !s.is_purgeable(now));
        let sessions: Vec<_> = live.take(PAGE).cloned().collect();
        let next = sessions.last().filter(|_| sessions.len() == PAGE).map(|s| s.device);
        ready(Ok(Page { sessions, next })).boxed()
    }

    fn purge(&self, now: Timestamp) -> BoxFuture<'static, Result<u64, StoreError>> {
        let sessions = &mut self.lock().sessions;
        let before = sessions.len();
        sessions.retain(|_, s| !s.is_purgeable(now));
        ready(Ok((before - sessions.len()) as u64)).boxed()
    }

    fn changes(
        &self,
        cursor: Option<Cursor>,
    ) -> BoxFuture<'static, Result<(Vec<Session>, Cursor), StoreError>> {
        let inner = self.lock();
        let from = cursor.and_then(|cursor| usize::try_from(cursor.0).ok()).unwrap_or(inner.log.len());
        let changed =
            if self.shared { inner.log.get(from..).unwrap_or_default().to_vec() } else { Vec::new() };
        let next = Cursor(i64::try_from(inner.log.len()).unwrap_or(i64::MAX));
        ready(Ok((changed, next))).boxed()
    }

    fn share_polls(&self, _: Vec<Polled>) -> BoxFuture<'static, Result<Vec<Polled>, StoreError>> {
        ready(Ok(Vec::new())).boxed()
    }

    fn ping(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }
}
