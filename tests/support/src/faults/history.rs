//! Owns what boxes and their owners were told, and the judge of it. Pure: no clock, no server.
//!
//! An [`Event`] is one request with the answer, or none, and when each was. What was told before a request was sent is a
//! fact for its answer; of two that overlapped, neither is earlier.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::http::{Answer, Fault};

/// How far the clocks of instances may be apart, each of which follows the store's: by so much a code may end early.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

/// What a box or its owner asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The box asks for codes. There is a session once it is answered.
    Code,
    /// The owner opens the link and consents.
    Allow,
    /// The owner opens the link and refuses.
    Refuse,
    /// The box polls.
    Poll,
    /// The box refreshes its tokens.
    Refresh,
    /// The box asks for data.
    Read,
    /// The box gives its tokens up.
    Revoke,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Codes that live so long.
    Codes(Duration),
    /// `authorization_pending` or `slow_down`.
    Pending,
    /// Tokens: the whole body, and the meters in it.
    Tokens(String, String),
    /// `access_denied`.
    Denied,
    /// `expired_token`.
    Expired,
    /// `invalid_grant`.
    Invalid,
    /// The page that says so, the data, or that the tokens are given up.
    Done,
    /// A page that says that the code, or the way to it, is of no use: which, in words.
    Gone(String),
    /// 401 for data.
    Unauthorized,
    /// Come back later, or start over.
    Later(u16),
    /// No answer.
    Nothing,
    /// What no answer of these routes should be.
    Other(String),
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Event {
    /// The number of the session, which is that of its owner's meter.
    pub session: u32,
    /// What was asked.
    pub act: Act,
    /// What was answered.
    pub said: Said,
    /// When it was sent, since the start of the scenario.
    pub began: Duration,
    /// When it was answered, or given up.
    pub ended: Duration,
    /// Nobody decides on this session, and the instance that was asked knew it and ran all the while.
    pub steady: bool,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Guarantee {
    /// A device code that was given is known until its end.
    CodesStay,
    /// What a page confirmed reaches the box.
    DecisionsStay,
    /// One device code, one answer with tokens, for its owner's meter.
    RedeemedOnce,
    /// A final answer has its reason, and none takes another back.
    FinalsStand,
    /// Tokens refresh and read until they are given up.
    TokensLive,
    /// What was given up stays so.
    RevokedStays,
    /// A pending poll is answered as long as the instance runs.
    PendingGoesOn,
    /// No 500, and nothing that is not documented.
    NoSurprise,
    /// Enedis sees no authorization again that it has taken.
    OnceAtEnedis,
}

impl Guarantee {
    /// All, with what the table calls them.
    pub const ALL: [(Self, &str); 9] = [
        (Self::CodesStay, "a code that was given is known until its end"),
        (Self::DecisionsStay, "what a page confirmed reaches the box"),
        (Self::RedeemedOnce, "one code, one token, for its owner's meter"),
        (Self::FinalsStand, "a final answer has its reason and stands"),
        (Self::TokensLive, "tokens refresh until they are given up"),
        (Self::RevokedStays, "what was given up stays so"),
        (Self::PendingGoesOn, "pending polls are answered by who runs"),
        (Self::NoSurprise, "no 500, nothing undocumented"),
        (Self::OnceAtEnedis, "no authorization is presented twice"),
    ];
}

/// What the judge looked at, and what is broken.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How often each guarantee was looked at.
    pub looked: BTreeMap<Guarantee, u64>,
    /// What is broken, of which session, in words with all that the session was told.
    pub broken: Vec<(Guarantee, String)>,
}

impl Findings {
    /// `guarantee` was looked at, and holds if `holds`.
    pub fn look(&mut self, guarantee: Guarantee, holds: bool, why: impl FnOnce() -> String) {
        *self.looked.entry(guarantee).or_default() += 1;
        if !holds {
            self.broken.push((guarantee, why()));
        }
    }
}

/// Judges everything that happened, of which the last was asked after all faults had healed. `meter` tells the usage point
/// of a session's owner.
pub fn judge(events: &[Event], meter: impl Fn(u32) -> String) -> Findings {
    let mut sessions: BTreeMap<u32, Vec<&Event>> = BTreeMap::new();
    for event in events {
        sessions.entry(event.session).or_default().push(event);
    }
    let mut findings = Findings::default();
    for (number, mut events) in sessions {
        events.sort_by_key(|event| event.ended);
        let (meter, broken) = (meter(number), findings.broken.len());
        Session { events: &events, meter: &meter }.judge(&mut findings);
        if findings.broken.len() > broken {
            let told: Vec<_> = events.iter().map(ToString::to_string).collect();
            let (_, why) = &mut findings.broken[broken];
            *why = format!("{why}; session {number}:\n    {}", told.join("\n    "));
        }
    }
    findings
}

