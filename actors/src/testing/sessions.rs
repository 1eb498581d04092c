//! What every session store promises, one property a function. Each panics where the property does not hold.
#![expect(clippy::missing_panics_doc, reason = "a property panics where it does not hold, and says so above")]

pub(crate) mod model;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::walk::{Step, agrees_with_a_model, walk};
use super::{NOW, Place, before, drain, only_winner};
use crate::base::clock::Timestamp;
use crate::base::keyring::DeviceHash;
use crate::base::store::Written;
use crate::device_flow::session::Session;
use crate::device_flow::store::record::PhaseTag;
use crate::device_flow::store::{Cursor, SessionKey, SessionStore, Write};

/// Longest wait for a change to be reported.
const REPORTED_WITHIN: Duration = Duration::from_secs(10);

type Store = Arc<dyn SessionStore>;
type Trial<P> = super::Trial<P, dyn SessionStore>;

async fn write(store: &Store, write: Write) -> Written {
    let outcome = store.commit(vec![write]).await;
    let [outcome] = <[_; 1]>::try_from(outcome).expect("one result for one write");
    outcome.expect("the store takes the write")
}

async fn insert(store: &Store, session: &Session) -> Written {
    write(store, Write::Insert(session.clone())).await
}

async fn update(store: &Store, to: &Session) -> Written {
    write(store, Write::Update { to: to.clone() }).await
}

/// Writes what must be taken.
async fn apply(store: &Store, group: impl IntoIterator<Item = Write>) {
    let outcomes = store.commit(group.into_iter().collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Written::Applied))), "{outcomes:?}");
}

async fn insert_all(store: &Store, sessions: &[Session]) {
    apply(store, sessions.iter().cloned().map(Write::Insert)).await;
}

fn by_device(sessions: Vec<Session>) -> BTreeMap<DeviceHash, Session> {
    sessions.into_iter().map(|session| (session.device, session)).collect()
}

fn state(session: &Session) -> SessionKey {
    SessionKey::State(session.consent.as_ref().expect("a browser").state)
}

async fn find(store: &Store, key: SessionKey) -> Option<Session> {
    find_at(store, key, NOW).await
}

async fn find_at(store: &Store, key: SessionKey, now: Timestamp) -> Option<Session> {
    store.find(key, now).await.expect("the store can be read")
}

async fn stored(store: &Store, session: &Session) -> Option<Session> {
    find(store, SessionKey::Device(session.device)).await
}

async fn live(store: &Store, now: Timestamp) -> Vec<Session> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(after, now).await.expect("the store can be read");
        all.extend(page.sessions);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// A ping is answered, and a group without writes has no results.
pub async fn answers_a_ping_and_an_empty_group<P: Place>((_, store, _): Trial<P>) {
    store.ping().await.expect("the store answers");
    assert!(store.commit(Vec::new()).await.is_empty());
    assert!(store.commits_at_once() >= 1);
    assert!(live(&store, NOW).await.is_empty());
}

/// An update is applied to the revision before its own and to no other, and changes nothing but what an event can.
pub async fn updates_only_the_revision_it_was_decided_on<P: Place>((_, store, mut samples): Trial<P>) {
    let session = samples.pending();
    assert_eq!(insert(&store, &session).await, Written::Applied);
    let first = samples.confirmed(&session);
    let second = samples.next(&first, PhaseTag::Denied, None);
    assert_eq!(update(&store, &second).await, Written::Conflict, "a revision ahead");
    assert_eq!(stored(&store, &session).await.as_ref(), Some(&session));
    assert_eq!(update(&store, &first).await, Written::Applied);
    let rival = samples.confirmed(&session);
    assert_eq!(update(&store, &first).await, Written::Conflict, "a second time");
    assert_eq!(update(&store, &rival).await, Written::Conflict, "a revision behind");
    assert_eq!(stored(&store, &session).await.as_ref(), Some(&first));
    let altered = Session { user: samples.user(), request: samples.pending().request, ..second.clone() };
    assert_eq!(update(&store, &altered).await, Written::Applied);
    assert_eq!(stored(&store, &session).await, Some(second));
}

