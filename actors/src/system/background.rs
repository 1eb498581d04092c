//! What runs beside the actors, until the system is dropped.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::launcher::ShardLauncher;
use crate::device_flow::poll_interval::{LOOK_EVERY, Load, PollInterval};
use crate::device_flow::registry::CodeRegistryHandle;
use crate::device_flow::store::{Cursor, SessionStore};
use crate::metering::tokens::service::TokenService;

/// How often instances tell each other what they did.
const FOLLOW_EVERY: Duration = Duration::from_millis(400);

/// How often tokens that have expired are deleted.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// Steps of one round of deletions, each of some hundred tokens.
const PURGE_STEPS: usize = 100;

/// Brings what others did to the shards, once they are there: the decisions of other instances and of an operator's command,
/// and the polls that other instances answered.
pub(super) async fn follow(
    launcher: Arc<ShardLauncher>,
    store: Arc<dyn SessionStore>,
    registry: CodeRegistryHandle,
    mut cursor: Cursor,
) {
    launcher.ready().await;
    let mut tick = every(FOLLOW_EVERY);
    let mut failing = false;
    loop {
        tick.tick().await;
        let polls = async {
            if store.is_shared() {
                // Pacing may be lost; whether the store answers is told by the question for decisions.
                let polled = store.share_polls(registry.take_polls().await).await;
                registry.note_polls(polled.unwrap_or_default());
            }
        };
        let ((), changed) = join(polls, store.changes(Some(cursor))).await;
        match changed {
            Ok((changed, next)) => {
                failing = false;
                cursor = next;
                for session in changed {
                    registry.learn(session);
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "what others decided cannot be read");
            }
            Err(_) => {}
        }
    }
}

/// Keeps the interval that devices are told to the load of the threads that serve.
pub(super) async fn follow_load(launcher: Arc<ShardLauncher>, interval: Arc<PollInterval>) {
    let mut tick = every(LOOK_EVERY);
    let (mut load, mut before, mut since) = (Load::default(), launcher.busy(), Instant::now());
    loop {
        tick.tick().await;
        let (busy, now) = (launcher.busy(), Instant::now());
        let passed = now.saturating_duration_since(since).max(Duration::from_millis(1));
        let parts = busy
            .iter()
            .zip(&before)
            .map(|(now, before)| now.saturating_sub(*before).div_duration_f64(passed));
        load = load.look(parts.fold(0.0, f64::max));
        interval.follow(load);
        (before, since) = (busy, now);
    }
}

/// Deletes tokens that have expired.
pub(super) async fn purge(tokens: Arc<TokenService>) {
    let mut tick = every(PURGE_EVERY);
    loop {
        tick.tick().await;
        for _ in 0..PURGE_STEPS {
            match tokens.purge().await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "expired tokens could not be deleted; trying again later");
                    break;
                }
            }
        }
    }
}

/// Ticks at once and then every `period`, later if a round takes longer.
fn every(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
