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
use crate::device_flow::registry::{FinishExchange, Outcome};
use crate::enedis::exchanger::{Acquired, Exchanged, NotDone};
use crate::enedis::port::{Bearer, Call, ServicesCall};
use crate::metering::civil::{days_between, today};
use crate::metering::tokens::Origin;
use crate::metering::tokens::service::Consented;

/// Pauses between questions for the meter of an authorisation: Enedis lists it some seconds after the consent.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];
/// Longest time one page waits for Enedis to tell the meter.
const PATIENCE: Duration = Duration::from_secs(20);
/// A consent whose services began so many days ago or less is fresh: midnight may lie between, and time zones.
const FRESH_DAYS: i64 = 1;

type Ended = (Outcome, ConsentOutcome);

impl Inner {
    /// The browser named the meters.
    pub(super) async fn take_meters(&self, metering: &Metering, consented: &Consented) -> Ended {
        if metering.asks_v2
            && let Some(ended) = not_to_be_believed(metering, consented).await
        {
            return ended;
        }
        self.give(metering, consented).await
    }

    /// The browser named an authorisation; the meters are asked for.
    pub(super) async fn take_authorisation(
        &self,
        metering: &Metering,
        consented: &mut Consented,
        id: i64,
    ) -> Ended {
        let asked = tokio::time::timeout(PATIENCE, self.ask_meters(id)).await;
        let Subscription { meters, since } = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(ended)) => return ended,
            Err(_) => return postponed(ConsentOutcome::NotListed),
        };
        consented.meters = meters;
        let today = today(self.clock.now());
        let stale = since.is_none_or(|since| days_between(since, today) > FRESH_DAYS);
        if stale && let Some(ended) = not_to_be_believed(metering, consented).await {
            return ended;
        }
        self.give(metering, consented).await
    }

    /// Records the end; tokens that nobody will receive are taken back.
    pub(super) async fn record_metering(
        &self,
        metering: &Metering,
        consented: &Consented,
        finish: FinishExchange,
        told: ConsentOutcome,
    ) -> ConsentOutcome {
        let given = matches!(finish.outcome, Outcome::Token(_));
        let told = self.record(finish, told).await;
        if given
            && told == ConsentOutcome::Unknown
            && let Err(error) = metering.tokens.withdraw(consented).await
        {
            tracing::warn!(%error, "tokens that nobody will receive could not be taken back");
        }
        told
    }

    async fn give(&self, metering: &Metering, consented: &Consented) -> Ended {
        // What was remembered before this consent does not count for its tokens. It is deleted as well, unless only the
        // browser says which meter it is: then a stranger could have another box's values deleted.
        if consented.origin == Origin::ConsentV2 {
            for meter in &consented.meters {
                metering.relay.forget(*meter).await;
            }
        }
        let end = self.clock.now() + FAILURE_PATIENCE;
        loop {
            match metering.tokens.give(consented).await {
                Ok(token) => return (Outcome::Token(token), ConsentOutcome::Approved),
                Err(error) if self.clock.now() >= end => {
                    tracing::warn!(%error, "tokens could not be stored");
                    return unavailable();
                }
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
                // A consent that was given a moment ago is refused now and then, as if it were not there.
                told @ (Services::NotYet | Services::Refused) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None if told == Services::NotYet => return Err(postponed(ConsentOutcome::NotListed)),
                    None => {
                        tracing::warn!("Enedis refuses to tell the meter of an authorisation");
                        return Err(postponed(ConsentOutcome::Foreign));
                    }
                },
                Services::NewToken | Services::Trouble => {
                    tracing::warn!(status = answer.status, "Enedis does not tell the meter of a consent");
                    return Err(not_done(NotDone::Down, Duration::from_secs(60)));
                }
            }
        }
    }
}

/// How a consent ends that is not fresh and names a meter that a box holds already; `None` if it may be believed.
async fn not_to_be_believed(metering: &Metering, consented: &Consented) -> Option<Ended> {
    match metering.tokens.is_held(consented).await {
        Ok(false) => None,
        Ok(true) => {
            let origin = consented.origin;
            tracing::warn!(?origin, "a consent that is not fresh names a meter that a box holds; refused");
            Some((Outcome::Failed { consumed: true }, ConsentOutcome::Held))
        }
        Err(error) => {
            tracing::warn!(%error, "grants of a meter could not be looked up");
            Some(unavailable())
        }
    }
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
