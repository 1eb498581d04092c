//! One entry of the PHP server's `cache`: what it is, and whether it can be taken over.
//!
//! Owns the names of that server's keys. Pure: whatever is in an entry, the answer is a value, and no fault repeats
//! what stands in the entry.

use actors::base::clock::Timestamp;
use actors::base::code::BearerToken;
use actors::base::meter::Meter;
use actors::base::meter::parse_meters;

const REFRESH: &str = "refresh_token:";
const ACCESS: &str = "access_token:";
/// Length of a user code, in letters.
const USER_CODE: usize = 8;
/// Length of a device code, in hex digits.
const DEVICE_CODE: usize = 64;

/// An entry as it was read; each part may be anything. Holds secrets, hence no `Debug`.
#[derive(Default)]
pub struct Raw {
    /// `key`; empty if it is not a text.
    pub key: Vec<u8>,
    /// `value`, unless it is something else than a text.
    pub value: Option<Vec<u8>>,
    /// `expireAt` or `expire_at`, if it is a time.
    pub expires_at: Option<Timestamp>,
}

/// What is read from a source, one after the other.
pub enum Row {
    /// An entry.
    Entry(Raw),
    /// What has not the columns of one.
    NotUnderstood,
}

/// The kinds of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Lives as long as the consent.
    Refresh,
    /// Lives for 12 600 s.
    Access,
}

/// Entries that are not taken over: they end within minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Other {
    /// A device code, a user code or a `state`.
    Session,
    /// A count of requests.
    RateLimit,
    /// The application's own token at Enedis.
    Application,
    /// No key that the PHP server uses.
    Unknown,
}

impl Other {
    /// For people, after a number.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "of logins under way",
            Self::RateLimit => "of rate limits",
            Self::Application => "of the application's own token",
            Self::Unknown => "of other programs",
        }
    }
}

/// Why an entry is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Not as many columns as the table has, or a row far too long.
    Row,
    /// The token.
    Token,
    /// The expiry.
    Expiry,
    /// The value is no text.
    Value,
    /// The text lists no meters.
    Meters,
}

impl Fault {
    /// For people.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Row => "the row has not the columns key, value and expire_at",
            Self::Token => "the token is not 64 hex digits",
            Self::Expiry => "the expiry is not a time",
            Self::Value => "the value is not a text as PHP writes it",
            Self::Meters => "the value is not a list of 1 to 20 meters of 14 digits",
        }
    }
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
pub enum Entry {
    /// A live token.
    Live(Token),
    /// A token that has ended.
    Expired(Kind),
    /// A token that cannot be taken over.
    Faulty(Kind, Fault),
    /// No token.
    Other(Other),
}

/// Says what an entry is at `now`.
pub fn classify(raw: &Raw, now: Timestamp) -> Entry {
    let key = String::from_utf8_lossy(&raw.key);
    let (kind, token) = if let Some(token) = key.strip_prefix(REFRESH) {
        (Kind::Refresh, token)
    } else if let Some(token) = key.strip_prefix(ACCESS) {
        (Kind::Access, token)
    } else {
        return Entry::Other(other(&key));
    };
    let Some(expires_at) = raw.expires_at else { return Entry::Faulty(kind, Fault::Expiry) };
    if expires_at <= now {
        return Entry::Expired(kind);
    }
    let Some(bearer) = BearerToken::parse(token) else { return Entry::Faulty(kind, Fault::Token) };
    let Some(value) = &raw.value else { return Entry::Faulty(kind, Fault::Value) };
    let meters = std::str::from_utf8(value).ok().and_then(parse_meters);
    let Some(meters) = meters else { return Entry::Faulty(kind, Fault::Meters) };
    Entry::Live(Token { kind, bearer, meters, expires_at })
}

fn other(key: &str) -> Other {
    let is_user_code = key.len() == USER_CODE && key.bytes().all(|b| b.is_ascii_uppercase());
    let is_device_code = key.len() == DEVICE_CODE && key.bytes().all(|b| b.is_ascii_hexdigit());
    if is_user_code || is_device_code || key.starts_with("state:") {
        Other::Session
    } else if key.starts_with("ratelimit-") {
        Other::RateLimit
    } else if key == "client_credentials" {
        Other::Application
    } else {
        Other::Unknown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn entry(key: &str, value: Option<&str>, expires_at: Option<u64>) -> Entry {
        let value = value.map(|value| value.as_bytes().to_vec());
        let expires_at = expires_at.map(Timestamp::from_millis);
        classify(&Raw { key: key.into(), value, expires_at }, NOW)
    }

    fn refresh(value: Option<&str>, expires_at: Option<u64>) -> Entry {
        entry(&format!("refresh_token:{}", "0f".repeat(32)), value, expires_at)
    }

    #[test]
    fn live_tokens_keep_meters_and_expiry() {
        let Entry::Live(token) = refresh(Some("12345678901234,10284856584123"), Some(1_000_001)) else {
            panic!("a live token")
        };
        assert_eq!((token.kind, token.meters.len()), (Kind::Refresh, 2));
        assert_eq!(token.bearer.expose(), "0f".repeat(32));
        assert_eq!(token.expires_at, Timestamp::from_millis(1_000_001));
        let access =
            entry(&format!("access_token:{}", "a1".repeat(32)), Some("12345678901234"), Some(u64::MAX));
        assert!(matches!(access, Entry::Live(Token { kind: Kind::Access, .. })));
    }

    #[test]
    fn what_has_ended_is_expired_whatever_else_is_wrong() {
        assert!(matches!(refresh(Some("12345678901234"), Some(1_000_000)), Entry::Expired(Kind::Refresh)));
        assert!(matches!(entry("access_token:x", None, Some(0)), Entry::Expired(Kind::Access)));
    }

    #[test]
    fn faults_are_told_apart() {
        let fault = |entry| match entry {
            Entry::Faulty(_, fault) => fault,
            _ => panic!("a faulty entry"),
        };
        let live = Some(2_000_000);
        assert_eq!(fault(refresh(Some("12345678901234"), None)), Fault::Expiry);
        assert_eq!(fault(entry("refresh_token:", Some("12345678901234"), live)), Fault::Token);
        assert_eq!(fault(entry("refresh_token:0f0f", Some("12345678901234"), live)), Fault::Token);
        assert_eq!(fault(refresh(None, live)), Fault::Value);
        for bad in ["", "1234567890123", "12345678901234|10284856584123"] {
            assert_eq!(fault(refresh(Some(bad), live)), Fault::Meters, "{bad}");
        }
    }

    #[test]
    fn the_rest_is_told_by_its_key() {
        let other = |key: &str| match entry(key, None, None) {
            Entry::Other(other) => other,
            _ => panic!("{key} is no token"),
        };
        for key in ["BCDFGHJK", &"9a".repeat(32), "state:0123456789abcdef0123456789abcdef3"] {
            assert_eq!(other(key), Other::Session, "{key}");
        }
        assert_eq!(other("ratelimit-29000000-ip-192.0.2.1"), Other::RateLimit);
        assert_eq!(other("client_credentials"), Other::Application);
        for key in ["", "refresh_token", "bcdfghjk", "Access_token:1"] {
            assert_eq!(other(key), Other::Unknown, "{key}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(key: Vec<u8>, value: Option<Vec<u8>>, at: Option<u64>, prefix in 0..3_usize) {
            let mut full = [REFRESH, ACCESS, ""][prefix].as_bytes().to_vec();
            full.extend(key);
            classify(&Raw { key: full, value, expires_at: at.map(Timestamp::from_millis) }, NOW);
        }
    }
}
