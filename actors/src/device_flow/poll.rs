//! What passes between the registry and the throttler: the registry finds the session of a poll, the throttler
//! paces it if it is still pending, and whichever holds the reply answers the HTTP handler.

use actix::prelude::*;
use serde::Serialize;

use crate::base::admission::Reply;
use crate::base::clock::Timestamp;
use crate::base::keyring::DeviceHash;
use crate::device_flow::store::Polled;

/// How a client authenticated a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStyle {
    /// `Authorization: Basic` (RFC 6749 section 2.3.1).
    Basic,
    /// `client_id` in the body.
    Body,
}

/// The answer to a poll at the token endpoint (RFC 8628 section 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollAnswer {
    /// `authorization_pending`.
    Pending {
        /// Seconds to leave before the next poll.
        interval_secs: u32,
    },
    /// `slow_down`.
    SlowDown {
        /// Seconds to leave before the next poll.
        interval_secs: u32,
    },
    /// The token answer's JSON body. Durable: the session is redeemed.
    Token(String),
    /// `access_denied`.
    Denied,
    /// `expired_token`.
    Expired,
    /// `invalid_grant`: unknown, redeemed, or issued to another client.
    Invalid,
    /// `invalid_client`: a secret that is not the one the device brought to `/device/code`.
    BadSecret,
    /// The store did not answer: come back.
    Unavailable,
}

/// Judge a poll that found its session pending, and answer the device. Sent by the registry's shard to the
/// throttler beside it; nothing becomes durable.
pub struct PacePoll {
    /// The session.
    pub device: DeviceHash,
    /// How the client authenticated.
    pub style: AuthStyle,
    /// When the registry found it pending.
    pub at: Timestamp,
    /// The HTTP handler that waits.
    pub reply: Reply<PollAnswer>,
}

impl Message for PacePoll {
    type Result = ();
}

/// Counters of one throttler since its start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ThrottlerSnapshot {
    /// Sessions whose pacing is remembered.
    pub paced: usize,
    /// Polls that were on time.
    pub on_time: u64,
    /// Polls answered with `slow_down`.
    pub early: u64,
}

/// Read the counters. Sent by the registry's handle for the metrics; answered at once.
pub struct ObserveThrottler {
    /// Whoever asks.
    pub reply: Reply<ThrottlerSnapshot>,
}

impl Message for ObserveThrottler {
    type Result = ();
}

/// The throttler beside a shard, as the registry's handle reaches it.
#[derive(Clone)]
pub struct Pacer {
    /// For its counters.
    pub observe: Recipient<ObserveThrottler>,
    /// For the polls other instances are told of.
    pub take: Recipient<TakePolls>,
    /// For the polls other instances told of.
    pub note: Recipient<NotePolls>,
}

/// Hand over the polls that were on time since the last time. Sent by the registry's handle where several instances
/// share a store; answered at once.
pub struct TakePolls {
    /// Whoever tells the other instances.
    pub reply: Reply<Vec<Polled>>,
}

impl Message for TakePolls {
    type Result = ();
}

/// Pace these sessions as if they had been polled here. Sent by the registry's handle; nothing becomes durable.
pub struct NotePolls {
    /// Polls that were on time at other instances.
    pub polled: Vec<Polled>,
}

impl Message for NotePolls {
    type Result = ();
}
