//! What comes back from Enedis: an authorization, marked as presented before anything else happens and recorded as it
//! ended; or a refusal.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::RngExt;
use zeroize::Zeroizing;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::clock::Timestamp;
use crate::base::code::PkceVerifier;
use crate::base::histogram::Bounds;
use crate::base::keyring::{BrowserHash, DeviceHash, GrantHash, StateHash, UserHash};
use crate::base::sealed::{Purpose, Sealed};
use crate::base::token_set::TokenSet;
use crate::device_flow::session::{ConfirmError, Decision, Presentation, ReturnError, Session};
use crate::device_flow::store::SessionKey;

/// Marks of a presented code that differ, by the end of its exchange in milliseconds.
const MARKS: u64 = 4_096;

/// The answer to a browser that is back with an authorization.
#[derive(Debug)]
pub enum BeginAnswer {
    /// It may be presented, and nobody else may.
    Go(Lease),
    /// It may not.
    No(ReturnError),
    /// The store did not answer: come back.
    Unavailable,
}

/// The right, and the means, to present one authorization code once.
#[derive(derive_more::Debug)]
#[debug("Lease({device:?})")]
pub struct Lease {
    /// The session.
    pub device: DeviceHash,
    /// The code's hash.
    pub grant: GrantHash,
    /// When its device asked for the code.
    pub asked_at: Timestamp,
    /// The client that asked.
    pub client_id: Arc<str>,
    /// The secret the device brought.
    pub client_secret: Option<Zeroizing<String>>,
    /// The verifier whose challenge was sent.
    pub verifier: Option<PkceVerifier>,
}

impl CodeRegistryHandle {
    /// Enedis returned an authorization code: may it be presented? Durable before the answer.
    pub async fn begin(
        &self,
        state: StateHash,
        browser: BrowserHash,
        presentation: Presentation,
    ) -> Result<BeginAnswer, AskError> {
        self.ask(state.slot(), |reply| BeginExchange { state, browser, presentation, reply }).await
    }

    /// How the exchange of a [`Lease`] ended. Durable before the answer.
    pub async fn finish(
        &self,
        device: DeviceHash,
        grant: GrantHash,
        outcome: Outcome,
    ) -> Result<FinishAnswer, AskError> {
        self.ask(device.slot(), |reply| FinishExchange { device, grant, outcome, reply }).await
    }

    /// The person refused. Durable before the answer.
    pub async fn deny(&self, refusal: Refusal) -> Result<DenyAnswer, AskError> {
        let slot = match refusal {
            Refusal::AtEnedis { state, .. } => state.slot(),
            Refusal::OnOurPage { user } => user.slot(),
        };
        self.ask(slot, |reply| Deny { refusal, reply }).await
    }
}

/// May this authorization code be presented? Sent by the consent workflow; durable before the answer, so that the code is
/// known as presented even if the process dies in the next instant.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct BeginExchange {
    state: StateHash,
    browser: BrowserHash,
    presentation: Presentation,
    reply: Reply<BeginAnswer>,
}

impl Handler<BeginExchange> for CodeRegistry {
    type Result = ();

    // Interleaves: other messages of this session wait. A reload waits for the exchange that is under way.
    fn handle(&mut self, mut msg: BeginExchange, ctx: &mut Self::Context) {
        // Two instances that are handed the same return in the same instant: neither may take the other's mark in the store
        // for its own.
        let until = &mut msg.presentation.until;
        *until = *until + Duration::from_millis(self.rng.random_range(0..MARKS));
        self.serve(Attempt::first(SessionKey::State(msg.state), msg), ctx);
    }
}

impl SessionRequest for BeginExchange {
    type Answer = BeginAnswer;
    const UNKNOWN: BeginAnswer = BeginAnswer::No(ReturnError::Gone);
    const UNAVAILABLE: BeginAnswer = BeginAnswer::Unavailable;

    fn into_reply(self) -> Reply<BeginAnswer> {
        self.reply
    }

    // The mark may stand, and the code was handed to nobody.
    fn left_in_doubt(shard: &mut CodeRegistry, next: Session) {
        shard.unpresented.insert(next.device, next);
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        let (session, keys) = (&shard.table[row], &shard.ports.keys);
        let BeginExchange { state, browser, presentation, .. } = attempt.request;
        let device = session.device;
        let next =
            match session.begin(&browser, &state, presentation, shard.ports.clock.now(), &shard.ports.life) {
                Ok(next) => next,
                Err(error) => {
                    return match shard.exchanging.get_mut(&device) {
                        Some(waiting) if error == ReturnError::InProgress => {
                            waiting.push(Box::new(Attempt::first(attempt.key, attempt.request)));
                        }
                        _ => attempt.answer(BeginAnswer::No(error)),
                    };
                }
            };
        let open = |purpose: Purpose<'_>, sealed: &Sealed| {
            String::from_utf8(keys.open(purpose, &device, sealed)?).ok().map(Zeroizing::new)
        };
        let secret = session.request.client_secret.as_ref();
        let verifier = session.consent.as_ref().and_then(|consent| consent.verifier.as_ref());
        let lease = Lease {
            device,
            grant: presentation.grant,
            asked_at: session.requested_at,
            client_id: Arc::clone(&session.request.client_id),
            client_secret: secret.and_then(|sealed| open(Purpose::ClientSecret, sealed)),
            verifier: verifier
                .and_then(|sealed| open(Purpose::Verifier, sealed))
                .and_then(|text| PkceVerifier::parse(&text)),
        };
        let marked = next.clone();
        shard.commit(next, attempt, ctx, move |shard, begin| {
            if begin.reply.is_abandoned() {
                // Nobody is left to present the code: it is as good as it was.
                shard.unpresented.insert(device, marked);
            } else {
                shard.exchanging.entry(device).or_default();
            }
            BeginAnswer::Go(lease)
        });
    }
}

