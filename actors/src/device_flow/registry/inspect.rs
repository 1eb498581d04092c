//! The operator looks at a session, or ends it.

use std::sync::Arc;

use actix::prelude::*;

use super::CodeRegistryHandle;
use super::shard::{Attempt, CodeRegistry, SessionRequest};
use super::table::Row;
use crate::base::admission::{AskError, Reply};
use crate::base::clock::Timestamp;
use crate::base::keyring::{DeviceHash, UserHash};
use crate::base::network::Network;
use crate::device_flow::store::SessionKey;

/// The answer to an operator who looks for a session.
#[derive(Clone, Debug)]
pub enum InspectAnswer {
    /// It is here, live or remembered.
    Found(Box<SessionView>),
    /// No session has this code, or none any more.
    Unknown,
    /// The store did not answer: come back.
    Unavailable,
}

/// What an operator may see of a session: no code, no token, no secret.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The device, by its hash.
    pub device: DeviceHash,
    /// The client that asked.
    pub client_id: Arc<str>,
    /// Its `User-Agent`.
    pub agent: Option<Arc<str>>,
    /// Where it is.
    pub network: Option<Network>,
    /// When it asked.
    pub requested_at: Timestamp,
    /// When a browser confirmed the code last.
    pub confirmed_at: Option<Timestamp>,
    /// When the device is told `expired_token`, unless a decision came first.
    pub expires_at: Timestamp,
    /// When nobody remembers it any more.
    pub purge_at: Timestamp,
    /// What happened to it so far: confirmed, presented, failed and the like.
    pub events: u32,
    /// [`Session::state`](crate::device_flow::session::Session::state).
    pub state: &'static str,
}

impl CodeRegistryHandle {
    /// What there is to see of the session of a user code. Changes nothing.
    pub async fn inspect(&self, user: UserHash) -> Result<InspectAnswer, AskError> {
        self.ask(user.slot(), |reply| Inspect { user, reply }).await
    }
}

/// What is there to see of this session? Sent by the operator's console; changes nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Inspect {
    user: UserHash,
    reply: Reply<InspectAnswer>,
}

impl Handler<Inspect> for CodeRegistry {
    type Result = ();

    // Synchronous, unless the session is being written or has to be looked up.
    fn handle(&mut self, msg: Inspect, ctx: &mut Self::Context) {
        self.serve(Attempt::first(SessionKey::User(msg.user), msg), ctx);
    }
}

impl SessionRequest for Inspect {
    type Answer = InspectAnswer;
    const UNKNOWN: InspectAnswer = InspectAnswer::Unknown;
    const UNAVAILABLE: InspectAnswer = InspectAnswer::Unavailable;

    fn into_reply(self) -> Reply<InspectAnswer> {
        self.reply
    }

    fn run(attempt: Attempt<Self>, row: Row, shard: &mut CodeRegistry, _: &mut Context<CodeRegistry>) {
        let session = &shard.table[row];
        attempt.answer(InspectAnswer::Found(Box::new(SessionView {
            device: session.device,
            client_id: Arc::clone(&session.request.client_id),
            agent: session.request.agent.clone(),
            network: session.request.network,
            requested_at: session.requested_at,
            confirmed_at: session.consent.as_ref().map(|consent| consent.confirmed_at),
            expires_at: session.expires_at,
            purge_at: session.purge_at,
            events: session.rev,
            state: session.state(shard.ports.clock.now()),
        })));
    }
}
