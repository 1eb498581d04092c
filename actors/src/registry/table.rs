//! One shard's sessions in memory: three ways to find one, and its deadline without a scan.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Timestamp;
use crate::hashing::BuildIdentity;
use crate::keys::{DeviceHash, StateHash, UserHash};
use crate::session::Session;
use crate::store::SessionKey;

/// The sessions of one shard.
#[derive(Debug, Default)]
pub struct Table {
    sessions: HashMap<DeviceHash, Session, BuildIdentity>,
    by_user: HashMap<UserHash, DeviceHash, BuildIdentity>,
    by_state: HashMap<StateHash, DeviceHash, BuildIdentity>,
    // Seconds since the epoch → sessions whose record was good until then when it was noted.
    deadlines: BTreeMap<u64, Vec<DeviceHash>>,
}

impl Table {
    /// Sessions held.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The session `key` leads to.
    pub fn find(&self, key: &SessionKey) -> Option<&Session> {
        let device = match key {
            SessionKey::Device(device) => device,
            SessionKey::User(user) => self.by_user.get(user)?,
            SessionKey::State(state) => self.by_state.get(state)?,
        };
        self.sessions.get(device)
    }

    /// Whether a session holds this user code.
    pub fn has_user(&self, user: &UserHash) -> bool {
        self.by_user.contains_key(user)
    }

    /// Puts a session in, or replaces what is known of it.
    pub fn put(&mut self, session: Session) {
        let device = session.device;
        self.note_deadline(&session);
        self.by_user.insert(session.user, device);
        if let Some(consent) = &session.consent {
            self.by_state.insert(consent.state, device);
        }
        let state = session.consent.as_ref().map(|c| c.state);
        if let Some(old) = self.sessions.insert(device, session)
            && let Some(old) = old.consent
            && Some(old.state) != state
        {
            self.by_state.remove(&old.state);
        }
    }

    /// Forgets a session.
    pub fn remove(&mut self, device: &DeviceHash) {
        if let Some(session) = self.sessions.remove(device) {
            self.by_user.remove(&session.user);
            if let Some(consent) = session.consent {
                self.by_state.remove(&consent.state);
            }
        }
    }

    /// Forgets sessions past their deadline, looking at no more than `limit`; answers whether more may be due.
    pub fn sweep(&mut self, now: Timestamp, limit: usize) -> bool {
        let mut looked_at = 0;
        while let Some(entry) = self.deadlines.first_entry() {
            if *entry.key() > now.as_secs() {
                return false;
            }
            if looked_at >= limit {
                return true;
            }
            let due = entry.remove();
            looked_at += due.len();
            for device in due {
                match self.sessions.get(&device) {
                    Some(session) if session.is_purgeable(now) => self.remove(&device),
                    Some(session) => {
                        let second = deadline_second(session).max(now.as_secs() + 1);
                        self.deadlines.entry(second).or_default().push(device);
                    }
                    None => {}
                }
            }
        }
        false
    }

    fn note_deadline(&mut self, session: &Session) {
        // One note for each session: a later deadline is found when the earlier note comes due. Only an earlier
        // one needs a note of its own.
        let known = self.sessions.get(&session.device).map(deadline_second);
        let second = deadline_second(session);
        if known.is_none_or(|known| second < known) {
            self.deadlines.entry(second).or_default().push(session.device);
        }
    }
}

fn deadline_second(session: &Session) -> u64 {
    session.purge_at.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::keys::BrowserHash;
    use crate::session::{Consent, Lifetimes, Request};

    fn session(n: u8, now: Timestamp) -> Session {
        let request = Request { client_id: "c".into(), client_secret: None, scope: None, agent: None };
        let device = DeviceHash::from_slice(&[n; 16]).unwrap();
        let user = UserHash::from_slice(&[n; 16]).unwrap();
        Session::open(device, user, request, now, &Lifetimes::default())
    }

    fn consent(n: u8, now: Timestamp) -> Consent {
        let browser = BrowserHash::from_slice(&[n; 16]).unwrap();
        Consent {
            browser,
            state: StateHash::from_slice(&[n; 16]).unwrap(),
            verifier: None,
            confirmed_at: now,
        }
    }

    #[test]
    fn a_replaced_state_no_longer_leads_anywhere() {
        let now = Timestamp::from_millis(1_000_000);
        let mut table = Table::default();
        let first = session(1, now).confirm(consent(1, now), now, &Lifetimes::default()).unwrap();
        let mut again = consent(1, now);
        again.state = StateHash::from_slice(&[2; 16]).unwrap();
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
    fn sweeping_follows_moved_deadlines() {
        let life = Lifetimes::default();
        let now = Timestamp::from_millis(1_000_000);
        let mut table = Table::default();
        for n in 0..100 {
            table.put(session(n, now));
        }
        let moved = session(7, now).confirm(consent(1, now), now, &life).unwrap();
        let late = moved.purge_at;
        table.put(moved);
        let due = now + life.code + life.tombstone + Duration::from_secs(1);
        while table.sweep(due, 10) {}
        assert_eq!(table.len(), 1);
        assert!(!table.sweep(late + Duration::from_secs(1), 10));
        assert_eq!(table.len(), 0);
        assert!(table.deadlines.is_empty());
    }
}
