//! Owns the simulator's memory: consents, codes, tokens, scripted faults, the record. Decisions here take no lock and
//! touch no socket.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::meters::Holder;
use super::quota::{Quota, Taken};
use super::values::Direction;
use super::{Counts, Endpoint, Fault, Seen};
use crate::calendar::{Day, wall_clock};

const CODE_LIFE: Duration = Duration::from_secs(180);

/// Everything the simulator remembers.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) callback: Option<String>,
    pub(super) scripts: HashMap<Endpoint, VecDeque<Fault>>,
    /// What stands at paths of no other service: a status and a body.
    pub(super) pages: HashMap<String, (u16, String)>,
    /// What is wrong with every request that no scripted fault is left for.
    pub(super) outages: HashMap<Endpoint, Fault>,
    pub(super) seen: Seen,
    /// Requests to the gateway and to the token endpoint that are not counted any more.
    uncounted: (usize, usize),
    /// Token requests being handled.
    pub(super) in_flight: usize,
    taken: HashMap<Endpoint, Taken>,
    /// What the simulator's clock is ahead of the wall's.
    pub(super) clock_ahead: Duration,
    /// For how many questions after a consent its services stay unlisted.
    pub(super) services_empty_first: u32,
    /// Today, if it is not the real one.
    pub(super) today: Option<Day>,
    /// The generated meter whose turn it is.
    pub(super) next_meter: u32,
    /// When each was issued, by the simulator's clock.
    pub(super) application_tokens: HashMap<String, Duration>,
    /// Valid requests to the consent pages.
    pub(super) consents: HashMap<String, Consent>,
    /// By usage point.
    pub(super) grants: HashMap<String, Grant>,
    /// Directions of usage points that an API refuses, whatever the consent.
    pub(super) refused: HashSet<(String, Direction, Endpoint)>,
    /// Since when a usage point has a direction, where that is not by its profile.
    pub(super) activated: HashMap<(String, Direction), Day>,
    codes: HashMap<String, Code>,
    refresh_tokens: HashMap<String, Refresh>,
}

/// A valid request to the consent page.
#[derive(Clone, Debug)]
pub(super) struct Consent {
    pub(super) state: String,
    /// S256 challenge (RFC 7636 section 4.2).
    pub(super) challenge: Option<String>,
    pub(super) holder: Holder,
}

/// A consent for one meter.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) authorisation: i64,
    pub(super) since: Day,
    pub(super) state: GrantState,
    /// Times it was asked for since the consent.
    pub(super) questions: u32,
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantState {
    Active,
    /// Taken back a moment ago: still listed, data is refused already.
    Fading,
    Ended,
}

#[derive(Debug)]
struct Code {
    consent: Consent,
    issued: Instant,
    consumed: bool,
}

#[derive(Debug)]
struct Refresh {
    holder: Holder,
    consumed: bool,
}

impl Book {
    pub(super) fn new(callback: Option<String>, today: Option<Day>) -> Self {
        Self { callback, today, ..Self::default() }
    }

    pub(super) fn next_fault(&mut self, endpoint: Endpoint) -> Fault {
        let scripted = self.scripts.get_mut(&endpoint).and_then(VecDeque::pop_front);
        scripted.or_else(|| self.outages.get(&endpoint).cloned()).unwrap_or(Fault::Pass)
    }

    /// The simulator's clock, since 1970 (UTC).
    pub(super) fn now(&self) -> Duration {
        wall_clock() + self.clock_ahead
    }

    pub(super) fn today(&self) -> Day {
        self.today.unwrap_or_else(|| Day::in_france(self.now()))
    }

    /// Takes one call from the quota of `endpoint`; the fault is the answer to one that comes too early.
    pub(super) fn take(&mut self, endpoint: Endpoint, quota: Quota) -> Result<(), Fault> {
        let now = self.now();
        self.taken.entry(endpoint).or_default().take(quota, now).map_err(Fault::quota_until)
    }

