//! A ledger in memory.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::Kept;
use crate::base::ledger::Ledger;
use crate::base::store::StoreError;

/// The ledger; clones hold the same numbers.
#[derive(Clone, Debug, Default)]
pub struct Model(Arc<Kept<State>>);

#[derive(Debug, Default)]
struct State {
    numbers: HashMap<String, i64>,
    quotas: HashMap<String, (u64, u32)>,
}

impl Model {
    /// From now on it answers with nothing but errors, or not any more.
    pub fn set_away(&self, is_away: bool) {
        self.0.set_away(is_away);
    }
}

#[async_trait]
impl Ledger for Model {
    async fn read(&self, name: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.0.lock()?.numbers.get(name).copied())
    }

    async fn write(&self, name: &str, number: i64) -> Result<(), StoreError> {
        self.0.lock()?.numbers.insert(name.to_owned(), number);
        Ok(())
    }

    async fn take(&self, api: &str, hour: u64, calls: u32, most: u32) -> Result<(u32, u32), StoreError> {
        let mut state = self.0.lock()?;
        let quota = state.quotas.entry(api.to_owned()).or_default();
        if quota.0 != hour {
            *quota = (hour, 0);
        }
        let granted = calls.min(most.saturating_sub(quota.1));
        quota.1 += granted;
        Ok((granted, quota.1))
    }
}
