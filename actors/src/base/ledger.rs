//! The port to a few numbers that outlive a process, and that all instances share where they share a store.

use async_trait::async_trait;

use crate::base::clock::Timestamp;
use crate::base::clock::machine::Seen;
use crate::base::store::{StoreError, millis, timestamp};

/// Durable storage of numbers, by their names.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// The number that was written under `name`.
    async fn read(&self, name: &str) -> Result<Option<i64>, StoreError>;

    /// Writes a number in place of the one before.
    async fn write(&self, name: &str, number: i64) -> Result<(), StoreError>;

    /// Takes up to `calls` of the `most` that all instances may make of one API in the clock hour `hour` (hours since the
    /// epoch): how many were taken, and how many all have taken by then. Durable before the answer.
    async fn take(&self, api: &str, hour: u64, calls: u32, most: u32) -> Result<(u32, u32), StoreError>;

    /// The time of the store's own clock; `None` if it has none.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}

const CLOCK: [&str; 3] = ["clock.wall", "clock.now", "clock.since"];

/// What the process before saw of its clock.
pub async fn read_seen(ledger: &dyn Ledger) -> Result<Option<Seen>, StoreError> {
    let [wall, now, since] = CLOCK.map(|name| ledger.read(name));
    let (wall, now, since) = futures_util::try_join!(wall, now, since)?;
    let seen =
        |wall, now, since| Seen { wall: timestamp(wall), now: timestamp(now), since: timestamp(since) };
    Ok(wall.zip(now).zip(since).map(|((wall, now), since)| seen(wall, now, since)))
}

/// Tells the next process what was seen.
pub async fn write_seen(ledger: &dyn Ledger, Seen { wall, now, since }: Seen) -> Result<(), StoreError> {
    for (name, at) in CLOCK.into_iter().zip([wall, now, since]) {
        ledger.write(name, millis(at)).await?;
    }
    Ok(())
}
