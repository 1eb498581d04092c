//! The one workflow that spans actors: an authorization comes back with a browser and becomes a token that waits for its
//! device.
//!
//! ```text
//!   browser ──▶ registry: BeginExchange ──▶ exchanger: CallEnedis ──▶ registry: FinishExchange ──▶ page
//!               (durable: "presented")      (at most one success)      (durable: token sealed)
//! ```
//!
//! That is `FLOW=DEVICE`, where the device receives Enedis' own token. With `FLOW=CLIENT_CREDENTIALS` it receives
//! one of ours, from a [`GrantIssuer`].
//!
//! It runs to its end even if the browser hangs up, and shutdown waits for it. Once Enedis has given a token, the
//! token is recorded with patience: the person's consent must not be lost to a store that was away for a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::base::admission::AskError;
use crate::base::audit::{Act, Audit, Note};
use crate::base::clock::SharedClock;
use crate::base::code::{BrowserToken, StateToken};
use crate::base::grant_issuer::{ConsentSubject, GrantIssuer, NotIssued, ReturnedConsent};
use crate::base::keyring::{DeviceHash, GrantHash, Keyring};
use crate::base::meter::{Meter, listed, meters_text};
use crate::base::network::Network;
use crate::base::token_set::TokenSet;
use crate::device_flow::registry::{BeginAnswer, CodeRegistryHandle, FinishAnswer, Lease, Outcome};
use crate::device_flow::session::{Decision, Presentation, ReturnError};
use crate::enedis::exchanger::{Exchanged, TokenExchangerHandle};
use crate::enedis::port::{ConfiguredClient, Grant, NoToken};

/// How long a token in hand is offered to a store that does not take it.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// How long a failure is offered: without it a reload would believe that the code was spent.
const FAILURE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a return that may be acted on again is left to whoever has begun: as long as that normally takes.
const REPEATABLE_LEASE: Duration = Duration::from_secs(30);
/// Pause between two offers.
const RECORD_PAUSE: Duration = Duration::from_millis(500);

/// What Enedis sent back through the browser.
pub struct AuthorizationReturn {
    /// Our `state`.
    pub state: StateToken,
    /// The browser's cookie.
    pub browser: BrowserToken,
    /// Where it is.
    pub network: Network,
    /// The rest.
    pub returned: Returned,
}

/// What came with the `state`, as checked by the HTTP layer.
pub enum Returned {
    /// An authorization code to be exchanged (RFC 6749 section 4.1.2), and the meters if the callback named them.
    Code {
        /// `code`.
        code: String,
        /// `usage_point_id`.
        usage_point_id: Option<String>,
    },
    /// The meters themselves (v1 authorize, `FLOW=CLIENT_CREDENTIALS`). The code beside them is good for nothing any
    /// more.
    Meters {
        /// `code`.
        code: String,
        /// `usage_point_id`, between one and [`METERS_MAX`](crate::base::meter::METERS_MAX).
        meters: Vec<Meter>,
    },
    /// An authorisation, for which Enedis has to be asked for the meter (v2 authorize).
    Authorisation(i64),
}

impl Returned {
    /// The text whose keyed hash tells this return from another.
    fn text(&self) -> String {
        match self {
            Self::Code { code, .. } => code.clone(),
            Self::Meters { code, meters } => format!("{code}|{}", meters_text(meters)),
            Self::Authorisation(id) => format!("autorisation|{id}"),
        }
    }
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
    /// It brings no tokens, and the reason says what now: but for a consent that is [foreign](NotIssued::Foreign) or of a
    /// meter that is [linked already](NotIssued::AlreadyLinked), the same return may be tried again.
    NotIssued(NotIssued),
    /// Enedis took the code and no answer came: start again.
    Lost,
    /// Enedis refused the code: start again.
    Rejected {
        /// Enedis' `error`.
        error: String,
    },
    /// Enedis answered something that is no token answer: start again.
    Garbled,
}

/// Whose tokens a device receives.
pub enum Issuer {
    /// Enedis', for this client.
    Enedis(ConfiguredClient),
    /// Our own.
    Ours(Arc<dyn GrantIssuer>),
}

