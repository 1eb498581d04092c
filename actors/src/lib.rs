//! Domain, ports and actors of device-flow-proxy.
//!
//! ```text
//!                         HTTP worker threads                              main thread        own thread
//!   ┌────────────────────────────────────────────────────────────┐   ┌─────────────────┐  ┌────────────────┐
//!   │ handler ──Poll──▶ CodeRegistry ──PacePoll──▶ PollThrottler │   │   StoreWriter   │  │ TokenExchanger │
//!   │    ▲               (one shard)                    │        │   │  groups writes  │  │ queue, quota,  │
//!   │    └───────────────── reply ◀─────────────────────┘        │   │                 │  │ retry, breaker │
//!   │ handler ──IssueCode, Confirm, …──▶ CodeRegistry ───────────┼──▶│ CommitWrite     │  │                │
//!   │ ConsentDesk ── BeginExchange ▶ CodeRegistry                │   │   │             │  │                │
//!   │             ── CallEnedis ─────────────────────────────────┼───┼───┼─────────────┼─▶│ CallEnedis     │
//!   │             ── FinishExchange ▶ CodeRegistry               │   │   ▼             │  │   │            │
//!   └────────────────────────────────────────────────────────────┘   │ SessionStore    │  │ TokenEndpoint  │
//!                                                                    └─────────────────┘  └────────────────┘
//! ```
//!
//! | message | sent by | answer | durable before the answer |
//! |---|---|---|---|
//! | [`registry::IssueCode`] | `POST /device/code` | user code | the session |
//! | [`registry::Poll`] | `POST /device/token` | [`poll::PollAnswer`] | a first delivery; a pending poll touches no store |
//! | [`poll::PacePoll`] | a shard | `authorization_pending` or `slow_down` | nothing |
//! | [`registry::FindCode`] | `GET /device` | what is being linked | nothing |
//! | [`registry::Confirm`] | `GET /auth/verify_code` | a `state` | the browser's claim on the code |
//! | [`registry::BeginExchange`] | [`consent::ConsentDesk`] | the right to present the code once | that it was presented |
//! | [`registry::FinishExchange`] | [`consent::ConsentDesk`] | recorded or not | the token, or the failure |
//! | [`registry::DenyConsent`] | `GET /auth/redirect` | recorded or not | the refusal |
//!
//! # Guarantees
//!
//! - **Order**: work on one session is done one piece at a time, in the order it reached the shard.
//! - **Durability**: what an answer says survives `kill -9` of this process and of the store.
//! - **Cancellation**: a caller that hangs up leaves a change either not begun or finished, never half.
//! - **Bounds**: every queue and map has a limit; what is refused was not begun ([`gate::AskError::Overloaded`]).
//! - **One delivery**: an approved token is claimed by one conditional write; the same body is repeated to the
//!   same device within the redelivery window, and to nobody after it.
//!
//! Read on with [`session`] (the life of one flow), then [`registry`]. This crate knows no HTTP, no database and
//! no environment: those are ports ([`store`], [`upstream`], [`clock`]) that the root crate fills.

pub mod bucket;
pub mod clock;
pub mod code;
pub mod consent;
pub mod exchanger;
pub mod gate;
mod hashing;
pub mod keys;
pub mod meter;
pub mod poll;
pub mod registry;
pub mod session;
pub mod store;
pub mod system;
#[cfg(feature = "testing")]
pub mod testing;
pub mod throttler;
pub mod tokens;
pub mod upstream;
pub mod writer;
