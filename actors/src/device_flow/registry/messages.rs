//! The registry's messages: each a verb phrase with its answer. They travel as [`Ask`], question and reply
//! together, and may be put aside inside a shard until the session they are about is free.

use std::fmt;
use std::sync::Arc;

use actix::prelude::*;

use crate::base::admission::Reply;
use crate::base::clock::Timestamp;
use crate::base::code::{PkceVerifier, StateSuffix, StateToken, UserCode};
use crate::base::keyring::{BrowserHash, DeviceHash, GrantHash, StateHash, UserHash};
use crate::base::token_set::TokenSet;
use crate::device_flow::poll::{AuthStyle, PollAnswer};
use crate::device_flow::session::{Presentation, Request, Settled};
use crate::device_flow::store::SessionKey;

/// A request with exactly one answer.
pub trait Question: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;
}

/// A question on its way to a shard, with the way back.
pub struct Ask<Q: Question> {
    /// What is asked.
    pub question: Q,
    /// Whoever waits.
    pub reply: Reply<Q::Answer>,
}

impl<Q: Question> Message for Ask<Q> {
    type Result = ();
}

macro_rules! question {
    ($question:ty => $answer:ty) => {
        impl Question for $question {
            type Answer = $answer;
        }
    };
}

/// Issue a user code for a freshly drawn device code. Sent by `POST /device/code`; durable before the answer.
#[derive(Debug)]
pub struct IssueCode {
    /// Hash of the device code; it picks the shard.
    pub device: DeviceHash,
    /// What the device sent.
    pub request: Request,
}

/// Answer to [`IssueCode`].
#[derive(Debug)]
pub enum IssueAnswer {
    /// The code for the person.
    Issued(UserCode),
    /// `MAX_PENDING_SESSIONS` is reached: come back later.
    Full,
    /// The store did not take it: come back.
    Unavailable,
}
question!(IssueCode => IssueAnswer);

/// Answer a poll. Sent by `POST /device/token`. A first delivery is durable before the answer; a pending poll is
/// handed to the throttler and touches no store.
pub struct Poll {
    /// Hash of the device code.
    pub device: DeviceHash,
    /// The authenticated client.
    pub client_id: Arc<str>,
    /// The secret it sent, if any; compared only with one the device brought to `/device/code`.
    pub client_secret: Option<String>,
    /// How it authenticated.
    pub style: AuthStyle,
}
question!(Poll => PollAnswer);

/// What is a person about to confirm? Sent by `GET /device`; changes nothing.
#[derive(Debug)]
pub struct FindCode {
    /// Hash of the code as typed.
    pub user: UserHash,
}

/// Answer to [`FindCode`].
#[derive(Debug)]
pub enum FindAnswer {
    /// The code may be confirmed.
    Open(PendingCode),
    /// Unknown, expired or used: one answer for all three.
    Unknown,
    /// The store did not answer: come back.
    Unavailable,
}
question!(FindCode => FindAnswer);

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

/// Confirm a code and draw a `state`. Sent by `GET /auth/verify_code`; durable before the answer.
#[derive(Debug)]
pub struct Confirm {
    /// Hash of the code as typed.
    pub user: UserHash,
    /// The browser's cookie.
    pub browser: BrowserHash,
    /// What the page asks to append to the `state`.
    pub suffix: StateSuffix,
    /// Whether to draw a PKCE verifier.
    pub pkce: bool,
}

/// Answer to [`Confirm`].
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
question!(Confirm => ConfirmAnswer);

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

/// May this authorization code be presented? Sent by the consent workflow; durable before the answer, so that
/// the code is known as presented even if the process dies in the next instant.
pub struct BeginExchange {
    /// Hash of the returned `state`.
    pub state: StateHash,
    /// The browser's cookie.
    pub browser: BrowserHash,
    /// The returned authorization.
    pub presentation: Presentation,
}

/// Answer to [`BeginExchange`].
#[derive(Debug)]
pub enum BeginAnswer {
    /// Yes, and nobody else may.
    Go(Lease),
    /// No.
    No(Failure),
}
question!(BeginExchange => BeginAnswer);

