//! One shard: the actor shell around [`Table`] and the state machine of [`crate::device_flow::session`].
//!
//! Here is what each message does; `shard/durable.rs` is how a change reaches the store and what happens when it
//! does not, `shard/issue.rs` how a session begins.

mod durable;
mod issue;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use subtle::ConstantTimeEq;

use super::messages::{
    Ask, BeginAnswer, BeginExchange, Confirm, ConfirmAnswer, Confirmed, DenyAnswer, DenyConsent, Failure,
    FindAnswer, FindCode, FinishAnswer, FinishExchange, IssueCode, Lease, Outcome, PendingCode, Poll, Task,
    Work,
};
use super::table::Table;
use super::{Learn, ObserveRegistry, RegistrySnapshot};
use crate::base::clock::SharedClock;
use crate::base::code::{PkceVerifier, StateToken};
use crate::base::identity_hash::BuildIdentity;
use crate::base::keyring::{DeviceHash, Keyring, Sealed};
use crate::base::timer::every;
use crate::base::token_set::TokenSet;
use crate::device_flow::poll::{PacePoll, PollAnswer};
use crate::device_flow::session::{
    ConfirmError, Consent, Lifetimes, Phase, PollFinding, Request, ReturnError, Session, Settled,
};
use crate::device_flow::store::{SessionKey, SessionStore};
use crate::device_flow::writer::WriterHandle;

/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sessions looked at in one go, to stay well under half a millisecond.
const SWEEP_LIMIT: usize = 2_000;

/// What a shard is made of.
#[derive(Clone)]
pub struct ShardPorts {
    /// Writes go through here.
    pub writer: WriterHandle,
    /// Reads of sessions that are not in memory.
    pub store: Arc<dyn SessionStore>,
    /// Wall time.
    pub clock: SharedClock,
    /// Hashes and seals.
    pub keys: Arc<Keyring>,
    /// Deadlines.
    pub life: Lifetimes,
    /// Sessions that all shards hold at most.
    pub sessions_max: usize,
}

/// The actor. Reach it through [`super::CodeRegistryHandle`].
pub struct CodeRegistry {
    ports: ShardPorts,
    pacer: Recipient<PacePoll>,
    table: Table,
    // A session with a write under way, and the work that waits for it.
    busy: HashMap<DeviceHash, Vec<Work>, BuildIdentity>,
    // Sessions whose stored state is in doubt: read again before anything is said.
    suspects: HashSet<DeviceHash, BuildIdentity>,
    // Reads under way, and the work that waits for them.
    reading: HashMap<SessionKey, Vec<Work>>,
    // Exchanges this process runs, and the reloads that wait for their end.
    exchanging: HashMap<DeviceHash, Vec<Work>, BuildIdentity>,
    // Codes marked as presented that were handed to nobody, because the store was too slow to say that they were
    // marked: given back before anything else is done with their sessions.
    unpresented: HashMap<DeviceHash, Session, BuildIdentity>,
    // Device codes that another instance does not know either, since the last sweep.
    missing: HashSet<DeviceHash, BuildIdentity>,
    // Work to be begun anew once the change before it is durable.
    again: Vec<Work>,
    rng: StdRng,
    stats: RegistrySnapshot,
}

impl CodeRegistry {
    /// A shard that starts out with the sessions of `table`, as the store had them.
    pub fn new(ports: ShardPorts, pacer: Recipient<PacePoll>, seed: [u8; 32], table: Table) -> Self {
        Self {
            ports,
            pacer,
            table,
            busy: HashMap::default(),
            suspects: HashSet::default(),
            reading: HashMap::default(),
            exchanging: HashMap::default(),
            unpresented: HashMap::default(),
            missing: HashSet::default(),
            again: Vec::new(),
            rng: StdRng::from_seed(seed),
            stats: RegistrySnapshot::default(),
        }
    }

