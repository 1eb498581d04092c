//! The ground that both wings stand on: time, codes and secrets, keys, meters' numbers, what a store can answer,
//! the admission to an actor, and the audit record. Nothing here knows of a session, a grant or Enedis.

pub mod admission;
pub mod aside;
pub mod audit;
pub mod clock;
pub mod code;
pub mod grant_issuer;
pub mod histogram;
pub(crate) mod identity_hash;
pub mod keyring;
pub mod ledger;
pub mod meter;
pub mod network;
pub mod provenance;
pub mod sealed;
pub mod store;
pub mod timer;
pub mod token_set;
