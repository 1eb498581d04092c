//! The life of one device flow as a pure state machine: every event takes `now` and returns a value.
//!
//! ```text
//!                confirm                begin              approve            claim
//!   Pending ───────────────▶ Confirmed ───────▶ Exchanging ───────▶ Approved ───────▶ Redeemed
//!      │  ▲                   │  ▲  ▲ └─confirm─┘   │  │                                 │
//!      │  └ lapse of time:    │  │  └───fail────────┘  │ deny                repeat within the
//!      │    "expired" is      │  └──────confirm────────┤                     redelivery window
//!      │    read off the      │ deny                   ▼
//!      │    clock, never      └──────────────────▶  Denied
//!      │    stored
//! ```
//!
//! Owns: which event is legal when, and every deadline. Promises: a decision outranks expiry; no event leaves
//! `Denied` or `Redeemed`; one authorization for each `state`; an authorization code that Enedis may have consumed is
//! never handed out twice.
//! Refuses: an illegal event is an `Err` that names the reason, never a panic. Knows no store and no actor:
//! [`crate::device_flow::registry`] makes each returned session durable before it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::keyring::{BrowserHash, DeviceHash, GrantHash, StateHash, UserHash};
use crate::base::network::Network;
use crate::base::sealed::Sealed;

/// Events of one flow after which no browser may confirm its code any more. Each is a write; a person who begins thirty times
/// over, while Enedis or the store is out of order, has about ninety.
const EVENTS_MAX: u32 = 100;

/// The deadlines of a flow. All are configuration or constants of [`Lifetimes::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Life of a device code and its user code (`CODE_LIFETIME_SECS`).
    pub code: Duration,
    /// Least remaining life once a browser has confirmed the code (`CONSENT_WINDOW_SECS`). However often it is confirmed,
    /// the code ends two of these after its own life.
    pub consent: Duration,
    /// How long a delivered answer is repeated to the same device (`TOKEN_REDELIVERY_SECS`).
    pub redelivery: Duration,
    /// How long an approved token waits for its device, counted from approval.
    pub redemption: Duration,
    /// How long a decided or expired session is remembered, so that the device and the person learn its end.
    pub tombstone: Duration,
    /// How long one browser keeps a code to itself.
    pub browser_lease: Duration,
    /// How long a person may try again after a failed exchange, before the device is told `expired_token`.
    pub retry: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            code: Duration::from_secs(300),
            consent: Duration::from_secs(900),
            redelivery: Duration::from_secs(60),
            redemption: Duration::from_secs(600),
            tombstone: Duration::from_secs(300),
            browser_lease: Duration::from_secs(300),
            retry: Duration::from_secs(180),
        }
    }
}

/// One device flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Primary key.
    pub device: DeviceHash,
    /// Found by the person's code.
    pub user: UserHash,
    /// What the device said of itself when it asked.
    pub request: Request,
    /// When the device asked.
    pub requested_at: Timestamp,
    /// When the device is told `expired_token`, unless a decision came first.
    pub expires_at: Timestamp,
    /// When nobody needs the record any more; set anew by each event.
    pub purge_at: Timestamp,
    /// Raised by each event; a store applies an event only to the revision it was decided on.
    pub rev: u32,
    /// The browser that holds the code, once there is one.
    pub consent: Option<Box<Consent>>,
    /// Where the flow stands.
    pub phase: Phase,
}

/// What the device sent to `/device/code`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// `client_id`.
    pub client_id: Arc<str>,
    /// `client_secret`, where the device brings its own.
    pub client_secret: Option<Sealed>,
    /// `scope`, passed to the authorize endpoint as it came.
    pub scope: Option<Arc<str>>,
    /// `User-Agent`, shown to the person who confirms.
    pub agent: Option<Arc<str>>,
    /// Where the device is; `None`: not known, of a session of before.
    pub network: Option<Network>,
}

/// One person's browser on its way through Enedis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Consent {
    /// The browser, by its cookie.
    pub browser: BrowserHash,
    /// The `state` it carries; each confirmation draws a new one.
    pub state: StateHash,
    /// PKCE verifier of this authorization, if PKCE is on.
    pub verifier: Option<Sealed>,
    /// When the code was confirmed.
    pub confirmed_at: Timestamp,
}