struct Session<'a> {
    events: &'a [&'a Event],
    meter: &'a str,
}

impl Session<'_> {
    /// When the first such answer came.
    fn told(&self, act: Act, said: impl Fn(&Said) -> bool) -> Option<Duration> {
        self.of(act).filter(|event| said(&event.said)).map(|event| event.ended).min()
    }

    /// When this was first asked, whatever was answered.
    fn asked(&self, act: Act) -> Option<Duration> {
        self.of(act).map(|event| event.began).min()
    }

    fn of(&self, act: Act) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter().filter(move |event| event.act == act).copied()
    }

    /// When a page or an answer first said that it is done.
    fn done(&self, act: Act) -> Option<Duration> {
        self.told(act, |said| *said == Said::Done)
    }

    /// When a poll first had this end.
    fn polled(&self, end: &Said) -> Option<Duration> {
        self.told(Act::Poll, |said| said == end)
    }

    fn tokens(&self) -> Option<Duration> {
        self.told(Act::Poll, is_tokens)
    }

    fn last(&self, act: Act) -> Option<&Said> {
        self.of(act).next_back().map(|event| &event.said)
    }

    fn life_ends(&self) -> Option<Duration> {
        self.of(Act::Code).find_map(|event| match event.said {
            Said::Codes(life) => Some(event.began + life),
            _ => None,
        })
    }

    fn judge(&self, findings: &mut Findings) {
        for event in self.events {
            let surprise = matches!(event.said, Said::Other(_));
            findings.look(Guarantee::NoSurprise, !surprise, || format!("undocumented: {event}"));
            if event.act == Act::Poll {
                self.judge_poll(event, findings);
            } else {
                self.judge_other(event, findings);
            }
        }
        self.judge_end(findings);
    }

    fn judge_poll(&self, event: &Event, findings: &mut Findings) {
        use Guarantee as G;
        let before = |fact: Option<Duration>| fact.is_some_and(|at| at <= event.began);
        let by_now = |fact: Option<Duration>| fact.is_some_and(|at| at <= event.ended);
        let why = |why: &'static str| move || format!("{why}: {event}");
        let [denied, expired] = [Said::Denied, Said::Expired].map(|end| before(self.polled(&end)));
        let tokens = before(self.tokens());
        match &event.said {
            Said::Pending => findings.look(G::CodesStay, true, String::new),
            Said::Invalid => findings.look(G::CodesStay, false, why("the code is unknown")),
            Said::Tokens(_, meter) => {
                let first = self.of(Act::Poll).map(|event| &event.said).find(|said| is_tokens(said));
                let same = Some(&event.said) == first && meter == self.meter;
                findings.look(G::RedeemedOnce, same, why("another token, or another's meter"));
                let stands = by_now(self.asked(Act::Allow)) && !denied && !expired;
                findings.look(G::FinalsStand, stands, why("a token after another end, or without consent"));
            }
            Said::Denied => {
                let stands = by_now(self.asked(Act::Refuse)) && !tokens && !expired;
                findings.look(G::FinalsStand, stands, why("refused after another end, or by nobody"));
                let undecided = !before(self.done(Act::Allow));
                findings.look(G::DecisionsStay, undecided, why("refused after the consent"));
            }
            Said::Expired => {
                let over = self.life_ends().is_some_and(|end| end <= event.ended + CLOCKS_AGREE);
                findings.look(
                    G::FinalsStand,
                    over && !tokens && !denied,
                    why("expired early, or after another end"),
                );
                let undecided = !before(self.done(Act::Allow)) && !before(self.done(Act::Refuse));
                findings.look(G::DecisionsStay, undecided, why("expired after the decision"));
            }
            _ => {}
        }
        // Once its life is over the store is asked before that is said.
        if event.steady && self.life_ends().is_some_and(|end| event.ended + CLOCKS_AGREE < end) {
            findings.look(G::PendingGoesOn, event.said == Said::Pending, why("not answered"));
        }
    }

    fn judge_other(&self, event: &Event, findings: &mut Findings) {
        use Guarantee as G;
        let why = |why: &'static str| move || format!("{why}: {event}");
        let given_up = self.done(Act::Revoke).is_some_and(|at| at <= event.began);
        match (event.act, &event.said) {
            (Act::Refresh, Said::Tokens(_, meter)) => {
                findings.look(G::RedeemedOnce, meter == self.meter, why("another's meter"));
                findings.look(G::RevokedStays, !given_up, why("given up, and refreshed"));
            }
            (Act::Refresh, Said::Invalid) => {
                let asked = self.asked(Act::Revoke).is_some_and(|at| at <= event.ended);
                findings.look(G::TokensLive, asked, why("never given up"));
            }
            (Act::Read, Said::Done) => findings.look(G::RevokedStays, !given_up, why("given up, and read")),
            (Act::Allow | Act::Refuse, Said::Gone(_)) => {
                let asked = [self.asked(Act::Allow), self.asked(Act::Refuse)];
                let again = asked.into_iter().flatten().any(|at| at < event.began);
                let over = self.life_ends().is_some_and(|end| end <= event.ended);
                findings.look(G::CodesStay, again || over, why("the page knows no such code"));
            }
            _ => {}
        }
    }

    /// All is well again: what was said last counts.
    fn judge_end(&self, findings: &mut Findings) {
        use Guarantee as G;
        let ended = || {
            let acts = [Act::Poll, Act::Refresh, Act::Read].into_iter();
            let told = acts.filter_map(|act| self.of(act).next_back()).map(ToString::to_string);
            format!("at the end {}", told.collect::<Vec<_>>().join("; "))
        };
        let kept = self.asked(Act::Revoke).is_none();
        if kept && self.life_ends().is_some() {
            let known = [Said::Pending, Said::Denied, Said::Expired];
            let known = self.last(Act::Poll).is_some_and(|said| known.contains(said) || is_tokens(said));
            findings.look(G::CodesStay, known, ended);
        }
        if self.done(Act::Allow).is_some() {
            findings.look(G::DecisionsStay, self.tokens().is_some(), ended);
        }
        if self.done(Act::Refuse).is_some() {
            findings.look(G::DecisionsStay, self.polled(&Said::Denied).is_some(), ended);
        }
        if self.asked(Act::Refresh).is_some() && kept {
            let reads = self.last(Act::Read) != Some(&Said::Unauthorized);
            let live = self.last(Act::Refresh).is_some_and(is_tokens) && reads;
            findings.look(G::TokensLive, live, ended);
        }
        if self.done(Act::Revoke).is_some() {
            findings.look(G::RevokedStays, self.last(Act::Refresh) == Some(&Said::Invalid), ended);
        }
    }
}

