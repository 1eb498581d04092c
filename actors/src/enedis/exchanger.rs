//! **`TokenExchanger`**: all calls to Enedis' authorization server: to its token endpoint, to the service that
//! tells which meter a consent is for, and to those of contracts.
//!
//! Owns, for each of the three, the queue of calls, the quota, the backoff and the circuit breaker; `ENEDIS_IN_FLIGHT`
//! calls (one by default) are under way at a time. Promises: a call is sent again only if Enedis certainly did not act
//! on it, or changes nothing by answering it; every caller has an answer within the deadline; no attempt is begun that
//! could not be waited for, because hanging up on a healthy Enedis would burn the code; Enedis' quota and its
//! `Retry-After` are kept; a call that nobody waits for any more is not sent; those for whom calls are made take turns, by their network. A person's authorization code goes before devices' refreshes, and a tenth of each hour's
//! quota is kept for it. Refuses at once when the queue is full or the breaker is open: nothing was sent then.
//!
//! It also owns the application's own token (`FLOW=CLIENT_CREDENTIALS`): whoever needs it asks for it here, one
//! renewal is under way at a time, and nobody waits for one that was foreseeable.

mod application_token;
mod calls;

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

use self::application_token::ApplicationToken;
pub use self::calls::EndpointSnapshot;
use self::calls::{Caller, Calls, Step, Wanted};
use crate::base::admission::{Admission, AskError, Observe, Reply};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::grant_issuer::NotIssued;
use crate::base::network::Network;
use crate::base::token_set::TokenSet;
use crate::enedis::contract::Contract;
use crate::enedis::port::{
    Answer, AuthorizationServer, Bearer, Call, ContractCall, Grant, MetersCall, NoContract, NoMeters,
    NoToken, RawAnswer, Subscription, TokenCall,
};
use crate::limits::quota::QuotaSettings;
use crate::limits::shared_quota::SharedQuota;

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
            _ => None,
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
    /// Enedis does not accept this server's own client: its operator has to act.
    NotAccepted,
}

impl NotDone {
    /// What that means for a consent.
    pub const fn not_issued(self, retry_after: Duration) -> NotIssued {
        match self {
            Self::Busy => NotIssued::Busy { retry_after },
            Self::Down => NotIssued::Down { retry_after },
            Self::NotAccepted => NotIssued::NotAccepted,
        }
    }
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
    /// The services of contracts; an attempt is one call of each.
    pub contracts: EndpointSnapshot,
}

/// What is called at the authorization server; each has a quota of its own.
#[derive(Clone, Copy)]
enum Endpoint {
    Token = 0,
    Services = 1,
    Contracts = 2,
}

impl Endpoint {
    const ALL: [Self; 3] = [Self::Token, Self::Services, Self::Contracts];

    /// As the record of what is used names it.
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Services => "services",
            Self::Contracts => "contracts",
        }
    }

    const fn of(call: &Call) -> Self {
        match call {
            Call::Token(_) | Call::Refresh(_) => Self::Token,
            Call::Meters(_) => Self::Services,
            Call::Contract(_) => Self::Contracts,
        }
    }
}

/// The actor: `Calls` and `ApplicationToken` decide, it carries out. Reach it through [`TokenExchangerHandle`].
pub struct TokenExchanger {
    server: Rc<dyn AuthorizationServer>,
    clock: SharedClock,
    settings: ExchangerSettings,
    /// Where instances count their calls together.
    shared: Option<SharedQuota>,
    calls: [Calls; 3],
    token: ApplicationToken,
    /// The application's credentials, where it has a token of its own.
    own: Option<TokenCall>,
    rng: StdRng,
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
        shared: Option<SharedQuota>,
        own: Option<(String, Option<Zeroizing<String>>)>,
        seed: [u8; 32],
    ) -> TokenExchangerHandle {
        let own = own.map(|(client_id, client_secret)| TokenCall {
            client_id,
            client_secret,
            is_devices_own: false,
            grant: Grant::ClientCredentials,
        });
        let addr = Self::start_in_arbiter(arbiter, move |_| Self {
            server: server(),
            settings,
            shared,
            calls: Endpoint::ALL.map(|_| Calls::new(settings, clock.now())),
            token: ApplicationToken::default(),
            own,
            rng: StdRng::from_seed(seed),
            clock,
            alarm: None,
        });
        TokenExchangerHandle { addr, admission: Admission::new(QUEUE_MAX, settings.deadline + MARGIN) }
    }

    /// Queues a call, and sends what may be sent.
    fn push(
        &mut self,
        now: Timestamp,
        from: Option<Network>,
        call: Call,
        caller: Caller,
        ctx: &mut Context<Self>,
    ) {
        self.calls[Endpoint::of(&call) as usize].push(now, from, call, caller);
        self.pump(now, ctx);
    }

    /// Sends what may be sent, answers what cannot be, and sets the alarm for the rest.
    fn pump(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        for endpoint in Endpoint::ALL {
            if let Some(shared) = &self.shared {
                self.calls[endpoint as usize].quota().share(shared.instances());
            }
            for step in self.calls[endpoint as usize].steps(now) {
                self.take(now, endpoint, step, ctx);
            }
            self.lease(endpoint, ctx);
        }
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        self.alarm = self.calls.iter().filter_map(Calls::next_wake).min().map(|at| {
            let wait = at.since(now).max(Duration::from_millis(1));
            ctx.run_later(wait, |act, ctx| act.pump(act.clock.now(), ctx))
        });
    }

    /// Asks for calls of the hour that all instances share, if there is a wish.
    fn lease(&mut self, endpoint: Endpoint, ctx: &mut Context<Self>) {
        let Some(shared) = self.shared.clone() else { return };
        let Some(wish) = self.calls[endpoint as usize].quota().wish() else { return };
        let leased = async move { shared.lease(endpoint.name(), wish).await };
        ctx.spawn(leased.into_actor(self).map(move |lease, act, ctx| {
            act.calls[endpoint as usize].quota().lease(wish, lease);
            act.pump(act.clock.now(), ctx);
        }));
    }

    fn take(&mut self, now: Timestamp, endpoint: Endpoint, step: Step, ctx: &mut Context<Self>) {
        match step {
            Step::Send(id, call) => {
                let (server, limit) = (Rc::clone(&self.server), self.settings.attempt);
                let sent = async move { server.call(call, limit).await };
                ctx.spawn(sent.into_actor(self).map(move |attempt, act, ctx| {
                    let now = act.clock.now();
                    if let Some(step) = act.calls[endpoint as usize].ended(now, id, attempt, &mut act.rng) {
                        act.take(now, endpoint, step, ctx);
                    }
                    act.pump(now, ctx);
                }));
            }
            Step::Answer(Caller::Outside(reply, _), exchanged) => reply.send(exchanged),
            Step::Answer(Caller::Renewal, exchanged) => {
                for (reply, acquired) in self.token.renewed(now, exchanged.token()) {
                    reply.send(acquired);
                }
            }
        }
    }
}

