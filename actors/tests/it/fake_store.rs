//! A store in memory that fails as planned.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::task::Context;
use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::keyring::DeviceHash;
use actors::base::store::{StoreError, Written};
use actors::device_flow::session::Session;
use actors::device_flow::store::{Cursor, Page, Polled, SessionKey, SessionStore, Write};
use actors::testing::SessionModel;
use async_trait::async_trait;

/// What becomes of a group of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and the store says so.
    Aborts,
    /// Nothing is written, and the store does not say what happened.
    LosesTheWrite,
    /// All is written, and the store does not say what happened.
    LosesTheAnswer,
}

/// All faults there are.
pub const FAULTS: [Fault; 3] = [Fault::Aborts, Fault::LosesTheWrite, Fault::LosesTheAnswer];

#[derive(Debug, Default)]
struct Plan {
    faults: Vec<Fault>,
    standing: Option<Fault>,
    is_blind: bool,
    delay: Duration,
    groups: Vec<usize>,
    finds: usize,
    looks: usize,
    told: Vec<Polled>,
    untold: Vec<Polled>,
}

/// The store. What other instances write goes into [`FakeStore::model`].
#[derive(Debug, Default)]
pub struct FakeStore {
    pub model: SessionModel,
    plan: Mutex<Plan>,
    commits_at_once: usize,
}

impl FakeStore {
    /// One that other instances write to as well.
    pub fn shared() -> Self {
        Self { model: SessionModel::shared(), ..Self::default() }
    }

    /// One that takes several groups at a time.
    pub fn with_commits_at_once(commits_at_once: usize) -> Self {
        Self { commits_at_once, ..Self::default() }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    /// The next group of writes fails.
    pub fn fail_once(&self, fault: Fault) {
        self.plan().faults.push(fault);
    }

    /// Every group of writes fails until [`FakeStore::heal`].
    pub fn fail(&self, fault: Fault) {
        self.plan().standing = Some(fault);
    }

    /// Nothing can be read until [`FakeStore::heal`].
    pub fn go_blind(&self) {
        self.plan().is_blind = true;
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut plan = self.plan();
        (plan.standing, plan.is_blind) = (None, false);
        plan.faults.clear();
    }

    /// Every read and every group of writes takes so long.
    pub fn slow_down(&self, delay: Duration) {
        self.plan().delay = delay;
    }

    /// The sizes of the groups that were sent here.
    pub fn groups(&self) -> Vec<usize> {
        self.plan().groups.clone()
    }

    /// Look-ups of single sessions.
    pub fn finds(&self) -> usize {
        self.plan().finds
    }

    /// Times that work which waits for this store, because it is slow, was looked at.
    pub fn looks(&self) -> usize {
        self.plan().looks
    }

    /// Polls that other instances were told of.
    pub fn told(&self) -> Vec<Polled> {
        self.plan().told.clone()
    }

    /// Another instance tells of a poll.
    pub fn tell(&self, polled: Polled) {
        self.plan().untold.push(polled);
    }

    async fn wait(&self) {
        let delay = self.plan().delay;
        if !delay.is_zero() {
            let mut waiting = pin!(tokio::time::sleep(delay));
            let look = |cx: &mut Context<'_>| {
                self.plan().looks += 1;
                waiting.as_mut().poll(cx)
            };
            poll_fn(look).await;
        }
    }

    fn see(&self) -> Result<(), StoreError> {
        if self.plan().is_blind { Err(StoreError::Aborted("on purpose".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl SessionStore for FakeStore {
    async fn commit(&self, writes: Vec<Write>) -> Vec<Result<Written, StoreError>> {
        let fault = {
            let mut plan = self.plan();
            plan.groups.push(writes.len());
            plan.faults.pop().or(plan.standing)
        };
        self.wait().await;
        let lost = || Err(StoreError::Unknown("on purpose".into()));
        match fault {
            None => self.model.commit(writes).await,
            Some(Fault::Aborts) => {
                writes.iter().map(|_| Err(StoreError::Aborted("on purpose".into()))).collect()
            }
            Some(Fault::LosesTheWrite) => writes.iter().map(|_| lost()).collect(),
            Some(Fault::LosesTheAnswer) => {
                self.model.commit(writes).await.into_iter().map(|_| lost()).collect()
            }
        }
    }

    async fn find(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.plan().finds += 1;
        self.wait().await;
        self.see()?;
        self.model.find(key, now).await
    }

    async fn page(&self, after: Option<DeviceHash>, now: Timestamp) -> Result<Page, StoreError> {
        self.see()?;
        self.model.page(after, now).await
    }

    async fn purge(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.see()?;
        self.model.purge(now).await
    }

    async fn changes(&self, cursor: Option<Cursor>) -> Result<(Vec<Session>, Cursor), StoreError> {
        self.see()?;
        self.model.changes(cursor).await
    }

    async fn share_polls(&self, polled: Vec<Polled>) -> Result<Vec<Polled>, StoreError> {
        let mut plan = self.plan();
        plan.told.extend(polled);
        Ok(std::mem::take(&mut plan.untold))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.see()
    }

    fn is_shared(&self) -> bool {
        self.model.is_shared()
    }

    fn commits_at_once(&self) -> usize {
        self.commits_at_once.max(1)
    }
}
