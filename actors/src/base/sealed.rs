//! Sealing of what must be read back, under the installation's secrets: the one of today, which everything is sealed
//! under, and those of before, which still open what was sealed under them.
//!
//! XChaCha20-Poly1305. What is sealed opens only as what it was sealed for: its [`Purpose`], its owner, and whatever the
//! purpose binds besides. A row is marked as ours in the same way, by a keyed BLAKE3 hash of it.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use derive_more::{Debug, Display, From};
use rand::{Rng, RngExt};
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;
/// Bound to purpose, owner and terms.
const FORMAT: u8 = 2;
/// Of before: bound to the owner alone. Nothing is made of it any more, so that nobody can move what has another format
/// by calling it this one.
const BY_OWNER: u8 = 1;

/// What a secret is sealed as, with what it is bound to besides its owner.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// The secret that a device brought. Its owner is a session, as that of the next three.
    ClientSecret,
    /// A PKCE verifier.
    Verifier,
    /// The token of an approved session.
    Token,
    /// The answer that was delivered.
    Delivered,
    /// The meters of a grant, bound to its terms.
    Meters(&'a [u8]),
    /// What is remembered of a meter, bound to whose it is and to its times.
    Remembered(&'a [u8]),
    /// The root of all keyed hashes, bound to the rest of the installation's record.
    Root(&'a [u8]),
}

impl Purpose<'_> {
    /// Part of what is on disk: never renumber.
    const fn number(self) -> u8 {
        match self {
            Self::ClientSecret => 1,
            Self::Verifier => 2,
            Self::Token => 3,
            Self::Delivered => 4,
            Self::Meters(_) => 5,
            Self::Remembered(_) => 6,
            Self::Root(_) => 7,
        }
    }

    /// What is authenticated beside the secret. The owners of one purpose have one length, so that no two read alike.
    fn bound(self, owner: &[u8]) -> Vec<u8> {
        let terms = match self {
            Self::Meters(terms) | Self::Remembered(terms) | Self::Root(terms) => terms,
            Self::ClientSecret | Self::Verifier | Self::Token | Self::Delivered => &[],
        };
        [&[FORMAT, self.number()], owner, terms].concat()
    }
}

/// Names the secret that something is sealed under: 8 hex digits, from which nothing can be told of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Display)]
#[debug("{}", hex::encode(_0))]
#[display("{}", hex::encode(_0))]
pub struct KeyId([u8; KEY_ID_LEN]);

/// A sealed secret: format, key id, nonce, ciphertext and tag. Opaque to every store.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[debug("Sealed({} bytes)", _0.len())]
pub struct Sealed(Box<[u8]>);

impl Sealed {
    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From the stored form; damage is found when it is opened.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }

    /// The secret it is sealed under; `None` if it is damaged.
    pub fn key(&self) -> Option<KeyId> {
        self.0.get(1..)?.first_chunk().copied().map(KeyId)
    }
}

/// Says that a row of the store was written here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, From)]
#[debug("RowMark(…)")]
pub struct RowMark([u8; 16]);

impl RowMark {
    /// The stored form.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From the stored form; `None` unless it has 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// The keys that come of one secret.
#[derive(Clone, ZeroizeOnDrop, Debug)]
#[debug("{id}")]
pub(super) struct SecretKeys {
    #[zeroize(skip)]
    pub(super) id: KeyId,
    // Overwrites itself, as `wiped` below has the compiler check.
    #[zeroize(skip)]
    cipher: XChaCha20Poly1305,
    row: [u8; 32],
    token: [u8; 32],
}

impl SecretKeys {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = derive("key id", secret);
        Self {
            id: KeyId([a, b, c, d]),
            cipher: XChaCha20Poly1305::new(&Key::from(derive("seal", secret))),
            row: derive("mark of a row", secret),
            token: derive("mark of a refresh token", secret),
        }
    }

    pub(super) fn seal(
        &self,
        rng: &mut impl Rng,
        purpose: Purpose<'_>,
        owner: &[u8],
        secret: &[u8],
    ) -> Sealed {
        let nonce: [u8; NONCE_LEN] = rng.random();
        let payload = Payload { msg: secret, aad: &purpose.bound(owner) };
        // The only documented failure is a message of 256 GiB; the bodies here are bounded by the HTTP layer.
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        Sealed([&[FORMAT], &self.id.0[..], &nonce, &sealed].concat().into_boxed_slice())
    }

