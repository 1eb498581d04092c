//! The port between the two wings: whoever runs the device flow asks it for tokens of our own
//! (`FLOW=CLIENT_CREDENTIALS`), and never learns what they open.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::clock::Timestamp;
use super::keyring::{BrowserHash, GrantHash, StateHash};
use super::meter::Meter;
use super::network::Network;
use super::token_set::TokenSet;

/// A consent as it came back. `state` and `grant` together tell it from others.
#[derive(Clone)]
pub struct ReturnedConsent {
    /// The `state` it was asked under.
    pub state: StateHash,
    /// When its device asked for a code.
    pub asked_at: Timestamp,
    /// What came back, by its hash.
    pub grant: GrantHash,
    /// The client whose device asked.
    pub client_id: Arc<str>,
    /// What it is for.
    pub subject: ConsentSubject,
    /// The browser, by its cookie.
    pub browser: BrowserHash,
    /// Where it is.
    pub network: Network,
}

/// What a consent is for, as the browser says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentSubject {
    /// These meters, between one and [`METERS_MAX`](super::meter::METERS_MAX) (v1 authorize).
    Meters(Vec<Meter>),
    /// An authorisation whose meters Enedis has to tell (v2 authorize).
    Authorisation(i64),
}

/// Why a consent brings no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotIssued {
    /// Enedis' quota is used up.
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// Enedis does not answer.
    Down {
        /// When to try again.
        retry_after: Duration,
    },
    /// Enedis refuses what this server asks, whoever consents: its operator has to act.
    NotAccepted,
    /// Enedis does not list the consent yet.
    NotListed,
    /// Enedis does not know the authorisation as one of this application.
    Foreign,
    /// Too many consents that nothing confirms came from this network, or from everywhere.
    TooMany {
        /// When to try again.
        retry_after: Duration,
    },
    /// The meter is linked already, and nothing shows that this consent is a fresh one. For good.
    AlreadyLinked,
    /// Our store does not answer.
    Unavailable,
}

/// Issues tokens of our own.
#[async_trait]
pub trait GrantIssuer: Send + Sync + 'static {
    /// The first tokens of a consent, durable before the answer. For the same consent they are the same each time.
    async fn issue(&self, consent: ReturnedConsent) -> Result<TokenSet, NotIssued>;

    /// Takes tokens back that nobody will receive. Best effort.
    async fn withdraw(&self, state: StateHash, grant: GrantHash, asked_at: Timestamp);
}
