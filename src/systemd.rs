//! What systemd hands over and is told: listening sockets, readiness, signs of life. Without it nothing happens here.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::http::Shared;

/// Sockets that systemd listens on (`LISTEN_FDS`): who comes while the server restarts waits there.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The first, in place of `LISTEN`.
    pub listen: Option<TcpListener>,
    /// The second, in place of `ADMIN_LISTEN`.
    pub admin: Option<TcpListener>,
    /// The third, in place of `REDIRECT_LISTEN`.
    pub redirect: Option<TcpListener>,
}

impl Sockets {
    /// Takes what was handed over. To be called before threads are started: the environment forgets it.
    pub fn take() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut take = |n| passed.take_tcp_listener(n);
        Ok(Self { listen: take(0)?, admin: take(1)?, redirect: take(2)? })
    }
}

/// The server is ready.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The server stops, which takes so long at most.
pub fn stopping(within: Duration) {
    let extend = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing what is under way"),
        NotifyState::ExtendTimeoutUsec(extend),
    ]);
}

/// Tells that the actors answer, as often as systemd wants to hear it (`WatchdogSec=`). A store or Enedis that does not
/// answer is no reason to be killed.
pub async fn signs_of_life(shared: Arc<Shared>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut tick = tokio::time::interval(patience / 3);
    loop {
        tick.tick().await;
        let system = &shared.system;
        let alive = system.registry.snapshot().await.is_ok()
            && system.writer.snapshot().await.is_ok()
            && system.exchanger.snapshot().await.is_ok();
        if alive {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
