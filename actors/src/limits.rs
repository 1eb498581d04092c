//! How often something may be done, each of them a value that is told the time: rates, quotas, and when to leave alone
//! what does not answer; and the record by which instances count together.

pub mod allowance;
pub mod backoff;
pub mod breaker;
pub mod fair_queue;
pub mod quota;
pub mod shared_quota;
pub mod token_bucket;