fn is_tokens(said: &Said) -> bool {
    matches!(said, Said::Tokens(..))
}

impl Said {
    /// What a token endpoint answered.
    pub fn of_tokens(answer: Result<Answer, Fault>) -> Self {
        let Ok(answer) = answer else { return Self::Nothing };
        match answer.outcome() {
            (200, _) => {
                // With FLOW=DEVICE there is one meter, under the name that Enedis uses.
                let meter =
                    answer.text("usage_points_id").or(answer.text("usage_point_id")).unwrap_or_default();
                Self::Tokens(answer.body.clone(), meter.to_owned())
            }
            (400, Some("authorization_pending" | "slow_down")) => Self::Pending,
            (400, Some("access_denied")) => Self::Denied,
            (400, Some("expired_token")) => Self::Expired,
            (400, Some("invalid_grant")) => Self::Invalid,
            (status @ (408 | 429 | 503), _) => Self::Later(status),
            _ => Self::other(answer.status, &answer.body),
        }
    }

    /// What is not looked for: the status, and how the body begins.
    pub fn other(status: u16, body: &str) -> Self {
        Self::Other(format!("HTTP {status} {}", body.chars().take(200).collect::<String>()))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { act, said, began, ended, .. } = self;
        write!(f, "{:.3}–{:.3} s {act:?}: ", began.as_secs_f64(), ended.as_secs_f64())?;
        match said {
            // A token is nobody's business.
            Said::Tokens(_, meter) => write!(f, "Tokens for {meter}"),
            said => write!(f, "{said:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METER: &str = "m";

    fn tokens(body: &str) -> Said {
        Said::Tokens(body.into(), METER.into())
    }

    /// A session of sixty seconds: what was asked and answered, one a second.
    fn broken(told: &[(Act, Said)]) -> Vec<Guarantee> {
        let code = (Act::Code, Said::Codes(Duration::from_secs(60)));
        let events: Vec<_> = (0..)
            .zip([code].iter().chain(told))
            .map(|(second, (act, said))| Event {
                session: 0,
                act: *act,
                said: said.clone(),
                began: Duration::from_secs(second),
                ended: Duration::from_millis(second * 1_000 + 500),
                steady: false,
            })
            .collect();
        judge(&events, |_| METER.into()).broken.into_iter().map(|(guarantee, _)| guarantee).collect()
    }

    #[test]
    fn what_is_right_is_not_complained_of() {
        use Act::{Allow, Poll, Read, Refresh, Refuse, Revoke};
        let good: [&[(Act, Said)]; 5] = [
            &[(Poll, Said::Pending), (Poll, Said::Nothing), (Poll, Said::Later(503)), (Poll, Said::Pending)],
            &[
                (Allow, Said::Nothing),
                (Allow, Said::Gone("/device".into())),
                (Poll, tokens("a")),
                (Poll, tokens("a")),
            ],
            &[(Refuse, Said::Done), (Poll, Said::Denied), (Poll, Said::Denied)],
            &[(Allow, Said::Done), (Poll, tokens("a")), (Refresh, tokens("b")), (Read, Said::Done)],
            &[(Allow, Said::Done), (Poll, tokens("a")), (Revoke, Said::Done), (Refresh, Said::Invalid)],
        ];
        for told in good {
            assert_eq!(broken(told), [], "{told:?}");
        }
    }

    #[test]
    fn each_guarantee_can_be_broken() {
        use Act::{Allow, Poll, Read, Refresh, Refuse, Revoke};
        use Guarantee as G;
        let bad: [(Guarantee, &[(Act, Said)]); 16] = [
            (G::CodesStay, &[(Poll, Said::Pending), (Poll, Said::Later(503))]),
            (G::CodesStay, &[(Poll, Said::Invalid), (Poll, Said::Pending)]),
            (G::CodesStay, &[(Allow, Said::Gone("/device".into())), (Poll, Said::Pending)]),
            (G::DecisionsStay, &[(Allow, Said::Done), (Poll, Said::Pending)]),
            (G::DecisionsStay, &[(Refuse, Said::Done), (Poll, Said::Pending)]),
            (G::RedeemedOnce, &[(Allow, Said::Done), (Poll, tokens("a")), (Poll, tokens("b"))]),
            (G::RedeemedOnce, &[(Allow, Said::Done), (Poll, Said::Tokens("a".into(), "another".into()))]),
            (G::FinalsStand, &[(Poll, tokens("a"))]),
            (G::FinalsStand, &[(Poll, Said::Expired)]),
            (G::FinalsStand, &[(Poll, Said::Denied)]),
            (
                G::FinalsStand,
                &[(Refuse, Said::Nothing), (Allow, Said::Nothing), (Poll, Said::Denied), (Poll, tokens("a"))],
            ),
            (G::TokensLive, &[(Allow, Said::Done), (Poll, tokens("a")), (Refresh, Said::Later(503))]),
            (
                G::TokensLive,
                &[(Allow, Said::Done), (Poll, tokens("a")), (Refresh, Said::Invalid), (Refresh, tokens("b"))],
            ),
            (
                G::TokensLive,
                &[
                    (Allow, Said::Done),
                    (Poll, tokens("a")),
                    (Refresh, tokens("b")),
                    (Read, Said::Unauthorized),
                ],
            ),
            (
                G::RevokedStays,
                &[
                    (Allow, Said::Done),
                    (Poll, tokens("a")),
                    (Revoke, Said::Done),
                    (Read, Said::Done),
                    (Refresh, Said::Invalid),
                ],
            ),
            (G::NoSurprise, &[(Poll, Said::Other("HTTP 500".into())), (Poll, Said::Pending)]),
        ];
        for (guarantee, told) in bad {
            assert_eq!(broken(told), [guarantee], "{told:?}");
        }
    }

    #[test]
    fn what_overlaps_is_not_earlier() {
        let event = |act, said, began, ended| Event {
            session: 0,
            act,
            said,
            began: Duration::from_secs(began),
            ended: Duration::from_secs(ended),
            steady: true,
        };
        let told = |poll_began| {
            let events = [
                event(Act::Code, Said::Codes(Duration::from_secs(5)), 0, 1),
                event(Act::Refuse, Said::Done, 3, 7),
                event(Act::Poll, Said::Expired, poll_began, 8),
            ];
            judge(&events, |_| METER.into())
                .broken
                .into_iter()
                .map(|(guarantee, _)| guarantee)
                .collect::<Vec<_>>()
        };
        // The page came while the poll was under way; that the decision never reached the box is found all the same.
        assert_eq!(told(6), [Guarantee::DecisionsStay]);
        assert_eq!(told(7), [Guarantee::DecisionsStay, Guarantee::DecisionsStay]);
        let silent = [
            event(Act::Code, Said::Codes(Duration::from_secs(5)), 0, 1),
            event(Act::Poll, Said::Nothing, 2, 3),
            event(Act::Poll, Said::Pending, 3, 4),
        ];
        let broken = judge(&silent, |_| METER.into()).broken;
        assert!(
            matches!(broken.as_slice(), [(Guarantee::PendingGoesOn, why)] if why.contains("2.000")),
            "{broken:?}"
        );
    }
}
