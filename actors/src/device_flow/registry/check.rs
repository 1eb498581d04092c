//! What became of the consent that a browser set out for.

use actix::prelude::*;
use zeroize::Zeroizing;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::code::BearerToken;
use crate::base::keyring::{BrowserHash, StateHash, TokenHash};
use crate::base::sealed::{Purpose, Sealed};
use crate::base::token_set::TokenSet;
use crate::device_flow::session::{Phase, ReturnError};
use crate::device_flow::store::SessionKey;

/// How the consent of a browser stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    /// It set out with this `state`, and nothing was decided since.
    Awaited,
    /// It consented.
    Approved {
        /// Whether the device has fetched its token.
        delivered: bool,
        /// The meters of the token.
        usage_points: Vec<String>,
        /// The hash of its refresh token, if that can be one of ours.
        refresh: Option<TokenHash>,
    },
    /// It did not set out with it, or something else was decided.
    No(ReturnError),
    /// The store did not answer: come back.
    Unavailable,
}

impl CodeRegistryHandle {
    /// How the consent stands for which this browser set out with this `state`. Changes nothing.
    pub async fn check(&self, state: StateHash, browser: BrowserHash) -> Result<CheckAnswer, AskError> {
        self.ask(state.slot(), |reply| CheckReturn { state, browser, reply }).await
    }
}

/// How does this consent stand? Sent by `GET /auth/redirect`; changes nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CheckReturn {
    state: StateHash,
    browser: BrowserHash,
    reply: Reply<CheckAnswer>,
}

impl Handler<CheckReturn> for CodeRegistry {
    type Result = ();

    // Synchronous, unless the session is being written or has to be looked up.
    fn handle(&mut self, msg: CheckReturn, ctx: &mut Self::Context) {
        self.serve(Attempt::first(SessionKey::State(msg.state), msg), ctx);
    }
}

impl SessionRequest for CheckReturn {
    type Answer = CheckAnswer;
    const UNKNOWN: CheckAnswer = CheckAnswer::No(ReturnError::Gone);
    const UNAVAILABLE: CheckAnswer = CheckAnswer::Unavailable;

    fn into_reply(self) -> Reply<CheckAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, _: &mut Context<CodeRegistry>) {
        let CheckReturn { state, browser, .. } = &attempt.request;
        let (session, keys) = (&shard.table[row], &shard.ports.keys);
        let open = |purpose: Purpose<'_>, sealed: &Sealed| {
            let opened = keys.open(purpose, &session.device, sealed).map(Zeroizing::new);
            opened.and_then(|bytes| TokenSet::from_bytes(&bytes))
        };
        let approved = |delivered, token: Option<TokenSet>| {
            let refresh = token.as_ref().and_then(TokenSet::refresh_token).and_then(BearerToken::parse);
            CheckAnswer::Approved {
                delivered,
                refresh: refresh.map(|refresh| keys.refresh(&refresh)),
                usage_points: token.map(|token| token.usage_points()).unwrap_or_default(),
            }
        };
        let found = session.check_return(browser, state, None, shard.ports.clock.now());
        let answer = match (found, &session.phase) {
            (Err(ReturnError::Decided(_)), Phase::Approved { token, .. }) => {
                approved(false, open(Purpose::Token, token))
            }
            (Err(ReturnError::Decided(_)), Phase::Redeemed { body, .. }) => {
                approved(true, open(Purpose::Delivered, body))
            }
            (Err(error), _) => CheckAnswer::No(error),
            (Ok(()), _) => CheckAnswer::Awaited,
        };
        attempt.answer(answer);
    }
}
