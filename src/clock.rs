//! Keeps an eye on the machine's clock: what it makes of a jump is in [`actors::base::clock::machine`].

use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::machine::{ClockSnapshot, MachineClock};
use actors::base::ledger::{Ledger, read_seen, write_seen};
use actors::base::store::StoreError;
use actors::device_flow::store::SessionStore;
use tokio::time::{MissedTickBehavior, interval};

/// How often the clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What was seen is noted for the next process once in so many looks, and after a jump.
const TELL_EVERY: u32 = 6;
/// The wall clock and the store's may be so far apart before somebody is told, in milliseconds.
const SKEW_MAX_MS: u64 = 5_000;
const JUMPED: &str = "the machine's clock has jumped; until it has kept pace for two days, nothing that it calls ended is \
    deleted, and boxes whose tokens it calls ended are told to come back";

/// Begins where the process before left off. Pending sessions keep the life they had left then.
pub async fn begin(
    clock: &MachineClock,
    ledger: &dyn Ledger,
    sessions: &dyn SessionStore,
) -> Result<(), StoreError> {
    let start = clock.begin(read_seen(ledger).await?, ledger.time().await?);
    if let Some(by_ms) = start.jumped_ms {
        tracing::warn!(by_ms, "{JUMPED}");
    }
    if let Some(by_ms) = start.move_sessions_ms {
        sessions.move_times(by_ms).await?;
    }
    write_seen(ledger, clock.last_seen()).await
}

/// Compares the clocks for as long as the process lives.
pub async fn watch(clock: Arc<MachineClock>, ledger: Arc<dyn Ledger>) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_off = false;
    for look in 1_u32.. {
        tick.tick().await;
        // Whether the store answers is told by those who need it.
        let jumped = clock.look(ledger.time().await.unwrap_or_default());
        if let Some(by_ms) = jumped {
            tracing::warn!(by_ms, "{JUMPED}");
        }
        let ClockSnapshot { skew_ms, .. } = clock.snapshot();
        let was_off =
            std::mem::replace(&mut is_off, skew_ms.is_some_and(|ms| ms.unsigned_abs() > SKEW_MAX_MS));
        if is_off && !was_off {
            tracing::warn!(ahead_ms = skew_ms, "the machine's clock is not MongoDB's; set both by NTP");
        }
        if (look.is_multiple_of(TELL_EVERY) || jumped.is_some())
            && let Err(error) = write_seen(ledger.as_ref(), clock.last_seen()).await
        {
            tracing::warn!(%error, "the time could not be noted in the store");
        }
    }
}
