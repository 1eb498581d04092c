//! The stored shape of a session: one flat record. MongoDB reads and writes it through serde; SQLite names its columns in
//! one list.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::keyring::{BrowserHash, DeviceHash, GrantHash, StateHash, UserHash};
use crate::base::network::Network;
use crate::base::sealed::Sealed;
use crate::base::store::{Damaged, millis, timestamp};
use crate::device_flow::session::{Consent, Phase, Request, Session};

/// The `phase` column. The numbers are on disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, derive_more::TryFrom)]
#[try_from(repr)]
#[repr(i32)]
#[expect(missing_docs, reason = "the phases of `session::Phase`, documented there")]
pub enum PhaseTag {
    Pending = 0,
    Confirmed = 1,
    Exchanging = 2,
    Approved = 3,
    Denied = 4,
    Redeemed = 5,
}

/// Fields that no event changes: an update leaves them as they were inserted.
pub const FIXED: [&str; 7] = ["_id", "user", "client_id", "scope", "agent", "network", "requested_ms"];

/// A session as fields. Times are milliseconds since the epoch; hashes have 16 bytes. `Date` is what the backend keeps
/// a date in by which it can delete. The names that serde sees are on disk: never rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<Date = i64> {
    /// Keyed hash of the device code; primary key.
    #[serde(rename = "_id", with = "serde_bytes")]
    pub device: Vec<u8>,
    /// Keyed hash of the user code; unique among stored sessions.
    #[serde(with = "serde_bytes")]
    pub user: Vec<u8>,
    /// `client_id` as the device sent it.
    pub client_id: String,
    /// Device-supplied secret, sealed.
    #[serde(default, with = "serde_bytes")]
    pub client_secret: Option<Vec<u8>>,
    /// `scope` as the device sent it.
    pub scope: Option<String>,
    /// The device's `User-Agent`.
    pub agent: Option<String>,
    /// The device's network, as [`Network::number`].
    pub network: Option<i64>,
    /// When the device asked.
    pub requested_ms: i64,
    /// Revision.
    pub rev: i64,
    /// [`PhaseTag`] as a number.
    pub phase: i32,
    /// When the device is told `expired_token`.
    pub expires_ms: i64,
    /// When the record may go.
    pub purge_at: Date,
    /// Keyed hash of the browser's cookie.
    #[serde(default, with = "serde_bytes")]
    pub browser: Option<Vec<u8>>,
    /// Keyed hash of the `state`; indexed.
    #[serde(default, with = "serde_bytes")]
    pub state: Option<Vec<u8>>,
    /// PKCE verifier, sealed.
    #[serde(default, with = "serde_bytes")]
    pub verifier: Option<Vec<u8>>,
    /// When the code was confirmed.
    pub confirmed_ms: Option<i64>,
    /// Keyed hash of the authorization code (`Exchanging`).
    #[serde(default, with = "serde_bytes")]
    pub grant: Option<Vec<u8>>,
    /// End of the lease (`Exchanging`), issue (`Approved`), end of redelivery (`Redeemed`).
    pub mark_ms: Option<i64>,
    /// Token (`Approved`) or delivered body (`Redeemed`), sealed.
    #[serde(default, with = "serde_bytes")]
    pub sealed: Option<Vec<u8>>,
}

impl<Date> Record<Date> {
    /// The record of a session; `date` makes a date of milliseconds.
    pub fn of(s: &Session, date: impl FnOnce(i64) -> Date) -> Self {
        let consent = s.consent.as_deref();
        let (tag, grant, mark, sealed) = match &s.phase {
            Phase::Pending => (PhaseTag::Pending, None, None, None),
            Phase::Confirmed => (PhaseTag::Confirmed, None, None, None),
            Phase::Exchanging { grant, until } => (PhaseTag::Exchanging, Some(grant), Some(until), None),
            Phase::Approved { token, issued_at } => (PhaseTag::Approved, None, Some(issued_at), Some(token)),
            Phase::Denied => (PhaseTag::Denied, None, None, None),
            Phase::Redeemed { body, until } => (PhaseTag::Redeemed, None, Some(until), Some(body)),
        };
        Self {
            device: s.device.as_bytes().to_vec(),
            user: s.user.as_bytes().to_vec(),
            client_id: s.request.client_id.to_string(),
            client_secret: s.request.client_secret.as_ref().map(bytes),
            scope: s.request.scope.as_deref().map(str::to_owned),
            agent: s.request.agent.as_deref().map(str::to_owned),
            network: s.request.network.map(Network::number),
            requested_ms: millis(s.requested_at),
            rev: i64::from(s.rev),
            phase: tag as i32,
            expires_ms: millis(s.expires_at),
            purge_at: date(millis(s.purge_at)),
            browser: consent.map(|c| c.browser.as_bytes().to_vec()),
            state: consent.map(|c| c.state.as_bytes().to_vec()),
            verifier: consent.and_then(|c| c.verifier.as_ref()).map(bytes),
            confirmed_ms: consent.map(|c| millis(c.confirmed_at)),
            grant: grant.map(|g| g.as_bytes().to_vec()),
            mark_ms: mark.map(|t| millis(*t)),
            sealed: sealed.map(bytes),
        }
    }

    /// The session of a record; `purge_ms` reads a date in milliseconds.
    pub fn session(self, purge_ms: impl FnOnce(Date) -> i64) -> Result<Session, Damaged> {
        let tag = PhaseTag::try_from(self.phase).map_err(|_| Damaged("phase"))?;
        let mark = self.mark_ms.map(timestamp).ok_or(Damaged("mark"));
        let sealed = self.sealed.map(Sealed::from_bytes).ok_or(Damaged("sealed"));
        let phase = match tag {
            PhaseTag::Pending => Phase::Pending,
            PhaseTag::Confirmed => Phase::Confirmed,
            PhaseTag::Exchanging => Phase::Exchanging {
                grant: self.grant.as_deref().and_then(GrantHash::from_slice).ok_or(Damaged("grant"))?,
                until: mark?,
            },
            PhaseTag::Approved => Phase::Approved { token: sealed?, issued_at: mark? },
            PhaseTag::Denied => Phase::Denied,
            PhaseTag::Redeemed => Phase::Redeemed { body: sealed?, until: mark? },
        };
        let consent = match (self.browser, self.state, self.confirmed_ms) {
            (Some(browser), Some(state), Some(at)) => Some(Box::new(Consent {
                browser: BrowserHash::from_slice(&browser).ok_or(Damaged("browser"))?,
                state: StateHash::from_slice(&state).ok_or(Damaged("state"))?,
                verifier: self.verifier.map(Sealed::from_bytes),
                confirmed_at: timestamp(at),
            })),
            (None, None, None) => None,
            _ => return Err(Damaged("consent")),
        };
        Ok(Session {
            device: DeviceHash::from_slice(&self.device).ok_or(Damaged("device"))?,
            user: UserHash::from_slice(&self.user).ok_or(Damaged("user"))?,
            request: Request {
                client_id: self.client_id.into(),
                client_secret: self.client_secret.map(Sealed::from_bytes),
                scope: self.scope.map(Arc::from),
                agent: self.agent.map(Arc::from),
                network: self.network.map(Network::from_number),
            },
            requested_at: timestamp(self.requested_ms),
            expires_at: timestamp(self.expires_ms),
            purge_at: timestamp(purge_ms(self.purge_at)),
            rev: u32::try_from(self.rev).map_err(|_| Damaged("rev"))?,
            consent,
            phase,
        })
    }
}

fn bytes(sealed: &Sealed) -> Vec<u8> {
    sealed.as_bytes().to_vec()
}
