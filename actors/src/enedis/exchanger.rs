//! **`TokenExchanger`**: all calls to Enedis' authorization server: to its token endpoint, and to the service that
//! tells which meter a consent is for.
//!
//! Owns, for each of the two, the queue of calls, the quota, the backoff and the circuit breaker; `ENEDIS_IN_FLIGHT`
//! calls (one by default) are under way at a time. Promises: a call is sent again only if Enedis certainly did not act
//! on it, or changes nothing by answering it; every caller has an answer within the deadline; no attempt is begun that
//! could not be waited for, because hanging up on a healthy Enedis would burn the code; Enedis' quota and its
//! `Retry-After` are kept. A person's authorization code goes before devices' refreshes, and a tenth of each hour's
//! quota is kept for it. Refuses at once when the queue is full or the breaker is open: nothing was sent then.
//!
//! It also owns the application's own token (`FLOW=CLIENT_CREDENTIALS`): whoever needs it asks for it here, one
//! renewal is under way at a time, and nobody waits for one that was foreseeable.

mod application_token;
mod calls;
mod core;

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use self::calls::EndpointSnapshot;
use self::core::{Core, Effect, Event};
use crate::base::admission::{Admission, AskError, Reply};
use crate::base::clock::SharedClock;
use crate::base::token_set::TokenSet;
use crate::enedis::port::{
    Answer, AuthorizationServer, Bearer, Call, Grant, MetersCall, NoMeters, NoToken, RawAnswer, Subscription,
    TokenCall,
};
use crate::limits::quota::QuotaSettings;

/// Calls that may wait at a time.
const QUEUE_MAX: usize = 4_096;
/// What the handle waits beyond the call's own deadline.
const MARGIN: Duration = Duration::from_secs(2);

/// How calls are paced and bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangerSettings {
    /// Calls under way at a time (`ENEDIS_IN_FLIGHT`), at least 1.
    pub in_flight: usize,
    /// Enedis' quota.
    pub quota: QuotaSettings,
    /// Longest wait for one attempt (`ENEDIS_TIMEOUT_SECS`).
    pub attempt: Duration,
    /// Longest time from a call's arrival to its answer, all attempts included (`ENEDIS_DEADLINE_SECS`).
    pub deadline: Duration,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Exchanged<T = Answer> {
    /// Enedis answered.
    Answered(T),
    /// Enedis may have acted on it, but no answer came back.
    Lost,
    /// Enedis did not act on it.
    NotDone {
        /// Why.
        why: NotDone,
        /// When it is worth another try.
        retry_after: Duration,
    },
}

impl Exchanged {
    fn token(self) -> Exchanged<Result<TokenSet, NoToken>> {
        self.pick(|answer| match answer {
            Answer::Token(tokens) => Some(tokens),
            Answer::Refresh(_) | Answer::Meters(_) => None,
        })
    }

    /// Takes what `pick` takes from the answer. An answer to another question tells nothing of this one.
    fn pick<T>(self, pick: impl FnOnce(Answer) -> Option<T>) -> Exchanged<T> {
        match self {
            Self::Answered(answer) => pick(answer).map_or(Exchanged::Lost, Exchanged::Answered),
            Self::Lost => Exchanged::Lost,
            Self::NotDone { why, retry_after } => Exchanged::NotDone { why, retry_after },
        }
    }
}

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// The quota is used up, or too much is waiting.
    Busy,
    /// Enedis does not answer, or says that it cannot.
    Down,
}

/// How a wish for the application's token ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// Here it is; good for a minute at least.
    Bearer(Bearer),
    /// There is none.
    NotDone {
        /// Why.
        why: NotDone,
        /// When it is worth another try.
        retry_after: Duration,
    },
}

/// Counters of the exchanger since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExchangerSnapshot {
    /// The token endpoint.
    pub token: EndpointSnapshot,
    /// The service that tells which meter a consent is for.
    pub services: EndpointSnapshot,
}

/// The actor around a core that decides. Reach it through [`TokenExchangerHandle`].
pub struct TokenExchanger {
    server: Rc<dyn AuthorizationServer>,
    clock: SharedClock,
    /// Longest wait for one attempt.
    attempt: Duration,
    core: Core<Reply<Exchanged>, Reply<Acquired>>,
    alarm: Option<SpawnHandle>,
}

impl TokenExchanger {
    /// Starts the exchanger on `arbiter`. `server` is made there, because HTTP clients stay on their thread. `own` are
    /// the application's credentials, where it has a token of its own.
    pub fn launch(
        arbiter: &ArbiterHandle,
        server: impl FnOnce() -> Rc<dyn AuthorizationServer> + Send + 'static,
        clock: SharedClock,
        settings: ExchangerSettings,
        own: Option<(String, Option<String>)>,
        seed: [u8; 32],
    ) -> TokenExchangerHandle {
        let own = own.map(|(client_id, client_secret)| TokenCall {
            client_id,
            client_secret,
            grant: Grant::ClientCredentials,
        });
        let addr = Self::start_in_arbiter(arbiter, move |_| Self {
            server: server(),
            attempt: settings.attempt,
            core: Core::new(settings, own, StdRng::from_seed(seed), clock.now()),
            clock,
            alarm: None,
        });
        TokenExchangerHandle { addr, admission: Admission::new(QUEUE_MAX, settings.deadline + MARGIN) }
    }

