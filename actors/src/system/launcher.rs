//! Starts the registry's shards on the threads that serve HTTP: a poll then wakes no other thread, which is most of what
//! it would cost (measured, `docs/architecture.md`).

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use actix::Actor;
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::watch;

use super::Entropy;
use crate::device_flow::poll_interval::PollInterval;
use crate::device_flow::registry::{CodeRegistry, CodeRegistryHandle, ShardPorts, Table};
use crate::device_flow::throttler::PollThrottler;

/// Starts the shards, a share of them on each thread that asks.
pub struct ShardLauncher {
    registry: CodeRegistryHandle,
    ports: ShardPorts,
    interval: Arc<PollInterval>,
    entropy: Entropy,
    workers: usize,
    begun: Mutex<Begun>,
    ready: watch::Sender<bool>,
}

/// What the threads that asked have left.
struct Begun {
    /// Threads that have their share, by their number, and how busy they are.
    threads: Vec<(ThreadId, RuntimeMetrics)>,
    /// The stored sessions, for each shard that was not started yet.
    stored: Vec<Table>,
}

/// Which sessions live on one thread: those of every shard whose number leaves the thread's number when it is divided by
/// the number of threads. A device whose code is drawn so that it lives where its connection is served has its polls
/// answered without another thread being woken.
#[derive(Clone, Copy, Debug)]
pub struct ThreadShare {
    thread: usize,
    workers: usize,
    shards: usize,
}

impl ThreadShare {
    /// Whether the sessions of `slot` are among them.
    pub fn has(self, slot: usize) -> bool {
        slot % self.shards % self.workers == self.thread
    }

    /// Whether no session lives here, as where there are fewer shards than threads.
    pub fn is_empty(self) -> bool {
        self.thread >= self.workers.min(self.shards)
    }
}

impl ShardLauncher {
    /// For `workers` threads; `stored` holds what each shard begins with.
    pub(super) fn new(
        registry: CodeRegistryHandle,
        ports: ShardPorts,
        interval: Arc<PollInterval>,
        entropy: Entropy,
        workers: usize,
        stored: Vec<Table>,
    ) -> Arc<Self> {
        let begun = Mutex::new(Begun { threads: Vec::new(), stored });
        let (workers, ready) = (workers.max(1), watch::Sender::new(false));
        Arc::new(Self { registry, ports, interval, entropy, workers, begun, ready })
    }

    /// Starts this thread's share of the shards, each with its throttler beside it, and says which sessions that are. A
    /// thread that asks again, as the HTTP server does for each of its sockets, hears the same. Needs a local task set.
    pub fn start_here(&self) -> ThreadShare {
        let (workers, shards) = (self.workers, self.registry.shards());
        let here = thread::current().id();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = begun.threads.iter().position(|(thread, _)| *thread == here) {
            return ThreadShare { thread, workers, shards };
        }
        let share = ThreadShare { thread: begun.threads.len(), workers, shards };
        begun.threads.push((here, Handle::current().metrics()));
        if !share.is_empty() {
            for shard in (share.thread..shards).step_by(workers) {
                let table = begun.stored.get_mut(shard).map(std::mem::take).unwrap_or_default();
                self.start_shard(shard, table);
            }
        }
        if self.registry.is_complete() {
            self.ready.send_replace(true);
        }
        share
    }

    fn start_shard(&self, shard: usize, table: Table) {
        let Self { registry, ports, interval, entropy, .. } = self;
        let throttler =
            PollThrottler::new(Arc::clone(&ports.clock), Arc::clone(interval), ports.store.is_shared())
                .start();
        let actor = CodeRegistry::new(ports.clone(), throttler.clone(), entropy(), table).start();
        registry.attach(shard, actor, throttler);
    }

    /// How long each thread that has its share was at work since its start.
    pub(super) fn busy(&self) -> Vec<Duration> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.threads.iter().map(|(_, metrics)| metrics.worker_total_busy_duration(0)).collect()
    }

    /// Waits until every shard was started.
    pub async fn ready(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}
