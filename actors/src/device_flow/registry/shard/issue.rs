//! How a session begins: a user code is drawn that shares the device code's slot, and both are made durable.

use actix::prelude::*;

use super::CodeRegistry;
use crate::base::code::UserCode;
use crate::base::store::Written;
use crate::device_flow::registry::messages::{Ask, IssueAnswer, IssueCode};
use crate::device_flow::session::Session;
use crate::device_flow::store::Write;

/// Draws of a user code before giving up; each fails only if the code is taken.
const DRAWS_MAX: u8 = 5;

impl CodeRegistry {
    pub(super) fn issue(&mut self, ask: Ask<IssueCode>, draw: u8, ctx: &mut Context<Self>) {
        if self.table.held_together() >= self.ports.sessions_max {
            self.stats.refused += 1;
            return ask.reply.send(IssueAnswer::Full);
        }
        let device = ask.question.device;
        let (code, user) = loop {
            let code = UserCode::generate(&mut self.rng);
            let user = self.ports.keys.user(&code);
            if user.slot() == device.slot() && !self.table.has_user(&user) {
                break (code, user);
            }
        };
        let session = Session::open(
            device,
            user,
            ask.question.request.clone(),
            self.ports.clock.now(),
            &self.ports.life,
        );
        let writer = self.ports.writer.clone();
        let write = Write::Insert(session.clone());
        let written = async move { writer.commit(write).await };
        ctx.spawn(written.into_actor(self).map(move |written, act, ctx| match written {
            Ok(Written::Applied) => {
                act.stats.issued += 1;
                act.table.put(session);
                ask.reply.send(IssueAnswer::Issued(code));
            }
            Ok(Written::Conflict) if draw < DRAWS_MAX => act.issue(ask, draw + 1, ctx),
            Ok(Written::Conflict) => ask.reply.send(IssueAnswer::Unavailable),
            // If it was written after all, nobody knows its codes: it expires unused.
            Err(error) => {
                tracing::warn!(%error, "a device code could not be stored");
                ask.reply.send(IssueAnswer::Unavailable);
            }
        }));
    }
}