    /// Does a piece of work now, or puts it where it waits for its session.
    fn run(&mut self, work: Work, ctx: &mut Context<Self>) {
        let key = work.key();
        let Some(session) = self.table.find(&key) else {
            let known_missing = matches!(&key, SessionKey::Device(device) if self.missing.contains(device));
            if self.ports.store.is_shared() && !work.looked_up && !known_missing {
                self.read(key, work, ctx);
            } else {
                work.unknown();
            }
            return;
        };
        let device = session.device;
        if self.suspects.contains(&device) {
            return self.read(SessionKey::Device(device), work, ctx);
        }
        if let Some(marked) = self.unpresented.remove(&device) {
            return self.give_back(&marked, work, ctx);
        }
        // A write under way decides nothing until it is durable, so an undecided session is still pending.
        let answerable =
            matches!(work.task, Task::Poll(_)) && !matches!(session.phase, Phase::Approved { .. });
        if !answerable && let Some(waiting) = self.busy.get_mut(&device) {
            return waiting.push(work);
        }
        match work.task {
            Task::Poll(ask) => self.poll(ask, work.tries, ctx),
            Task::Find(ask) => self.find(ask),
            Task::Confirm(ask) => self.confirm(ask, work.tries, ctx),
            Task::Begin(ask) => self.begin(ask, work.tries, ctx),
            Task::Finish(ask) => self.finish(ask, work.tries, ctx),
            Task::Deny(ask) => self.deny(ask, work.tries, ctx),
        }
    }

    fn poll(&mut self, ask: Ask<Poll>, tries: u8, ctx: &mut Context<Self>) {
        let Some(session) = self.table.find(&SessionKey::Device(ask.question.device)) else {
            return ask.reply.send(PollAnswer::Invalid);
        };
        if session.request.client_id != ask.question.client_id {
            return ask.reply.send(PollAnswer::Invalid);
        }
        if let (Some(sent), Some(sealed)) = (&ask.question.client_secret, &session.request.client_secret) {
            let known = self.ports.keys.open(&session.device, sealed).unwrap_or_default();
            if !bool::from(known.ct_eq(sent.as_bytes())) {
                return ask.reply.send(PollAnswer::BadSecret);
            }
        }
        let now = self.ports.clock.now();
        match session.poll(now) {
            PollFinding::Pending => {
                let Ask { question, reply } = ask;
                // The throttler lives as long as this actor does; a refusal drops the reply, which the admission reports.
                self.pacer.do_send(PacePoll {
                    device: question.device,
                    style: question.style,
                    at: now,
                    reply,
                });
            }
            PollFinding::Claim { token, issued_at } => {
                let body = self.ports.keys.open(&session.device, token).ok();
                let body = body.as_deref().and_then(TokenSet::from_bytes);
                let Some(body) = body.map(|token| token.body_after(now.since(issued_at))) else {
                    tracing::error!(session = ?session.device, "an approved token cannot be opened");
                    return ask.reply.send(PollAnswer::Unavailable);
                };
                let sealed = self.ports.keys.seal(&mut self.rng, &session.device, body.as_bytes());
                let Some(next) = session.claim(sealed, now, &self.ports.life) else {
                    return ask.reply.send(PollAnswer::Invalid);
                };
                self.commit(
                    next,
                    Work { task: Task::Poll(ask), tries, looked_up: false },
                    ctx,
                    |act, work| {
                        act.stats.redeemed += 1;
                        if let Task::Poll(ask) = work.task {
                            ask.reply.send(PollAnswer::Token(body));
                        }
                    },
                );
            }
            PollFinding::Repeat(body) => {
                let opened = self.ports.keys.open(&session.device, body).ok();
                self.stats.repeated += 1;
                ask.reply.send(match opened.and_then(|body| String::from_utf8(body).ok()) {
                    Some(body) => PollAnswer::Token(body),
                    None => PollAnswer::Unavailable,
                });
            }
            PollFinding::Denied => ask.reply.send(PollAnswer::Denied),
            PollFinding::Expired => ask.reply.send(PollAnswer::Expired),
            PollFinding::Spent => ask.reply.send(PollAnswer::Invalid),
        }
    }

    fn find(&self, ask: Ask<FindCode>) {
        let now = self.ports.clock.now();
        let open = self.table.find(&SessionKey::User(ask.question.user)).filter(|s| s.is_open(now));
        ask.reply.send(open.map_or(FindAnswer::Unknown, |session| {
            FindAnswer::Open(PendingCode {
                client_id: Arc::clone(&session.request.client_id),
                agent: session.request.agent.clone(),
                requested_at: session.requested_at,
                expires_at: session.expires_at,
            })
        }));
    }

