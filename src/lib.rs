//! An OAuth 2.0 device flow (RFC 8628) in front of Enedis Data Connect.
//!
//! # One device's journey
//!
//! 1. The box asks `POST /device/code` (`http/device.rs`). A shard of the `CodeRegistry` draws a user code and makes
//!    the session durable before the box hears of it.
//! 2. The owner opens `GET /device`, sees what is being linked, and confirms: `GET /auth/verify_code`
//!    (`http/verify.rs`) binds the browser by a cookie and sends it to Enedis with a fresh `state`.
//! 3. Enedis sends the browser to `GET /auth/redirect` (`http/callback.rs`). The consent desk marks the code as
//!    presented, lets the `TokenExchanger` exchange it ([`enedis`]), and records the sealed token.
//! 4. The box, which has been polling `POST /device/token` (`http/token.rs`), claims the token: one conditional write,
//!    then the answer. Until then its polls are paced by the `PollThrottler` and touch no store.
//! 5. Later it refreshes through `POST /device/proxy` (`http/proxy.rs`), which adds the secret it must not know.
//!
//! # Map
//!
//! | module | owns |
//! |---|---|
//! | [`app`] | composition: what is made of what, start and drain |
//! | [`config`] | settings, their bounds, all faults at once |
//! | [`http`] | routes, parsing, cookies, and the one table of errors |
//! | [`pages`] | what people see, French and English |
//! | [`store`] | SQLite and MongoDB behind `actors::store::SessionStore` |
//! | [`enedis`] | the client of Enedis' token endpoint |
//! | [`metrics`], [`telemetry`] | what operators see |
//! | [`commands`] | what an operator does to our own tokens: take over, list, revoke |
//! | [`secret`], [`shutdown`], [`healthcheck`] | the key file, signals and panics, the probe |
//!
//! The domain and the actors are the crate `actors`, which knows none of these: read its front page next.

pub mod app;
pub mod commands;
pub mod config;
pub mod enedis;
pub mod healthcheck;
pub mod http;
pub mod metrics;
pub mod pages;
pub mod secret;
pub mod shutdown;
pub mod store;
pub mod telemetry;
