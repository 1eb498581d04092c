//! One shard's sessions in memory: three ways to find one, and its deadline without a scan.
//!
//! A session lies in one row, and everything else refers to it by its row's number: eight bytes in each index, four in the
//! list of deadlines. So a pending session takes 240 bytes with a million of them (measured, `docs/tuning.md`); maps that
//! hold their own copies of the keys would add some fifty.

use std::collections::{BTreeMap, HashSet};
use std::ops::Index as At;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::base::clock::Timestamp;
use crate::base::keyring::{DeviceHash, StateHash};
use crate::base::network::Network;
use crate::device_flow::session::{Phase, Request, Session};
use crate::device_flow::store::SessionKey;

/// The sessions of one shard; fewer than 2³² of them.
#[derive(Debug, Default)]
pub struct Table {
    rows: Slab<Entry>,
    by_device: Index,
    by_user: Index,
    by_state: Index,
    texts: Texts,
    count: SessionCount,
    // Seconds since the epoch → sessions whose record was good until then when it was noted.
    deadlines: BTreeMap<u32, Vec<Row>>,
}

/// Where a session lies in its [`Table`], until the table is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row(u32);

impl Row {
    fn new(number: usize) -> Self {
        // `MAX_PENDING_SESSIONS` is far below.
        Self(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn number(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
struct Entry {
    session: Session,
    // Second of its note in `deadlines`; a note at another second is out of date, whoever left it.
    noted: u32,
    // Its device has polled since this process holds it.
    polled: bool,
}

/// Counts the sessions of all shards of a registry together, and of each network.
#[derive(Clone, Debug)]
pub struct SessionCount(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    all: AtomicUsize,
    // Networks that fall into one place are counted together: with a million sessions that adds some fifteen to a bound of
    // sixty thousand, and costs a quarter of a megabyte instead of a map of all networks.
    networks: Box<[AtomicU32]>,
}

/// Places in which the sessions of networks are counted.
const PLACES: usize = 1 << 16;

impl Default for SessionCount {
    fn default() -> Self {
        let networks = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        Self(Arc::new(Counts { all: AtomicUsize::new(0), networks }))
    }
}

impl SessionCount {
    /// Of the /48 around an IPv6 network. Those of this machine are not counted: its operator is no stranger, and a proxy
    /// that hides its clients stands for all of them.
    fn of(&self, network: Option<Network>) -> Option<&AtomicU32> {
        let network = network?.widest();
        (network != Network::LOCALHOST).then(|| &self.0.networks[place(network)])
    }

    fn add(&self, session: &Session) {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        if let Some(count) = self.of(session.request.network) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, session: &Session) {
        self.0.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.of(session.request.network) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Numbers of neighbours are far apart.
fn place(network: Network) -> usize {
    let spread = network.number().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(spread >> 48).unwrap_or_default()
}

impl At<Row> for Table {
    type Output = Session;

    /// The session of a row that [`Table::row`] gave; panics if the table was changed since.
    fn index(&self, row: Row) -> &Session {
        &self.rows[row.number()].session
    }
}

impl Table {
    /// A table that counts its sessions in `count` as well.
    pub fn counting(count: SessionCount) -> Self {
        Self { count, ..Self::default() }
    }

    /// Sessions held by all tables that count together with this one.
    pub fn count_of_all_shards(&self) -> usize {
        self.count.0.all.load(Ordering::Relaxed)
    }

    /// Of them, those asked for from this network.
    pub fn count_of_network(&self, network: Option<Network>) -> usize {
        self.count.of(network).map_or(0, |count| count.load(Ordering::Relaxed) as usize)
    }

    /// Notes that the device of this row polls.
    pub(super) fn mark_polled(&mut self, row: Row) {
        self.rows[row.number()].polled = true;
    }

    /// A session whose device asked for it so long ago and never came back; those that end first are looked at, no more
    /// than `limit`.
    pub(super) fn forsaken(&self, now: Timestamp, ago: Duration, limit: usize) -> Option<&Session> {
        let noted = self.deadlines.values().flatten().take(limit);
        let mut entries = noted.filter_map(|row| self.rows.get(row.number()));
        let is_forsaken = |entry: &&Entry| {
            !entry.polled
                && entry.session.phase == Phase::Pending
                && now.since(entry.session.requested_at) >= ago
        };
        entries.find(is_forsaken).map(|entry| &entry.session)
    }

    /// Sessions held.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where the session lies that `key` leads to.
    pub(super) fn row(&self, key: &SessionKey) -> Option<Row> {
        match key {
            SessionKey::Device(device) => {
                self.by_device.find(device.as_bytes(), |row| self[row].device == *device)
            }
            SessionKey::User(user) => self.by_user.find(user.as_bytes(), |row| self[row].user == *user),
            SessionKey::State(state) => {
                self.by_state.find(state.as_bytes(), |row| state_of(&self[row]) == Some(*state))
            }
        }
    }

    /// The session `key` leads to.
    pub fn find(&self, key: &SessionKey) -> Option<&Session> {
        self.row(key).map(|row| &self[row])
    }

    /// Puts a session in, or replaces what is known of it.
    pub fn put(&mut self, mut session: Session) {
        self.texts.share(&mut session.request);
        let second = deadline_second(&session);
        let state = state_of(&session);
        let (row, old_state) = if let Some(row) = self.row(&SessionKey::Device(session.device)) {
            let entry = &mut self.rows[row.number()];
            let old = std::mem::replace(&mut entry.session, session);
            debug_assert_eq!(old.user, entry.session.user, "a session keeps its user code");
            // A later deadline is found when the note comes due. Only an earlier one needs a note of its own.
            if second < entry.noted {
                entry.noted = second;
                self.note(row, second);
            }
            (row, state_of(&old))
        } else {
            let (device, user) = (session.device, session.user);
            self.count.add(&session);
            let row = Row::new(self.rows.insert(Entry { session, noted: second, polled: false }));
            self.by_device.insert(device.as_bytes(), row);
            self.by_user.insert(user.as_bytes(), row);
            self.note(row, second);
            (row, None)
        };
        if state == old_state {
            return;
        }
        if let Some(old) = old_state {
            self.by_state.remove(old.as_bytes(), row);
        }
        if let Some(state) = state {
            self.by_state.insert(state.as_bytes(), row);
        }
    }

    /// Forgets a session.
    pub fn remove(&mut self, device: &DeviceHash) {
        if let Some(row) = self.row(&SessionKey::Device(*device)) {
            self.take_out(row);
        }
    }

    /// Forgets sessions past their deadline, looking at no more than `limit`; answers whether more may be due.
    pub fn sweep(&mut self, now: Timestamp, limit: usize) -> bool {
        let mut left = limit;
        while let Some(mut notes) = self.deadlines.first_entry() {
            let second = *notes.key();
            if second > self::second(now) {
                return false;
            }
            if left == 0 {
                return true;
            }
            let rest = notes.get().len().saturating_sub(left);
            let due = if rest == 0 { notes.remove() } else { notes.get_mut().split_off(rest) };
            left -= due.len();
            for row in due {
                self.look_at(row, second, now);
            }
        }
        false
    }

    /// Deals with a note of `second`, which has come.
    fn look_at(&mut self, row: Row, second: u32, now: Timestamp) {
        let entry = self.rows.get_mut(row.number());
        let Some(entry) = entry.filter(|entry| entry.noted == second) else { return };
        if entry.session.is_purgeable(now) {
            self.take_out(row);
        } else {
            let second = deadline_second(&entry.session).max(self::second(now).saturating_add(1));
            entry.noted = second;
            self.note(row, second);
        }
    }

    fn note(&mut self, row: Row, second: u32) {
        self.deadlines.entry(second).or_default().push(row);
    }

    fn take_out(&mut self, row: Row) {
        let Entry { session, .. } = self.rows.remove(row.number());
        self.count.remove(&session);
        self.by_device.remove(session.device.as_bytes(), row);
        self.by_user.remove(session.user.as_bytes(), row);
        if let Some(state) = state_of(&session) {
            self.by_state.remove(state.as_bytes(), row);
        }
    }
}

/// Texts that many sessions have in common, each kept once.
#[derive(Debug, Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// Texts kept at a time; a stranger may send a new one with each request.
    const MAX: usize = 4_096;

    fn share(&mut self, request: &mut Request) {
        let Request { client_id, client_secret: _, scope, agent, network: _ } = request;
        for text in [Some(client_id), scope.as_mut(), agent.as_mut()].into_iter().flatten() {
            if let Some(known) = self.0.get(text) {
                *text = Arc::clone(known);
                continue;
            }
            if self.0.len() >= Self::MAX {
                self.0.clear();
            }
            self.0.insert(Arc::clone(text));
        }
    }
}

/// Leads from a keyed hash to a row. Kept beside the row are four bytes of the hash, so that growing looks at no session.
#[derive(Debug, Default)]
struct Index(HashTable<(u32, Row)>);

impl Index {
    fn find(&self, key: &[u8; 16], is: impl Fn(Row) -> bool) -> Option<Row> {
        let part = part(key);
        self.0.find(spread(part), |(known, row)| *known == part && is(*row)).map(|(_, row)| *row)
    }

    fn insert(&mut self, key: &[u8; 16], row: Row) {
        let part = part(key);
        self.0.insert_unique(spread(part), (part, row), |(part, _)| spread(*part));
    }

    fn remove(&mut self, key: &[u8; 16], row: Row) {
        if let Ok(entry) = self.0.find_entry(spread(part(key)), |(_, known)| *known == row) {
            entry.remove();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.len()
    }
}

// The keys are keyed hashes: any of their bytes are as good as a hash of them. The first picks the shard, so the last
// ones spread better within one.
fn part(key: &[u8; 16]) -> u32 {
    u32::from_le_bytes([key[12], key[13], key[14], key[15]])
}

// The table takes its position from the low bits and its tag from the highest.
fn spread(part: u32) -> u64 {
    u64::from(part) << 32 | u64::from(part)
}

fn state_of(session: &Session) -> Option<StateHash> {
    session.consent.as_ref().map(|consent| consent.state)
}

fn deadline_second(session: &Session) -> u32 {
    second(session.purge_at).saturating_add(1)
}

/// Seconds since the epoch, good until 2106.
fn second(at: Timestamp) -> u32 {
    u32::try_from(at.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use crate::base::keyring::{BrowserHash, UserHash};
    use crate::device_flow::session::{Consent, Lifetimes};

    /// Keys of three and three end in the same bytes, and so meet in an index.
    fn key(n: u8) -> [u8; 16] {
        let mut key = [n; 16];
        key[12..].fill(n / 3);
        key
    }

    fn session(n: u8, now: Timestamp) -> Session {
        let request =
            Request { client_id: "c".into(), client_secret: None, scope: None, agent: None, network: None };
        let (device, user) = (DeviceHash::from(key(n)), UserHash::from(key(n)));
        Session::open(device, user, request, now, &Lifetimes::default())
    }

    fn consent(n: u8, now: Timestamp) -> Consent {
        let browser = BrowserHash::from_slice(&[n; 16]).unwrap();
        Consent { browser, state: StateHash::from(key(n)), verifier: None, confirmed_at: now }
    }

    #[test]
    fn a_replaced_state_no_longer_leads_anywhere() {
        let now = Timestamp::from_millis(1_000_000);
        let mut table = Table::default();
        let first = session(1, now).confirm(consent(1, now), now, &Lifetimes::default()).unwrap();
        let mut again = consent(1, now);
        again.state = StateHash::from(key(2));
        let second = first.confirm(again, now, &Lifetimes::default()).unwrap();
        let old = SessionKey::State(first.consent.as_ref().unwrap().state);
        table.put(first);
        assert!(table.find(&old).is_some());
        table.put(second.clone());
        assert!(table.find(&old).is_none());
        assert_eq!(table.find(&SessionKey::State(second.consent.as_ref().unwrap().state)), Some(&second));
        table.remove(&second.device);
        assert_eq!((table.len(), table.by_user.len(), table.by_state.len()), (0, 0, 0));
    }

    #[test]
    fn a_session_goes_within_a_second_of_its_deadline_and_never_before() {
        let end = Timestamp::from_millis(1_060_000);
        let ends_at = |end| Session { purge_at: end, ..session(1, Timestamp::from_millis(1_000_000)) };
        let mut table = Table::default();
        table.put(ends_at(end));
        table.sweep(end, 10);
        assert_eq!(table.len(), 1, "its note is of the next second");
        table.sweep(end + Duration::from_secs(1), 10);
        assert_eq!(table.len(), 0);
        // A note of an earlier deadline comes due first and finds the session at its end.
        for (now, left) in [(end, 0), (Timestamp::from_millis(end.as_millis() - 1), 1)] {
            let mut table = Table::default();
            table.put(ends_at(Timestamp::from_millis(1_000_000)));
            table.put(ends_at(end));
            table.sweep(now, 10);
            assert_eq!(table.len(), left);
        }
    }

    proptest! {
        #[test]
        fn rows_are_used_again_without_mixing_sessions_up(steps in proptest::collection::vec((0_u8..4, 0_u8..12, 0_u64..900), 1..120)) {
            let life = Lifetimes::default();
            let mut now = Timestamp::from_millis(1_000_000);
            let (mut table, mut model) = (Table::default(), std::collections::BTreeMap::new());
            for (what, n, later) in steps {
                now = now + Duration::from_secs(later / 10);
                let device = DeviceHash::from(key(n));
                match what {
                    0 => {
                        let mut opened = session(n, now);
                        // Deadlines come earlier as well as later: another instance decides them too.
                        opened.purge_at = now + Duration::from_secs(later);
                        table.put(opened.clone());
                        model.insert(n, opened);
                    }
                    1 => {
                        let next = model.get(&n).and_then(|known| known.confirm(consent(n, now), now, &life).ok());
                        if let Some(next) = next {
                            table.put(next.clone());
                            model.insert(n, next);
                        }
                    }
                    2 => {
                        table.remove(&device);
                        model.remove(&n);
                    }
                    _ => {
                        while table.sweep(now, 3) {}
                        // A note is kept by the second: what is past its deadline goes within that second at the
                        // latest, and sooner if an older note of the session comes due.
                        model.retain(|_, known| {
                            !known.is_purgeable(now)
                                || deadline_second(known) > second(now)
                                    && table.find(&SessionKey::Device(known.device)).is_some()
                        });
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for n in 0..12 {
                    let known = model.get(&n);
                    let (device, user, state) = (DeviceHash::from(key(n)), UserHash::from(key(n)), StateHash::from(key(n)));
                    prop_assert_eq!(table.find(&SessionKey::Device(device)), known);
                    prop_assert_eq!(table.find(&SessionKey::User(user)), known);
                    let known = known.filter(|known| known.consent.is_some());
                    prop_assert_eq!(table.find(&SessionKey::State(state)), known);
                }
            }
            while table.sweep(now + Duration::from_secs(100_000), 3) {}
            prop_assert_eq!((table.len(), table.by_device.len(), table.by_user.len(), table.by_state.len()), (0, 0, 0, 0));
            prop_assert_eq!(table.count_of_all_shards(), 0);
            prop_assert!(table.deadlines.is_empty());
        }
    }
}