/// Runs the workflow.
pub struct ConsentWorkflow {
    registry: CodeRegistryHandle,
    exchanger: TokenExchangerHandle,
    audit: Arc<Audit>,
    keys: Arc<Keyring>,
    clock: SharedClock,
    issuer: Issuer,
    exchange_deadline: Duration,
    tasks: TaskTracker,
}

impl ConsentWorkflow {
    /// A workflow whose exchanges take at most `exchange_deadline`.
    pub fn new(
        registry: CodeRegistryHandle,
        exchanger: TokenExchangerHandle,
        audit: Arc<Audit>,
        keys: Arc<Keyring>,
        clock: SharedClock,
        issuer: Issuer,
        exchange_deadline: Duration,
    ) -> Arc<Self> {
        let tasks = TaskTracker::new();
        Arc::new(Self { registry, exchanger, audit, keys, clock, issuer, exchange_deadline, tasks })
    }

    /// Turns a return into a decision. Must be called on a thread with a local task set, as actix threads have.
    pub async fn complete(self: &Arc<Self>, returned: AuthorizationReturn) -> ConsentOutcome {
        let workflow = Arc::clone(self);
        let task = self.tasks.spawn_local(async move { workflow.run(returned).await });
        // The task ends only with its thread; then the outcome is in the store, or the code is marked presented.
        task.await.unwrap_or(ConsentOutcome::InProgress)
    }

    /// Waits until no workflow is under way. New ones may still be begun; they are waited for too.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    async fn run(&self, came: AuthorizationReturn) -> ConsentOutcome {
        let AuthorizationReturn { state, browser, network, returned } = came;
        let (state, browser) = (self.keys.state(&state), self.keys.browser(&browser));
        let repeatable = !matches!(returned, Returned::Code { .. });
        // Nobody may do it twice at a time. What may be done again is done again soon, should this process end.
        let lease = if repeatable { REPEATABLE_LEASE } else { self.exchange_deadline + RECORD_PATIENCE };
        let until = self.clock.now() + lease;
        let presentation = Presentation { grant: self.keys.grant(&returned.text()), until, repeatable };
        let lease = match self.registry.begin(state, browser, presentation).await {
            Ok(BeginAnswer::Go(lease)) => lease,
            Ok(BeginAnswer::No(error)) => return error.into(),
            // Waited for another tab's exchange, or for the store, longer than a page should take.
            Err(AskError::Timeout) => return ConsentOutcome::InProgress,
            Ok(BeginAnswer::Unavailable) | Err(_) => {
                return ConsentOutcome::NotIssued(NotIssued::Unavailable);
            }
        };
        let (device, grant, asked_at) = (lease.device, lease.grant, lease.asked_at);
        let client_id = Arc::clone(&lease.client_id);
        let consent =
            |subject| ReturnedConsent { state, asked_at, grant, client_id, subject, browser, network };
        let (outcome, told) = match (&self.issuer, returned) {
            (Issuer::Enedis(client), Returned::Code { code, usage_point_id }) => {
                return self.exchange(client, network, lease, code, usage_point_id.as_deref()).await;
            }
            (Issuer::Ours(issuer), Returned::Meters { meters, .. }) => {
                issue(issuer.as_ref(), consent(ConsentSubject::Meters(meters))).await
            }
            (Issuer::Ours(issuer), Returned::Authorisation(id)) => {
                issue(issuer.as_ref(), consent(ConsentSubject::Authorisation(id))).await
            }
            // The HTTP layer reads what came by the flow it serves.
            (Issuer::Enedis(_), _) | (Issuer::Ours(_), Returned::Code { .. }) => {
                (Outcome::Failed { consumed: true }, ConsentOutcome::Garbled)
            }
        };
        let in_hand = matches!(outcome, Outcome::Token(_));
        let told = self.record(device, grant, outcome, told).await;
        if let Issuer::Ours(issuer) = &self.issuer
            && in_hand
            && told == ConsentOutcome::Unknown
        {
            issuer.withdraw(state, grant, asked_at).await;
        }
        told
    }

    /// Exchanges an authorization code for Enedis' token, and records how that ended.
    async fn exchange(
        &self,
        client: &ConfiguredClient,
        network: Network,
        lease: Lease,
        code: String,
        usage_point_id: Option<&str>,
    ) -> ConsentOutcome {
        let Lease { device, grant, client_id, client_secret, verifier, .. } = lease;
        let presented = Grant::AuthorizationCode { code, verifier };
        let call = client.call(&client_id, client_secret, presented);
        let (outcome, told) = read(self.exchanger.token(network, call).await, usage_point_id);
        let told = self.record(device, grant, outcome, told).await;
        let act = match &told {
            ConsentOutcome::Approved => Act::Granted,
            ConsentOutcome::Rejected { .. } => Act::RefusedByEnedis,
            _ => return told,
        };
        let note = Note::of(act).about(device).client(Some(&client_id)).from(network);
        self.audit.note(note.count(listed(usage_point_id.unwrap_or_default()).count())).await;
        told
    }

    /// Makes the end of an exchange durable, with patience; `told` is what the person is told if that succeeds.
    async fn record(
        &self,
        device: DeviceHash,
        grant: GrantHash,
        outcome: Outcome,
        told: ConsentOutcome,
    ) -> ConsentOutcome {
        let in_hand = matches!(outcome, Outcome::Token(_));
        let end = self.clock.now() + if in_hand { RECORD_PATIENCE } else { FAILURE_PATIENCE };
        loop {
            match self.registry.finish(device, grant, outcome.clone()).await {
                Ok(FinishAnswer::Recorded) => return told,
                Ok(FinishAnswer::Approved) => return ConsentOutcome::Approved,
                Ok(FinishAnswer::Gone) => return ConsentOutcome::Unknown,
                Ok(FinishAnswer::Unavailable) | Err(_) if self.clock.now() >= end => {
                    return ConsentOutcome::NotIssued(NotIssued::Unavailable);
                }
                Ok(FinishAnswer::Unavailable) | Err(_) => tokio::time::sleep(RECORD_PAUSE).await,
            }
        }
    }
}