/// The right, and the means, to present one authorization code once.
pub struct Lease {
    /// The session.
    pub device: DeviceHash,
    /// The code's hash.
    pub grant: GrantHash,
    /// The client that asked.
    pub client_id: Arc<str>,
    /// The secret the device brought.
    pub client_secret: Option<String>,
    /// The verifier whose challenge was sent.
    pub verifier: Option<PkceVerifier>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.device)
    }
}

/// Why a browser's return is not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Decided before; a reload.
    Settled(Settled),
    /// The `state` is unknown, replaced or expired.
    Unknown,
    /// Not the browser that set out.
    OtherBrowser,
    /// Being completed; come back in a moment.
    InProgress,
    /// This code was presented before, without success: start again.
    Presented,
    /// The store did not answer: come back.
    Unavailable,
}

/// Record how an exchange ended. Sent by the consent workflow; durable before the answer.
#[derive(Debug)]
pub struct FinishExchange {
    /// The session.
    pub device: DeviceHash,
    /// The code's hash.
    pub grant: GrantHash,
    /// How it ended.
    pub outcome: Outcome,
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

/// Answer to [`FinishExchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishAnswer {
    /// Durable.
    Recorded,
    /// Another exchange of the same session brought a token before; it stands.
    Approved,
    /// The session is gone or was settled otherwise.
    Gone,
    /// The store did not answer: try again, the token is not recorded.
    Unavailable,
}
question!(FinishExchange => FinishAnswer);

/// Record that the person refused. Sent by `GET /auth/redirect`; durable before the answer.
#[derive(Debug)]
pub struct DenyConsent {
    /// Hash of the returned `state`.
    pub state: StateHash,
    /// The browser's cookie.
    pub browser: BrowserHash,
}

/// Answer to [`DenyConsent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyAnswer {
    /// The device will be told `access_denied`.
    Denied,
    /// Not recorded.
    No(Failure),
}
question!(DenyConsent => DenyAnswer);

/// Work on one session that can wait inside a shard, and how often it was begun.
pub(super) struct Work {
    pub task: Task,
    pub tries: u8,
    pub looked_up: bool,
}

pub(super) enum Task {
    Poll(Ask<Poll>),
    Find(Ask<FindCode>),
    Confirm(Ask<Confirm>),
    Begin(Ask<BeginExchange>),
    Finish(Ask<FinishExchange>),
    Deny(Ask<DenyConsent>),
}

impl Work {
    pub fn new(task: Task) -> Self {
        Self { task, tries: 0, looked_up: false }
    }

    /// The key that leads to the session.
    pub fn key(&self) -> SessionKey {
        match &self.task {
            Task::Poll(ask) => SessionKey::Device(ask.question.device),
            Task::Find(ask) => SessionKey::User(ask.question.user),
            Task::Confirm(ask) => SessionKey::User(ask.question.user),
            Task::Begin(ask) => SessionKey::State(ask.question.state),
            Task::Finish(ask) => SessionKey::Device(ask.question.device),
            Task::Deny(ask) => SessionKey::State(ask.question.state),
        }
    }

    /// Answers that no session is found.
    pub fn unknown(self) {
        match self.task {
            Task::Poll(ask) => ask.reply.send(PollAnswer::Invalid),
            Task::Find(ask) => ask.reply.send(FindAnswer::Unknown),
            Task::Confirm(ask) => ask.reply.send(ConfirmAnswer::Unknown),
            Task::Begin(ask) => ask.reply.send(BeginAnswer::No(Failure::Unknown)),
            Task::Finish(ask) => ask.reply.send(FinishAnswer::Gone),
            Task::Deny(ask) => ask.reply.send(DenyAnswer::No(Failure::Unknown)),
        }
    }

    /// Answers that the store is in trouble.
    pub fn unavailable(self) {
        match self.task {
            Task::Poll(ask) => ask.reply.send(PollAnswer::Unavailable),
            Task::Find(ask) => ask.reply.send(FindAnswer::Unavailable),
            Task::Confirm(ask) => ask.reply.send(ConfirmAnswer::Unavailable),
            Task::Begin(ask) => ask.reply.send(BeginAnswer::No(Failure::Unavailable)),
            Task::Finish(ask) => ask.reply.send(FinishAnswer::Unavailable),
            Task::Deny(ask) => ask.reply.send(DenyAnswer::No(Failure::Unavailable)),
        }
    }
}
