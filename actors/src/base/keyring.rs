//! Keyed hashes for everything that is looked up, sealing for everything that must be read back.
//!
//! The keys of the hashes come of one root, which stays the same for the life of an installation: a hash cannot be made
//! anew without what it is of. Sealing is under `SECRET_KEY`, and what was sealed under one of `SECRET_KEYS_OLD` still opens.
//!
//! Nothing a stranger sends or Enedis returns is stored in clear. Codes are found again by a 128-bit keyed
//! BLAKE3 hash (one key per purpose, so a user code cannot be confused with a state); tokens, device-supplied
//! secrets and PKCE verifiers are sealed ([`super::sealed`]), bound to what they are and belong to.

use derive_more::{AsRef, Debug, From};
use rand::Rng;
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::base::clock::Timestamp;
use crate::base::code::{BearerToken, BrowserToken, DeviceCode, StateToken, UserCode};
use crate::base::meter::Meter;
use crate::base::provenance::{self, Provenance};
use crate::base::sealed::{KeyId, Purpose, RowMark, Sealed, SecretKeys, derive};

/// Shard slots. Codes of one session are drawn until they share a slot, so that one message finds the
/// session by any of them, whatever `SHARDS` is today or was when the session was stored.
pub const SLOTS: usize = 64;

const HASH_LEN: usize = 16;

macro_rules! hashes {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsRef, Debug, From)]
        #[as_ref([u8])]
        // Eight digits tell sessions apart in a log and let nobody look one up.
        #[debug("{}", hex::encode(&_0[..4]))]
        pub struct $name([u8; HASH_LEN]);

        impl $name {
            /// The stored form.
            pub const fn as_bytes(&self) -> &[u8; HASH_LEN] {
                &self.0
            }

            /// From the stored form; `None` unless it has 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The shard slot, below [`SLOTS`].
            pub const fn slot(&self) -> usize {
                self.0[0] as usize % SLOTS
            }
        }
    )+};
}

hashes! {
    /// Keyed hash of a device code; the primary key of a session.
    DeviceHash;
    /// Keyed hash of a user code.
    UserHash;
    /// Keyed hash of a `state`.
    StateHash;
    /// Keyed hash of a browser's cookie.
    BrowserHash;
    /// Keyed hash of an authorization code, kept to recognise one that was presented before.
    GrantHash;
    /// Keyed hash of a bearer token of our own, access or refresh.
    TokenHash;
    /// Keyed hash of a meter's number.
    MeterHash;
}

/// A page with a button that does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShownPage {
    /// Asks whether the code shall be looked up. It was not yet.
    LookUp = 0,
    /// Tells what the code links.
    Confirm = 1,
    /// Lists the boxes that read a meter.
    Boxes = 2,
}

/// What [`Keyring::proof`] gives. Compared in constant time.
#[derive(Clone, Copy)]
pub struct ShownProof([u8; HASH_LEN]);

impl ShownProof {
    /// The form in a page: 32 hex digits.
    pub fn expose(&self) -> String {
        hex::encode(self.0)
    }

    /// Whether `text` is this proof.
    pub fn is(&self, text: &str) -> bool {
        self.expose().as_bytes().ct_eq(text.as_bytes()).into()
    }
}

/// Keyed hash of what is remembered of a meter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, AsRef, Debug)]
#[as_ref([u8])]
#[debug("CacheKey({:02x}{:02x}…)", _0[0], _0[1])]
pub struct CacheKey(pub [u8; 32]);

/// All keys of one installation. Instances that share a store share the secret and thus the keyring.
#[derive(Clone, ZeroizeOnDrop, Debug)]
#[debug("Keyring({secret:?}, {old:?})")]
pub struct Keyring {
    device: [u8; 32],
    user: [u8; 32],
    state: [u8; 32],
    browser: [u8; 32],
    grant: [u8; 32],
    access: [u8; 32],
    refresh: [u8; 32],
    stand_in: [u8; 32],
    consent: [u8; 32],
    proof: [u8; 32],
    meter: [u8; 32],
    cache: [u8; 32],
    // They overwrite themselves.
    #[zeroize(skip)]
    secret: SecretKeys,
    #[zeroize(skip)]
    old: Vec<SecretKeys>,
}

