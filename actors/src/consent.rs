//! The one workflow that spans actors: an authorization code comes back with a browser and becomes a token that
//! waits for its device.
//!
//! ```text
//!   browser ──▶ registry: BeginExchange ──▶ exchanger: CallEnedis ──▶ registry: FinishExchange ──▶ page
//!               (durable: "presented")      (at most one success)      (durable: token sealed)
//! ```
//!
//! It runs to its end even if the browser hangs up, and shutdown waits for it. Once Enedis has given a token, the
//! token is recorded with patience: the person's consent must not be lost to a store that was away for a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::clock::SharedClock;
use crate::code::{BrowserToken, StateToken};
use crate::exchanger::{Exchanged, NotDone, TokenExchangerHandle};
use crate::keys::Keyring;
use crate::registry::{
    BeginAnswer, BeginExchange, CodeRegistryHandle, Failure, FinishAnswer, FinishExchange, Lease, Outcome,
};
use crate::session::Settled;
use crate::upstream::{Grant, NoToken, TokenCall, TokenSet};

/// How long a token in hand is offered to a store that does not take it.
const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// How long a failure is offered: without it a reload would believe that the code was spent.
const FAILURE_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two offers.
const RECORD_PAUSE: Duration = Duration::from_millis(500);

/// The application at Enedis, as configured. Where a part is missing, the device's own is used.
#[derive(Clone, Default)]
pub struct Application {
    /// `CLIENT_ID`.
    pub client_id: Option<String>,
    /// `CLIENT_SECRET`.
    pub client_secret: Option<String>,
}

impl Application {
    /// The credentials of one call: ours where configured, else the device's.
    pub fn call(&self, client_id: &str, client_secret: Option<String>, grant: Grant) -> TokenCall {
        TokenCall {
            client_id: self.client_id.clone().unwrap_or_else(|| client_id.to_owned()),
            client_secret: self.client_secret.clone().or(client_secret),
            grant,
        }
    }
}

/// What Enedis sent back through the browser (v1 authorize).
pub struct AuthorizationReturn {
    /// Our `state`.
    pub state: StateToken,
    /// The browser's cookie.
    pub browser: BrowserToken,
    /// The authorization code.
    pub code: String,
    /// The meters, as named on the callback and checked by the HTTP layer.
    pub usage_point_id: Option<String>,
}

/// What the person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentOutcome {
    /// The token waits for the device. Durable.
    Approved,
    /// The person refused earlier.
    Denied,
    /// The `state` is unknown, replaced or expired.
    Unknown,
    /// Not the browser that set out.
    OtherBrowser,
    /// Still being completed.
    InProgress,
    /// The code was presented before, without success: start again.
    Presented,
    /// Enedis' quota is used up; the same return may be tried again.
    Busy {
        /// When.
        retry_after: Duration,
    },
    /// Enedis does not answer; the same return may be tried again.
    Down {
        /// When.
        retry_after: Duration,
    },
    /// Enedis took the code and no answer came: start again.
    Lost,
    /// Enedis refused the code: start again.
    Rejected {
        /// Enedis' `error`.
        error: String,
    },
    /// Enedis answered something that is no token answer: start again.
    Garbled,
    /// Our store does not answer; the same return may be tried again.
    Unavailable,
}

/// Runs the workflow. Cheap to clone.
#[derive(Clone)]
pub struct ConsentDesk {
    inner: Arc<Inner>,
}

struct Inner {
    registry: CodeRegistryHandle,
    exchanger: TokenExchangerHandle,
    keys: Arc<Keyring>,
    clock: SharedClock,
    application: Application,
    exchange_deadline: Duration,
    tasks: TaskTracker,
}

impl ConsentDesk {
    /// A desk whose exchanges take at most `exchange_deadline`.
    pub fn new(
        registry: CodeRegistryHandle,
        exchanger: TokenExchangerHandle,
        keys: Arc<Keyring>,
        clock: SharedClock,
        application: Application,
        exchange_deadline: Duration,
    ) -> Self {
        let tasks = TaskTracker::new();
        let inner = Inner { registry, exchanger, keys, clock, application, exchange_deadline, tasks };
        Self { inner: Arc::new(inner) }
    }

