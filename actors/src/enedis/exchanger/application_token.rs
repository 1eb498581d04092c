//! The application's own token: one for all, renewed ahead of its end, by one call at a time.

use std::time::Duration;

use super::{Acquired, Exchanged, NotDone};
use crate::base::admission::Reply;
use crate::base::clock::Timestamp;
use crate::base::token_set::TokenSet;
use crate::enedis::port::{Bearer, NoToken};

/// Left of a token's life when it is renewed while it still serves.
const AHEAD: Duration = Duration::from_secs(600);
/// Left of a token's life when it is handed out no more: longer than any call takes.
const MARGIN: Duration = Duration::from_secs(60);
/// A token younger than this that Enedis does not accept is not replaced: the next one would fare no better, and the
/// token endpoint has a quota too.
const YOUNG: Duration = Duration::from_secs(30);
/// Pause after the token endpoint has refused, in which it is not asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The token and those who wait for it.
#[derive(Default)]
pub(super) struct ApplicationToken {
    current: Option<Issued>,
    waiting: Vec<Reply<Acquired>>,
    renewing: bool,
    refused: Option<(NotDone, Timestamp)>,
}

struct Issued {
    bearer: Bearer,
    at: Timestamp,
    ends: Timestamp,
}

impl ApplicationToken {
    /// Takes a caller in; `rejected` is the token Enedis did not accept from it. What the caller is told, if it need not
    /// wait; and whether a renewal is to be begun, whose end is told to [`Self::renewed`].
    pub fn acquire(
        &mut self,
        now: Timestamp,
        rejected: Option<&Bearer>,
        caller: Reply<Acquired>,
    ) -> (Option<(Reply<Acquired>, Acquired)>, bool) {
        let may_ask = !self.renewing && self.refused.is_none_or(|(_, until)| now >= until);
        let is_old = |issued: &mut Issued| now.since(issued.at) >= YOUNG;
        self.current.take_if(|issued| Some(&issued.bearer) == rejected && is_old(issued));
        let left = self.current.as_ref().map_or(Duration::ZERO, |issued| issued.ends.since(now));
        if let Some(issued) = self.current.as_ref().filter(|_| left > MARGIN) {
            // A short-lived token is renewed when half of its life is over.
            let renew = may_ask && left <= AHEAD.min(issued.ends.since(issued.at) / 2);
            self.renewing |= renew;
            return (Some((caller, Acquired::Bearer(issued.bearer.clone()))), renew);
        }
        if let Some((why, until)) = self.refused.filter(|(_, until)| now < *until) {
            let none = Acquired::NotDone { why, retry_after: until.since(now) };
            return (Some((caller, none)), false);
        }
        self.waiting.push(caller);
        (None, !std::mem::replace(&mut self.renewing, true))
    }

    /// A renewal has ended: what whoever waited is told.
    pub fn renewed(
        &mut self,
        now: Timestamp,
        exchanged: Exchanged<Result<TokenSet, NoToken>>,
    ) -> impl Iterator<Item = (Reply<Acquired>, Acquired)> {
        self.renewing = false;
        let acquired = self.read(now, exchanged);
        std::mem::take(&mut self.waiting).into_iter().map(move |caller| (caller, acquired.clone()))
    }

    fn read(&mut self, now: Timestamp, exchanged: Exchanged<Result<TokenSet, NoToken>>) -> Acquired {
        let down = |error: String| (NotDone::Down, error);
        let refused = match exchanged {
            Exchanged::Answered(Ok(token)) => {
                Bearer::of(&token).ok_or_else(|| down("no access token".to_owned()))
            }
            // RFC 6749 section 5.2: the request itself is refused, and it says no more than who we are.
            Exchanged::Answered(Err(error @ NoToken::Refused { status: 400 | 401, .. })) => {
                Err((NotDone::NotAccepted, error.to_string()))
            }
            Exchanged::Answered(Err(error)) => Err(down(error.to_string())),
            Exchanged::NotDone { why, retry_after } => return Acquired::NotDone { why, retry_after },
            Exchanged::Lost => Err(down("no answer".to_owned())),
        };
        match refused {
            Ok((bearer, life)) => {
                self.refused = None;
                self.current = Some(Issued { bearer: bearer.clone(), at: now, ends: now + life });
                Acquired::Bearer(bearer)
            }
            Err((why, error)) => {
                tracing::error!(
                    error,
                    "Enedis gives the application no token; check CLIENT_ID and CLIENT_SECRET"
                );
                self.refused = Some((why, now + REFUSED_PAUSE));
                Acquired::NotDone { why, retry_after: REFUSED_PAUSE }
            }
        }
    }
}
