//! Store first, memory second, reply last: how a shard makes changes durable, and how it finds its way back when it
//! does not know whether it did.

use std::sync::Arc;

use actix::prelude::*;

use super::CodeRegistry;
use crate::base::keyring::DeviceHash;
use crate::base::store::{StoreError, Written};
use crate::device_flow::registry::messages::{Task, Work};
use crate::device_flow::session::{Phase, Session};
use crate::device_flow::store::{SessionKey, Write};

/// Times a piece of work is begun anew after another instance was faster.
const TRIES_MAX: u8 = 3;

/// Unknown device codes remembered at a time.
const MISSING_MAX: usize = 100_000;

/// How a change ended.
enum Fate {
    Applied,
    Aborted,
    Found(Option<Session>),
    Unknown,
}

impl CodeRegistry {
    /// Makes `next` durable, then lets `done` answer; what waits for the session goes on after it.
    pub(super) fn commit(
        &mut self,
        next: Session,
        work: Work,
        ctx: &mut Context<Self>,
        done: impl FnOnce(&mut Self, Work) + 'static,
    ) {
        let device = next.device;
        self.busy.insert(device, Vec::new());
        let writer = self.ports.writer.clone();
        let store = Arc::clone(&self.ports.store);
        let now = self.ports.clock.now();
        let write = Write::Update { to: next.clone() };
        let written = async move {
            match writer.commit(write).await {
                Ok(Written::Applied) => Fate::Applied,
                Err(StoreError::Aborted(error)) => {
                    tracing::warn!(session = ?device, error, "a change was refused by the store");
                    Fate::Aborted
                }
                // In doubt, or another instance was faster: see what the store holds.
                Ok(Written::Conflict) | Err(StoreError::Unknown(_)) => {
                    store.find(SessionKey::Device(device), now).await.map_or(Fate::Unknown, Fate::Found)
                }
            }
        };
        ctx.spawn(written.into_actor(self).map(move |fate, act, ctx| {
            let waiting = act.busy.remove(&device).unwrap_or_default();
            match fate {
                Fate::Applied => act.settle(next, work, done, ctx),
                // Our own write, whose answer was lost or came twice.
                Fate::Found(Some(stored)) if stored == next => act.settle(next, work, done, ctx),
                Fate::Found(found) => {
                    act.stats.reloaded += 1;
                    match found {
                        Some(stored) => act.table.put(stored),
                        None => act.table.remove(&device),
                    }
                    let work = Work { tries: work.tries + 1, ..work };
                    if work.tries < TRIES_MAX { act.run(work, ctx) } else { work.unavailable() }
                }
                Fate::Aborted => work.unavailable(),
                Fate::Unknown => {
                    if matches!(work.task, Task::Begin(_)) {
                        act.unpresented.insert(device, next);
                    }
                    tracing::warn!(session = ?device, "the outcome of a change is unknown; it is read again before use");
                    act.suspects.insert(device);
                    work.unavailable();
                }
            }
            for work in waiting {
                act.run(work, ctx);
            }
        }));
    }

    /// Takes back the mark of a code that was handed to nobody, then does `work`.
    pub(super) fn give_back(&mut self, marked: &Session, work: Work, ctx: &mut Context<Self>) {
        // Anything else means that the mark was never written, or that another instance is further on.
        let session =
            self.table.find(&SessionKey::Device(marked.device)).filter(|session| *session == marked);
        let given_back = session.and_then(|session| match &session.phase {
            Phase::Exchanging { grant, .. } => {
                session.fail(grant, false, self.ports.clock.now(), &self.ports.life).ok()
            }
            _ => None,
        });
        match given_back {
            Some(next) => self.commit(next, work, ctx, |act, work| act.again.push(work)),
            None => self.run(work, ctx),
        }
    }

    /// The store holds `next`: memory follows, then the reply, then whoever waited for the exchange.
    fn settle(
        &mut self,
        next: Session,
        work: Work,
        done: impl FnOnce(&mut Self, Work),
        ctx: &mut Context<Self>,
    ) {
        let device = next.device;
        let over = !matches!(next.phase, Phase::Exchanging { until, .. } if until > self.ports.clock.now());
        self.table.put(next);
        done(self, work);
        for work in std::mem::take(&mut self.again) {
            self.run(work, ctx);
        }
        if over {
            self.end_exchange(device, ctx);
        }
    }

    pub(super) fn end_exchange(&mut self, device: DeviceHash, ctx: &mut Context<Self>) {
        for work in self.exchanging.remove(&device).unwrap_or_default() {
            self.run(work, ctx);
        }
    }

    /// Reads a session from the store, then does the work that asked for it.
    pub(super) fn read(&mut self, key: SessionKey, mut work: Work, ctx: &mut Context<Self>) {
        work.looked_up = true;
        if let Some(waiting) = self.reading.get_mut(&key) {
            return waiting.push(work);
        }
        self.reading.insert(key, vec![work]);
        let (store, now) = (Arc::clone(&self.ports.store), self.ports.clock.now());
        let found = async move { store.find(key, now).await };
        ctx.spawn(found.into_actor(self).map(move |found, act, ctx| {
            let waiting = act.reading.remove(&key).unwrap_or_default();
            match found {
                Ok(Some(session)) => {
                    act.stats.looked_up += 1;
                    let device = session.device;
                    let known = act.table.find(&SessionKey::Device(device)).map(|s| s.rev);
                    let doubtful = act.suspects.remove(&device);
                    if !act.busy.contains_key(&device)
                        && (doubtful || known.is_none_or(|rev| rev < session.rev))
                    {
                        act.table.put(session);
                    }
                }
                Ok(None) => {
                    if let SessionKey::Device(device) = key {
                        if act.missing.len() < MISSING_MAX {
                            act.missing.insert(device);
                        }
                        act.suspects.remove(&device);
                        act.table.remove(&device);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a session could not be read");
                    return waiting.into_iter().for_each(Work::unavailable);
                }
            }
            for work in waiting {
                act.run(work, ctx);
            }
        }));
    }
}