    fn confirm(&mut self, ask: Ask<Confirm>, tries: u8, ctx: &mut Context<Self>) {
        let question = &ask.question;
        let Some(session) = self.table.find(&SessionKey::User(question.user)) else {
            return ask.reply.send(ConfirmAnswer::Unknown);
        };
        let keys = Arc::clone(&self.ports.keys);
        let (state, hash) = loop {
            let state = StateToken::generate(&mut self.rng, &question.suffix);
            let hash = keys.state(&state);
            if hash.slot() == session.device.slot() {
                break (state, hash);
            }
        };
        let verifier = question.pkce.then(|| PkceVerifier::generate(&mut self.rng));
        let sealed =
            verifier.as_ref().map(|v| keys.seal(&mut self.rng, &session.device, v.expose().as_bytes()));
        let now = self.ports.clock.now();
        let consent = Consent { browser: question.browser, state: hash, verifier: sealed, confirmed_at: now };
        let next = match session.confirm(consent, now, &self.ports.life) {
            Ok(next) => next,
            Err(ConfirmError::Gone) => return ask.reply.send(ConfirmAnswer::Unknown),
            Err(ConfirmError::InUse) => return ask.reply.send(ConfirmAnswer::InUse),
        };
        let Request { client_id, scope, .. } = session.request.clone();
        self.commit(next, Work { task: Task::Confirm(ask), tries, looked_up: false }, ctx, |act, work| {
            act.stats.confirmed += 1;
            if let Task::Confirm(ask) = work.task {
                ask.reply.send(ConfirmAnswer::Confirmed(Confirmed { state, client_id, scope, verifier }));
            }
        });
    }

    fn begin(&mut self, ask: Ask<BeginExchange>, tries: u8, ctx: &mut Context<Self>) {
        let BeginExchange { state, browser, presentation } = ask.question;
        let Some(session) = self.table.find(&SessionKey::State(state)) else {
            return ask.reply.send(BeginAnswer::No(Failure::Unknown));
        };
        let device = session.device;
        let now = self.ports.clock.now();
        let next = match session.begin(&browser, &state, presentation, now, &self.ports.life) {
            Ok(next) => next,
            Err(error) => {
                if error == ReturnError::InProgress
                    && let Some(waiting) = self.exchanging.get_mut(&device)
                {
                    return waiting.push(Work::new(Task::Begin(ask)));
                }
                return ask.reply.send(BeginAnswer::No(error.into()));
            }
        };
        let open = |sealed: &Sealed| {
            self.ports.keys.open(&device, sealed).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        };
        let lease = Lease {
            device,
            grant: presentation.grant,
            client_id: Arc::clone(&session.request.client_id),
            client_secret: session.request.client_secret.as_ref().and_then(open),
            verifier: session
                .consent
                .as_ref()
                .and_then(|consent| consent.verifier.as_ref())
                .and_then(open)
                .map(PkceVerifier::from_opened),
        };
        let marked = next.clone();
        self.commit(next, Work { task: Task::Begin(ask), tries, looked_up: false }, ctx, move |act, work| {
            if let Task::Begin(ask) = work.task {
                if ask.reply.is_abandoned() {
                    // Nobody is left to present the code: it is as good as it was.
                    act.unpresented.insert(device, marked);
                    return;
                }
                act.exchanging.entry(device).or_default();
                ask.reply.send(BeginAnswer::Go(lease));
            }
        });
    }

