//! The pure core of the relay of metering data: what a box may ask, what that means at Enedis, what Enedis'
//! answers mean for the box, and who is served when the quota is short.
//!
//! ```text
//!   box ─▶ request ─▶ cache (days known?) ─▶ split (calls for the rest) ─▶ queue ─▶ api_choice ─▶ resource_server
//!    ▲                                                                                                  │
//!    └── answer ◀─ split::merge ◀─ cache (days to keep) ◀─ day ◀─ values, or what is said instead ◀─────┘
//! ```
//!
//! Nothing here waits, reads a clock, or does I/O: everything takes `now` or dates and returns values. The unit of
//! memory is one [`day::Day`] of one resource of one meter; the unit of cost is one call under the quota.
//!
//! # Promises
//!
//! - A request that is not one of the five whitelisted ones never becomes a call ([`request`]).
//! - The box sees 403 only where its owner must consent again and that can be believed ([`resource_server`], [`refusals`]);
//!   trouble at the gateway is 429 or 503, never 400, 403, 404 or 500: the plugin draws lasting conclusions
//!   from each of those.
//! - Days of one meter are never mixed with another's: an answer about another meter is trouble at Enedis.
//! - Every queue and map has a bound.

pub mod answer;
pub mod api_choice;
pub mod cache;
pub mod civil;
pub mod consent;
pub mod day;
pub mod policy;
pub mod queue;
pub mod refusals;
pub mod relay;
pub mod request;
pub mod resource_server;
pub mod split;
pub mod tokens;
