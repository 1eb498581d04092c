//! Each actor alone, through its handle, in a [`universe`] of its own: virtual time, fake ports, and nothing may be left
//! running at the end.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect shall fail on the spot")]

mod actix_facts;
mod consent;
mod exchanger;
mod fake_store;
mod registry;
mod system;
mod throttler;
mod universe;
mod writer;