/// In one group some writes are applied and others conflict, and neither disturbs the other. Results come in order.
pub async fn ends_each_write_of_a_group_on_its_own_terms<P: Place>((_, store, mut samples): Trial<P>) {
    let old = samples.pendings(4);
    insert_all(&store, &old).await;
    let new = samples.pendings(3);
    let taken = Session { user: old[0].user, ..samples.pending() };
    let missing = samples.pending();
    let good: Vec<_> = old[..2].iter().map(|session| samples.confirmed(session)).collect();
    let ahead = Session { rev: 9, ..samples.confirmed(&old[2]) };
    let (one, other) = (samples.confirmed(&old[3]), samples.confirmed(&old[3]));
    let group = vec![
        Write::Insert(new[0].clone()),
        Write::Insert(taken.clone()),
        Write::Update { to: good[0].clone() },
        Write::Update { to: samples.confirmed(&missing) },
        Write::Insert(new[1].clone()),
        Write::Update { to: ahead },
        Write::Insert(old[1].clone()),
        Write::Update { to: good[1].clone() },
        Write::Insert(new[2].clone()),
        Write::Update { to: one.clone() },
        Write::Update { to: other.clone() },
    ];
    let outcomes: Vec<_> =
        store.commit(group).await.into_iter().map(|outcome| outcome.expect("taken")).collect();
    let (a, c) = (Written::Applied, Written::Conflict);
    assert_eq!(outcomes[..9], [a, c, a, c, a, c, c, a, a]);
    let winner = match outcomes[9..] {
        [Written::Applied, Written::Conflict] => one,
        [Written::Conflict, Written::Applied] => other,
        _ => panic!("one of two updates of one revision is applied: {outcomes:?}"),
    };
    let want = [new, good, vec![old[2].clone(), winner]].concat();
    assert_eq!(by_device(live(&store, NOW).await), by_device(want));
}

/// Of many updates of one revision, sent at once by several tasks and groups, exactly one is applied.
pub async fn lets_one_of_many_racing_updates_win<P: Place>((place, store, mut samples): Trial<P>) {
    let stores = handles(&place, store).await;
    let session = samples.pending();
    assert_eq!(insert(&stores[0], &session).await, Written::Applied);
    let rivals: Vec<_> = (0..32).map(|_| samples.confirmed(&session)).collect();
    let winner = race(&stores, rivals.iter().map(|to| Write::Update { to: to.clone() }).collect()).await;
    for store in &stores {
        assert_eq!(stored(store, &session).await.as_ref(), Some(&rivals[winner]));
    }
}

/// Of many sessions with one user code, sent at once, exactly one is stored.
pub async fn lets_one_of_many_racing_inserts_win<P: Place>((place, store, mut samples): Trial<P>) {
    let stores = handles(&place, store).await;
    let user = samples.user();
    let rivals: Vec<_> = (0..32).map(|_| Session { user, ..samples.pending() }).collect();
    let winner = race(&stores, rivals.iter().cloned().map(Write::Insert).collect()).await;
    for store in &stores {
        assert_eq!(live(store, NOW).await, [rivals[winner].clone()]);
    }
}

/// Several handles of a shared store, the only one of another.
async fn handles<P: Place>(place: &P, first: Store) -> Vec<Store> {
    if first.is_shared() { vec![first, place.open().await] } else { vec![first] }
}

async fn race(stores: &[Store], writes: Vec<Write>) -> usize {
    only_winner(&super::race(stores, writes, |store, rival| async move { write(&store, rival).await }).await)
}

/// Every phase is read back as it was written, by insert and by update; what an update leaves out is gone.
pub async fn returns_every_phase_as_it_was_stored<P: Place>((_, store, mut samples): Trial<P>) {
    let session = samples.pending();
    assert_eq!(insert(&store, &session).await, Written::Applied);
    for next in samples.every_phase(&session) {
        assert_eq!(update(&store, &next).await, Written::Applied);
        assert_eq!(stored(&store, &session).await.as_ref(), Some(&next));
        let born = Session { device: samples.device(), user: samples.user(), ..next };
        assert_eq!(insert(&store, &born).await, Written::Applied);
        assert_eq!(stored(&store, &born).await, Some(born));
    }
}

/// Text is opaque: quotes, operators of query languages, zero bytes, any script, some kilobytes of it.
pub async fn returns_strange_text_as_it_was_stored<P: Place>((_, store, mut samples): Trial<P>) {
    let long = "é".repeat(4096);
    for text in
        ["", " ", "'; DROP TABLE session;--", "{\"$gt\":\"\"}", "$where", "a.b", "\0x\0", "🏠 ٣ ß", &long]
    {
        let mut session = samples.pending();
        session.request.client_id = text.into();
        session.request.scope = Some(text.into());
        session.request.agent = Some(text.into());
        assert_eq!(insert(&store, &session).await, Written::Applied);
        assert_eq!(stored(&store, &session).await, Some(session));
    }
}

/// From its purge time on a session is found by no key and on no page, whether it was deleted or not.
pub async fn hides_a_session_from_its_purge_time_on<P: Place>((_, store, mut samples): Trial<P>) {
    let session = samples.pending();
    assert_eq!(insert(&store, &session).await, Written::Applied);
    let confirmed = samples.confirmed(&session);
    assert_eq!(update(&store, &confirmed).await, Written::Applied);
    let end = confirmed.purge_at;
    for key in [SessionKey::Device(session.device), SessionKey::User(session.user), state(&confirmed)] {
        assert_eq!(find_at(&store, key, before(end)).await.as_ref(), Some(&confirmed));
        assert_eq!(find_at(&store, key, end).await, None);
    }
    assert_eq!(live(&store, before(end)).await, [confirmed]);
    assert!(live(&store, end).await.is_empty());
}