    pub(super) fn open(&self, purpose: Purpose<'_>, owner: &[u8], sealed: &Sealed) -> Option<Vec<u8>> {
        let (format, rest) = sealed.0.split_first()?;
        let (nonce, msg) = rest.strip_prefix(&self.id.0)?.split_first_chunk::<NONCE_LEN>()?;
        let bound = match *format {
            FORMAT => purpose.bound(owner),
            BY_OWNER => owner.to_vec(),
            _ => return None,
        };
        self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg, aad: &bound }).ok()
    }

    pub(super) fn mark(&self, row: &[u8]) -> RowMark {
        let mut mark = [0; 16];
        mark.copy_from_slice(&blake3::keyed_hash(&self.row, row).as_bytes()[..16]);
        RowMark(mark)
    }

    /// Marks a refresh token.
    pub(super) fn mark_token(&self, told: &[u8]) -> [u8; 8] {
        let mut mark = [0; 8];
        mark.copy_from_slice(&blake3::keyed_hash(&self.token, told).as_bytes()[..8]);
        mark
    }

    pub(super) fn has_marked(&self, row: &[u8], mark: RowMark) -> bool {
        self.mark(row).0.ct_eq(&mark.0).into()
    }
}

/// A key for one purpose.
pub(super) fn derive(purpose: &str, secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(&format!("device-flow-proxy 2026 {purpose}"), secret)
}

/// Takes what overwrites itself when dropped.
const fn wiped<T: ZeroizeOnDrop>() {}
const _: () = wiped::<XChaCha20Poly1305>();

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const OWNER: [u8; 16] = [3; 16];

    #[test]
    fn sealed_secrets_open_only_as_what_they_are() {
        let mut rng = StdRng::seed_from_u64(5);
        let keys = SecretKeys::new(&[7; 32]);
        let sealed = keys.seal(&mut rng, Purpose::Token, &OWNER, b"refresh me");
        let open = |sealed: &Sealed| keys.open(Purpose::Token, &OWNER, sealed);
        assert_eq!(open(&sealed).unwrap(), b"refresh me");
        assert_eq!(keys.open(Purpose::Token, &[4; 16], &sealed), None);
        for other in [
            Purpose::ClientSecret,
            Purpose::Verifier,
            Purpose::Delivered,
            Purpose::Meters(&[]),
            Purpose::Remembered(&[]),
            Purpose::Root(&[]),
        ] {
            assert_eq!(keys.open(other, &OWNER, &sealed), None, "{other:?}");
        }
        assert_eq!(SecretKeys::new(&[8; 32]).open(Purpose::Token, &OWNER, &sealed), None);
        for cut in 0..sealed.as_bytes().len() {
            assert_eq!(open(&Sealed::from_bytes(sealed.as_bytes()[..cut].to_vec())), None);
        }
        let of_terms = keys.seal(&mut rng, Purpose::Meters(b"terms"), &OWNER, b"1");
        assert_eq!(keys.open(Purpose::Meters(b"terms"), &OWNER, &of_terms).unwrap(), b"1");
        assert_eq!(keys.open(Purpose::Meters(b"other"), &OWNER, &of_terms), None);
    }

    #[test]
    fn what_is_of_before_opens_by_its_owner_and_nothing_can_be_made_to_look_so() {
        let keys = SecretKeys::new(&[7; 32]);
        let sealed_before = hex::decode(BEFORE).unwrap();
        let open = |owner: &[u8], sealed: Vec<u8>| {
            keys.open(Purpose::Meters(b"terms"), owner, &Sealed::from_bytes(sealed))
        };
        assert_eq!(open(&OWNER, sealed_before.clone()).unwrap(), b"12345678901234");
        assert_eq!(open(&[4; 16], sealed_before), None);
        let now = keys.seal(&mut StdRng::seed_from_u64(6), Purpose::Meters(b"terms"), &OWNER, b"1");
        let mut renamed = now.as_bytes().to_vec();
        renamed[0] = BY_OWNER;
        assert_eq!(open(&OWNER, renamed), None);
    }

    /// Sealed by version 0.1.0 under the secret `07…07` for `03…03`.
    const BEFORE: &str = "016e1bd19761644a25da5ad31754e23bc1eca8c766a61ceaa8c60ddc65c775308e02b0c2a96ef713c386c7e0fabccc22ea7930aa3180cbcaf6a375";

    #[test]
    fn a_row_is_marked_by_its_secret() {
        let (keys, other) = (SecretKeys::new(&[7; 32]), SecretKeys::new(&[8; 32]));
        let mark = keys.mark(b"row");
        assert!(keys.has_marked(b"row", mark));
        assert!(!keys.has_marked(b"other", mark) && !other.has_marked(b"row", mark));
    }
}
