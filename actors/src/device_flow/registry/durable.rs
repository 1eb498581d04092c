//! Store first, memory second, reply last: how a shard makes changes durable, and how it finds its way back when it
//! does not know whether it did.

use std::sync::Arc;

use actix::prelude::*;

use super::shard::{Attempt, CodeRegistry, SessionRequest, Waiting};
use crate::base::aside::aside;
use crate::base::keyring::DeviceHash;
use crate::base::store::{StoreError, Written};
use crate::device_flow::session::{Phase, Session};
use crate::device_flow::store::{SessionKey, Write};

/// Times a request is begun anew after another instance was faster.
const CONFLICTS_MAX: u8 = 3;

/// Device codes without news remembered at a time.
const NO_NEWS_MAX: usize = 100_000;

/// How a change ended.
enum Ended {
    /// The store holds it.
    Applied,
    /// Nothing was written.
    Aborted,
    /// The store holds this instead.
    Overtaken(Option<Session>),
    /// The store does not say.
    Unknown,
}

impl CodeRegistry {
    /// Makes `next` durable, then gives the answer that `answer` makes; what waits for the session goes on after it.
    pub(super) fn commit<R: SessionRequest>(
        &mut self,
        next: Session,
        attempt: Attempt<R>,
        ctx: &mut Context<Self>,
        answer: impl FnOnce(&mut Self, &R) -> R::Answer + Send + 'static,
    ) {
        self.write(next, attempt, ctx, |shard, attempt, _| {
            let answer = answer(shard, &attempt.request);
            attempt.answer(answer);
        });
    }

    /// Takes back the mark of an authorization code that was handed to nobody, then serves the request.
    pub(super) fn give_back<R: SessionRequest>(
        &mut self,
        marked: &Session,
        attempt: Attempt<R>,
        ctx: &mut Context<Self>,
    ) {
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
            Some(next) => self.write(next, attempt, ctx, Self::serve),
            None => self.serve(attempt, ctx),
        }
    }

    /// Makes `next` durable, then does `then` with the request; if that fails, the request is begun anew or answered as
    /// unavailable.
    fn write<R: SessionRequest>(
        &mut self,
        next: Session,
        attempt: Attempt<R>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Attempt<R>, &mut Context<Self>) + Send + 'static,
    ) {
        let device = next.device;
        self.busy.insert(device, Vec::new());
        let writer = self.ports.writer.clone();
        let store = Arc::clone(&self.ports.store);
        let now = self.ports.clock.now();
        let written = async move {
            let ended = match writer.commit(Write::Update { to: next.clone() }).await {
                Ok(Written::Applied) => Ended::Applied,
                Err(StoreError::Aborted(error)) => {
                    tracing::warn!(session = ?device, error, "a change was refused by the store");
                    Ended::Aborted
                }
                // In doubt, or another instance was faster: see what the store holds.
                Ok(Written::Conflict) | Err(StoreError::Unknown(_)) => {
                    match store.find(SessionKey::Device(device), now).await {
                        // Our own write, whose answer was lost or came twice.
                        Ok(Some(stored)) if stored == next => Ended::Applied,
                        Ok(stored) => Ended::Overtaken(stored),
                        Err(_) => Ended::Unknown,
                    }
                }
            };
            (next, ended)
        };
        aside(ctx, written, move |(next, ended), shard: &mut Self, ctx| {
            let waiting = shard.busy.remove(&device).unwrap_or_default();
            match ended {
                Ended::Applied => {
                    let is_over = !next.is_exchanging(shard.ports.clock.now());
                    // The one line of each step that a session takes: by an id that may be told to anybody.
                    tracing::info!(target: "session", session = ?device, phase = next.phase.word(), rev = next.rev);
                    shard.table.put(next);
                    then(shard, attempt, ctx);
                    if is_over {
                        shard.end_exchange(device, ctx);
                    }
                }
                Ended::Overtaken(stored) => {
                    shard.stats.reloaded += 1;
                    match stored {
                        Some(stored) => shard.table.put(stored),
                        None => shard.table.remove(&device),
                    }
                    let conflicts = attempt.conflicts + 1;
                    if conflicts < CONFLICTS_MAX {
                        shard.serve(Attempt { conflicts, looked_up: false, ..attempt }, ctx);
                    } else {
                        attempt.answer(R::UNAVAILABLE);
                    }
                }
                Ended::Aborted => attempt.answer(R::UNAVAILABLE),
                Ended::Unknown => {
                    tracing::warn!(session = ?device, "the outcome of a change is unknown; it is read again before use");
                    shard.suspects.insert(device);
                    R::left_in_doubt(shard, next);
                    attempt.answer(R::UNAVAILABLE);
                }
            }
            for request in waiting {
                request.resume(shard, ctx);
            }
        });
    }

    /// Reads a session from the store, then serves the request that asked for it and those that came meanwhile.
    pub(super) fn look_up<R: SessionRequest>(
        &mut self,
        key: SessionKey,
        mut attempt: Attempt<R>,
        ctx: &mut Context<Self>,
    ) {
        attempt.looked_up = true;
        if let Some(waiting) = self.reading.get_mut(&key) {
            return waiting.push(Box::new(attempt));
        }
        self.reading.insert(key, vec![Box::new(attempt)]);
        let (store, now) = (Arc::clone(&self.ports.store), self.ports.clock.now());
        let found = async move { store.find(key, now).await };
        aside(ctx, found, move |found, shard: &mut Self, ctx| {
            let waiting = shard.reading.remove(&key).unwrap_or_default();
            match found {
                Ok(found) => shard.take_over(key, found),
                Err(error) => {
                    tracing::warn!(%error, "a session could not be read");
                    return waiting.into_iter().for_each(Waiting::give_up);
                }
            }
            for request in waiting {
                request.resume(shard, ctx);
            }
        });
    }

    /// Memory follows what the store holds under `key`.
    fn take_over(&mut self, key: SessionKey, found: Option<Session>) {
        match (found, key) {
            (Some(session), _) => {
                self.stats.looked_up += 1;
                let device = session.device;
                let known = self.table.find(&SessionKey::Device(device)).map(|session| session.rev);
                let doubtful = self.suspects.remove(&device);
                if !self.busy.contains_key(&device)
                    && (doubtful || known.is_none_or(|known| known < session.rev))
                {
                    self.table.put(session);
                }
                self.note_no_news(device);
            }
            (None, SessionKey::Device(device)) => {
                self.note_no_news(device);
                self.suspects.remove(&device);
                self.table.remove(&device);
            }
            (None, SessionKey::User(_) | SessionKey::State(_)) => {}
        }
    }

    fn note_no_news(&mut self, device: DeviceHash) {
        if self.no_news.len() < NO_NEWS_MAX {
            self.no_news.insert(device);
        }
    }
}
