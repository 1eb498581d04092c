//! The person refused at Enedis, or on our own page.

use actix::prelude::*;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::keyring::{BrowserHash, StateHash};
use crate::device_flow::session::{Decision, ReturnError};
use crate::device_flow::store::SessionKey;

/// The answer to a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyAnswer {
    /// The device will be told `access_denied`.
    Denied,
    /// Not recorded.
    No(ReturnError),
    /// The store did not answer: come back.
    Unavailable,
}

impl CodeRegistryHandle {
    /// The person refused. Durable before the answer.
    pub async fn deny(&self, state: StateHash, browser: BrowserHash) -> Result<DenyAnswer, AskError> {
        self.ask(state.slot(), |reply| DenyConsent { state, browser, reply }).await
    }
}

/// Record that the person refused. Sent by `GET /auth/redirect`; durable before the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct DenyConsent {
    state: StateHash,
    browser: BrowserHash,
    reply: Reply<DenyAnswer>,
}

impl Handler<DenyConsent> for CodeRegistry {
    type Result = ();

    // Interleaves: other messages of this session wait.
    fn handle(&mut self, msg: DenyConsent, ctx: &mut Self::Context) {
        self.serve(Attempt::first(msg), ctx);
    }
}

impl SessionRequest for DenyConsent {
    type Answer = DenyAnswer;
    const UNKNOWN: DenyAnswer = DenyAnswer::No(ReturnError::Gone);
    const UNAVAILABLE: DenyAnswer = DenyAnswer::Unavailable;

    fn key(&self) -> SessionKey {
        SessionKey::State(self.state)
    }

    fn into_reply(self) -> Reply<DenyAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        let DenyConsent { state, browser, .. } = &attempt.request;
        match shard.table[row].deny(browser, state, shard.ports.clock.now(), &shard.ports.life) {
            Ok(next) => shard.commit(next, attempt, ctx, |shard, _| {
                shard.stats.denied += 1;
                DenyAnswer::Denied
            }),
            Err(ReturnError::Decided(Decision::Denied)) => attempt.answer(DenyAnswer::Denied),
            Err(error) => attempt.answer(DenyAnswer::No(error)),
        }
    }
}
