//! The ground that both wings stand on: time, codes and secrets, keys, meters' numbers, what a store can answer, and
//! the admission to an actor. Nothing here knows of a session, a grant or Enedis.

pub mod admission;
pub mod clock;
pub mod code;
pub mod grant_issuer;
pub(crate) mod identity_hash;
pub mod keyring;
pub mod meter;
pub mod network;
pub mod store;
pub mod timer;
pub mod token_set;
