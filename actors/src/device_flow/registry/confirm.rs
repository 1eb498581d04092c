//! A person looks at a code; a browser confirms it and is sent to Enedis.

use std::sync::Arc;

use actix::prelude::*;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::clock::Timestamp;
use crate::base::code::{PkceVerifier, StateSuffix, StateToken};
use crate::base::keyring::{BrowserHash, UserHash};
use crate::base::network::Network;
use crate::base::sealed::Purpose;
use crate::device_flow::session::{ConfirmError, Consent, Request};
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
    /// Where it is.
    pub network: Option<Network>,
    /// When it asked.
    pub requested_at: Timestamp,
    /// When the code ends, unless it is confirmed before.
    pub expires_at: Timestamp,
}

/// The answer to a browser that confirms a code.
#[derive(Debug)]
pub enum ConfirmAnswer {
    /// Off to Enedis.
    Confirmed(Confirmed),
    /// Unknown, expired or used.
    Unknown,
    /// Another browser holds the code.
    InUse,
    /// The store did not answer: come back.
    Unavailable,
}

/// What the authorize request is built from.
#[derive(Debug)]
pub struct Confirmed {
    /// The `state`, as sent.
    pub state: StateToken,
    /// The client that asked.
    pub client_id: Arc<str>,
    /// The scope it asked for.
    pub scope: Option<Arc<str>>,
    /// The PKCE verifier whose challenge is sent.
    pub verifier: Option<PkceVerifier>,
}

impl CodeRegistryHandle {
    /// What a person who typed a code is about to confirm. Changes nothing.
    pub async fn find_code(&self, user: UserHash) -> Result<FindAnswer, AskError> {
        self.ask(user.slot(), |reply| FindCode { user, reply }).await
    }

    /// A browser confirms a user code; it is sent to Enedis with the answer's `state`, which ends in `suffix`. With `pkce`
    /// a verifier is drawn as well. Durable before the answer.
    pub async fn confirm(
        &self,
        user: UserHash,
        browser: BrowserHash,
        suffix: StateSuffix,
        pkce: bool,
    ) -> Result<ConfirmAnswer, AskError> {
        self.ask(user.slot(), |reply| Confirm { user, browser, suffix, pkce, reply }).await
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
        self.serve(Attempt::first(SessionKey::User(msg.user), msg), ctx);
    }
}

impl SessionRequest for FindCode {
    type Answer = FindAnswer;
    const UNKNOWN: FindAnswer = FindAnswer::Unknown;
    const UNAVAILABLE: FindAnswer = FindAnswer::Unavailable;

    fn into_reply(self) -> Reply<FindAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, _: &mut Context<CodeRegistry>) {
        let session = &shard.table[row];
        if !session.is_open(shard.ports.clock.now()) {
            return attempt.answer(FindAnswer::Unknown);
        }
        let found = FindAnswer::Open(PendingCode {
            client_id: Arc::clone(&session.request.client_id),
            agent: session.request.agent.clone(),
            network: session.request.network,
            requested_at: session.requested_at,
            expires_at: session.expires_at,
        });
        shard.stats.opened += 1;
        attempt.answer(found);
    }
}

/// Confirm a code and draw a `state`. Sent by `GET /auth/verify_code`; durable before the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Confirm {
    user: UserHash,
    browser: BrowserHash,
    suffix: StateSuffix,
    pkce: bool,
    reply: Reply<ConfirmAnswer>,
}

impl Handler<Confirm> for CodeRegistry {
    type Result = ();

    // Interleaves: other messages of this session wait.
    fn handle(&mut self, msg: Confirm, ctx: &mut Self::Context) {
        self.serve(Attempt::first(SessionKey::User(msg.user), msg), ctx);
    }
}

impl SessionRequest for Confirm {
    type Answer = ConfirmAnswer;
    const UNKNOWN: ConfirmAnswer = ConfirmAnswer::Unknown;
    const UNAVAILABLE: ConfirmAnswer = ConfirmAnswer::Unavailable;

    fn into_reply(self) -> Reply<ConfirmAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        let (session, keys, rng) = (&shard.table[row], &shard.ports.keys, &mut shard.rng);
        let Confirm { browser, suffix, pkce, .. } = &attempt.request;
        let (state, hash) = loop {
            let state = StateToken::generate(rng, suffix);
            let hash = keys.state(&state);
            if hash.slot() == session.device.slot() {
                break (state, hash);
            }
        };
        let verifier = pkce.then(|| PkceVerifier::generate(rng));
        let sealed = verifier
            .as_ref()
            .map(|verifier| keys.seal(rng, Purpose::Verifier, &session.device, verifier.expose().as_bytes()));
        let now = shard.ports.clock.now();
        let consent = Consent { browser: *browser, state: hash, verifier: sealed, confirmed_at: now };
        let next = match session.confirm(consent, now, &shard.ports.life) {
            Ok(next) => next,
            Err(ConfirmError::Gone) => return attempt.answer(ConfirmAnswer::Unknown),
            Err(ConfirmError::InUse) => return attempt.answer(ConfirmAnswer::InUse),
        };
        let Request { client_id, scope, .. } = session.request.clone();
        shard.commit(next, attempt, ctx, |shard, _| {
            shard.stats.confirmed += 1;
            ConfirmAnswer::Confirmed(Confirmed { state, client_id, scope, verifier })
        });
    }
}
