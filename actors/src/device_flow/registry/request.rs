//! What all requests about one session have in common: how the session is found, and that exactly one answer is given,
//! at once or when the session is free.

use actix::prelude::*;

use super::shard::CodeRegistry;
use super::table::Row;
use crate::base::admission::Reply;
use crate::device_flow::session::Session;
use crate::device_flow::store::SessionKey;

/// A message about a session that exists, answered by [`CodeRegistry::serve`].
pub(super) trait SessionRequest: Sized + 'static {
    /// What comes back.
    type Answer;
    /// The answer if no session has the key.
    const UNKNOWN: Self::Answer;
    /// The answer if the store is in trouble.
    const UNAVAILABLE: Self::Answer;

    /// Leads to the session.
    fn key(&self) -> SessionKey;

    /// The way back.
    fn into_reply(self) -> Reply<Self::Answer>;

    /// Deals with the request: the session lies in `row`, and nothing else is being done with it.
    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>);

    /// Whether a write of `session` that is under way makes no difference to the answer.
    fn overtakes_writes(_session: &Session) -> bool {
        false
    }

    /// The request was answered as unavailable, and `next` may have become durable or not.
    fn left_in_doubt(_shard: &mut CodeRegistry, _next: Session) {}
}

/// A request, and what was tried for it.
pub(super) struct Attempt<R> {
    pub request: R,
    /// Times that its change met another revision in the store.
    pub conflicts: u8,
    /// Whether the store was asked for its session.
    pub looked_up: bool,
}

impl<R: SessionRequest> Attempt<R> {
    pub fn first(request: R) -> Self {
        Self { request, conflicts: 0, looked_up: false }
    }

    pub fn answer(self, answer: R::Answer) {
        self.request.into_reply().send(answer);
    }
}

/// A request of any kind that waits for its session.
pub(super) trait Waiting {
    /// Goes on.
    fn resume(self: Box<Self>, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>);
    /// Gives up: the store is in trouble.
    fn give_up(self: Box<Self>);
}

impl<R: SessionRequest> Waiting for Attempt<R> {
    fn resume(self: Box<Self>, shard: &mut CodeRegistry, ctx: &mut Context<CodeRegistry>) {
        shard.serve(*self, ctx);
    }

    fn give_up(self: Box<Self>) {
        self.answer(R::UNAVAILABLE);
    }
}
