//! An OAuth 2.0 device flow (RFC 8628) in front of Enedis Data Connect.
//!
//! # One device's journey
//!
//! 1. The box asks `POST /device/code` (`http/device.rs`). A shard of the `CodeRegistry` draws a user code and makes
//!    the session durable before the box hears of it.
//! 2. The owner opens `GET /device`, sees what is being linked, and confirms: `GET /auth/verify_code`
//!    (`http/verify.rs`) binds the browser by a cookie and sends it to Enedis with a fresh `state`.
//! 3. Enedis sends the browser to `GET /auth/redirect` (`http/callback.rs`). The consent workflow marks what it brought as
//!    presented, then: with `FLOW=DEVICE`, lets the `TokenExchanger` exchange the code ([`enedis`]); with
//!    `FLOW=CLIENT_CREDENTIALS`, learns the meters (named by the v1 page, asked of Enedis after the v2 page) and gives
//!    tokens of our own for them. Either is recorded, sealed.
//! 4. The box, which has been polling `POST /device/token` (`http/token.rs`), claims the token: one conditional write,
//!    then the answer. Until then its polls are paced by the `PollThrottler` and touch no store.
//! 5. Later it refreshes: Enedis' token through `POST /device/proxy` (`http/proxy.rs`), which adds the secret it must
//!    not know; ours at `POST /device/token`.
//! 6. With a token of ours it reads its meters at `GET /data/proxy/…` (`http/data.rs`). The `MeterRelay` answers from
//!    what it remembers, or asks Enedis' new or old API within the quota that all boxes share.
//!
//! # Map
//!
//! | module | owns |
//! |---|---|
//! | [`app`] | composition: what is made of what, start and drain |
//! | [`cli`] | the command line |
//! | [`clock`] | an eye on the machine's clock |
//! | [`config`] | settings, their bounds, all faults at once |
//! | [`http`] | routes, parsing, cookies, and the one table of errors |
//! | [`pages`] | what people see, French and English |
//! | [`store`] | SQLite and MongoDB behind the ports `SessionStore`, `TokenStore` and `MeterCache` |
//! | [`enedis`] | the clients of Enedis' authorization server and data APIs |
//! | `php` | what the PHP server leaves in its database |
//! | [`metrics`], [`telemetry`] | what operators see |
//! | [`commands`] | what an operator does to our own tokens: take over, list, revoke |
//! | [`secret`], [`tls`], [`descriptors`], [`shutdown`], [`systemd`], [`healthcheck`] | the key file, the certificate, the limit of open files, signals and panics, the service manager, the probe |
//!
//! The domain and the actors are the crate `actors`, which knows none of these: read its front page next.

pub mod app;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod enedis;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod healthcheck;
pub mod http;
pub mod metrics;
pub mod pages;
mod php;
pub mod secret;
pub mod shutdown;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod tls;
