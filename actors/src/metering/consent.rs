//! From what Enedis returned with a browser to tokens of our own.
//!
//! The v1 page names the meters in the browser's address, where whoever holds the browser can write another's: nothing
//! at Enedis confirms them. The v2 page names a number, an authorisation, and Enedis tells the meter; but the number
//! can be guessed. What stands against either: a `state` is good for one authorization and one browser; what names
//! a meter that a box holds already is believed only if Enedis says that the consent is fresh, or came by the v1 page
//! (an owner whose box lost its token consents again, and v1 shows no difference); an authorisation is one box's. What
//! came by the v1 page alone is on probation until Enedis answers for its meters. The rest is for the operator, and
//! `docs/security.md` says so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::audit::{Act, Note};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::grant_issuer::{ConsentSubject, GrantIssuer, NotIssued, ReturnedConsent};
use crate::base::keyring::{GrantHash, StateHash};
use crate::base::network::Network;
use crate::base::token_set::TokenSet;
use crate::enedis::exchanger::{Acquired, Exchanged, TokenExchangerHandle};
use crate::enedis::port::{Bearer, MetersCall, NoMeters, Subscription};
use crate::metering::civil::{days_between, today};
use crate::metering::relay::MeterRelayHandle;
use crate::metering::tokens::Origin;
use crate::metering::tokens::service::{Authorised, Consented, Given, TokenService};

/// Pauses between questions for the meter of an authorisation: Enedis lists it some seconds after the consent. A person
/// looks at an empty page meanwhile; then at one that says so, and asks again by itself.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// Longest time one page waits for Enedis to tell the meter.
const PATIENCE: Duration = Duration::from_secs(20);
/// A consent whose services began so many days ago or less is fresh: midnight may lie between, and time zones.
const FRESH_DAYS: i64 = 1;
/// How long an authorisation stays its first bringer's: for longer than it is called fresh.
const CLAIMED_FOR: Duration = Duration::from_secs(3 * 86_400);
/// When to come back, where too many consents are on probation.
const CROWD_PAUSE: Duration = Duration::from_secs(3_600);
/// How long tokens are offered to a store that does not take them.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two offers.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// When to come back, where Enedis does not tell the meters and says nothing of another try.
const TROUBLE_PAUSE: Duration = Duration::from_secs(60);

/// Issues tokens for consents.
pub struct MeterGrantIssuer {
    /// Records them.
    pub tokens: Arc<TokenService>,
    /// Remembers data of meters, and must forget what it has of one whose owner consents anew.
    pub relay: MeterRelayHandle,
    /// Asks Enedis for the meters of an authorisation.
    pub exchanger: TokenExchangerHandle,
    /// The clock.
    pub clock: SharedClock,
}

#[async_trait]
impl GrantIssuer for MeterGrantIssuer {
    async fn issue(&self, consent: ReturnedConsent) -> Result<TokenSet, NotIssued> {
        let (client_id, network) = (Arc::clone(&consent.client_id), consent.network);
        let issued = self.tokens_for(consent).await;
        let act = match &issued {
            Err(NotIssued::AlreadyLinked) => Act::RefusedAnothers,
            Err(NotIssued::Foreign) => Act::RefusedByEnedis,
            _ => return issued,
        };
        self.tokens.audit.note(Note::of(act).client(Some(&client_id)).from(network)).await;
        issued
    }

    async fn withdraw(&self, state: StateHash, grant: GrantHash, asked_at: Timestamp) {
        if let Err(error) = self.tokens.withdraw(&state, &grant, asked_at).await {
            tracing::warn!(%error, "tokens that nobody will receive could not be taken back");
        }
    }
}

