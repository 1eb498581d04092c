//! The query of an address that a browser or a box opens.

use actix_web::HttpRequest;
use actors::base::code::StateSuffix;

/// A `state` parameter that cannot be appended to ours.
pub struct BadSuffix;

/// The query of a page's address.
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Decodes what stands behind the question mark.
    pub fn parse(request: &HttpRequest) -> Self {
        Self::read(request.query_string())
    }

    /// Decodes a query.
    pub fn read(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of `name` that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Whether one of `names` is there more than once.
    pub fn repeats(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.iter().filter(|(known, _)| known == name).count() > 1)
    }

    /// The user code, under the name of our links or the one RFC 8628 uses.
    pub fn code(&self) -> Option<&str> {
        self.get("code").or_else(|| self.get("user_code"))
    }

    /// The `state` parameter of the page, if there is one; an error if it cannot be appended to ours.
    pub fn state_suffix(&self) -> Result<Option<StateSuffix>, BadSuffix> {
        self.get("state").map(|text| StateSuffix::parse(text).ok_or(BadSuffix)).transpose()
    }
}
