//! What a store means, as a map behind a lock: the contract compares backends with it, and the actors are tested on it.
//! Tests of the server run on real stores.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::clock::Timestamp;
use crate::base::keyring::DeviceHash;
use crate::base::store::{StoreError, Written};
use crate::device_flow::session::Session;
use crate::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use async_trait::async_trait;

/// Sessions of one page; few, so that a small test sees several.
const PAGE: usize = 100;

/// What a store means; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct Model {
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
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that says it is shared, and reports changes.
    pub fn shared() -> Self {
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

#[async_trait]
impl SessionStore for Model {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        let mut inner = self.lock();
        writes.into_iter().map(|write| Ok(inner.apply(write))).collect()
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let inner = self.lock();
        let found = inner.sessions.values().find(|s| has_key(s, key) && !s.is_purgeable(now));
        Ok(found.cloned())
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        let inner = self.lock();
        let rest = inner.sessions.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let live = rest.map(|(_, s)| s).filter(|s| !s.is_purgeable(now));
        let sessions: Vec<_> = live.take(PAGE).cloned().collect();
        let next = sessions.last().filter(|_| sessions.len() == PAGE).map(|s| s.device);
        Ok(Page { sessions, next })
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        let sessions = &mut self.lock().sessions;
        let before = sessions.len();
        sessions.retain(|_, s| !s.is_purgeable(now));
        Ok((before - sessions.len()) as u64)
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        let inner = self.lock();
        let from = cursor.and_then(|cursor| usize::try_from(cursor.0).ok()).unwrap_or(inner.log.len());
        let changed =
            if self.shared { inner.log.get(from..).unwrap_or_default().to_vec() } else { Vec::new() };
        let next = Cursor(i64::try_from(inner.log.len()).unwrap_or(i64::MAX));
        Ok((changed, next))
    }

    async fn share_polls(&self, _: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_shared(&self) -> bool {
        self.shared
    }
}
