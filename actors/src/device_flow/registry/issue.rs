//! How a session begins: a user code is drawn that shares the device code's slot, and both are made durable.

use std::time::Duration;

use actix::prelude::*;

use super::CodeRegistryHandle;
use super::shard::CodeRegistry;
use crate::base::admission::{AskError, Reply};
use crate::base::aside::aside;
use crate::base::code::UserCode;
use crate::base::keyring::DeviceHash;
use crate::base::store::Written;
use crate::device_flow::session::{Request, Session};
use crate::device_flow::store::{SessionKey, Write};

/// Draws of a user code before giving up; each fails only if another instance gave the code to somebody else.
const DRAWS_MAX: u8 = 5;

/// The part of `MAX_PENDING_SESSIONS` that one network may hold: one in so many.
const NETWORK_SHARE: usize = 16;
/// What a network may hold in any case.
const NETWORK_LEAST: usize = 16;
/// How long a device may take to its first poll before its session is given up for another, should there be no room.
const FORSAKEN_AFTER: Duration = Duration::from_secs(60);
/// Sessions looked at for one to give up.
const FORSAKEN_LOOKED_AT: usize = 1_000;

/// The answer to a device that asks for a code.
#[derive(Debug)]
pub enum IssueAnswer {
    /// The code for the person.
    Issued(UserCode),
    /// `MAX_PENDING_SESSIONS` is reached: come back later.
    Full,
    /// The store did not take it, or is behind: come back.
    Unavailable,
}

impl CodeRegistryHandle {
    /// Issues a user code for a freshly drawn device code (RFC 8628 section 3.2). Durable before the answer.
    pub async fn issue(&self, device: DeviceHash, request: Request) -> Result<IssueAnswer, AskError> {
        self.ask(device.slot(), |reply| IssueCode { device, request, reply }).await
    }
}

/// Issue a user code for a freshly drawn device code. Sent by `POST /device/code`; durable before the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct IssueCode {
    /// Hash of the device code; it picks the shard.
    pub device: DeviceHash,
    /// What the device sent.
    pub request: Request,
    /// The HTTP handler that waits.
    pub reply: Reply<IssueAnswer>,
}

impl Handler<IssueCode> for CodeRegistry {
    type Result = ();

    // Interleaves: no other message can be about this session before its code is told.
    fn handle(&mut self, msg: IssueCode, ctx: &mut Self::Context) {
        self.issue(msg, 1, ctx);
    }
}

impl CodeRegistry {
    /// Gives up a session whose device never came back, for one that has.
    fn make_room(&mut self, msg: IssueCode, draw: u8, ctx: &mut Context<Self>) {
        let now = self.ports.clock.now();
        let forsaken = self.table.forsaken(now, FORSAKEN_AFTER, FORSAKEN_LOOKED_AT);
        let Some(given_up) = forsaken.filter(|_| draw < DRAWS_MAX).map(|session| session.abandon(now)) else {
            self.stats.refused += 1;
            return msg.reply.send(IssueAnswer::Full);
        };
        let (device, writer) = (given_up.device, self.ports.writer.clone());
        let written = async move { writer.commit(Write::Update { to: given_up }).await };
        aside(ctx, written, move |written, shard: &mut Self, ctx| {
            let row = shard.table.row(&SessionKey::Device(device));
            match (written, row) {
                (Ok(Written::Applied), _) => shard.table.remove(&device),
                // Something was done with it meanwhile: it is read again, and is not the one to go.
                (Ok(Written::Conflict), Some(row)) => {
                    shard.table.mark_polled(row);
                    shard.suspects.insert(device);
                }
                // Another request has given it up.
                (Ok(Written::Conflict), None) => {}
                (Err(error), row) => {
                    tracing::warn!(%error, "a session could not be given up");
                    shard.suspects.extend(row.map(|_| device));
                    return msg.reply.send(IssueAnswer::Unavailable);
                }
            }
            shard.issue(msg, draw + 1, ctx);
        });
    }

    fn issue(&mut self, msg: IssueCode, draw: u8, ctx: &mut Context<Self>) {
        // Before anything is drawn: a flood that is refused costs little.
        let share = (self.ports.sessions_max / NETWORK_SHARE).max(NETWORK_LEAST);
        if self.table.count_of_network(msg.request.network) >= share {
            self.stats.refused += 1;
            return msg.reply.send(IssueAnswer::Full);
        }
        // Before it waits: its device would have gone when its turn comes, and those of all behind it too. What people have
        // begun goes on.
        if self.ports.writer.is_behind(self.ports.clock.now()) {
            self.stats.refused += 1;
            return msg.reply.send(IssueAnswer::Unavailable);
        }
        if self.table.count_of_all_shards() >= self.ports.sessions_max {
            return self.make_room(msg, draw, ctx);
        }
        let (code, user) = loop {
            let code = UserCode::generate(&mut self.rng);
            let user = self.ports.keys.user(&code);
            if user.slot() == msg.device.slot() && self.table.row(&SessionKey::User(user)).is_none() {
                break (code, user);
            }
        };
        let now = self.ports.clock.now();
        let session = Session::open(msg.device, user, msg.request.clone(), now, &self.ports.life);
        let writer = self.ports.writer.clone();
        let write = Write::Insert(session.clone());
        let written = async move { writer.commit(write).await };
        aside(ctx, written, move |written, shard: &mut Self, ctx| match written {
            Ok(Written::Applied) => {
                shard.stats.issued += 1;
                shard.table.put(session);
                msg.reply.send(IssueAnswer::Issued(code));
            }
            Ok(Written::Conflict) if draw < DRAWS_MAX => shard.issue(msg, draw + 1, ctx),
            Ok(Written::Conflict) => msg.reply.send(IssueAnswer::Unavailable),
            // If it was written after all, nobody knows its codes: it expires unused.
            Err(error) => {
                tracing::warn!(%error, "a device code could not be stored");
                msg.reply.send(IssueAnswer::Unavailable);
            }
        });
    }
}
