//! The count of calls that instances share: who asks the record for leases, and how many instances run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::quota::{Lease, Wish};
use crate::base::ledger::Ledger;

/// The record, and the number of instances. Cheap to clone.
#[derive(Clone)]
pub struct SharedQuota {
    ledger: Arc<dyn Ledger>,
    instances: Arc<AtomicU32>,
}

impl SharedQuota {
    /// The record in `ledger`, of one instance.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger, instances: Arc::new(AtomicU32::new(1)) }
    }

    /// How many instances run, this one included.
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    /// So many run, as far as is known.
    pub fn set_instances(&self, instances: u32) {
        self.instances.store(instances, Ordering::Relaxed);
    }

    /// Takes one of the turns that instances have under a name; whether it is ours. `None`: the store is away.
    pub async fn take_turn(&self, name: &'static str, turn: u64) -> Option<bool> {
        let taken = self.ledger.take(name, turn, 1, 1).await;
        taken
            .inspect_err(|error| tracing::warn!(%error, name, "no turn can be taken"))
            .ok()
            .map(|(granted, _)| granted > 0)
    }

    /// What comes of a wish for calls of `api`; `None`: the store is away.
    pub async fn lease(&self, api: &'static str, Wish { hour, calls, most }: Wish) -> Option<Lease> {
        match self.ledger.take(api, hour, calls, most).await {
            Ok((granted, used)) => Some(Lease { granted, used }),
            Err(error) => {
                tracing::warn!(%error, api, "calls cannot be counted with other instances; a share is used");
                None
            }
        }
    }
}
