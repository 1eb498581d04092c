//! What the exchanger decides: an event and the time go in, effects come out. Knows no actor and no clock.

use rand::rngs::StdRng;

use super::application_token::ApplicationToken;
use super::calls::{Calls, Step};
use super::{Acquired, Exchanged, ExchangerSettings, ExchangerSnapshot, NotDone};
use crate::base::clock::Timestamp;
use crate::enedis::port::{Attempt, Bearer, Call, TokenCall};

/// What happens to the exchanger. `C` is the way back to who made a call, `T` to who wants the application's token.
#[derive(Debug)]
pub(super) enum Event<C, T> {
    /// Somebody has a call.
    CallArrived { call: Call, caller: C },
    /// Somebody wants the application's token; `rejected` is one that Enedis has just not accepted.
    TokenWanted { rejected: Option<Bearer>, caller: T },
    /// What was sent by [`Effect::Send`] has ended.
    AttemptEnded { ticket: Ticket, attempt: Attempt },
    /// It is as late as [`Core::next_wake`] said, or later.
    TimePassed,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Effect<C, T> {
    /// Send this once, and tell its end by [`Event::AttemptEnded`].
    Send { ticket: Ticket, call: Call },
    /// Tell a caller how its call ended.
    Answer(C, Exchanged),
    /// Tell a caller of the application's token.
    HandOut(T, Acquired),
}

/// Which call an attempt is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(Endpoint, u64);

/// What is called at the authorization server; each has a quota of its own.
#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Token = 0,
    Services = 1,
}

impl Endpoint {
    const ALL: [Self; 2] = [Self::Token, Self::Services];

    const fn of(call: &Call) -> Self {
        match call {
            Call::Token(_) | Call::Refresh(_) => Self::Token,
            Call::Meters(_) => Self::Services,
        }
    }
}

enum Caller<C> {
    Outside(C),
    /// The application's own token is renewed.
    Renewal,
}

pub(super) struct Core<C, T> {
    settings: ExchangerSettings,
    calls: [Calls<Caller<C>>; 2],
    token: ApplicationToken<T>,
    /// The application's credentials, where it has a token of its own.
    own: Option<TokenCall>,
    rng: StdRng,
}

impl<C, T> Core<C, T> {
    pub fn new(settings: ExchangerSettings, own: Option<TokenCall>, rng: StdRng, now: Timestamp) -> Self {
        let calls = Endpoint::ALL.map(|_| Calls::new(settings, now));
        Self { settings, calls, token: ApplicationToken::default(), own, rng }
    }

    /// Takes an event in.
    pub fn on(&mut self, now: Timestamp, event: Event<C, T>) -> Vec<Effect<C, T>> {
        let mut effects = Vec::new();
        match event {
            Event::CallArrived { call, caller } => self.push(now, call, Caller::Outside(caller)),
            Event::TokenWanted { rejected, caller } => {
                let Some(own) = self.own.clone() else {
                    let none = Acquired::NotDone { why: NotDone::Down, retry_after: self.settings.deadline };
                    return vec![Effect::HandOut(caller, none)];
                };
                let (told, renew) = self.token.acquire(now, rejected.as_ref(), caller);
                effects.extend(told.map(|(caller, acquired)| Effect::HandOut(caller, acquired)));
                if renew {
                    self.push(now, Call::Token(own), Caller::Renewal);
                }
            }
            Event::AttemptEnded { ticket: Ticket(endpoint, id), attempt } => {
                let step = self.calls[endpoint as usize].ended(now, id, attempt, &mut self.rng);
                self.take(now, endpoint, step, &mut effects);
            }
            Event::TimePassed => {}
        }
        for endpoint in Endpoint::ALL {
            let steps = self.calls[endpoint as usize].steps(now);
            self.take(now, endpoint, steps, &mut effects);
        }
        effects
    }

    /// When [`Event::TimePassed`] is due, unless something else happens first.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.calls.iter().filter_map(Calls::next_wake).min()
    }

    pub fn snapshot(&self, now: Timestamp) -> ExchangerSnapshot {
        let [token, services] = Endpoint::ALL.map(|endpoint| self.calls[endpoint as usize].snapshot(now));
        ExchangerSnapshot { token, services }
    }

    fn push(&mut self, now: Timestamp, call: Call, caller: Caller<C>) {
        self.calls[Endpoint::of(&call) as usize].push(now, call, caller);
    }

    fn take(
        &mut self,
        now: Timestamp,
        endpoint: Endpoint,
        steps: impl IntoIterator<Item = Step<Caller<C>>>,
        effects: &mut Vec<Effect<C, T>>,
    ) {
        for step in steps {
            match step {
                Step::Send(id, call) => effects.push(Effect::Send { ticket: Ticket(endpoint, id), call }),
                Step::Answer(Caller::Outside(caller), exchanged) => {
                    effects.push(Effect::Answer(caller, exchanged));
                }
                Step::Answer(Caller::Renewal, exchanged) => {
                    let told = self.token.renewed(now, exchanged.token());
                    effects.extend(told.map(|(caller, acquired)| Effect::HandOut(caller, acquired)));
                }
            }
        }
    }
}
