//! The words of a poll at the token endpoint (RFC 8628 sections 3.4 and 3.5), which the registry and the throttler share:
//! the registry finds the session, the throttler paces it if it is still pending, and whichever holds the reply answers.

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