impl Keyring {
    /// The keys of an installation that never had another secret: the root is the secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self::with(secret, secret, &[])
    }

    /// The keys of hashes from `root`; those of sealing from `secret`, and from `old` for what was sealed under them.
    pub fn with<'a>(
        root: &[u8; 32],
        secret: &'a [u8; 32],
        old: impl IntoIterator<Item = &'a [u8; 32]>,
    ) -> Self {
        let derive = |purpose: &str| derive(purpose, root);
        Self {
            device: derive("device code hash"),
            user: derive("user code hash"),
            state: derive("state hash"),
            browser: derive("browser hash"),
            grant: derive("authorization code hash"),
            access: derive("access token hash"),
            refresh: derive("refresh token hash"),
            stand_in: derive("stand-in for a refresh token"),
            consent: derive("tokens of a consent"),
            proof: derive("proof of the page that was shown"),
            meter: derive("meter hash"),
            cache: derive("meter cache key"),
            secret: SecretKeys::new(secret),
            old: old.into_iter().map(SecretKeys::new).collect(),
        }
    }

    /// Hash of a device code.
    pub fn device(&self, code: &DeviceCode) -> DeviceHash {
        DeviceHash(keyed(&self.device, code.as_ref()))
    }

    /// Hash of a user code.
    pub fn user(&self, code: &UserCode) -> UserHash {
        UserHash(keyed(&self.user, code.as_ref()))
    }

    /// Hash of a `state`.
    pub fn state(&self, state: &StateToken) -> StateHash {
        StateHash(keyed(&self.state, state.expose().as_bytes()))
    }

    /// Hash of a browser's cookie.
    pub fn browser(&self, token: &BrowserToken) -> BrowserHash {
        BrowserHash(keyed(&self.browser, token.as_ref()))
    }

    /// Hash of an authorization code.
    pub fn grant(&self, code: &str) -> GrantHash {
        GrantHash(keyed(&self.grant, code.as_bytes()))
    }

    /// Hash of an access token of our own.
    pub fn access(&self, token: &BearerToken) -> TokenHash {
        TokenHash(keyed(&self.access, token.as_ref()))
    }

    /// Hash of a refresh token of our own.
    pub fn refresh(&self, token: &BearerToken) -> TokenHash {
        TokenHash(keyed(&self.refresh, token.as_ref()))
    }

    /// Hash of a refresh token of Enedis'.
    pub fn foreign_refresh(&self, token: &str) -> TokenHash {
        TokenHash(keyed(&self.refresh, token.as_bytes()))
    }

    /// Stands where a refresh token's hash would, for an access token that came without one: no token has this hash.
    pub fn stand_in(&self, access: &BearerToken) -> TokenHash {
        TokenHash(keyed(&self.stand_in, access.as_ref()))
    }

    /// The refresh and the first access token of a consent: always the same two for one `state`, asked for at one time, and
    /// what came back under it, so that a consent that was half recorded is completed, and not given twice. Nobody without
    /// the key can draw them. The refresh token says where it comes from.
    pub fn consent_tokens(
        &self,
        state: &StateHash,
        grant: &GrantHash,
        asked_at: Timestamp,
    ) -> (BearerToken, BearerToken) {
        let draw = |purpose: u8| {
            let mut input = [purpose; 1 + 2 * HASH_LEN];
            input[1..=HASH_LEN].copy_from_slice(state.as_bytes());
            input[1 + HASH_LEN..].copy_from_slice(grant.as_bytes());
            *blake3::keyed_hash(&self.consent, &input).as_bytes()
        };
        let mut random = [0; 16];
        random.copy_from_slice(&draw(b'r')[..16]);
        let refresh = provenance::issue(random, asked_at, |told| self.secret.mark_token(told));
        (BearerToken::from_bytes(refresh), BearerToken::from_bytes(draw(b'a')))
    }

    /// Where a refresh token comes from, as it says itself.
    pub fn provenance(&self, token: &BearerToken) -> Provenance {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(token.as_ref());
        provenance::read(&bytes, |told, mark| {
            self.secrets().any(|secret| secret.mark_token(told).ct_eq(mark).into())
        })
    }

    /// Says that a browser was shown a page with a button about `subject`: nobody else can have it pressed.
    pub fn proof(&self, page: ShownPage, browser: &BrowserToken, subject: &impl AsRef<[u8]>) -> ShownProof {
        let input = [&[page as u8][..], browser.as_ref(), subject.as_ref()].concat();
        ShownProof(keyed(&self.proof, &input))
    }

    /// Hash of a meter's number.
    pub fn meter(&self, meter: Meter) -> MeterHash {
        MeterHash(keyed(&self.meter, meter.to_string().as_bytes()))
    }

    /// Key of what the meter cache remembers; `text` is a [`key_text`](crate::metering::cache::key_text) or an
    /// [`owner_text`](crate::metering::cache::owner_text).
    pub fn cache(&self, text: &str) -> CacheKey {
        CacheKey(*blake3::keyed_hash(&self.cache, text.as_bytes()).as_bytes())
    }

    /// Seals `secret` so that it opens only as what it is, for `owner`: a session, a grant, a cache key.
    pub fn seal(
        &self,
        rng: &mut impl Rng,
        purpose: Purpose<'_>,
        owner: &impl AsRef<[u8]>,
        secret: &[u8],
    ) -> Sealed {
        self.secret.seal(rng, purpose, owner.as_ref(), secret)
    }

    /// Opens what [`Keyring::seal`] made for the same purpose and owner; `None` if it was made under a secret that is none
    /// of ours, or for something else, or is damaged.
    pub fn open(&self, purpose: Purpose<'_>, owner: &impl AsRef<[u8]>, sealed: &Sealed) -> Option<Vec<u8>> {
        self.secrets().find_map(|secret| secret.open(purpose, owner.as_ref(), sealed))
    }

    /// The same sealed under today's secret; `None` if it is already, or cannot be opened.
    pub fn reseal(
        &self,
        rng: &mut impl Rng,
        purpose: Purpose<'_>,
        owner: &impl AsRef<[u8]>,
        sealed: &Sealed,
    ) -> Option<Sealed> {
        if sealed.key() == Some(self.key()) {
            return None;
        }
        let plain = Zeroizing::new(self.open(purpose, owner, sealed)?);
        Some(self.seal(rng, purpose, owner, &plain))
    }

    /// The secret that is sealed under.
    pub fn key(&self) -> KeyId {
        self.secret.id
    }

    /// All secrets that are known, today's first.
    pub fn known(&self) -> impl Iterator<Item = KeyId> {
        self.secrets().map(|secret| secret.id)
    }

    fn secrets(&self) -> impl Iterator<Item = &SecretKeys> {
        [&self.secret].into_iter().chain(&self.old)
    }

    /// Marks a row of the store as written here.
    pub fn mark(&self, row: &[u8]) -> RowMark {
        self.secret.mark(row)
    }

    /// Whether [`Keyring::mark`] gave this mark to this row.
    pub fn has_marked(&self, row: &[u8], mark: RowMark) -> bool {
        self.secrets().any(|secret| secret.has_marked(row, mark))
    }
}

