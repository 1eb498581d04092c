//! Sessions for tests, drawn from a seeded generator: the same seed gives the same sessions.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clock::Timestamp;
use crate::keys::{BrowserHash, DeviceHash, GrantHash, Sealed, StateHash, UserHash};
use crate::session::{Consent, Lifetimes, Phase, Request, Session};
use crate::store::record::PhaseTag;

/// The present of every sample. Far ahead of any database's own clock, so that no database deletes a sample as
/// outdated while a test looks at it.
pub const NOW: Timestamp = Timestamp::from_millis(4_102_444_800_000);

const PHASES: [PhaseTag; 6] = [
    PhaseTag::Pending,
    PhaseTag::Confirmed,
    PhaseTag::Exchanging,
    PhaseTag::Approved,
    PhaseTag::Denied,
    PhaseTag::Redeemed,
];

/// A source of sessions.
#[derive(Debug)]
pub struct Samples {
    rng: StdRng,
}

macro_rules! drawn_hash {
    ($name:ident: $hash:ident) => {
        /// A hash of nothing in particular.
        pub fn $name(&mut self) -> $hash {
            let bytes: [u8; 16] = self.rng.random();
            $hash::from_slice(&bytes).expect("16 bytes")
        }
    };
}

impl Samples {
    /// A source that always draws the same.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    drawn_hash!(device: DeviceHash);
    drawn_hash!(user: UserHash);
    drawn_hash!(state: StateHash);
    drawn_hash!(browser: BrowserHash);
    drawn_hash!(grant: GrantHash);

    /// A sealed secret of some tens to hundreds of bytes. It cannot be opened.
    pub fn sealed(&mut self) -> Sealed {
        let len = self.rng.random_range(46..700);
        Sealed::from_bytes((0..len).map(|_| self.rng.random()).collect())
    }

    /// A fresh session asked for at [`NOW`]; what a device may leave out is there or not by chance.
    pub fn pending(&mut self) -> Session {
        let request = Request {
            client_id: "ha4uh-4568_tr".into(),
            client_secret: self.rng.random_bool(0.3).then(|| self.sealed()),
            scope: self.rng.random_bool(0.3).then(|| Arc::from("am_application_scope")),
            agent: self.rng.random_bool(0.7).then(|| Arc::from("DomoticzLinky/2.6.1")),
        };
        Session::open(self.device(), self.user(), request, NOW, &Lifetimes::default())
    }

    /// Several fresh sessions.
    pub fn pendings(&mut self, count: usize) -> Vec<Session> {
        (0..count).map(|_| self.pending()).collect()
    }

    /// The next revision of `from`, in `phase`, held by a browser or not. Whether the flow could get there does not
    /// matter to a store.
    pub fn next(&mut self, from: &Session, phase: PhaseTag, consent: Option<Consent>) -> Session {
        let later = NOW + Duration::from_millis(self.rng.random_range(1..100_000));
        let phase = match phase {
            PhaseTag::Pending => Phase::Pending,
            PhaseTag::Confirmed => Phase::Confirmed,
            PhaseTag::Exchanging => Phase::Exchanging { grant: self.grant(), until: later },
            PhaseTag::Approved => Phase::Approved { token: self.sealed(), issued_at: later },
            PhaseTag::Denied => Phase::Denied,
            PhaseTag::Redeemed => Phase::Redeemed { body: self.sealed(), until: later },
        };
        Session {
            phase,
            consent: consent.map(Box::new),
            rev: from.rev + 1,
            expires_at: from.expires_at + Duration::from_millis(7),
            purge_at: from.purge_at + Duration::from_millis(11),
            ..from.clone()
        }
    }

    /// A browser's claim, with a PKCE verifier or without.
    pub fn consent(&mut self, verifier: bool) -> Consent {
        Consent {
            browser: self.browser(),
            state: self.state(),
            verifier: verifier.then(|| self.sealed()),
            confirmed_at: NOW + Duration::from_millis(1),
        }
    }

    /// `from` confirmed by a browser.
    pub fn confirmed(&mut self, from: &Session) -> Session {
        let consent = self.consent(true);
        self.next(from, PhaseTag::Confirmed, Some(consent))
    }

    /// A walk through every phase, each with a browser, with a browser and a verifier, and with neither. Each session
    /// is the next revision of the one before it; the first is the next revision of `from`.
    pub fn every_phase(&mut self, from: &Session) -> Vec<Session> {
        let mut walk: Vec<Session> = Vec::new();
        for held in [Some(true), None, Some(false), Some(true)] {
            for phase in PHASES {
                let consent = held.map(|verifier| self.consent(verifier));
                let next = self.next(walk.last().unwrap_or(from), phase, consent);
                walk.push(next);
            }
        }
        walk
    }
}
