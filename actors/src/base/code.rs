//! The secrets of one device flow as types: device code, user code, `state`, browser cookie, and our own tokens.
//!
//! Each is drawn from an injected generator, parsed at the edge into a shape that cannot be wrong, shown redacted by
//! `Debug`, overwritten in memory when dropped, and leaves the process only as a keyed hash (see
//! [`crate::base::keyring`]).

use derive_more::{AsRef, Debug};
use rand::{Rng, RngExt};
use unicode_normalization::UnicodeNormalization;
use zeroize::ZeroizeOnDrop;

/// Letters of a user code: RFC 8628 section 6.1, no vowels, so that no word appears and none is misread.
const USER_CODE_LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters in a user code: 20^8 = 34.6 bits, shown as `XXXX-XXXX`.
const USER_CODE_LEN: usize = 8;
/// Longest input that is looked at when a person typed a code; beyond it nothing sensible can follow.
const USER_INPUT_MAX: usize = 64;
/// Enedis accepts a `state` of at most 100 characters (authorize API description).
pub const STATE_MAX: usize = 100;
/// Random part of a `state`: 32 hex digits, the last one a letter: 126 bits.
const STATE_RANDOM_BYTES: usize = 16;

/// Secrets of 256 bits, written as 64 hex digits.
macro_rules! secret_256 {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, ZeroizeOnDrop, AsRef, Debug)]
        #[as_ref([u8])]
        #[debug("{}(…)", stringify!($name))]
        pub struct $name([u8; 32]);

        impl $name {
            /// Draws a fresh one.
            pub fn generate(rng: &mut impl Rng) -> Self {
                Self(rng.random())
            }

            /// Reads the 64 hex digits that come back; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                // The decoder would take `0x` in front as well.
                let mut bytes = [0; 32];
                hex::decode_to_slice(Some(text).filter(|text| text.len() == 64)?, &mut bytes).ok()?;
                Some(Self(bytes))
            }

            /// The form that is sent, in lower case.
            pub fn expose(&self) -> String {
                hex::encode(self.0)
            }
        }
    )+};
}

secret_256! {
    /// The device's secret (RFC 8628 section 3.2).
    DeviceCode;
    /// The cookie that ties one consent to one browser.
    BrowserToken;
    /// A bearer token of our own, access or refresh (RFC 6750 section 2.1), in the form that the PHP server's had as well.
    BearerToken;
    /// A PKCE verifier (RFC 7636 section 4.1): hex digits are all unreserved characters.
    PkceVerifier;
}

impl BearerToken {
    /// A token that was drawn elsewhere.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The code a person types: eight letters out of twenty.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop, AsRef, Debug)]
#[as_ref([u8])]
#[debug("UserCode(…)")]
pub struct UserCode([u8; USER_CODE_LEN]);

impl UserCode {
    /// Draws a fresh code, without bias.
    pub fn generate(rng: &mut impl Rng) -> Self {
        Self(std::array::from_fn(|_| USER_CODE_LETTERS[rng.random_range(0..USER_CODE_LETTERS.len())]))
    }

    /// Reads what a person typed: any case, full-width letters, spaces, dashes and other punctuation are
    /// all accepted; `None` unless exactly eight letters of the alphabet remain.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > USER_INPUT_MAX {
            return None;
        }
        let mut code = [0; USER_CODE_LEN];
        let mut len = 0;
        for c in text.nfkc().flat_map(char::to_uppercase).filter(|c| c.is_alphanumeric()) {
            let letter = u8::try_from(c).ok().filter(|b| USER_CODE_LETTERS.contains(b))?;
            *code.get_mut(len)? = letter;
            len += 1;
        }
        (len == USER_CODE_LEN).then_some(Self(code))
    }

    /// The form shown to people, `XXXX-XXXX`.
    pub fn expose(&self) -> String {
        let (first, last) = self.0.split_at(USER_CODE_LEN / 2);
        format!("{}-{}", first.escape_ascii(), last.escape_ascii())
    }
}

/// What a page's `state` parameter may add behind our own `state`: Enedis' sandbox picks its test client by
/// the last digit. Letters, digits, `-` and `_`; the whole stays within [`STATE_MAX`] characters.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct StateSuffix(String);