fn keyed(key: &[u8; 32], data: &[u8]) -> [u8; HASH_LEN] {
    let mut out = [0; HASH_LEN];
    out.copy_from_slice(&blake3::keyed_hash(key, data).as_bytes()[..HASH_LEN]);
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_consent_has_its_own_two_tokens() {
        let keys = Keyring::new(&[1; 32]);
        let (state, other) = (StateHash([1; 16]), StateHash([2; 16]));
        let (grant, another) = (GrantHash([1; 16]), GrantHash([3; 16]));
        let at = Timestamp::from_millis(1_800_000_000_000);
        let (refresh, access) = keys.consent_tokens(&state, &grant, at);
        assert!(keys.consent_tokens(&state, &grant, at) == (refresh.clone(), access.clone()));
        assert!(refresh != access);
        let strange = Keyring::new(&[2; 32]);
        let strangers = strange.consent_tokens(&state, &grant, at);
        let later = keys.consent_tokens(&state, &grant, at + Duration::from_secs(1)).0;
        assert!(later != refresh);
        for (r, a) in [
            keys.consent_tokens(&other, &grant, at),
            keys.consent_tokens(&state, &another, at),
            strangers.clone(),
        ] {
            assert!(r != refresh && a != access && r != access && a != refresh);
        }
        // It says where it is from.
        assert_eq!(keys.provenance(&refresh), Provenance::Ours(at));
        assert_eq!(Keyring::with(&[9; 32], &[3; 32], [&[1; 32]]).provenance(&refresh), Provenance::Ours(at));
        assert_eq!(keys.provenance(&strangers.0), Provenance::OurForm(at));
        assert_eq!(keys.provenance(&access), Provenance::Unmarked);
        for digit in 0..64 {
            let mut text = refresh.expose().into_bytes();
            text[digit] = if text[digit] == b'0' { b'1' } else { b'0' };
            let altered = BearerToken::parse(str::from_utf8(&text).unwrap()).unwrap();
            let told = keys.provenance(&altered);
            let wanted = if digit < 48 { Provenance::Unmarked } else { Provenance::OurForm(at) };
            assert_eq!(told, wanted, "digit {digit}");
        }
    }

    #[test]
    fn each_purpose_has_its_own_key() {
        let keys = Keyring::new(&[1; 32]);
        let mut rng = StdRng::seed_from_u64(9);
        let device = DeviceCode::generate(&mut rng);
        let browser = BrowserToken::parse(&device.expose()).unwrap();
        assert_ne!(keys.device(&device).as_bytes(), keys.browser(&browser).as_bytes());
    }
}