    /// Turns a return into a decision. Must be called on a thread with a local task set, as actix threads have.
    pub async fn complete(&self, returned: AuthorizationReturn) -> ConsentOutcome {
        let inner = Arc::clone(&self.inner);
        let task = self.inner.tasks.spawn_local(async move { inner.complete(returned).await });
        // The task ends only with its thread; then the outcome is in the store, or the code is marked presented.
        task.await.unwrap_or(ConsentOutcome::InProgress)
    }

    /// Waits until no workflow is under way. New ones may still be begun; they are waited for too.
    pub async fn idle(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.tasks.reopen();
    }
}

impl Inner {
    async fn complete(&self, returned: AuthorizationReturn) -> ConsentOutcome {
        let begin = BeginExchange {
            state: self.keys.state(&returned.state),
            browser: self.keys.browser(&returned.browser),
            grant: self.keys.grant(&returned.code),
            until: self.clock.now() + self.exchange_deadline + RECORD_PATIENCE,
        };
        let lease = match self.registry.begin(begin).await {
            Ok(BeginAnswer::Go(lease)) => lease,
            Ok(BeginAnswer::No(failure)) => return failure.into(),
            // Waited for another tab's exchange, or for the store, longer than a page should take.
            Err(crate::gate::AskError::Timeout) => return ConsentOutcome::InProgress,
            Err(_) => return ConsentOutcome::Unavailable,
        };
        let Lease { device, grant, client_id, client_secret, verifier } = lease;
        let presented = Grant::AuthorizationCode { code: returned.code, verifier };
        let call = self.application.call(&client_id, client_secret, presented);
        let (outcome, told) = read(self.exchanger.call(call).await, returned.usage_point_id.as_deref());
        match self.record(FinishExchange { device, grant, outcome }).await {
            FinishAnswer::Recorded => told,
            FinishAnswer::Gone => ConsentOutcome::Unknown,
            FinishAnswer::Unavailable => ConsentOutcome::Unavailable,
        }
    }

    async fn record(&self, finish: FinishExchange) -> FinishAnswer {
        let in_hand = matches!(finish.outcome, Outcome::Token(_));
        let end = self.clock.now() + if in_hand { RECORD_PATIENCE } else { FAILURE_PATIENCE };
        loop {
            let FinishExchange { device, grant, ref outcome } = finish;
            let finish = FinishExchange { device, grant, outcome: outcome.clone() };
            let answer = self.registry.finish(finish).await.unwrap_or(FinishAnswer::Unavailable);
            if answer != FinishAnswer::Unavailable || self.clock.now() >= end {
                return answer;
            }
            tokio::time::sleep(RECORD_PAUSE).await;
        }
    }
}

/// What an exchange means for the session, and what the person is told.
fn read(exchanged: Exchanged, usage_point_id: Option<&str>) -> (Outcome, ConsentOutcome) {
    let consumed = Outcome::Failed { consumed: true };
    match exchanged {
        Exchanged::Answered(answer) => match TokenSet::read(&answer) {
            Ok(token) => (Outcome::Token(token.with_usage_point(usage_point_id)), ConsentOutcome::Approved),
            Err(NoToken::Refused { status, error }) => {
                tracing::warn!(status, error, "Enedis refused an authorization code");
                (consumed, ConsentOutcome::Rejected { error })
            }
            Err(NoToken::Garbled { status }) => {
                tracing::warn!(status, "Enedis answered an authorization code without a token");
                (consumed, ConsentOutcome::Garbled)
            }
        },
        Exchanged::Lost => (consumed, ConsentOutcome::Lost),
        Exchanged::NotDone { why, retry_after } => {
            let told = match why {
                NotDone::Busy => ConsentOutcome::Busy { retry_after },
                NotDone::Down => ConsentOutcome::Down { retry_after },
            };
            (Outcome::Failed { consumed: false }, told)
        }
    }
}

impl From<Failure> for ConsentOutcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Settled(Settled::Approved) => Self::Approved,
            Failure::Settled(Settled::Denied) => Self::Denied,
            Failure::Unknown => Self::Unknown,
            Failure::OtherBrowser => Self::OtherBrowser,
            Failure::InProgress => Self::InProgress,
            Failure::Presented => Self::Presented,
            Failure::Unavailable => Self::Unavailable,
        }
    }
}
