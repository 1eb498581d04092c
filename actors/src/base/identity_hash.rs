//! Hash-map hashing for keys that are keyed hashes already: eight of their bytes are as good as any hash, and a
//! stranger cannot choose them.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps keyed by the hash types of [`crate::base::keyring`].
pub type BuildIdentity = BuildHasherDefault<Identity>;

/// Takes eight bytes of the key as its hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, bytes: &[u8]) {
        // The first byte picks the shard, so the last eight spread better within one.
        if let Some(tail) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*tail);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length prefix of the byte array; always 16.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