    fn finish(&mut self, ask: Ask<FinishExchange>, tries: u8, ctx: &mut Context<Self>) {
        let FinishExchange { device, grant, outcome } = &ask.question;
        let device = *device;
        let Some(session) = self.table.find(&SessionKey::Device(device)) else {
            return ask.reply.send(FinishAnswer::Gone);
        };
        let (now, life) = (self.ports.clock.now(), &self.ports.life);
        let approved = matches!(outcome, Outcome::Token(_));
        let next = match outcome {
            Outcome::Token(token) => {
                let sealed = self.ports.keys.seal(&mut self.rng, &device, &token.to_bytes());
                session.approve(grant, sealed, now, life)
            }
            Outcome::Failed { consumed } => session.fail(grant, *consumed, now, life),
            Outcome::Postponed => session.postpone(grant, now, life),
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                self.end_exchange(device, ctx);
                let approved = error == ReturnError::Settled(Settled::Approved);
                return ask.reply.send(if approved { FinishAnswer::Approved } else { FinishAnswer::Gone });
            }
        };
        self.commit(
            next,
            Work { task: Task::Finish(ask), tries, looked_up: false },
            ctx,
            move |act, work| {
                act.stats.approved += u64::from(approved);
                if let Task::Finish(ask) = work.task {
                    ask.reply.send(FinishAnswer::Recorded);
                }
            },
        );
    }

    fn deny(&mut self, ask: Ask<DenyConsent>, tries: u8, ctx: &mut Context<Self>) {
        let DenyConsent { state, browser } = ask.question;
        let Some(session) = self.table.find(&SessionKey::State(state)) else {
            return ask.reply.send(DenyAnswer::No(Failure::Unknown));
        };
        match session.deny(&browser, &state, self.ports.clock.now(), &self.ports.life) {
            Ok(next) => {
                self.commit(
                    next,
                    Work { task: Task::Deny(ask), tries, looked_up: false },
                    ctx,
                    |act, work| {
                        act.stats.denied += 1;
                        if let Task::Deny(ask) = work.task {
                            ask.reply.send(DenyAnswer::Denied);
                        }
                    },
                );
            }
            Err(ReturnError::Settled(Settled::Denied)) => ask.reply.send(DenyAnswer::Denied),
            Err(error) => ask.reply.send(DenyAnswer::No(error.into())),
        }
    }

    fn sweep(&mut self, ctx: &mut Context<Self>) {
        self.missing.clear();
        if self.table.sweep(self.ports.clock.now(), SWEEP_LIMIT) {
            ctx.run_later(Duration::from_millis(1), Self::sweep);
        }
    }
}

impl From<ReturnError> for Failure {
    fn from(error: ReturnError) -> Self {
        match error {
            ReturnError::OtherBrowser => Self::OtherBrowser,
            ReturnError::Gone => Self::Unknown,
            ReturnError::InProgress => Self::InProgress,
            ReturnError::Presented => Self::Presented,
            ReturnError::Settled(settled) => Self::Settled(settled),
        }
    }
}

impl Actor for CodeRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        every(SWEEP_EVERY, ctx.address().downgrade(), || Sweep);
    }
}

/// Forget what is past its deadline. Sent by the shard's own clock; nothing is written.
struct Sweep;

impl Message for Sweep {
    type Result = ();
}

impl Handler<Sweep> for CodeRegistry {
    type Result = ();

    fn handle(&mut self, _: Sweep, ctx: &mut Self::Context) {
        self.sweep(ctx);
    }
}

// All handlers are synchronous: they answer from memory, or spawn a future that interleaves with later messages;
// work on a session with a write under way is queued behind it in `busy`.

impl Handler<Ask<IssueCode>> for CodeRegistry {
    type Result = ();

    fn handle(&mut self, msg: Ask<IssueCode>, ctx: &mut Self::Context) {
        self.issue(msg, 1, ctx);
    }
}

macro_rules! handle_as_work {
    ($($question:ty => $task:ident),* $(,)?) => {$(
        impl Handler<Ask<$question>> for CodeRegistry {
            type Result = ();

            fn handle(&mut self, msg: Ask<$question>, ctx: &mut Self::Context) {
                self.run(Work::new(Task::$task(msg)), ctx);
            }
        }
    )*};
}

handle_as_work!(
    Poll => Poll,
    FindCode => Find,
    Confirm => Confirm,
    BeginExchange => Begin,
    FinishExchange => Finish,
    DenyConsent => Deny,
);

impl Handler<Learn> for CodeRegistry {
    type Result = ();

    fn handle(&mut self, msg: Learn, _: &mut Self::Context) {
        let device = msg.session.device;
        let known = self.table.find(&SessionKey::Device(device)).map(|s| s.rev);
        // Unknown here: looked up when somebody asks for it. Busy: our own write will find out.
        if !self.busy.contains_key(&device) && known.is_some_and(|rev| rev < msg.session.rev) {
            self.table.put(msg.session);
        }
    }
}

impl Handler<ObserveRegistry> for CodeRegistry {
    type Result = ();

    fn handle(&mut self, msg: ObserveRegistry, _: &mut Self::Context) {
        msg.reply.send(RegistrySnapshot { sessions: self.table.len(), ..self.stats });
    }
}