/// What a browser brought back from Enedis, to be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// The authorization code, or whatever else Enedis returned, by its hash.
    pub grant: GrantHash,
    /// Until when acting on it may be under way.
    pub until: Timestamp,
    /// Enedis consumes nothing by being asked about it: the same one may be presented again.
    pub repeatable: bool,
}

/// Where a flow stands. "Expired" is not a phase: it is read off the clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody has entered the code yet.
    Pending,
    /// A browser was sent to Enedis.
    Confirmed,
    /// Enedis' authorization code is being exchanged, or was and may be spent.
    Exchanging {
        /// The code, by its hash: the same one is never presented again.
        grant: GrantHash,
        /// Until then the exchange may still be under way; past it, it is lost.
        until: Timestamp,
    },
    /// The token waits for its device.
    Approved {
        /// Enedis' answer, sealed.
        token: Sealed,
        /// When the token was issued; `expires_in` is recomputed from it at delivery.
        issued_at: Timestamp,
    },
    /// The person refused.
    Denied,
    /// The token was claimed by its device.
    Redeemed {
        /// The delivered body, sealed, to be repeated if the answer was lost.
        body: Sealed,
        /// End of the redelivery window.
        until: Timestamp,
    },
}

impl Phase {
    /// What the log calls it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Exchanging { .. } => "exchanging",
            Self::Approved { .. } => "approved",
            Self::Denied => "denied",
            Self::Redeemed { .. } => "delivered",
        }
    }
}

/// What a poll by the right device finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollFinding<'a> {
    /// No decision yet: subject to pacing.
    Pending,
    /// A token waits: claim it.
    Claim {
        /// The sealed token.
        token: &'a Sealed,
        /// When it was issued.
        issued_at: Timestamp,
    },
    /// Claimed before, within the window: the same body again.
    Repeat(&'a Sealed),
    /// `access_denied`.
    Denied,
    /// `expired_token`.
    Expired,
    /// `invalid_grant`: redeemed before and the window is over.
    Spent,
}

/// Why a browser may not confirm a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmError {
    /// Expired, or already decided: to a stranger both look like an unknown code.
    Gone,
    /// Another browser holds the code, or it was confirmed too often.
    InUse,
}

/// Why Enedis' return cannot be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnError {
    /// Not the browser that set out.
    OtherBrowser,
    /// The flow expired, or the `state` was replaced by a newer one.
    Gone,
    /// The exchange is under way.
    InProgress,
    /// This code was presented, and its fate is unknown or it failed: start again.
    Presented,
    /// Decided before; a reload shows the decision again.
    Decided(Decision),
}

/// Why the operator cannot end a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// It has ended: refused, or expired.
    Ended,
    /// The device has its token.
    Delivered,
    /// What came back from Enedis is being acted on.
    InUse,
}

/// What was decided, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Approved, delivered or not.
    Approved,
    /// Refused.
    Denied,
}

impl Session {
    /// A fresh flow, asked for at `now`.
    pub fn open(
        device: DeviceHash,
        user: UserHash,
        request: Request,
        now: Timestamp,
        life: &Lifetimes,
    ) -> Self {
        let expires_at = now + life.code;
        Self {
            device,
            user,
            request,
            requested_at: now,
            expires_at,
            purge_at: expires_at + life.tombstone,
            rev: 0,
            consent: None,
            phase: Phase::Pending,
        }
    }

