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

#[derive(Default)]
pub(super) struct Application {
    current: Option<Issued>,
    waiting: Vec<Reply<Acquired>>,
    renewing: bool,
    refused_until: Option<Timestamp>,
}

struct Issued {
    bearer: Bearer,
    at: Timestamp,
    ends: Timestamp,
}

impl Application {
    /// Takes a caller in; `rejected` is the token Enedis did not accept from it. Whether a renewal is to be begun.
    pub fn acquire(&mut self, now: Timestamp, rejected: Option<&Bearer>, reply: Reply<Acquired>) -> bool {
        let is_old = |issued: &mut Issued| now.since(issued.at) >= YOUNG;
        self.current.take_if(|issued| Some(&issued.bearer) == rejected && is_old(issued));
        let left = self.current.as_ref().map_or(Duration::ZERO, |issued| issued.ends.since(now));
        if let Some(issued) = self.current.as_ref().filter(|_| left > MARGIN) {
            reply.send(Acquired::Bearer(issued.bearer.clone()));
            // A short-lived token is renewed when half of its life is over.
            let ahead = AHEAD.min(issued.ends.since(issued.at) / 2);
            return left <= ahead && self.may_ask(now);
        }
        if let Some(until) = self.refused_until.filter(|until| now < *until) {
            reply.send(Acquired::NotDone { why: NotDone::Down, retry_after: until.since(now) });
            return false;
        }
        self.waiting.push(reply);
        !self.renewing
    }

    /// A renewal is on its way.
    pub fn begin(&mut self) {
        self.renewing = true;
    }

    /// A renewal has ended: answers whoever waited.
    pub fn ended(&mut self, now: Timestamp, exchanged: Exchanged<Result<TokenSet, NoToken>>) {
        self.renewing = false;
        let acquired = self.read(now, exchanged);
        for reply in self.waiting.drain(..) {
            reply.send(acquired.clone());
        }
    }

    fn may_ask(&self, now: Timestamp) -> bool {
        !self.renewing && self.refused_until.is_none_or(|until| now >= until)
    }

    fn read(&mut self, now: Timestamp, exchanged: Exchanged<Result<TokenSet, NoToken>>) -> Acquired {
        let refused = match exchanged {
            Exchanged::Answered(Ok(token)) => Bearer::of(&token).ok_or_else(|| "no access token".to_owned()),
            Exchanged::Answered(Err(error)) => Err(error.to_string()),
            Exchanged::NotDone { why, retry_after } => return Acquired::NotDone { why, retry_after },
            Exchanged::Lost => Err("no answer".to_owned()),
        };
        match refused {
            Ok((bearer, life)) => {
                self.refused_until = None;
                self.current = Some(Issued { bearer: bearer.clone(), at: now, ends: now + life });
                Acquired::Bearer(bearer)
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "Enedis gives the application no token; check CLIENT_ID and CLIENT_SECRET"
                );
                self.refused_until = Some(now + REFUSED_PAUSE);
                Acquired::NotDone { why: NotDone::Down, retry_after: REFUSED_PAUSE }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::admission::Admission;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + secs * 1_000)
    }

    fn token(name: &str) -> Exchanged<Result<TokenSet, NoToken>> {
        let members = [("access_token", name.into()), ("expires_in", "12600".into())];
        Exchanged::Answered(Ok(TokenSet::own(members)))
    }

    /// Asks at `now`; answers whether a renewal begins, which then brings `brings`, and what the caller hears.
    async fn ask(
        app: &mut Application,
        now: Timestamp,
        rejected: Option<&str>,
        brings: Exchanged<Result<TokenSet, NoToken>>,
    ) -> (bool, Acquired) {
        let admission = Admission::new(9, Duration::from_secs(1));
        let mut renews = false;
        let answer = admission
            .ask(|reply| {
                renews = app.acquire(now, rejected.map(Bearer::from).as_ref(), reply);
                if renews {
                    app.begin();
                    app.ended(now, brings);
                }
            })
            .await;
        (renews, answer.unwrap())
    }

    fn bearer(name: &str) -> Acquired {
        Acquired::Bearer(Bearer::from(name))
    }

    #[tokio::test]
    async fn one_token_serves_all_and_is_renewed_ahead_of_its_end() {
        let mut app = Application::default();
        assert_eq!(ask(&mut app, at(0), None, token("a")).await, (true, bearer("a")));
        assert_eq!(ask(&mut app, at(11_000), None, token("b")).await, (false, bearer("a")));
        // Ten minutes before its end it still serves, and the next one is fetched.
        assert_eq!(ask(&mut app, at(12_100), None, token("b")).await, (true, bearer("a")));
        assert_eq!(ask(&mut app, at(12_101), None, token("c")).await, (false, bearer("b")));
        assert_eq!(ask(&mut app, at(30_000), None, token("c")).await, (true, bearer("c")));
    }

    #[tokio::test]
    async fn a_rejected_token_is_replaced_once() {
        let mut app = Application::default();
        ask(&mut app, at(0), None, token("a")).await;
        assert_eq!(ask(&mut app, at(100), Some("a"), token("b")).await, (true, bearer("b")));
        // Others whose call was under way with the old one.
        assert_eq!(ask(&mut app, at(100), Some("a"), token("c")).await, (false, bearer("b")));
        // The new one is rejected as well: the fault is not the token's.
        assert_eq!(ask(&mut app, at(101), Some("b"), token("c")).await, (false, bearer("b")));
        assert_eq!(ask(&mut app, at(200), Some("b"), token("c")).await, (true, bearer("c")));
    }

    #[tokio::test]
    async fn a_refusal_is_not_asked_for_again_at_once() {
        let error = "invalid_client".to_owned();
        let refusal = Exchanged::Answered(Err(NoToken::Refused { status: 401, error }));
        let mut app = Application::default();
        let (renews, told) = ask(&mut app, at(0), None, refusal).await;
        assert!(renews && matches!(told, Acquired::NotDone { why: NotDone::Down, .. }));
        assert!(!ask(&mut app, at(29), None, token("a")).await.0);
        assert_eq!(ask(&mut app, at(30), None, token("a")).await, (true, bearer("a")));
    }
}
