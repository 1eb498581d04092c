//! Domain, ports and actors of device-flow-proxy.
//!
//! ```text
//!                         HTTP worker threads                              main thread       Enedis' thread
//!   ┌────────────────────────────────────────────────────────────┐   ┌─────────────────┐  ┌─────────────────────┐
//!   │ handler ──Poll──▶ CodeRegistry ──PacePoll──▶ PollThrottler │   │   StoreWriter   │  │   TokenExchanger    │
//!   │    ▲               (one shard)                    │        │   │  groups writes  │  │   queue, quota,     │
//!   │    └───────────────── reply ◀─────────────────────┘        │   │                 │  │   retry, breaker    │
//!   │ handler ──IssueCode, Confirm, …──▶ CodeRegistry ───────────┼──▶│ CommitWrite     │  │                     │
//!   │ ConsentWorkflow ── BeginExchange ▶ CodeRegistry            │   │   │             │  │ CallEnedis          │
//!   │                 ── CallEnedis ─────────────────────────────┼───┼───┼─────────────┼─▶│ AcquireToken ◀─┐    │
//!   │                 ── FinishExchange ▶ CodeRegistry           │   │   ▼             │  │   │            │    │
//!   │ handler ──▶ TokenService ──▶ TokenStore                    │   │ SessionStore    │  │   ▼            │    │
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
//! | `IssueCode` | `POST /device/code` | user code | the session |
//! | `Poll` | `POST /device/token` | [`device_flow::poll::PollAnswer`] | a first delivery; a pending poll touches no store |
//! | [`device_flow::throttler::PacePoll`] | a shard | `authorization_pending` or `slow_down` | nothing |
//! | `FindCode` | `GET /device` | what is being linked | nothing |
//! | `Confirm` | `GET /auth/verify_code` | a `state` | the browser's claim on the code |
//! | `BeginExchange` | [`device_flow::consent::ConsentWorkflow`] | the right to act on what Enedis returned | that it was presented |
//! | `FinishExchange` | [`device_flow::consent::ConsentWorkflow`] | recorded or not | the token, or the failure |
//! | `Deny` | `GET /auth/redirect`, `GET /auth/verify_code` | recorded or not | the refusal |
//! | `CheckReturn` | `GET /auth/redirect` | whether it is awaited | nothing |
//! | [`enedis::exchanger::TokenExchangerHandle::token`], `refresh`, `meters` | [`device_flow::consent::ConsentWorkflow`], [`metering::consent::MeterGrantIssuer`], `POST /device/proxy` | [`enedis::exchanger::Exchanged`] | nothing |
//! | [`base::grant_issuer::GrantIssuer::issue`] | [`device_flow::consent::ConsentWorkflow`] | tokens of our own | the grant |
//! | [`enedis::exchanger::TokenExchangerHandle::acquire`] | [`metering::relay::MeterRelay`], [`metering::consent::MeterGrantIssuer`] | the application's token | nothing |
//! | [`metering::relay::MeterRelayHandle::read`] | `GET /data/proxy/…` | [`metering::relay::Relayed`] | nothing: a lost value is asked for again |
//! | [`metering::relay::MeterRelayHandle::forget`] | [`metering::consent::MeterGrantIssuer`], `POST /device/revoke` | done | that it is forgotten |
//!
//! With `FLOW=CLIENT_CREDENTIALS` a device holds tokens of our own: [`metering::tokens::service::TokenService`] gives, renews and
//! checks them against the store, where they are durable before any box hears of them. It is no actor: it remembers
//! nothing, so that a revocation counts at once.
//!
//! # Guarantees
//!
//! - **Order**: work on one session is done one piece at a time, in the order it reached the shard.
//! - **Durability**: what an answer says survives `kill -9` of this process and of the store.
//! - **Cancellation**: a caller that hangs up leaves a change either not begun or finished, never half.
//! - **Bounds**: every queue and map has a limit; what is refused was not begun ([`base::admission::AskError::Overloaded`]).
//! - **One delivery**: an approved token is claimed by one conditional write; the same body is repeated to the
//!   same device within the redelivery window, and to nobody after it.
//!
//! Read on with [`device_flow::session`] (the life of one flow), then [`device_flow::registry`]; for metering data with [`metering`] (the pure core),
//! then [`metering::relay`]. This crate knows no HTTP, no database and no environment: those are ports ([`device_flow::store`], [`metering::tokens`],
//! [`metering::cache`], [`enedis::port`], [`base::clock`]) that the root crate fills.

pub mod base;
pub mod device_flow;
pub mod enedis;
pub mod limits;
pub mod metering;
pub mod system;
#[cfg(feature = "testing")]
pub mod testing;
