//! A browser comes back from Enedis with something that decides nothing.

use actix::prelude::*;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::keyring::{BrowserHash, StateHash};
use crate::device_flow::session::ReturnError;
use crate::device_flow::store::SessionKey;

/// The answer to a browser that is back without an authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    /// It set out with this `state`, and nothing was decided since.
    Awaited,
    /// It did not, or something was.
    No(ReturnError),
    /// The store did not answer: come back.
    Unavailable,
}

impl CodeRegistryHandle {
    /// Whether this browser set out with this `state`, and nothing was decided since. Changes nothing.
    pub async fn check(&self, state: StateHash, browser: BrowserHash) -> Result<CheckAnswer, AskError> {
        self.ask(state.slot(), |reply| CheckReturn { state, browser, reply }).await
    }
}

/// Is this return one that we wait for? Sent by `GET /auth/redirect`; changes nothing.
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
        let found = shard.table[row].check_return(browser, state, None, shard.ports.clock.now());
        attempt.answer(found.map_or_else(CheckAnswer::No, |()| CheckAnswer::Awaited));
    }
}
