//! A person looks at a code before confirming it.

use std::sync::Arc;

use actix::prelude::*;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::clock::Timestamp;
use crate::base::keyring::UserHash;
use crate::device_flow::store::SessionKey;

/// The answer to a person who typed a code.
#[derive(Debug)]
pub enum FindAnswer {
    /// The code may be confirmed.
    Open(PendingCode),
    /// Unknown, expired or used: one answer for all three.
    Unknown,
    /// The store did not answer: come back.
    Unavailable,
}

/// What the person is shown before confirming.
#[derive(Clone, Debug)]
pub struct PendingCode {
    /// The client that asked.
    pub client_id: Arc<str>,
    /// Its `User-Agent`.
    pub agent: Option<Arc<str>>,
    /// When it asked.
    pub requested_at: Timestamp,
    /// When the code ends, unless it is confirmed before.
    pub expires_at: Timestamp,
}

impl CodeRegistryHandle {
    /// What a person who typed a code is about to confirm. Changes nothing.
    pub async fn find_code(&self, user: UserHash) -> Result<FindAnswer, AskError> {
        self.ask(user.slot(), |reply| FindCode { user, reply }).await
    }
}

/// What is a person about to confirm? Sent by `GET /device`; changes nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FindCode {
    user: UserHash,
    reply: Reply<FindAnswer>,
}

impl Handler<FindCode> for CodeRegistry {
    type Result = ();

    // Synchronous, unless the session is being written or has to be looked up.
    fn handle(&mut self, msg: FindCode, ctx: &mut Self::Context) {
        self.serve(Attempt::first(msg), ctx);
    }
}

impl SessionRequest for FindCode {
    type Answer = FindAnswer;
    const UNKNOWN: FindAnswer = FindAnswer::Unknown;
    const UNAVAILABLE: FindAnswer = FindAnswer::Unavailable;

    fn key(&self) -> SessionKey {
        SessionKey::User(self.user)
    }

    fn into_reply(self) -> Reply<FindAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, _: &mut Context<CodeRegistry>) {
        let session = &shard.table[row];
        if !session.is_open(shard.ports.clock.now()) {
            return attempt.answer(FindAnswer::Unknown);
        }
        attempt.answer(FindAnswer::Open(PendingCode {
            client_id: Arc::clone(&session.request.client_id),
            agent: session.request.agent.clone(),
            requested_at: session.requested_at,
            expires_at: session.expires_at,
        }));
    }
}
