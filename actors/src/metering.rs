//! `FLOW=CLIENT_CREDENTIALS`: tokens of our own ([`tokens`]) for meters whose owners consented ([`consent`]), and their
//! data for whoever holds one ([`relay`]): what a box may ask, what the supplier's answers mean for it, and who is served
//! when the quota is short.
//!
//! ```text
//!   box ─▶ request ─▶ cache (days known?) ─▶ split (calls for the rest) ─▶ queue ─▶ api_choice ─▶ resource_server
//!    ▲                                                                                                  │
//!    └── answer ◀─ split::merge ◀─ cache (days to keep) ◀─ day ◀─ values, or what is said instead ◀─────┘
//! ```
//!
//! Contracts take a way of their own ([`contracts`]): they have no days.
//!
//! Only `relay.rs` (the actor), [`consent`], [`contracts`] and [`tokens::service`] wait; everything else takes `now` or dates and returns
//! values, the relay's decisions included (`relay/core.rs`). The unit of memory is one [`day::Day`] of one resource of one
//! meter; the unit of cost is one call under the quota. How the supplier is asked is behind the port
//! [`resource_server`]; the box is answered in the shape of Enedis' v5 whatever the supplier speaks ([`answer`]).
//!
//! # Promises
//!
//! - A request that is not one of the whitelisted ones never becomes a call ([`request`]).
//! - The box sees 403 only where its owner must consent again and that can be believed ([`refusals`]);
//!   trouble at the gateway is 429 or 503, never 400, 403, 404 or 500: the plugin draws lasting conclusions
//!   from each of those.
//! - Days of one meter are never mixed with another's: an answer about another meter is trouble at Enedis.
//! - Every queue and map has a bound.

pub mod answer;
pub mod api_choice;
pub mod cache;
pub mod civil;
pub mod consent;
pub mod contracts;
pub mod day;
pub mod policy;
pub mod queue;
pub mod refusals;
pub mod relay;
pub mod request;
pub mod resource_server;
pub mod split;
pub mod tokens;
