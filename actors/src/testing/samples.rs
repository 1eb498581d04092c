//! Sessions, grants and cache entries for tests, drawn from a seeded generator: the same seed gives the same sessions.

use std::sync::Arc;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::Date;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::base::clock::Timestamp;
use crate::base::keyring::CacheKey;
use crate::base::keyring::{BrowserHash, DeviceHash, GrantHash, MeterHash, StateHash, TokenHash, UserHash};
use crate::base::meter::Meter;
use crate::base::network::Network;
use crate::base::sealed::{RowMark, Sealed};
use crate::device_flow::session::{Consent, Lifetimes, Phase, Request, Session};
use crate::device_flow::store::record::PhaseTag;
use crate::metering::cache::CacheEntry;
use crate::metering::civil::moment_text;
use crate::metering::request::{DayRange, MeterRequest, Resource};
use crate::metering::resource_server::{Point, Reading};
use crate::metering::tokens::installation::Installation;
use crate::metering::tokens::places::Places;
use crate::metering::tokens::{ACCESS_LIFE, Access, MeterGrant, Origin};

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

/// Life of a sample of a grant.
pub const CONSENT_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Life of a sample of a cache entry.
pub const ENTRY_LIFE: Duration = Duration::from_secs(3_600);

/// A source of samples.
#[derive(Debug)]
pub struct Samples {
    rng: StdRng,
}

macro_rules! drawn_hashes {
    ($($name:ident: $hash:ident),*) => {
        $(
            /// A hash of nothing in particular.
            pub fn $name(&mut self) -> $hash {
                $hash::from(self.rng.random::<[u8; 16]>())
            }
        )*
    };
}

impl Samples {
    /// A source that always draws the same.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    drawn_hashes!(
        device: DeviceHash, user: UserHash, state: StateHash, browser: BrowserHash, grant: GrantHash,
        token: TokenHash, meter: MeterHash
    );

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
            network: self.rng.random_bool(0.7).then(|| Network::from_number(self.rng.random())),
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

    /// A grant of [`NOW`] for some meters; whether its client is known is left to chance.
    pub fn meter_grant(&mut self) -> MeterGrant {
        let count = self.rng.random_range(1..4);
        let origins = [Origin::ConsentV1, Origin::ConsentV2, Origin::Import];
        MeterGrant {
            refresh: self.token(),
            client_id: self.rng.random_bool(0.7).then(|| Arc::from("ha4uh-4568_tr")),
            meters: self.sealed(),
            owners: (0..count).map(|_| self.meter()).collect(),
            consented_at: NOW,
            expires_at: NOW + CONSENT_LIFE,
            origin: origins[self.rng.random_range(0..3)],
            network: self.rng.random_bool(0.7).then(|| Network::from_number(self.rng.random_range(1..4))),
            unproven: self.rng.random_bool(0.4),
            used_at: None,
            places: Places::default(),
        }
    }

    /// A record of an installation; it cannot be opened.
    pub fn installation(&mut self) -> Installation {
        let accepted_at = self.rng.random_bool(0.5).then_some(NOW);
        Installation { id: self.rng.random(), made_at: NOW, accepted_at, root: self.sealed() }
    }

    /// An access token of `grant`, issued at `issued_at`.
    pub fn access(&mut self, grant: &MeterGrant, issued_at: Timestamp) -> Access {
        let expires_at = (issued_at + ACCESS_LIFE).min(grant.expires_at);
        let mark = Some(RowMark::from(self.rng.random::<[u8; 16]>()));
        Access { token: self.token(), refresh: grant.refresh, issued_at, expires_at, mark }
    }

    /// A grant of [`NOW`] with an access token.
    pub fn granted(&mut self) -> (MeterGrant, Access) {
        let grant = self.meter_grant();
        let access = self.access(&grant, NOW);
        (grant, access)
    }

    /// A key of the meter cache, or an owner.
    pub fn cache_key(&mut self) -> CacheKey {
        CacheKey(self.rng.random())
    }

    /// A cache entry of `owner`, fetched at [`NOW`].
    pub fn cache_entry(&mut self, owner: CacheKey) -> CacheEntry {
        let sealed = self.sealed().as_bytes().to_vec();
        CacheEntry { key: self.cache_key(), owner, sealed, fetched: NOW, expires: NOW + ENTRY_LIFE }
    }

    /// Several cache entries of `owner`.
    pub fn cache_entries(&mut self, owner: CacheKey, count: usize) -> Vec<CacheEntry> {
        (0..count).map(|_| self.cache_entry(owner)).collect()
    }
}

/// The meter of this number.
///
/// # Panics
/// If it has more than 14 digits.
pub fn meter(number: u64) -> Meter {
    Meter::parse(&format!("{number:014}")).expect("14 digits")
}

/// A question about a meter, from the day `start` to the one before `end`.
///
/// # Panics
/// If there is no such day.
pub fn question(resource: Resource, start: Date, end: Date) -> MeterRequest {
    let range = DayRange::new(start, end).expect("a range of days");
    MeterRequest { resource, meter: meter(12_345_678_901_234), range }
}

/// A load curve with 540 W in every hour.
pub fn hourly_reading(range: DayRange) -> Reading {
    let hours = range.days().flat_map(|day| (1..=24_i8).map(move |hour| day.at(0, 0, 0, 0) + hour.hours()));
    let point = |end| Point {
        value: "540".to_owned(),
        date: moment_text(end),
        interval_length: Some("PT60M".to_owned()),
        measure_type: Some("B".to_owned()),
    };
    Reading { quality: "BRUT".to_owned(), points: hours.map(point).collect() }
}
