//! Owns what the kernel tells of a run: CPU time and memory.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::process;

/// CPU time taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// By the server.
    pub server: Duration,
    /// By this process: devices, people and the simulated Enedis.
    pub own: Duration,
    /// By all there is.
    pub machine: Duration,
}

impl Cpu {
    /// What was taken so far; the server's process is `pid`.
    pub fn now(pid: u32) -> io::Result<Self> {
        let own = process::cpu(std::process::id())?;
        Ok(Self { server: process::cpu(pid)?, own, machine: process::cpu_of_machine()? })
    }

    /// What was taken after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            own: self.own.saturating_sub(before.own),
            machine: self.machine.saturating_sub(before.machine),
        }
    }

    /// Cores that the server, this process and everything else kept busy in a time of this length.
    pub fn cores(self, length: Duration) -> [f64; 3] {
        let other = self.machine.saturating_sub(self.server + self.own);
        [self.server, self.own, other].map(|cpu| cpu.as_secs_f64() / length.as_secs_f64().max(1e-9))
    }
}

/// What is taken for `length` from `start` on, and the server's resident memory then, in bytes. What comes after the last
/// poll, such as the tail of consents, is not counted.
pub(super) async fn watch(pid: u32, start: Instant, length: Duration) -> io::Result<(Cpu, u64)> {
    sleep_until(start).await;
    let before = Cpu::now(pid)?;
    sleep_until(start + length).await;
    Ok((Cpu::now(pid)?.since(before), process::resident(pid)?))
}
