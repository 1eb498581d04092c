//! What every store answers, whatever it keeps: how a write ended, how a question failed, and times as it keeps them.
//!
//! *Durable* means: acknowledged to us and surviving `kill -9` of this process and of the database.

use crate::base::clock::Timestamp;

/// How a write ended, once the store has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Durable.
    Applied,
    /// Not applied: the code is taken, or the stored session is at another revision (or gone).
    Conflict,
}

/// A store's failure, by what the caller must do next.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Certainly nothing was written: memory stays as it is, the caller may try again.
    #[error("store refused: {0}")]
    Aborted(String),
    /// The write may or may not have happened: forget what memory says and read the session again.
    #[error("store outcome unknown: {0}")]
    Unknown(String),
}

impl From<Damaged> for StoreError {
    fn from(damaged: Damaged) -> Self {
        Self::Aborted(damaged.to_string())
    }
}

/// A stored record that no version of this program wrote; names the part that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored record is damaged: {0}")]
pub struct Damaged(pub &'static str);

/// Milliseconds as stores keep them.
pub fn millis(t: Timestamp) -> i64 {
    i64::try_from(t.as_millis()).unwrap_or(i64::MAX)
}

/// The time that [`millis`] made a number of.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(ms).unwrap_or(0))
}
