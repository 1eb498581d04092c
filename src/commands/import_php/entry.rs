//! One entry of the PHP server's `cache`: what it is, and whether it can be taken over.
//!
//! Owns the names of that server's keys. Pure: whatever is in an entry, the answer is a value, and no fault repeats
//! what stands in the entry.

use actors::base::clock::Timestamp;
use actors::base::code::BearerToken;
use actors::base::meter::{Meter, parse_meters};

const REFRESH: &str = "refresh_token:";
const ACCESS: &str = "access_token:";
/// Length of a user code, in letters.
const USER_CODE: usize = 8;
/// Length of a device code, in hex digits.
const DEVICE_CODE: usize = 64;

/// An entry as it was read; each part may be anything. Holds secrets, hence no `Debug`.
pub struct Entry {
    /// `key`; empty if it is not a text.
    pub key: String,
    /// `value`, unless it is something else than a text.
    pub value: Option<String>,
    /// `expireAt`, if it is a time.
    pub expires_at: Option<Timestamp>,
}

/// The kinds of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lives as long as the consent.
    Refresh,
    /// Lives for 12 600 s.
    Access,
}

/// A token to take over.
pub struct Token {
    /// Which kind.
    pub kind: Kind,
    /// The token itself.
    pub bearer: BearerToken,
    /// The meters it opens.
    pub meters: Vec<Meter>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What an entry is.
pub enum Class {
    /// A live token.
    Live(Token),
    /// A token that has ended.
    Expired(Kind),
    /// A token that cannot be taken over, and why, for people.
    Faulty(Kind, &'static str),
    /// No token but something that ends within minutes; for people, after a number.
    Other(&'static str),
}

impl Entry {
    /// Says what an entry is at `now`.
    pub fn classify(&self, now: Timestamp) -> Class {
        let (kind, token) = if let Some(token) = self.key.strip_prefix(REFRESH) {
            (Kind::Refresh, token)
        } else if let Some(token) = self.key.strip_prefix(ACCESS) {
            (Kind::Access, token)
        } else {
            return Class::Other(other(&self.key));
        };
        let faulty = |reason| Class::Faulty(kind, reason);
        let Some(expires_at) = self.expires_at else { return faulty("the expiry is not a time") };
        if expires_at <= now {
            return Class::Expired(kind);
        }
        let Some(bearer) = BearerToken::parse(token) else { return faulty("the token is not 64 hex digits") };
        let Some(value) = &self.value else { return faulty("the value is not a text") };
        let Some(meters) = parse_meters(value) else {
            return faulty("the value is not a list of 1 to 20 meters of 14 digits");
        };
        Class::Live(Token { kind, bearer, meters, expires_at })
    }
}

fn other(key: &str) -> &'static str {
    let is_user_code = key.len() == USER_CODE && key.bytes().all(|b| b.is_ascii_uppercase());
    let is_device_code = key.len() == DEVICE_CODE && key.bytes().all(|b| b.is_ascii_hexdigit());
    if is_user_code || is_device_code || key.starts_with("state:") {
        "of logins under way"
    } else if key.starts_with("ratelimit-") {
        "of rate limits"
    } else if key == "client_credentials" {
        "of the application's own token"
    } else {
        "of other programs"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn classify(key: &str, value: Option<&str>, expires_at: Option<u64>) -> Class {
        let expires_at = expires_at.map(Timestamp::from_millis);
        Entry { key: key.to_owned(), value: value.map(str::to_owned), expires_at }.classify(NOW)
    }

    fn refresh(value: Option<&str>, expires_at: Option<u64>) -> Class {
        classify(&format!("refresh_token:{}", "0f".repeat(32)), value, expires_at)
    }

    #[test]
    fn live_tokens_keep_meters_and_expiry() {
        let Class::Live(token) = refresh(Some("12345678901234,10284856584123"), Some(1_000_001)) else {
            panic!("a live token")
        };
        assert_eq!((token.kind, token.meters.len()), (Kind::Refresh, 2));
        assert_eq!(token.bearer.expose(), "0f".repeat(32));
        assert_eq!(token.expires_at, Timestamp::from_millis(1_000_001));
        let access =
            classify(&format!("access_token:{}", "a1".repeat(32)), Some("12345678901234"), Some(u64::MAX));
        assert!(matches!(access, Class::Live(Token { kind: Kind::Access, .. })));
    }

    #[test]
    fn what_has_ended_is_expired_whatever_else_is_wrong() {
        assert!(matches!(refresh(Some("12345678901234"), Some(1_000_000)), Class::Expired(Kind::Refresh)));
        assert!(matches!(classify("access_token:x", None, Some(0)), Class::Expired(Kind::Access)));
    }

    #[test]
    fn faults_are_told_apart() {
        let (live, meter) = (Some(2_000_000), Some("12345678901234"));
        for (class, told) in [
            (refresh(meter, None), "expiry"),
            (classify("refresh_token:", meter, live), "token is not"),
            (classify("refresh_token:0f0f", meter, live), "token is not"),
            (refresh(None, live), "not a text"),
            (refresh(Some(""), live), "not a list"),
            (refresh(Some("1234567890123"), live), "not a list"),
            (refresh(Some("12345678901234|10284856584123"), live), "not a list"),
        ] {
            assert!(matches!(class, Class::Faulty(Kind::Refresh, reason) if reason.contains(told)), "{told}");
        }
    }

    #[test]
    fn the_rest_is_told_by_its_key() {
        let device_code = "9a".repeat(32);
        for (key, told) in [
            ("BCDFGHJK", "logins"),
            (&device_code, "logins"),
            ("state:0123456789abcdef0123456789abcdef3", "logins"),
            ("ratelimit-29000000-ip-192.0.2.1", "rate limits"),
            ("client_credentials", "application"),
            ("", "other"),
            ("refresh_token", "other"),
            ("bcdfghjk", "other"),
            ("Access_token:1", "other"),
        ] {
            let class = classify(key, None, None);
            assert!(matches!(class, Class::Other(name) if name.contains(told)), "{key}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(key: String, value: Option<String>, at: Option<u64>, prefix in 0..3_usize) {
            classify(&format!("{}{key}", [REFRESH, ACCESS, ""][prefix]), value.as_deref(), at);
        }
    }
}