impl MeterGrantIssuer {
    async fn tokens_for(&self, consent: ReturnedConsent) -> Result<TokenSet, NotIssued> {
        let ReturnedConsent { state, asked_at, grant, client_id, subject, browser, network } = consent;
        let (meters, origin, is_fresh, authorised) = match subject {
            ConsentSubject::Meters(meters) => (meters, Origin::ConsentV1, true, None),
            ConsentSubject::Authorisation(id) => {
                let asked = tokio::time::timeout(PATIENCE, self.ask_meters(network, id)).await;
                let Subscription { meters, since } = asked.unwrap_or(Err(NotIssued::NotListed))?;
                let now = self.clock.wall();
                let (today, until) = (today(now), now + CLAIMED_FOR);
                let is_fresh = since.is_some_and(|since| days_between(since, today) <= FRESH_DAYS);
                (meters, Origin::ConsentV2, is_fresh, since.map(|since| Authorised { id, since, until }))
            }
        };
        let consented =
            Consented { state, asked_at, grant, client_id, meters, origin, browser, network, authorised };
        if !is_fresh && self.is_held(&consented).await? {
            tracing::warn!("a consent that is not fresh names a meter that a box holds; refused");
            return Err(NotIssued::AlreadyLinked);
        }
        let given = self.give(&consented).await?;
        if origin == Origin::ConsentV1 {
            match self.is_held(&consented).await {
                Ok(true) => {
                    tracing::warn!(%network, "a meter that a box holds was claimed once more by the v1 page");
                    self.tokens.note_second_claim(&consented).await;
                }
                Ok(false) => self.forget(&consented).await,
                Err(_) => {}
            }
        }
        Ok(given)
    }

    /// Whether a box holds a meter of this consent already.
    async fn is_held(&self, consented: &Consented) -> Result<bool, NotIssued> {
        self.tokens.is_held(consented).await.map_err(|error| {
            tracing::warn!(%error, "grants of a meter could not be looked up");
            NotIssued::Unavailable
        })
    }

    async fn give(&self, consented: &Consented) -> Result<TokenSet, NotIssued> {
        // What was remembered before this consent does not count for its tokens. It is deleted as well; where only the
        // browser says which meter it is, once it is known that no other box holds it, whose values a stranger could have deleted.
        if consented.origin == Origin::ConsentV2 {
            self.forget(consented).await;
        }
        let end = self.clock.now() + STORE_PATIENCE;
        loop {
            match self.tokens.give(consented).await {
                Ok(Given::Tokens(token)) => return Ok(token),
                Ok(Given::Anothers) => {
                    tracing::warn!(
                        "an authorisation was brought that another browser has brought before; refused"
                    );
                    return Err(NotIssued::AlreadyLinked);
                }
                Ok(Given::TooMany) => {
                    let network = consented.network;
                    tracing::warn!(%network, "too many consents for which Enedis has not answered; refused");
                    return Err(NotIssued::TooMany { retry_after: CROWD_PAUSE });
                }
                Err(error) if self.clock.now() >= end => {
                    tracing::warn!(%error, "tokens could not be stored");
                    return Err(NotIssued::Unavailable);
                }
                Err(_) => tokio::time::sleep(STORE_PAUSE).await,
            }
        }
    }

    async fn forget(&self, consented: &Consented) {
        for meter in &consented.meters {
            self.relay.forget(*meter).await;
        }
    }

    async fn ask_meters(&self, network: Network, id: i64) -> Result<Subscription, NotIssued> {
        let mut pauses = PAUSES.iter();
        let mut rejected: Option<Bearer> = None;
        loop {
            let renewed = rejected.is_some();
            let bearer = match self.exchanger.acquire(rejected.take()).await {
                Acquired::Bearer(bearer) => bearer,
                Acquired::NotDone { why, retry_after } => return Err(why.not_issued(retry_after)),
            };
            let call = MetersCall { authorisation: id, bearer: bearer.clone() };
            let told = match self.exchanger.meters(network, call).await {
                Exchanged::Answered(told) => told,
                Exchanged::NotDone { why, retry_after } => return Err(why.not_issued(retry_after)),
                Exchanged::Lost => return Err(NotIssued::Down { retry_after: STORE_PAUSE }),
            };
            match told {
                Ok(found) => return Ok(found),
                Err(NoMeters::TokenRejected) if !renewed => rejected = Some(bearer),
                // A consent that was given a moment ago is refused now and then, as if it were not there.
                Err(NoMeters::NotYet | NoMeters::Refused) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None if told == Err(NoMeters::NotYet) => return Err(NotIssued::NotListed),
                    None => {
                        tracing::warn!("Enedis refuses to tell the meter of an authorisation");
                        return Err(NotIssued::Foreign);
                    }
                },
                Err(NoMeters::NotSubscribed) => return Err(NotIssued::NotAccepted),
                Err(NoMeters::TokenRejected | NoMeters::Trouble) => {
                    return Err(NotIssued::Down { retry_after: TROUBLE_PAUSE });
                }
            }
        }
    }
}
