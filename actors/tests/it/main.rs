//! Each actor alone, through its handle, in a [`universe`] of its own: virtual time, fake ports, and nothing may be left
//! running at the end.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect shall fail on the spot")]

mod actix_facts;
mod audit;
mod computed_days;
mod consent;
mod exchanger;
mod fake_enedis;
mod fake_store;
mod installation;
mod interleavings;
mod issuer;
mod registry;
mod registry_bounds;
mod relay;
mod system;
mod throttler;
mod tokens;
mod universe;
mod writer;