/// The pages together hold every live session once and no other.
pub async fn visits_every_live_session_once<P: Place>((_, store, mut samples): Trial<P>) {
    let mut sessions = samples.pendings(2_500);
    for old in sessions.iter_mut().step_by(5) {
        old.purge_at = NOW;
    }
    for group in sessions.chunks(500) {
        insert_all(&store, group).await;
    }
    let seen = live(&store, NOW).await;
    let distinct: BTreeSet<DeviceHash> = seen.iter().map(|session| session.device).collect();
    assert_eq!((seen.len(), distinct.len()), (2_000, 2_000));
    assert!(seen.iter().all(|session| session.purge_at > NOW));
}

/// A purge deletes what is past its time and nothing else; a store that deletes by itself may leave it all.
pub async fn purges_only_what_is_purgeable<P: Place>((_, store, mut samples): Trial<P>) {
    let mut sessions = samples.pendings(60);
    for (n, session) in (0..).zip(&mut sessions) {
        session.purge_at = NOW + Duration::from_millis(n);
    }
    insert_all(&store, &sessions).await;
    let at = sessions[39].purge_at;
    let gone = drain(async || store.purge(at).await).await;
    assert!(gone == 40 || gone == 0, "{gone} sessions were deleted");
    let left: BTreeSet<_> = live(&store, at).await.into_iter().map(|session| session.device).collect();
    assert_eq!(left, sessions[40..].iter().map(|session| session.device).collect());
    if gone > 0 {
        assert_eq!(live(&store, Timestamp::EPOCH).await.len(), 20);
        let reused = Session { user: sessions[0].user, ..samples.pending() };
        assert_eq!(insert(&store, &reused).await, Written::Applied, "the code of a purged session is free");
    }
}

/// What was acknowledged is there when the store is opened again.
pub async fn keeps_what_it_acknowledged<P: Place>((place, store, mut samples): Trial<P>) {
    let sessions = samples.pendings(20);
    insert_all(&store, &sessions).await;
    let changed: Vec<_> = sessions[..10].iter().map(|session| samples.confirmed(session)).collect();
    apply(&store, changed.iter().map(|to| Write::Update { to: to.clone() })).await;
    drop(store);
    let store = place.open().await;
    for session in changed.iter().chain(&sessions[10..]) {
        assert_eq!(stored(&store, session).await.as_ref(), Some(session));
    }
    let again = samples.confirmed(&changed[0]);
    assert_eq!(update(&store, &again).await, Written::Applied);
}

/// In a shared store every update reaches a follower on every handle, and reaches it again from an older cursor;
/// the first question reports nothing. A store that is not shared reports nothing at all.
pub async fn reports_changes_to_every_handle<P: Place>((place, store, mut samples): Trial<P>) {
    let stores = handles(&place, store).await;
    let (writer, follower) = (&stores[0], stores.last().expect("a handle"));
    let sessions = samples.pendings(12);
    insert_all(writer, &sessions).await;
    let (reported, start) = follower.changes(None).await.expect("the store can be followed");
    assert!(reported.is_empty());
    let mut cursor = start;
    let mut want = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for session in &sessions[..8] {
        let first = samples.confirmed(session);
        let last = samples.next(&first, PhaseTag::Denied, None);
        for to in [&first, &last] {
            assert_eq!(update(writer, to).await, Written::Applied);
            follow(follower, &mut cursor, &mut seen).await;
        }
        want.insert(session.device, last);
    }
    if !writer.is_shared() {
        assert!(seen.is_empty());
        return;
    }
    let deadline = tokio::time::Instant::now() + REPORTED_WITHIN;
    while seen != want && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        follow(follower, &mut cursor, &mut seen).await;
    }
    assert_eq!(seen, want, "the last revision of what was changed, and nothing else");
    for store in &stores {
        let (mut older, mut again) = (start, BTreeMap::new());
        follow(store, &mut older, &mut again).await;
        assert_eq!(again, want, "an answer that was lost is not lost for good");
    }
}

async fn follow(store: &Store, cursor: &mut Cursor, seen: &mut BTreeMap<DeviceHash, Session>) {
    let (changed, next) = store.changes(Some(*cursor)).await.expect("the store can be followed");
    *cursor = next;
    for session in changed {
        let known = seen.get(&session.device).map_or(0, |known: &Session| known.rev);
        if session.rev >= known {
            seen.insert(session.device, session);
        }
    }
}