/// How an exchange ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Enedis gave a token.
    Token(TokenSet),
    /// It did not. `consumed` unless Enedis certainly did not act on the code.
    Failed {
        /// The code may be spent.
        consumed: bool,
    },
    /// Nothing came yet, and the same authorization may be presented again.
    Postponed,
}

/// The answer to whoever ends an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishAnswer {
    /// Durable.
    Recorded,
    /// Another exchange of the same session brought a token before; it stands.
    Approved,
    /// The session is gone or was decided otherwise.
    Gone,
    /// The store did not answer: try again, the token is not recorded.
    Unavailable,
}

/// Record how an exchange ended. Sent by the consent workflow; durable before the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FinishExchange {
    device: DeviceHash,
    grant: GrantHash,
    outcome: Outcome,
    reply: Reply<FinishAnswer>,
}

impl Handler<FinishExchange> for CodeRegistry {
    type Result = ();

    // Interleaves: other messages of this session wait.
    fn handle(&mut self, msg: FinishExchange, ctx: &mut Self::Context) {
        self.serve(Attempt::first(SessionKey::Device(msg.device), msg), ctx);
    }
}

impl SessionRequest for FinishExchange {
    type Answer = FinishAnswer;
    const UNKNOWN: FinishAnswer = FinishAnswer::Gone;
    const UNAVAILABLE: FinishAnswer = FinishAnswer::Unavailable;

    fn into_reply(self) -> Reply<FinishAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        let session = &shard.table[row];
        let FinishExchange { device, grant, outcome, .. } = &attempt.request;
        let (now, life) = (shard.ports.clock.now(), &shard.ports.life);
        let took = now.since(session.requested_at);
        let next = match outcome {
            Outcome::Token(token) => {
                let sealed = shard.ports.keys.seal(&mut shard.rng, Purpose::Token, device, &token.to_bytes());
                session.approve(grant, sealed, now, life)
            }
            Outcome::Failed { consumed } => session.fail(grant, *consumed, now, life),
            Outcome::Postponed => session.postpone(grant, now, life),
        };
        match next {
            Ok(next) => shard.commit(next, attempt, ctx, move |shard, finish| {
                if matches!(finish.outcome, Outcome::Token(_)) {
                    shard.stats.approved += 1;
                    shard.stats.time_to_consent.observe(&Bounds::OF_PEOPLE, took);
                }
                FinishAnswer::Recorded
            }),
            Err(error) => {
                shard.end_exchange(*device, ctx);
                let approved = error == ReturnError::Decided(Decision::Approved);
                attempt.answer(if approved { FinishAnswer::Approved } else { FinishAnswer::Gone });
            }
        }
    }
}

/// Who refuses, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The browser that comes back from Enedis with `error=access_denied`.
    AtEnedis {
        /// Its `state`.
        state: StateHash,
        /// Its cookie.
        browser: BrowserHash,
    },
    /// Whoever looks at a code that they did not ask for.
    OnOurPage {
        /// The code.
        user: UserHash,
    },
}

/// The answer to a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyAnswer {
    /// The device will be told `access_denied`; which one it is and its client, if it was not refused before.
    Denied(Option<(DeviceHash, Arc<str>)>),
    /// Not recorded.
    No(ReturnError),
    /// The store did not answer: come back.
    Unavailable,
}

/// Record that the person refused. Sent by `GET /auth/redirect` and `GET /auth/verify_code`; durable before the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Deny {
    refusal: Refusal,
    reply: Reply<DenyAnswer>,
}

impl Handler<Deny> for CodeRegistry {
    type Result = ();

    // Interleaves: other messages of this session wait.
    fn handle(&mut self, msg: Deny, ctx: &mut Self::Context) {
        let key = match msg.refusal {
            Refusal::AtEnedis { state, .. } => SessionKey::State(state),
            Refusal::OnOurPage { user } => SessionKey::User(user),
        };
        self.serve(Attempt::first(key, msg), ctx);
    }
}

impl SessionRequest for Deny {
    type Answer = DenyAnswer;
    const UNKNOWN: DenyAnswer = DenyAnswer::No(ReturnError::Gone);
    const UNAVAILABLE: DenyAnswer = DenyAnswer::Unavailable;

    fn into_reply(self) -> Reply<DenyAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        let (session, now, life) = (&shard.table[row], shard.ports.clock.now(), &shard.ports.life);
        let next = match &attempt.request.refusal {
            Refusal::AtEnedis { state, browser } => session.deny(browser, state, now, life),
            Refusal::OnOurPage { .. } => session.decline(now, life).map_err(|error| match error {
                ConfirmError::Gone => ReturnError::Gone,
                ConfirmError::InUse => ReturnError::InProgress,
            }),
        };
        match next {
            Ok(next) => {
                let denied = (session.device, Arc::clone(&session.request.client_id));
                shard.commit(next, attempt, ctx, |shard, _| {
                    shard.stats.denied += 1;
                    DenyAnswer::Denied(Some(denied))
                });
            }
            Err(ReturnError::Decided(Decision::Denied)) => attempt.answer(DenyAnswer::Denied(None)),
            Err(error) => attempt.answer(DenyAnswer::No(error)),
        }
    }
}

impl CodeRegistry {
    /// The reloads that waited for an exchange of this session go on.
    pub(super) fn end_exchange(&mut self, device: DeviceHash, ctx: &mut Context<Self>) {
        for waiting in self.exchanging.remove(&device).unwrap_or_default() {
            waiting.resume(self, ctx);
        }
    }
}
