//! Whether the store takes writes, as readiness tells it: asked seldom, and once for all who want to know.

use std::time::Duration;

use actors::device_flow::store::SessionStore;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long an answer of the store is passed on: it costs a write.
const FRESH: Duration = Duration::from_secs(2);
/// Longest wait for the store, below the patience of whoever asks.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the store said last.
#[derive(Debug, Default)]
pub struct StoreProbe(Mutex<Option<(Instant, bool)>>);

impl StoreProbe {
    /// Whether `store` takes writes. Whoever asks meanwhile waits for the same answer.
    pub async fn takes_writes(&self, store: &impl SessionStore) -> bool {
        let mut last = self.0.lock().await;
        if let Some((_, said)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return said;
        }
        let answer = timeout(PATIENCE, store.ping()).await;
        let trouble = match &answer {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let was_well = last.is_none_or(|(_, said)| said);
        match &trouble {
            Some(error) if was_well => tracing::warn!(error, "not ready: the store takes no writes"),
            None if !was_well => tracing::info!("ready again: the store takes writes"),
            _ => {}
        }
        *last = Some((Instant::now(), trouble.is_none()));
        trouble.is_none()
    }
}