/// Lets tokens of our own be issued.
async fn issue(issuer: &dyn GrantIssuer, consent: ReturnedConsent) -> (Outcome, ConsentOutcome) {
    match issuer.issue(consent).await {
        Ok(token) => (Outcome::Token(token), ConsentOutcome::Approved),
        Err(why @ NotIssued::AlreadyLinked) => {
            (Outcome::Failed { consumed: true }, ConsentOutcome::NotIssued(why))
        }
        Err(why) => (Outcome::Postponed, ConsentOutcome::NotIssued(why)),
    }
}

/// What an exchange means for the session, and what the person is told.
fn read(
    exchanged: Exchanged<Result<TokenSet, NoToken>>,
    usage_point_id: Option<&str>,
) -> (Outcome, ConsentOutcome) {
    let consumed = Outcome::Failed { consumed: true };
    match exchanged {
        Exchanged::Answered(Ok(token)) => {
            (Outcome::Token(token.with_usage_point(usage_point_id)), ConsentOutcome::Approved)
        }
        Exchanged::Answered(Err(NoToken::Refused { status, error })) => {
            tracing::warn!(status, error, "Enedis refused an authorization code");
            (consumed, ConsentOutcome::Rejected { error })
        }
        Exchanged::Answered(Err(NoToken::Garbled { status })) => {
            tracing::warn!(status, "Enedis answered an authorization code without a token");
            (consumed, ConsentOutcome::Garbled)
        }
        Exchanged::Lost => (consumed, ConsentOutcome::Lost),
        Exchanged::NotDone { why, retry_after } => {
            (Outcome::Failed { consumed: false }, ConsentOutcome::NotIssued(why.not_issued(retry_after)))
        }
    }
}

impl From<ReturnError> for ConsentOutcome {
    fn from(error: ReturnError) -> Self {
        match error {
            ReturnError::Decided(Decision::Approved) => Self::Approved,
            ReturnError::Decided(Decision::Denied) => Self::Denied,
            ReturnError::Gone => Self::Unknown,
            ReturnError::OtherBrowser => Self::OtherBrowser,
            ReturnError::InProgress => Self::InProgress,
            ReturnError::Presented => Self::Presented,
        }
    }
}