impl Actor for TokenExchanger {
    type Context = Context<Self>;
}

/// Send one call to the authorization server. Sent by the consent workflow and by `POST /device/proxy`; the answer
/// says whether Enedis may have acted on it. Nothing becomes durable.
#[derive(Message)]
#[rtype(result = "()")]
struct CallEnedis {
    /// The stranger for whom it is.
    from: Network,
    call: Call,
    reply: Reply<Exchanged>,
    is_wanted: Wanted,
}

impl Handler<CallEnedis> for TokenExchanger {
    type Result = ();

    // Synchronous: queues; the attempt's future answers and interleaves with later messages.
    fn handle(&mut self, msg: CallEnedis, ctx: &mut Self::Context) {
        let caller = Caller::Outside(msg.reply, msg.is_wanted);
        self.push(self.clock.now(), Some(msg.from), msg.call, caller, ctx);
    }
}

/// Hand out the application's token, and get one if there is none. Sent by the meter relay and by the consent
/// workflow. Nothing becomes durable.
#[derive(Message)]
#[rtype(result = "()")]
struct AcquireToken {
    rejected: Option<Bearer>,
    reply: Reply<Acquired>,
}

impl Handler<AcquireToken> for TokenExchanger {
    type Result = ();

    // Synchronous: answers from memory, or keeps the reply until the renewal has ended. That is a call like others.
    fn handle(&mut self, AcquireToken { rejected, reply }: AcquireToken, ctx: &mut Self::Context) {
        let Some(own) = self.own.clone() else {
            return reply.send(Acquired::NotDone { why: NotDone::Down, retry_after: self.settings.deadline });
        };
        let now = self.clock.now();
        let (told, renew) = self.token.acquire(now, rejected.as_ref(), reply);
        if let Some((reply, acquired)) = told {
            reply.send(acquired);
        }
        if renew {
            self.push(now, None, Call::Token(own), Caller::Renewal, ctx);
        }
    }
}

impl Handler<Observe<ExchangerSnapshot>> for TokenExchanger {
    type Result = ();

    fn handle(&mut self, msg: Observe<ExchangerSnapshot>, _: &mut Self::Context) {
        let now = self.clock.now();
        let [token, services, contracts] =
            Endpoint::ALL.map(|endpoint| self.calls[endpoint as usize].snapshot(now));
        msg.reply.send(ExchangerSnapshot { token, services, contracts });
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
    pub async fn token(&self, from: Network, call: TokenCall) -> Exchanged<Result<TokenSet, NoToken>> {
        self.call(from, Call::Token(call), Box::new(|| true)).await.token()
    }

    /// Presents a device's refresh token; the answer is as it came. It is not sent if nobody `is_wanted` by then; once it is,
    /// whoever awaits this must do so to its end.
    pub async fn refresh(
        &self,
        from: Network,
        call: TokenCall,
        is_wanted: impl Fn() -> bool + Send + 'static,
    ) -> Exchanged<RawAnswer> {
        self.call(from, Call::Refresh(call), Box::new(is_wanted)).await.pick(|answer| match answer {
            Answer::Refresh(answer) => Some(answer),
            _ => None,
        })
    }

    /// Asks for the meters of a consent.
    pub async fn meters(&self, from: Network, call: MetersCall) -> Exchanged<Result<Subscription, NoMeters>> {
        self.call(from, Call::Meters(call), Box::new(|| true)).await.pick(|answer| match answer {
            Answer::Meters(meters) => Some(meters),
            _ => None,
        })
    }

    /// Asks for the contract of a meter.
    pub async fn contract(
        &self,
        from: Network,
        call: ContractCall,
    ) -> Exchanged<Result<Contract, NoContract>> {
        self.call(from, Call::Contract(call), Box::new(|| true)).await.pick(|answer| match answer {
            Answer::Contract(contract) => Some(contract),
            _ => None,
        })
    }

    /// Sends one call and says how it ended, within the deadline of the settings.
    async fn call(&self, from: Network, call: Call, is_wanted: Wanted) -> Exchanged {
        let ask = |reply| self.addr.do_send(CallEnedis { from, call, reply, is_wanted });
        match self.admission.ask(ask).await {
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
