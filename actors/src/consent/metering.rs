//! Consents with `FLOW=CLIENT_CREDENTIALS`: from what Enedis returned to tokens of our own.
//!
//! The v1 page names the meters in the browser's address, where whoever holds the browser can write another's: nothing
//! at Enedis confirms them. The v2 page names a number, an authorisation, and Enedis tells the meter; but the number
//! can be guessed. What stands against either: a `state` is good for one authorization and one browser; what names
//! a meter that a box holds already is believed only if Enedis says that the consent is fresh, or came by the v1 page
//! where that is the page people are sent to (an owner whose box lost its token consents again, and v1 shows no
//! difference). The rest is for the operator, and `docs/security.md` says so.

use std::time::Duration;

use super::services::{self, Services, Subscription};
use super::{ConsentOutcome, FAILURE_PATIENCE, Inner, Metering, RECORD_PAUSE};
use crate::exchanger::{Acquired, Exchanged, NotDone};
use crate::meter::civil::{days_between, today};
use crate::meter::request::Meter;
use crate::registry::{Lease, Outcome};
use crate::tokens::Origin;
use crate::upstream::{Bearer, Call, ServicesCall};

/// Pauses between questions for the meter of an authorisation: Enedis lists it some seconds after the consent.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];
/// Longest time one page waits for Enedis to tell the meter.
const PATIENCE: Duration = Duration::from_secs(20);
/// A consent whose services began so many days ago or less is fresh: midnight may lie between, and time zones.
const FRESH_DAYS: i64 = 1;

type Ended = (Outcome, ConsentOutcome);

impl Inner {
    /// The browser named the meters.
    pub(super) async fn take_meters(&self, metering: &Metering, lease: &Lease, meters: &[Meter]) -> Ended {
        if metering.asks_v2 {
            match any_held(metering, meters).await {
                Some(false) => {}
                Some(true) => return held("v1"),
                None => return unavailable(),
            }
        }
        self.give(metering, lease, meters, Origin::ConsentV1).await
    }

    /// The browser named an authorisation.
    pub(super) async fn take_authorisation(&self, metering: &Metering, lease: &Lease, id: i64) -> Ended {
        let asked = tokio::time::timeout(PATIENCE, self.ask_meters(id)).await;
        let Subscription { meters, since } = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(ended)) => return ended,
            Err(_) => return postponed(ConsentOutcome::NotListed),
        };
        let today = today(self.clock.now());
        let stale = since.is_none_or(|since| days_between(since, today) > FRESH_DAYS);
        if stale {
            match any_held(metering, &meters).await {
                Some(false) => {}
                Some(true) => return held("v2"),
                None => return unavailable(),
            }
        }
        self.give(metering, lease, &meters, Origin::ConsentV2).await
    }

    async fn give(&self, metering: &Metering, lease: &Lease, meters: &[Meter], origin: Origin) -> Ended {
        // What is remembered of the meter may be another person's, and what Enedis refused before is void.
        for meter in meters {
            metering.relay.forget(*meter).await;
        }
        let end = self.clock.now() + FAILURE_PATIENCE;
        loop {
            match metering.tokens.give(lease.client_id.clone(), meters, origin).await {
                Ok(token) => return (Outcome::Token(token), ConsentOutcome::Approved),
                Err(error) if self.clock.now() >= end => {
                    tracing::warn!(%error, "tokens could not be stored");
                    return unavailable();
                }
                // If the tokens before were stored after all, nobody knows them.
                Err(_) => tokio::time::sleep(RECORD_PAUSE).await,
            }
        }
    }

    async fn ask_meters(&self, id: i64) -> Result<Subscription, Ended> {
        let mut pauses = PAUSES.iter();
        let mut rejected: Option<Bearer> = None;
        loop {
            let renewed = rejected.is_some();
            let bearer = match self.exchanger.acquire(rejected.take()).await {
                Acquired::Bearer(bearer) => bearer,
                Acquired::NotDone { why, retry_after } => return Err(not_done(why, retry_after)),
            };
            let call = Call::Services(ServicesCall { authorisation: id, bearer: bearer.clone() });
            let answer = match self.exchanger.call(call).await {
                Exchanged::Answered(answer) => answer,
                Exchanged::NotDone { why, retry_after } => return Err(not_done(why, retry_after)),
                Exchanged::Lost => return Err(not_done(NotDone::Down, RECORD_PAUSE)),
            };
            match services::read(&answer, id) {
                Services::Found(found) => return Ok(found),
                Services::NewToken if !renewed => rejected = Some(bearer),
                Services::NotYet => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(postponed(ConsentOutcome::NotListed)),
                },
                Services::Refused => {
                    tracing::warn!("a browser returned with an authorisation that is not this application's");
                    return Err((Outcome::Failed { consumed: true }, ConsentOutcome::Foreign));
                }
                Services::NewToken | Services::Trouble => {
                    tracing::warn!(status = answer.status, "Enedis does not tell the meter of a consent");
                    return Err(not_done(NotDone::Down, Duration::from_secs(60)));
                }
            }
        }
    }
}

/// Whether a box holds one of the meters; `None` if the store does not say.
async fn any_held(metering: &Metering, meters: &[Meter]) -> Option<bool> {
    for meter in meters {
        match metering.tokens.is_held(*meter).await {
            Ok(false) => {}
            Ok(true) => return Some(true),
            Err(error) => {
                tracing::warn!(%error, "grants of a meter could not be looked up");
                return None;
            }
        }
    }
    Some(false)
}

fn held(version: &str) -> Ended {
    tracing::warn!(version, "a consent that is not fresh names a meter that a box holds already; refused");
    (Outcome::Failed { consumed: true }, ConsentOutcome::Held)
}

fn unavailable() -> Ended {
    postponed(ConsentOutcome::Unavailable)
}

fn not_done(why: NotDone, retry_after: Duration) -> Ended {
    postponed(match why {
        NotDone::Busy => ConsentOutcome::Busy { retry_after },
        NotDone::Down => ConsentOutcome::Down { retry_after },
    })
}

fn postponed(told: ConsentOutcome) -> Ended {
    (Outcome::Postponed, told)
}