    /// Tells the core what happened, does what it says, and sets the alarm.
    fn on(&mut self, event: Event<Reply<Exchanged>, Reply<Acquired>>, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        for effect in self.core.on(now, event) {
            match effect {
                Effect::Answer(reply, exchanged) => reply.send(exchanged),
                Effect::HandOut(reply, acquired) => reply.send(acquired),
                Effect::Send { ticket, call } => {
                    let (server, limit) = (Rc::clone(&self.server), self.attempt);
                    let sent = async move { server.call(call, limit).await };
                    ctx.spawn(sent.into_actor(self).map(move |attempt, act, ctx| {
                        act.on(Event::AttemptEnded { ticket, attempt }, ctx);
                    }));
                }
            }
        }
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        self.alarm = self.core.next_wake().map(|at| {
            let wait = at.since(now).max(Duration::from_millis(1));
            ctx.run_later(wait, |act, ctx| act.on(Event::TimePassed, ctx))
        });
    }
}

impl Actor for TokenExchanger {
    type Context = Context<Self>;
}

/// Send one call to the authorization server. Sent by the consent workflow and by `POST /device/proxy`; the answer
/// says whether Enedis may have acted on it. Nothing becomes durable.
struct CallEnedis {
    call: Call,
    reply: Reply<Exchanged>,
}

impl Message for CallEnedis {
    type Result = ();
}

impl Handler<CallEnedis> for TokenExchanger {
    type Result = ();

    // Synchronous: queues; the attempt's future answers and interleaves with later messages.
    fn handle(&mut self, CallEnedis { call, reply }: CallEnedis, ctx: &mut Self::Context) {
        self.on(Event::CallArrived { call, caller: reply }, ctx);
    }
}

/// Hand out the application's token, and get one if there is none. Sent by the meter relay and by the consent
/// workflow. Nothing becomes durable.
struct AcquireToken {
    rejected: Option<Bearer>,
    reply: Reply<Acquired>,
}

impl Message for AcquireToken {
    type Result = ();
}

impl Handler<AcquireToken> for TokenExchanger {
    type Result = ();

    // Synchronous: answers from memory, or keeps the reply until the renewal has ended. That is a call like others.
    fn handle(&mut self, AcquireToken { rejected, reply }: AcquireToken, ctx: &mut Self::Context) {
        self.on(Event::TokenWanted { rejected, caller: reply }, ctx);
    }
}

/// Read the counters. Sent by the metrics; answered at once.
struct Observe {
    reply: Reply<ExchangerSnapshot>,
}

impl Message for Observe {
    type Result = ();
}

impl Handler<Observe> for TokenExchanger {
    type Result = ();

    fn handle(&mut self, msg: Observe, _: &mut Self::Context) {
        msg.reply.send(self.core.snapshot(self.clock.now()));
    }
}

/// The way to the exchanger.
#[derive(Clone)]
pub struct TokenExchangerHandle {
    addr: Addr<TokenExchanger>,
    admission: Admission,
}

impl TokenExchangerHandle {
    /// Presents a grant for tokens.
    pub async fn token(&self, call: TokenCall) -> Exchanged<Result<TokenSet, NoToken>> {
        self.call(Call::Token(call)).await.token()
    }

    /// Presents a device's refresh token; the answer is as it came.
    pub async fn refresh(&self, call: TokenCall) -> Exchanged<RawAnswer> {
        self.call(Call::Refresh(call)).await.pick(|answer| match answer {
            Answer::Refresh(answer) => Some(answer),
            Answer::Token(_) | Answer::Meters(_) => None,
        })
    }

    /// Asks for the meters of a consent.
    pub async fn meters(&self, call: MetersCall) -> Exchanged<Result<Subscription, NoMeters>> {
        self.call(Call::Meters(call)).await.pick(|answer| match answer {
            Answer::Meters(meters) => Some(meters),
            Answer::Token(_) | Answer::Refresh(_) => None,
        })
    }

    /// Sends one call and says how it ended, within the deadline of the settings.
    async fn call(&self, call: Call) -> Exchanged {
        match self.admission.ask(|reply| self.addr.do_send(CallEnedis { call, reply })).await {
            Ok(exchanged) => exchanged,
            Err(AskError::Overloaded) => {
                Exchanged::NotDone { why: NotDone::Busy, retry_after: Duration::from_secs(5) }
            }
            // It may be on its way: nobody may present it again.
            Err(AskError::Timeout | AskError::Stopped) => Exchanged::Lost,
        }
    }

    /// The application's token. `rejected` is one that Enedis has just not accepted: it is replaced, unless it is so
    /// young that another would fare no better.
    pub async fn acquire(&self, rejected: Option<Bearer>) -> Acquired {
        let asked = self.admission.ask(|reply| self.addr.do_send(AcquireToken { rejected, reply })).await;
        asked.unwrap_or_else(|error| Acquired::NotDone {
            why: if error == AskError::Overloaded { NotDone::Busy } else { NotDone::Down },
            retry_after: Duration::from_secs(5),
        })
    }

    /// The exchanger's counters.
    pub async fn snapshot(&self) -> Result<ExchangerSnapshot, AskError> {
        self.admission.ask(|reply| self.addr.do_send(Observe { reply })).await
    }
}
