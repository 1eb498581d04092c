//! Domain, ports and actors of device-flow-proxy.
//!
//! ```text
//!                         HTTP worker threads                              main thread       Enedis' thread
//!   ┌────────────────────────────────────────────────────────────┐   ┌─────────────────┐  ┌─────────────────────┐
//!   │ handler ──Poll──▶ CodeRegistry ──PacePoll──▶ PollThrottler │   │   StoreWriter   │  │   TokenExchanger    │
//!   │    ▲               (one shard)                    │        │   │  groups writes  │  │   queue, quota,     │
//!   │    └───────────────── reply ◀─────────────────────┘        │   │                 │  │   retry, breaker    │
//!   │ handler ──IssueCode, Confirm, …──▶ CodeRegistry ───────────┼──▶│ CommitWrite     │  │                     │
//!   │ ConsentDesk ── BeginExchange ▶ CodeRegistry                │   │   │             │  │ CallEnedis          │
//!   │             ── CallEnedis ─────────────────────────────────┼───┼───┼─────────────┼─▶│ AcquireToken ◀─┐    │
//!   │             ── FinishExchange ▶ CodeRegistry               │   │   ▼             │  │   │            │    │
//!   │ handler ──▶ TokenDesk ──▶ TokenStore                       │   │ SessionStore    │  │   ▼            │    │
//!   │ handler ──ReadMeter ───────────────────────────────────────┼───┼─────────────────┼─▶│ AuthorizationServer │
//!   └────────────────────────────────────────────────────────────┘   └─────────────────┘  │                │    │
//!                                                                                         │ MeterRelay ────┘    │
//!                                              fair queue, quota, breaker, cache ────────▶│   │                 │
//!                                                                                         │   ▼                 │
//!                                                                                         │ ResourceServer      │
//!                                                                                         └─────────────────────┘
//! ```
//!
//! | message | sent by | answer | durable before the answer |
//! |---|---|---|---|
//! | [`registry::IssueCode`] | `POST /device/code` | user code | the session |
//! | [`registry::Poll`] | `POST /device/token` | [`poll::PollAnswer`] | a first delivery; a pending poll touches no store |
//! | [`poll::PacePoll`] | a shard | `authorization_pending` or `slow_down` | nothing |
//! | [`registry::FindCode`] | `GET /device` | what is being linked | nothing |
//! | [`registry::Confirm`] | `GET /auth/verify_code` | a `state` | the browser's claim on the code |
//! | [`registry::BeginExchange`] | [`consent::ConsentDesk`] | the right to act on what Enedis returned | that it was presented |
//! | [`registry::FinishExchange`] | [`consent::ConsentDesk`] | recorded or not | the token, or the failure |
//! | [`registry::DenyConsent`] | `GET /auth/redirect` | recorded or not | the refusal |
//! | [`exchanger::TokenExchangerHandle::call`] | [`consent::ConsentDesk`], `POST /device/proxy` | [`exchanger::Exchanged`] | nothing |
//! | [`exchanger::TokenExchangerHandle::acquire`] | [`relay::MeterRelay`], [`consent::ConsentDesk`] | the application's token | nothing |
//! | [`relay::MeterRelayHandle::read`] | `GET /data/proxy/…` | [`relay::Relayed`] | nothing: a lost value is asked for again |
//! | [`relay::MeterRelayHandle::forget`] | [`consent::ConsentDesk`] | done | that it is forgotten |
//!
//! With `FLOW=CLIENT_CREDENTIALS` a device holds tokens of our own: [`tokens::desk::TokenDesk`] gives, renews and
//! checks them against the store, where they are durable before any box hears of them. It is no actor: it remembers
//! nothing, so that a revocation counts at once.
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
//! Read on with [`session`] (the life of one flow), then [`registry`]; for metering data with [`meter`] (the pure core),
//! then [`relay`]. This crate knows no HTTP, no database and no environment: those are ports ([`store`], [`tokens`],
//! [`meter::cache`], [`upstream`], [`clock`]) that the root crate fills.

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
pub mod relay;
pub mod session;
pub mod store;
pub mod system;
#[cfg(feature = "testing")]
pub mod testing;
pub mod throttler;
mod tick;
pub mod tokens;
pub mod upstream;
pub mod writer;
