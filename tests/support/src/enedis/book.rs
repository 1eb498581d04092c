//! Owns the simulator's memory: consents begun, codes, refresh tokens, scripted faults, the record. Decisions here
//! take no lock and touch no socket.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::consents::Grants;
use super::counts::Counts;
use super::meters::Holder;
use super::quota::{Busy, Meter};
use super::{Api, Endpoint, Fault, Options, Seen};
use crate::calendar::{Day, wall_clock};

/// Everything the simulator remembers.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) callback: Option<String>,
    pub(super) scripts: HashMap<Endpoint, VecDeque<Fault>>,
    pub(super) seen: Seen,
    pub(super) in_flight: usize,
    pub(super) outages: HashMap<Endpoint, Fault>,
    pub(super) counts: Counts,
    pub(super) quotas: HashMap<Api, Meter>,
    pub(super) busy: HashMap<Api, Busy>,
    /// What the simulator's clock is ahead of the wall's.
    pub(super) clock_ahead: Duration,
    /// APIs the application has not subscribed to.
    pub(super) unsubscribed: HashSet<Api>,
    pub(super) grants: Grants,
    /// Today, if it is not the real one.
    pub(super) today: Option<Day>,
    /// First day whose data is not out yet, if it is not today.
    pub(super) published_until: Option<Day>,
    /// The generated meter whose turn it is.
    pub(super) next_meter: u32,
    /// When each was issued, by the simulator's clock.
    application_tokens: HashMap<String, Duration>,
    consents: HashMap<String, Consent>,
    codes: HashMap<String, Code>,
    refresh_tokens: HashMap<String, Refresh>,
}

/// A valid request to the consent page.
#[derive(Clone, Debug)]
pub(super) struct Consent {
    pub(super) state: String,
    /// S256 challenge (RFC 7636 section 4.2).
    pub(super) challenge: Option<String>,
    /// `redirect_uri`, if the request had one.
    pub(super) redirect_uri: Option<String>,
    /// Version of the consent page, 1 or 2.
    pub(super) version: u8,
    pub(super) holder: Holder,
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

/// The tokens of one grant.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
    pub(super) holder: Holder,
}

impl Book {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            callback: options.callback.clone(),
            scripts: HashMap::new(),
            seen: Seen::default(),
            in_flight: 0,
            outages: HashMap::new(),
            counts: Counts::default(),
            quotas: HashMap::new(),
            busy: HashMap::new(),
            clock_ahead: Duration::ZERO,
            unsubscribed: options.unsubscribed.iter().copied().collect(),
            grants: Grants::new(&options.client_id, options.services_empty_first),
            today: options.today,
            published_until: None,
            next_meter: 0,
            application_tokens: HashMap::new(),
            consents: HashMap::new(),
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
        }
    }

    pub(super) fn next_fault(&mut self, endpoint: Endpoint) -> Fault {
        let scripted = self.scripts.get_mut(&endpoint).and_then(VecDeque::pop_front);
        scripted.or_else(|| self.outages.get(&endpoint).cloned()).unwrap_or(Fault::Pass)
    }

    /// The simulator's clock, since 1970 (UTC).
    pub(super) fn now(&self) -> Duration {
        wall_clock() + self.clock_ahead
    }

    /// Today, for Enedis.
    pub(super) fn today(&self) -> Day {
        self.today.unwrap_or_else(|| Day::in_france(self.now()))
    }

    /// The first day whose data is not out yet: today unless told otherwise.
    pub(super) fn published_until(&self) -> Day {
        self.published_until.unwrap_or_else(|| self.today())
    }

    /// Remembers a valid request to the consent page; the answer names it in the forms.
    pub(super) fn begin(&mut self, consent: Consent) -> String {
        let id = random_hex(16);
        self.consents.insert(id.clone(), consent);
        id
    }

    pub(super) fn consent(&self, id: &str) -> Option<Consent> {
        self.consents.get(id).cloned()
    }

    /// Issues a code for `consent`.
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

    /// Consumes `code` if `check` accepts the request that led to it (RFC 6749 section 4.1.2: single use). The error
    /// is a description of `invalid_grant`.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        lifetime: Duration,
        check: impl FnOnce(&Consent) -> Result<(), &'static str>,
    ) -> Result<Tokens, &'static str> {
        let entry = self.codes.get_mut(code).ok_or("unknown code")?;
        if entry.consumed {
            return Err("code already used");
        }
        if entry.issued.elapsed() >= lifetime {
            return Err("code expired");
        }
        check(&entry.consent)?;
        entry.consumed = true;
        let holder = entry.consent.holder;
        Ok(self.issue_tokens(holder))
    }

    /// Consumes refresh token `token` and issues its successor. The error is a description of `invalid_grant`.
    pub(super) fn rotate(&mut self, token: &str) -> Result<Tokens, &'static str> {
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

    /// Issues a token of the application itself.
    pub(super) fn issue_application_token(&mut self) -> String {
        let access = random_hex(32);
        self.seen.access_tokens.push(access.clone());
        self.application_tokens.insert(access.clone(), self.now());
        self.counts.application_tokens += 1;
        access
    }

    /// Tells whether `token` is the application's own and younger than `lifetime`.
    pub(super) fn is_application_token(&self, token: &str, lifetime: Duration) -> bool {
        let age = |issued: &Duration| self.now().saturating_sub(*issued);
        self.application_tokens.get(token).is_some_and(|issued| age(issued) < lifetime)
    }

    /// Ends the life of every token of the application.
    pub(super) fn expire_application_tokens(&mut self) {
        self.application_tokens.clear();
    }

    fn issue_tokens(&mut self, holder: Holder) -> Tokens {
        let (access, refresh) = (random_hex(32), random_hex(32));
        self.refresh_tokens.insert(refresh.clone(), Refresh { holder, consumed: false });
        self.seen.access_tokens.push(access.clone());
        self.seen.refresh_tokens.push(refresh.clone());
        Tokens { access, refresh, holder }
    }
}

/// `bytes` random bytes as hex digits; `bytes` is at most 32.
fn random_hex(bytes: usize) -> String {
    hex::encode(&rand::random::<[u8; 32]>()[..bytes])
}
