//! The state × event table, first by hand, then under random walks.

use proptest::prelude::*;

use super::*;

const LIFE: fn() -> Lifetimes = Lifetimes::default;
const START: Timestamp = Timestamp::from_millis(1_000_000);

fn device() -> DeviceHash {
    DeviceHash::from_slice(&[1; 16]).unwrap()
}

fn browser(n: u8) -> BrowserHash {
    BrowserHash::from_slice(&[n; 16]).unwrap()
}

fn state(n: u8) -> StateHash {
    StateHash::from_slice(&[n; 16]).unwrap()
}

fn grant(n: u8) -> GrantHash {
    GrantHash::from_slice(&[n; 16]).unwrap()
}

fn sealed(n: u8) -> Sealed {
    Sealed::from_bytes(vec![n])
}

fn consent(b: u8, s: u8, at: Timestamp) -> Consent {
    Consent { browser: browser(b), state: state(s), verifier: None, confirmed_at: at }
}

fn pending() -> Session {
    let request =
        Request { client_id: "c".into(), client_secret: None, scope: None, agent: None, network: None };
    Session::open(device(), UserHash::from_slice(&[2; 16]).unwrap(), request, START, &LIFE())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn once(n: u8, until: Timestamp) -> Presentation {
    Presentation { grant: grant(n), until, repeatable: false }
}

fn confirmed() -> Session {
    pending().confirm(consent(1, 1, START), START, &LIFE()).unwrap()
}

fn exchanging(until: Timestamp) -> Session {
    confirmed().begin(&browser(1), &state(1), once(1, until), START, &LIFE()).unwrap()
}

fn approved() -> Session {
    exchanging(START + secs(30)).approve(&grant(1), sealed(9), START + secs(2), &LIFE()).unwrap()
}

#[test]
fn confirmation_extends_the_life_of_a_code() {
    let late = START + secs(299);
    let session = pending().confirm(consent(1, 1, late), late, &LIFE()).unwrap();
    assert_eq!(session.poll(START + secs(301)), PollFinding::Pending);
    assert_eq!(session.poll(late + secs(900)), PollFinding::Expired);
    assert_eq!(pending().poll(START + secs(300)), PollFinding::Expired);
    let gone = pending().confirm(consent(1, 1, START), START + secs(300), &LIFE());
    assert_eq!(gone, Err(ConfirmError::Gone));
}

#[test]
fn one_browser_holds_a_code() {
    let session = confirmed();
    let soon = START + secs(10);
    assert_eq!(session.confirm(consent(2, 2, soon), soon, &LIFE()), Err(ConfirmError::InUse));
    let again = session.confirm(consent(1, 3, soon), soon, &LIFE()).unwrap();
    assert_eq!(again.check_return(&browser(1), &state(1), None, soon), Err(ReturnError::Gone));
    let after_lease = soon + secs(300);
    assert!(again.confirm(consent(2, 4, after_lease), after_lease, &LIFE()).is_ok());
}

#[test]
fn another_browser_cannot_finish() {
    let other = confirmed().begin(&browser(2), &state(1), once(1, START + secs(30)), START, &LIFE());
    assert_eq!(other, Err(ReturnError::OtherBrowser));
    assert_eq!(confirmed().deny(&browser(2), &state(1), START, &LIFE()), Err(ReturnError::OtherBrowser));
}

#[test]
fn a_presented_code_is_not_presented_again() {
    let session = exchanging(START + secs(30));
    let begin = |s: &Session, now| s.begin(&browser(1), &state(1), once(1, now + secs(30)), now, &LIFE());
    assert_eq!(begin(&session, START + secs(1)), Err(ReturnError::InProgress));
    // Lost with the process: the lease lapses, the code stays presented.
    assert_eq!(begin(&session, START + secs(31)), Err(ReturnError::Presented));
    let lost = session.fail(&grant(1), true, START + secs(2), &LIFE()).unwrap();
    assert_eq!(begin(&lost, START + secs(3)), Err(ReturnError::Presented));
    // The same browser may start a new authorization.
    let again = lost.confirm(consent(1, 5, START + secs(4)), START + secs(4), &LIFE()).unwrap();
    assert!(again.begin(&browser(1), &state(5), once(2, START + secs(40)), START + secs(5), &LIFE()).is_ok());
    // Certainly not consumed: a reload may present it.
    let refused = session.fail(&grant(1), false, START + secs(2), &LIFE()).unwrap();
    assert!(begin(&refused, START + secs(3)).is_ok());
}

#[test]
fn what_enedis_does_not_consume_may_come_back_alone() {
    let begin = |s: &Session, n, now| {
        let again = Presentation { repeatable: true, ..once(n, now + secs(30)) };
        s.begin(&browser(1), &state(1), again, now, &LIFE())
    };
    let session = begin(&confirmed(), 1, START).unwrap();
    assert_eq!(begin(&session, 1, START + secs(1)), Err(ReturnError::InProgress));
    assert!(begin(&session, 1, START + secs(30)).is_ok(), "lost with the process");
    assert_eq!(begin(&session, 2, START + secs(30)), Err(ReturnError::Presented));
    let later = session.postpone(&grant(1), START + secs(200), &LIFE()).unwrap();
    assert!(begin(&later, 1, START + secs(200)).is_ok());
    assert_eq!(begin(&later, 2, START + secs(200)), Err(ReturnError::Presented), "one for each state");
    assert_eq!(later.poll(START + secs(899)), PollFinding::Pending, "the device waits as before");
    assert_eq!(later.poll(START + secs(900)), PollFinding::Expired);
}

#[test]
fn a_failed_exchange_lets_the_device_learn_in_time() {
    let failed = exchanging(START + secs(30)).fail(&grant(1), true, START + secs(200), &LIFE()).unwrap();
    assert_eq!(failed.poll(START + secs(379)), PollFinding::Pending);
    assert_eq!(failed.poll(START + secs(380)), PollFinding::Expired);
}

#[test]
fn an_exchange_under_way_holds_expiry_back() {
    let until = START + secs(2_000);
    let session = exchanging(until);
    assert_eq!(session.poll(START + secs(1_500)), PollFinding::Pending);
    let late = session.approve(&grant(1), sealed(1), START + secs(1_999), &LIFE()).unwrap();
    assert!(matches!(late.poll(START + secs(2_100)), PollFinding::Claim { .. }));
}

#[test]
fn a_token_is_claimed_once_and_repeated_for_a_while() {
    let at = START + secs(10);
    let redeemed = approved().claim(sealed(7), at, &LIFE()).unwrap();
    assert_eq!(redeemed.poll(at + secs(59)), PollFinding::Repeat(&sealed(7)));
    assert_eq!(redeemed.poll(at + secs(60)), PollFinding::Spent);
    assert_eq!(redeemed.claim(sealed(8), at, &LIFE()), None);
    assert_eq!(pending().claim(sealed(8), at, &LIFE()), None);
    let strict = Lifetimes { redelivery: Duration::ZERO, ..LIFE() };
    assert_eq!(approved().claim(sealed(7), at, &strict).unwrap().poll(at), PollFinding::Spent);
}

#[test]
fn a_reload_sees_the_decision() {
    let settled = approved().check_return(&browser(1), &state(1), Some(&once(1, START)), START + secs(3));
    assert_eq!(settled, Err(ReturnError::Decided(Decision::Approved)));
    let denied = confirmed().deny(&browser(1), &state(1), START, &LIFE()).unwrap();
    assert_eq!(denied.poll(START + secs(5_000)), PollFinding::Denied);
    let settled = denied.check_return(&browser(1), &state(1), None, START + secs(1));
    assert_eq!(settled, Err(ReturnError::Decided(Decision::Denied)));
    assert_eq!(denied.confirm(consent(1, 2, START), START, &LIFE()), Err(ConfirmError::Gone));
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u16),
    Poll,
    Confirm { browser: u8, state: u8 },
    Begin { browser: u8, state: u8, grant: u8 },
    Approve { grant: u8 },
    Fail { grant: u8, consumed: bool },
    Deny { browser: u8, state: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    let small = 1_u8..4;
    prop_oneof![
        (0_u16..400).prop_map(Event::Wait),
        Just(Event::Poll),
        (small.clone(), small.clone()).prop_map(|(browser, state)| Event::Confirm { browser, state }),
        (small.clone(), small.clone(), small.clone()).prop_map(|(browser, state, grant)| Event::Begin {
            browser,
            state,
            grant
        }),
        small.clone().prop_map(|grant| Event::Approve { grant }),
        (small.clone(), any::<bool>()).prop_map(|(grant, consumed)| Event::Fail { grant, consumed }),
        (small.clone(), small).prop_map(|(browser, state)| Event::Deny { browser, state }),
    ]
}

/// The phases in the order in which the table lets them follow each other.
fn may_follow(from: &Phase, to: &Phase) -> bool {
    use Phase::{Approved, Confirmed, Denied, Exchanging, Pending, Redeemed};
    matches!(
        (from, to),
        (Pending, Confirmed)
            | (Confirmed | Exchanging { .. }, Confirmed | Exchanging { .. } | Denied)
            | (Exchanging { .. }, Approved { .. })
            | (Approved { .. }, Redeemed { .. })
    )
}

proptest! {
    /// Along any walk: only listed transitions, one body, no code handed out twice, time never revives.
    #[test]
    fn random_walks_keep_the_table(events in proptest::collection::vec(event(), 1..60)) {
        let life = LIFE();
        let mut now = START;
        let mut session = pending();
        let mut bodies = Vec::new();
        let mut handed_out: Vec<u8> = Vec::new();
        let mut spared: Option<u8> = None;
        for event in events {
            let before = session.clone();
            let next = match event {
                Event::Wait(s) => { now = now + secs(u64::from(s)); None }
                Event::Poll => match session.poll(now) {
                    PollFinding::Claim { .. } => {
                        let n = u8::try_from(bodies.len()).unwrap();
                        bodies.push(n);
                        session.claim(sealed(n), now, &life)
                    }
                    PollFinding::Repeat(body) => { prop_assert_eq!(body, &sealed(0)); None }
                    PollFinding::Pending => { prop_assert!(session.is_open(now)); None }
                    PollFinding::Denied | PollFinding::Expired | PollFinding::Spent => {
                        prop_assert!(!session.is_open(now));
                        None
                    }
                },
                Event::Confirm { browser, state } =>
                    session.confirm(consent(browser, state, now), now, &life).ok(),
                Event::Begin { browser: b, state: s, grant: g } => {
                    let next = session.begin(&browser(b), &state(s), once(g, now + secs(30)), now, &life).ok();
                    if next.is_some() {
                        let held = session.consent.as_deref().unwrap();
                        prop_assert_eq!((held.browser, held.state), (browser(b), state(s)));
                        // The same code twice under one state only where Enedis cannot have taken it.
                        if handed_out.last() == Some(&g) && matches!(before.phase, Phase::Exchanging { .. }) {
                            prop_assert_eq!(spared, Some(g));
                        }
                        handed_out.push(g);
                        spared = None;
                    }
                    next
                }
                Event::Approve { grant: g } => session.approve(&grant(g), sealed(0), now, &life).ok(),
                Event::Fail { grant: g, consumed } => {
                    let next = session.fail(&grant(g), consumed, now, &life).ok();
                    if next.is_some() && !consumed { spared = Some(g); }
                    next
                }
                Event::Deny { browser: b, state: s } => session.deny(&browser(b), &state(s), now, &life).ok(),
            };
            if let Some(next) = next {
                prop_assert!(may_follow(&before.phase, &next.phase), "{:?} -> {:?}", before.phase, next.phase);
                prop_assert_eq!(next.rev, before.rev + 1);
                prop_assert!(next.purge_at > now);
                prop_assert_eq!((next.device, next.user, &next.request), (before.device, before.user, &before.request));
                session = next;
            }
            prop_assert!(bodies.len() <= 1);
            if session.is_expired(now) {
                prop_assert!(session.purge_at + life.redemption > session.expires_at);
            }
        }
    }
}

#[test]
fn confirming_again_does_not_keep_a_code_for_ever() {
    let end = START + secs(300 + 2 * 900);
    let (mut session, mut now, mut events) = (pending(), START, 0);
    while let Ok(next) = session.confirm(consent(1, 1, now), now, &LIFE()) {
        assert!(next.expires_at <= end);
        (session, now, events) = (next, now + secs(100), events + 1);
    }
    assert!((10..=21).contains(&events), "{events}");
    // Nor in little time: each is a write.
    let mut session = pending();
    let soon = START + secs(1);
    let again = (0..1_000).take_while(|_| {
        session.confirm(consent(1, 1, soon), soon, &LIFE()).map(|next| session = next).is_ok()
    });
    assert_eq!(again.count(), 100);
    assert_eq!(
        session.confirm(consent(1, 1, soon), soon, &LIFE()),
        Err(ConfirmError::InUse),
        "its device waits"
    );
}

#[test]
fn whoever_holds_the_code_may_decline_what_is_not_decided() {
    for open in [pending(), confirmed()] {
        let declined = open.decline(START + secs(5), &LIFE()).unwrap();
        assert_eq!(declined.poll(START + secs(6)), PollFinding::Denied);
    }
    let under_way = exchanging(START + secs(30));
    assert_eq!(under_way.decline(START + secs(5), &LIFE()), Err(ConfirmError::InUse));
    for gone in [approved(), confirmed().decline(START, &LIFE()).unwrap()] {
        assert_eq!(gone.decline(START + secs(5), &LIFE()), Err(ConfirmError::Gone));
    }
    assert_eq!(pending().decline(START + secs(300), &LIFE()), Err(ConfirmError::Gone));
}

#[test]
fn the_operator_ends_what_its_device_has_not_received() {
    let failed = exchanging(START + secs(3)).fail(&grant(1), true, START + secs(4), &LIFE()).unwrap();
    for open in [pending(), confirmed(), failed, approved()] {
        let ended = open.end(START + secs(5), &LIFE()).unwrap();
        assert_eq!((ended.poll(START + secs(6)), ended.rev), (PollFinding::Denied, open.rev + 1));
        assert_eq!(ended.end(START + secs(6), &LIFE()), Err(EndError::Ended));
    }
    assert_eq!(exchanging(START + secs(30)).end(START + secs(5), &LIFE()), Err(EndError::InUse));
    assert_eq!(pending().end(START + secs(300), &LIFE()), Err(EndError::Ended));
    let delivered = approved().claim(sealed(8), START + secs(5), &LIFE()).unwrap();
    assert_eq!(delivered.end(START + secs(6), &LIFE()), Err(EndError::Delivered));
}