    pub(super) fn counts(&self) -> Counts {
        let (apis, tokens) = self.uncounted;
        Counts::of(
            self.seen.api_requests.iter().skip(apis).chain(self.seen.token_requests.iter().skip(tokens)),
        )
    }

    pub(super) fn reset_counts(&mut self) {
        self.uncounted = (self.seen.api_requests.len(), self.seen.token_requests.len());
    }

    /// Notes a consent of `holder` for `point` and returns its authorisation, which is the same each time.
    pub(super) fn grant(&mut self, client_id: &str, point: &str, fades: bool) -> i64 {
        let authorisation = authorisation(client_id, point);
        let state = if fades { GrantState::Fading } else { GrantState::Active };
        let grant = Grant { authorisation, since: self.today(), state, questions: 0 };
        self.grants.insert(point.to_owned(), grant);
        authorisation
    }

    /// Tells whether data of `point` may be given out.
    pub(super) fn is_granted(&self, point: &str) -> bool {
        self.grants.get(point).is_some_and(|grant| grant.state == GrantState::Active)
    }

    pub(super) fn issue_code(&mut self, consent: Consent) -> String {
        let code = random_hex(16);
        self.codes.insert(code.clone(), Code { consent, issued: Instant::now(), consumed: false });
        self.seen.codes.push(code.clone());
        code
    }

    pub(super) fn is_consumed(&self, code_or_token: &str) -> bool {
        self.codes.get(code_or_token).is_some_and(|code| code.consumed)
            || self.refresh_tokens.get(code_or_token).is_some_and(|refresh| refresh.consumed)
    }

    /// Consumes `code` if `check` accepts the request that led to it (RFC 6749 section 4.1.2: single use), and issues an
    /// access token and a refresh token. The error is a description of `invalid_grant`.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        check: impl FnOnce(&Consent) -> Result<(), &'static str>,
    ) -> Result<(String, String), &'static str> {
        let entry = self.codes.get_mut(code).ok_or("unknown code")?;
        if entry.consumed {
            return Err("code already used");
        }
        if entry.issued.elapsed() >= CODE_LIFE {
            return Err("code expired");
        }
        check(&entry.consent)?;
        entry.consumed = true;
        let holder = entry.consent.holder;
        Ok(self.issue_tokens(holder))
    }

    /// Consumes refresh token `token` and issues an access token and its successor. The error is a description of
    /// `invalid_grant`.
    pub(super) fn rotate(&mut self, token: &str) -> Result<(String, String), &'static str> {
        let entry = self.refresh_tokens.get_mut(token).ok_or("unknown refresh token")?;
        if entry.consumed {
            return Err("refresh token already used");
        }
        if entry.holder.revokes() {
            return Err("consent revoked");
        }
        entry.consumed = true;
        let holder = entry.holder;
        Ok(self.issue_tokens(holder))
    }

    pub(super) fn issue_application_token(&mut self) -> String {
        let access = self.issue_access_token();
        self.application_tokens.insert(access.clone(), self.now());
        access
    }

    fn issue_tokens(&mut self, holder: Holder) -> (String, String) {
        let refresh = random_hex(32);
        self.refresh_tokens.insert(refresh.clone(), Refresh { holder, consumed: false });
        self.seen.refresh_tokens.push(refresh.clone());
        (self.issue_access_token(), refresh)
    }

    fn issue_access_token(&mut self) -> String {
        let access = random_hex(32);
        self.seen.access_tokens.push(access.clone());
        access
    }
}

/// The number of the authorisation that `client_id` has for `point`: positive, and often too large for a double,
/// as an int64 may be.
pub(super) fn authorisation(client_id: &str, point: &str) -> i64 {
    let mut hasher = DefaultHasher::new();
    (client_id, point).hash(&mut hasher);
    hasher.finish().cast_signed() & i64::MAX
}

/// `bytes` random bytes as hex digits; `bytes` is at most 32.
pub(super) fn random_hex(bytes: usize) -> String {
    hex::encode(&rand::random::<[u8; 32]>()[..bytes])
}
