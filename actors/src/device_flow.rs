//! The device flow (RFC 8628): a device's session from its code to its token.
//!
//! [`session`] is what can happen to one, as a pure state machine; [`registry`] owns all that are pending and writes them
//! through to the [`store`]; [`throttler`] keeps devices to their interval, which
//! [`poll_interval`] makes longer under load; [`consent`] takes what a browser brings back
//! from Enedis to a decision; [`reseal`] brings stored sessions under another key. Nothing here knows of metering data.

pub mod consent;
pub mod poll;
pub mod poll_interval;
pub mod registry;
pub mod reseal;
pub mod session;
pub mod store;
pub mod throttler;
pub mod writer;