impl StateSuffix {
    /// Accepts `text` if every character and the total length allow it.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() <= STATE_MAX - 2 * STATE_RANDOM_BYTES;
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (fits && clean).then(|| Self(text.to_owned()))
    }

    /// The accepted text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The `state` that travels through Enedis (RFC 6749 section 10.12): 126 random bits and the page's suffix.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop, Debug)]
#[debug("StateToken(…)")]
pub struct StateToken(String);

impl StateToken {
    /// Draws a fresh token that ends in `suffix`.
    pub fn generate(rng: &mut impl Rng, suffix: &StateSuffix) -> Self {
        let random: [u8; STATE_RANDOM_BYTES] = rng.random();
        let mut text = hex::encode(random);
        // Ends in a letter, so that Enedis' sandbox sees a digit only where the page asked for one.
        text.pop();
        text.push(char::from(b'a' + rng.random_range(0..6_u8)));
        Self(text + suffix.as_str())
    }

    /// Reads what Enedis returned; `None` if we cannot have issued it.
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.get(..2 * STATE_RANDOM_BYTES)?;
        let suffix = text.get(2 * STATE_RANDOM_BYTES..)?;
        let hex = random.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex && StateSuffix::parse(suffix).is_some()).then(|| Self(text.to_owned()))
    }

    /// The form sent to Enedis.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_device_code_has_64_digits_and_nothing_else() {
        let text = "ab".repeat(32);
        assert_eq!(DeviceCode::parse(&text).unwrap().expose(), text);
        assert!(DeviceCode::parse(&text.to_uppercase()).is_some());
        for wrong in
            [format!("0x{text}"), format!("0x{}", &text[2..]), text[2..].to_owned(), text.replace('a', "g")]
        {
            assert!(DeviceCode::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn user_code_survives_people() {
        let code = UserCode::generate(&mut StdRng::seed_from_u64(7));
        let shown = code.expose();
        assert_eq!(shown.len(), 9);
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', ""),
            shown.replace('-', " — "),
            format!("  {}\u{a0}\n", shown.replace('-', "\u{2011}")),
            shown
                .chars()
                .map(|c| if c == '-' { c } else { char::from_u32(c as u32 + 0xfee0).unwrap() })
                .collect(),
        ] {
            assert_eq!(UserCode::parse(&typed), Some(code.clone()), "{typed:?}");
        }
        for wrong in ["", "-", "BCDF", "BCDF-GHJA", "BCDF-GHJKL", "BCDF-GHJ1", &"B".repeat(400), "ßBCDFGHJ"]
        {
            assert_eq!(UserCode::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn state_keeps_its_suffix_and_bound() {
        let suffix = StateSuffix::parse("test_client-3").unwrap();
        let state = StateToken::generate(&mut StdRng::seed_from_u64(1), &suffix);
        assert!(state.expose().ends_with("test_client-3"));
        assert_eq!(StateToken::parse(state.expose()), Some(state));
        assert!(StateSuffix::parse(&"1".repeat(68)).is_some());
        assert!(StateSuffix::parse(&"1".repeat(69)).is_none());
        assert!(StateSuffix::parse("a&b").is_none());
    }

    #[test]
    fn debug_hides_secrets() {
        let mut rng = StdRng::seed_from_u64(3);
        let device = DeviceCode::generate(&mut rng);
        let user = UserCode::generate(&mut rng);
        assert!(!format!("{device:?}").contains(&device.expose()));
        assert!(!format!("{user:?}").contains(&user.expose()));
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC{0,120}") {
            let _ = DeviceCode::parse(&text);
            let _ = BrowserToken::parse(&text);
            let _ = BearerToken::parse(&text);
            let _ = StateToken::parse(&text);
            if let Some(code) = UserCode::parse(&text) {
                prop_assert_eq!(UserCode::parse(&code.expose()), Some(code));
            }
        }

        #[test]
        fn generated_codes_read_back(seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let device = DeviceCode::generate(&mut rng);
            prop_assert_eq!(DeviceCode::parse(&device.expose()), Some(device));
            let user = UserCode::generate(&mut rng);
            prop_assert_eq!(UserCode::parse(&user.expose()), Some(user));
        }
    }
}