    /// Where it stands at `now`, in a word or two for the operator.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match &self.phase {
            _ if self.is_expired(now) => "expired",
            Phase::Pending => "waiting",
            Phase::Confirmed => "at Enedis",
            Phase::Exchanging { .. } if self.is_exchanging(now) => "returned",
            Phase::Exchanging { .. } => "failed",
            Phase::Approved { .. } => "approved",
            Phase::Denied => "refused",
            Phase::Redeemed { .. } => "delivered",
        }
    }

    /// Whether the device's patience is over at `now`. An exchange under way holds expiry back.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        match &self.phase {
            // Approval moves `expires_at` to the end of the redemption window: a decision outranks expiry.
            Phase::Pending | Phase::Confirmed | Phase::Approved { .. } => now >= self.expires_at,
            Phase::Exchanging { until, .. } => now >= self.expires_at && now >= *until,
            Phase::Denied | Phase::Redeemed { .. } => false,
        }
    }

    /// Whether an exchange may be under way at `now`.
    pub fn is_exchanging(&self, now: Timestamp) -> bool {
        matches!(self.phase, Phase::Exchanging { until, .. } if now < until)
    }

    /// Whether the record is of no use to anybody any more.
    pub fn is_purgeable(&self, now: Timestamp) -> bool {
        now >= self.purge_at
    }

    /// What a poll by the right device finds. Changes nothing.
    pub fn poll(&self, now: Timestamp) -> PollFinding<'_> {
        if self.is_expired(now) {
            return PollFinding::Expired;
        }
        match &self.phase {
            Phase::Pending | Phase::Confirmed | Phase::Exchanging { .. } => PollFinding::Pending,
            Phase::Approved { token, issued_at } => PollFinding::Claim { token, issued_at: *issued_at },
            Phase::Denied => PollFinding::Denied,
            Phase::Redeemed { body, until } if now < *until => PollFinding::Repeat(body),
            Phase::Redeemed { .. } => PollFinding::Spent,
        }
    }

    /// Whether a person may still enter this code at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.poll(now) == PollFinding::Pending
    }

    /// A browser enters the code and is sent to Enedis with a new `state`.
    pub fn confirm(&self, consent: Consent, now: Timestamp, life: &Lifetimes) -> Result<Self, ConfirmError> {
        if !self.is_open(now) {
            return Err(ConfirmError::Gone);
        }
        // The device goes on waiting: the code is not said to be unknown.
        if self.rev >= EVENTS_MAX {
            return Err(ConfirmError::InUse);
        }
        if let Some(held) = &self.consent {
            let leased = now < held.confirmed_at + life.browser_lease;
            if self.is_exchanging(now) || (held.browser != consent.browser && leased) {
                return Err(ConfirmError::InUse);
            }
        }
        let last_end = self.requested_at + life.code + life.consent * 2;
        let expires_at = self.expires_at.max((now + life.consent).min(last_end));
        let confirmed = self.advance(Phase::Confirmed, expires_at, expires_at + life.tombstone);
        Ok(Self { consent: Some(Box::new(consent)), ..confirmed })
    }

    /// The browser is back with an authorization: from here on it may have been presented.
    pub fn begin(
        &self,
        browser: &BrowserHash,
        state: &StateHash,
        presentation: Presentation,
        now: Timestamp,
        life: &Lifetimes,
    ) -> Result<Self, ReturnError> {
        self.check_return(browser, state, Some(&presentation), now)?;
        let Presentation { grant, until, .. } = presentation;
        let purge_at = self.expires_at.max(until) + life.tombstone;
        Ok(self.advance(Phase::Exchanging { grant, until }, self.expires_at, purge_at))
    }

    /// Enedis gave a token for the exchange begun with `grant`.
    pub fn approve(
        &self,
        grant: &GrantHash,
        token: Sealed,
        now: Timestamp,
        life: &Lifetimes,
    ) -> Result<Self, ReturnError> {
        self.check_exchange(grant)?;
        let expires_at = self.expires_at.max(now + life.redemption);
        let phase = Phase::Approved { token, issued_at: now };
        Ok(self.advance(phase, expires_at, expires_at + life.tombstone))
    }

    /// The exchange begun with `grant` failed. `consumed` says whether Enedis may have taken the code: if it
    /// cannot have, the browser may come back with the same one.
    pub fn fail(
        &self,
        grant: &GrantHash,
        consumed: bool,
        now: Timestamp,
        life: &Lifetimes,
    ) -> Result<Self, ReturnError> {
        self.check_exchange(grant)?;
        // The person may try again, but the device shall learn in time if nobody does.
        let first_end = self.requested_at + life.code;
        let expires_at = first_end.max(now + life.retry).min(self.expires_at.max(now));
        let phase = if consumed { Phase::Exchanging { grant: *grant, until: now } } else { Phase::Confirmed };
        Ok(self.advance(phase, expires_at, expires_at + life.tombstone))
    }

    /// Nothing came yet of the exchange begun with `grant`: the same browser may come back with the same one, and the
    /// device waits as before.
    pub fn postpone(&self, grant: &GrantHash, now: Timestamp, life: &Lifetimes) -> Result<Self, ReturnError> {
        self.check_exchange(grant)?;
        let phase = Phase::Exchanging { grant: *grant, until: now };
        Ok(self.advance(phase, self.expires_at, self.expires_at.max(now) + life.tombstone))
    }

    /// Nobody asks for this flow any more, and there is no room: its record may go.
    #[must_use]
    pub fn abandon(&self, now: Timestamp) -> Self {
        self.advance(self.phase.clone(), now, now)
    }

    /// Somebody who holds the code says that the request is not theirs. What is under way at Enedis goes on.
    pub fn decline(&self, now: Timestamp, life: &Lifetimes) -> Result<Self, ConfirmError> {
        match &self.phase {
            _ if !self.is_open(now) => Err(ConfirmError::Gone),
            Phase::Exchanging { .. } => Err(ConfirmError::InUse),
            _ => Ok(self.denied(now, life)),
        }
    }

    /// The operator ends it: the device hears what it hears of a refusal. A token that waits for it is dropped.
    pub fn end(&self, now: Timestamp, life: &Lifetimes) -> Result<Self, EndError> {
        match &self.phase {
            Phase::Redeemed { .. } => Err(EndError::Delivered),
            Phase::Denied => Err(EndError::Ended),
            _ if self.is_expired(now) => Err(EndError::Ended),
            _ if self.is_exchanging(now) => Err(EndError::InUse),
            _ => Ok(self.denied(now, life)),
        }
    }

    /// The person refused at Enedis.
    pub fn deny(
        &self,
        browser: &BrowserHash,
        state: &StateHash,
        now: Timestamp,
        life: &Lifetimes,
    ) -> Result<Self, ReturnError> {
        self.check_return(browser, state, None, now)?;
        Ok(self.denied(now, life))
    }

    fn denied(&self, now: Timestamp, life: &Lifetimes) -> Self {
        let purge_at = self.expires_at.max(now) + life.tombstone;
        self.advance(Phase::Denied, self.expires_at, purge_at)
    }

    /// The device claims its token; `body` is what it is about to receive. `None` unless a token waits.
    pub fn claim(&self, body: Sealed, now: Timestamp, life: &Lifetimes) -> Option<Self> {
        let Phase::Approved { .. } = self.phase else { return None };
        // No window is none by any instance's clock.
        let until = if life.redelivery.is_zero() { Timestamp::EPOCH } else { now + life.redelivery };
        let purge_at = until.max(now + life.tombstone);
        Some(self.advance(Phase::Redeemed { body, until }, self.expires_at, purge_at))
    }

    /// Whether the browser that returned with `state` may be shown, or act on, this flow.
    pub fn check_return(
        &self,
        browser: &BrowserHash,
        state: &StateHash,
        presented: Option<&Presentation>,
        now: Timestamp,
    ) -> Result<(), ReturnError> {
        let consent = self.consent.as_deref().ok_or(ReturnError::Gone)?;
        if consent.state != *state {
            return Err(ReturnError::Gone);
        }
        if consent.browser != *browser {
            return Err(ReturnError::OtherBrowser);
        }
        match &self.phase {
            Phase::Approved { .. } | Phase::Redeemed { .. } => Err(ReturnError::Decided(Decision::Approved)),
            Phase::Denied => Err(ReturnError::Decided(Decision::Denied)),
            _ if self.is_expired(now) => Err(ReturnError::Gone),
            _ if self.is_exchanging(now) => Err(ReturnError::InProgress),
            // One authorization for each `state`: a second one under the same is not ours.
            Phase::Exchanging { grant, .. }
                if presented.is_some_and(|back| !(back.repeatable && back.grant == *grant)) =>
            {
                Err(ReturnError::Presented)
            }
            Phase::Pending | Phase::Confirmed | Phase::Exchanging { .. } => Ok(()),
        }
    }

    fn check_exchange(&self, grant: &GrantHash) -> Result<(), ReturnError> {
        match &self.phase {
            Phase::Exchanging { grant: begun, .. } if begun == grant => Ok(()),
            Phase::Approved { .. } | Phase::Redeemed { .. } => Err(ReturnError::Decided(Decision::Approved)),
            Phase::Denied => Err(ReturnError::Decided(Decision::Denied)),
            Phase::Pending | Phase::Confirmed | Phase::Exchanging { .. } => Err(ReturnError::Gone),
        }
    }

    fn advance(&self, phase: Phase, expires_at: Timestamp, purge_at: Timestamp) -> Self {
        Self { phase, expires_at, purge_at, rev: self.rev.wrapping_add(1), ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
