//! An OAuth 2.0 device flow (RFC 8628) in front of Enedis Data Connect.

pub mod pages;
pub mod store;
