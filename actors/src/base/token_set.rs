//! A token answer (RFC 6749 section 5.1), kept as the JSON object it came as, so that a device receives every member
//! that its issuer wrote.

use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::meter::listed;

/// The members of a token answer. `Debug` shows none, and they are overwritten in memory when dropped.
#[derive(Clone, PartialEq, derive_more::Debug)]
#[debug("TokenSet(…)")]
pub struct TokenSet(Map<String, Value>);

impl TokenSet {
    /// An answer with a non-empty `access_token`; `None` without one.
    pub fn new(members: Map<String, Value>) -> Option<Self> {
        let has_token =
            matches!(members.get("access_token"), Some(Value::String(token)) if !token.is_empty());
        has_token.then_some(Self(members))
    }

    /// The answer for a device that receives tokens of our own, in the shape the PHP server gave it.
    pub fn own<const N: usize>(members: [(&str, Value); N]) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Adds the meters named on the callback, unless the issuer named them in the answer itself.
    #[must_use]
    pub fn with_usage_point(mut self, usage_point_id: Option<&str>) -> Self {
        if let Some(id) = usage_point_id {
            self.0.entry("usage_point_id").or_insert_with(|| Value::String(id.to_owned()));
        }
        self
    }

    /// The access token, and its life if the answer says one. Enedis writes `expires_in` as a string or a number.
    pub fn access_token(&self) -> Option<(&str, Option<Duration>)> {
        let token = self.0.get("access_token")?.as_str()?;
        Some((token, self.0.get("expires_in").and_then(seconds).map(Duration::from_secs)))
    }

    /// The refresh token.
    pub fn refresh_token(&self) -> Option<&str> {
        self.0.get("refresh_token")?.as_str()
    }

    /// The meters it is for, as its issuer wrote them.
    pub fn usage_points(&self) -> Vec<String> {
        let text = ["usage_points_id", "usage_point_id"].iter().find_map(|name| self.0.get(*name)?.as_str());
        listed(text.unwrap_or_default()).map(ToOwned::to_owned).collect()
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.text().into_bytes().into()
    }

    fn text(&self) -> String {
        #[expect(clippy::expect_used, reason = "a map of texts to values is JSON")]
        serde_json::to_string(&self.0).expect("JSON")
    }

    /// From the stored form; `None` if it is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }

    /// The body a device receives `age` after the token was issued: `token_type` is there, and `expires_in` is an
    /// integer number of seconds that are left (Enedis sends a string now and then).
    pub fn body_after(mut self, age: Duration) -> String {
        // A lifetime that is no number is worse than none: clients break on it.
        if let Some(lifetime) = self.0.remove("expires_in").as_ref().and_then(seconds) {
            self.0.insert("expires_in".to_owned(), lifetime.saturating_sub(age.as_secs()).into());
        }
        self.0.entry("token_type").or_insert_with(|| "Bearer".into());
        self.text()
    }
}

impl Drop for TokenSet {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64().or_else(|| {
            let n = n.as_f64().filter(|n| (0.0..1e9).contains(n))?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to fit above"
            )]
            Some(n as u64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<TokenSet> {
        TokenSet::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_life_is_read_in_either_writing() {
        for (members, life) in [
            (r#""expires_in":"12600","scope":"""#, Some(12_600)),
            (r#""expires_in":12600"#, Some(12_600)),
            (r#""expires_in":1e8"#, Some(100_000_000)),
            (r#""expires_in":"soon""#, None),
            (r#""scope":"""#, None),
        ] {
            let token = read(&format!(r#"{{"access_token":"a",{members}}}"#)).unwrap();
            assert_eq!(token.access_token(), Some(("a", life.map(Duration::from_secs))), "{members}");
        }
        assert_eq!(read(r#"{"access_token":""}"#), None);
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn every_text_is_wiped() {
        let mut value = serde_json::json!({"a": "secret", "b": ["secret", {"c": "secret"}], "d": 1});
        wipe(&mut value);
        assert_eq!(value, serde_json::json!({"a": "", "b": ["", {"c": ""}], "d": 1}));
    }

    #[test]
    fn the_delivered_body_counts_down() {
        let token = read(r#"{"access_token":"a","expires_in":"12600"}"#).unwrap();
        let token = TokenSet::from_bytes(&token.with_usage_point(Some("12345678901234")).to_bytes()).unwrap();
        let body: Value = serde_json::from_str(&token.body_after(Duration::from_secs(600))).unwrap();
        assert_eq!(body["expires_in"], 12_000);
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["usage_point_id"], "12345678901234");
        let own = TokenSet::own([("usage_points_id", "12345678901234,1".into())]);
        assert_eq!(own.usage_points(), ["12345678901234", "1"]);
    }
}
