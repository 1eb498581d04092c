//! One entry of the PHP server's `cache`: what it is, and whether it can be taken over.
//!
//! Owns the names of that server's keys. Pure: whatever is in an entry, the answer is a value, and no fault repeats
//! what stands in the entry.

use actors::base::clock::Timestamp;
use actors::base::code::BearerToken;
use actors::base::meter::parse_meters;
use actors::metering::tokens::earlier::{EarlierToken, Kind};

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

/// The key of a token.
pub fn key(kind: Kind, token: &BearerToken) -> String {
    let prefix = match kind {
        Kind::Refresh => REFRESH,
        Kind::Access => ACCESS,
    };
    format!("{prefix}{}", token.expose())
}

pub enum Class {
    Live(EarlierToken),
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
        Class::Live(EarlierToken { kind, bearer, meters, expires_at })
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

    const TOKEN: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

    fn classify(key: &str, value: Option<&str>, expires_at: Option<u64>) -> String {
        let expires_at = expires_at.map(Timestamp::from_millis);
        match (Entry { key: key.to_owned(), value: value.map(str::to_owned), expires_at }).classify(NOW) {
            Class::Live(EarlierToken { kind, bearer, meters, expires_at }) => {
                assert_eq!(bearer.expose(), TOKEN);
                format!("{kind:?} for {} until {}", meters.len(), expires_at.as_millis())
            }
            Class::Expired(kind) => format!("{kind:?} ended"),
            Class::Faulty(kind, reason) => format!("{kind:?}: {reason}"),
            Class::Other(name) => name.to_owned(),
        }
    }

    #[test]
    fn tokens_are_told_by_their_parts() {
        let (live, meter) = (Some(2_000_000), Some("12345678901234"));
        let (refresh, access) = (format!("refresh_token:{TOKEN}"), format!("access_token:{TOKEN}"));
        let is_none = "Refresh: the token is not 64 hex digits";
        let no_list = "Refresh: the value is not a list of 1 to 20 meters of 14 digits";
        for (key, value, expires_at, told) in [
            (
                &refresh[..],
                Some("12345678901234,10284856584123"),
                Some(1_000_001),
                "Refresh for 2 until 1000001",
            ),
            (&access, meter, live, "Access for 1 until 2000000"),
            // What has ended is expired, whatever else is wrong.
            (&refresh, meter, Some(1_000_000), "Refresh ended"),
            ("access_token:x", None, Some(0), "Access ended"),
            (&refresh, meter, None, "Refresh: the expiry is not a time"),
            ("refresh_token:", meter, live, is_none),
            ("refresh_token:0f0f", meter, live, is_none),
            (&refresh, None, live, "Refresh: the value is not a text"),
            (&refresh, Some(""), live, no_list),
            (&refresh, Some("1234567890123"), live, no_list),
            (&refresh, Some("12345678901234|10284856584123"), live, no_list),
        ] {
            assert_eq!(classify(key, value, expires_at), told, "{key} {value:?} {expires_at:?}");
        }
    }

    #[test]
    fn the_rest_is_told_by_its_key() {
        for (key, told) in [
            ("BCDFGHJK", "of logins under way"),
            (TOKEN, "of logins under way"),
            ("state:0123456789abcdef0123456789abcdef3", "of logins under way"),
            ("ratelimit-29000000-ip-192.0.2.1", "of rate limits"),
            ("client_credentials", "of the application's own token"),
            ("", "of other programs"),
            ("refresh_token", "of other programs"),
            ("bcdfghjk", "of other programs"),
            ("Access_token:1", "of other programs"),
        ] {
            assert_eq!(classify(key, None, None), told, "{key}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(key: String, value: Option<String>, at: Option<u64>, prefix in 0..3_usize) {
            let (key, expires_at) = (format!("{}{key}", [REFRESH, ACCESS, ""][prefix]), at.map(Timestamp::from_millis));
            Entry { key, value, expires_at }.classify(NOW);
        }
    }
}
