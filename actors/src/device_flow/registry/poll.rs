//! A device asks whether its person has decided (RFC 8628 section 3.4).

use std::sync::Arc;

use actix::prelude::*;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::clock::Timestamp;
use crate::base::keyring::DeviceHash;
use crate::base::sealed::Purpose;
use crate::base::token_set::TokenSet;
use crate::device_flow::poll::{AuthStyle, PollAnswer};
use crate::device_flow::session::{Phase, PollFinding, Session};
use crate::device_flow::store::SessionKey;
use crate::device_flow::throttler::PacePoll;

impl CodeRegistryHandle {
    /// Answers a poll at the token endpoint by an authenticated client. Its secret must be the one that the device
    /// brought to `/device/code`, if it brought one.
    pub async fn poll(
        &self,
        device: DeviceHash,
        client_id: Arc<str>,
        client_secret: Option<Zeroizing<String>>,
        style: AuthStyle,
    ) -> Result<PollAnswer, AskError> {
        self.ask(device.slot(), |reply| Poll { device, client_id, client_secret, style, reply }).await
    }
}

/// Answer a poll. Sent by `POST /device/token`. A first delivery is durable before the answer; a pending poll is handed
/// to the throttler and touches no store.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Poll {
    device: DeviceHash,
    client_id: Arc<str>,
    client_secret: Option<Zeroizing<String>>,
    style: AuthStyle,
    reply: Reply<PollAnswer>,
}

impl Handler<Poll> for CodeRegistry {
    type Result = ();

    // Synchronous, but for a first delivery, which interleaves.
    fn handle(&mut self, msg: Poll, ctx: &mut Self::Context) {
        self.serve(Attempt::first(SessionKey::Device(msg.device), msg), ctx);
    }
}

impl SessionRequest for Poll {
    type Answer = PollAnswer;
    const UNKNOWN: PollAnswer = PollAnswer::Invalid;
    const UNAVAILABLE: PollAnswer = PollAnswer::Unavailable;

    fn into_reply(self) -> Reply<PollAnswer> {
        self.reply
    }

    // A write under way decides nothing until it is durable, so an undecided session is still pending. One that seems to be
    // over may be going on by it.
    fn overtakes_writes(session: &Session, now: Timestamp) -> bool {
        !matches!(session.phase, Phase::Approved { .. }) && !session.is_expired(now)
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        let (session, keys) = (&shard.table[row], &shard.ports.keys);
        let poll = &attempt.request;
        if session.request.client_id != poll.client_id {
            return attempt.answer(PollAnswer::Invalid);
        }
        // What the device brought to `/device/code` it brings here too (RFC 6749 section 3.2.1).
        if let Some(sealed) = &session.request.client_secret {
            let known =
                Zeroizing::new(keys.open(Purpose::ClientSecret, &session.device, sealed).unwrap_or_default());
            let sent = poll.client_secret.as_ref().map_or(&[][..], |secret| secret.as_bytes());
            if !bool::from(known.ct_eq(sent)) {
                return attempt.answer(PollAnswer::BadSecret);
            }
        }
        let now = shard.ports.clock.now();
        let answer = match session.poll(now) {
            PollFinding::Pending => {
                let Poll { device, style, reply, .. } = attempt.request;
                shard.table.mark_polled(row);
                // The throttler lives as long as this actor does; a refusal drops the reply, which the admission reports.
                return shard.throttler.do_send(PacePoll { device, style, at: now, reply });
            }
            PollFinding::Claim { token, issued_at } => {
                let opened = keys.open(Purpose::Token, &session.device, token).map(Zeroizing::new);
                let token = opened.and_then(|bytes| TokenSet::from_bytes(&bytes));
                let Some(body) = token.map(|token| token.body_after(now.since(issued_at))) else {
                    tracing::error!(session = ?session.device, "an approved token cannot be opened");
                    return attempt.answer(PollAnswer::Unavailable);
                };
                let sealed = keys.seal(&mut shard.rng, Purpose::Delivered, &session.device, body.as_bytes());
                let Some(next) = session.claim(sealed, now, &shard.ports.life) else {
                    return attempt.answer(PollAnswer::Invalid);
                };
                return shard.commit(next, attempt, ctx, |shard, _| {
                    shard.stats.redeemed += 1;
                    PollAnswer::Token(body)
                });
            }
            PollFinding::Repeat(body) => {
                shard.stats.repeated += 1;
                let opened = keys.open(Purpose::Delivered, &session.device, body);
                let body = opened.and_then(|body| String::from_utf8(body).ok());
                body.map_or(PollAnswer::Unavailable, PollAnswer::Token)
            }
            PollFinding::Denied => PollAnswer::Denied,
            PollFinding::Expired => PollAnswer::Expired,
            PollFinding::Spent => PollAnswer::Invalid,
        };
        attempt.answer(answer);
    }
}
