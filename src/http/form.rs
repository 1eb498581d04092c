//! Reads a request's form as OAuth wants it (RFC 6749 section 3.2, RFC 8628 section 3.1): the right media type,
//! each parameter once, a parameter without a value as absent, everything in the body and nothing in the URL.
//!
//! Refuses with an [`ApiError`] that says what is wrong; a body that merely stopped arriving is a transient fault.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{BytesMut, Payload};
use futures_util::StreamExt;

use super::error::ApiError;

/// Largest accepted body. The largest honest one, a refresh with its token, has about 3 KB.
pub const BODY_MAX: usize = 16 * 1024;
/// Most parameters of one request. No request needs more than six.
const PARAMETERS_MAX: usize = 64;
/// Longest time a body may take to arrive. Shorter than a device's patience (30 s).
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters of one request. Every name occurs once and every value is non-empty.
#[derive(Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads and checks the body of `request`.
    pub async fn read(request: &HttpRequest, payload: &mut Payload) -> Result<Self, ApiError> {
        let body = read_body(request, payload).await?;
        if body.is_empty() {
            let in_url = request.query_string().contains('=');
            return Err(ApiError::invalid_request(if in_url {
                "parameters belong in the body and not in the URL"
            } else {
                "the body is empty"
            }));
        }
        let is_form = request.headers().get(CONTENT_TYPE).is_some_and(|value| {
            let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
            essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        });
        if !is_form {
            return Err(ApiError::invalid_request(
                "the media type must be application/x-www-form-urlencoded",
            ));
        }
        Self::parse(&body)
    }

    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(4);
        for (name, value) in form_urlencoded::parse(body) {
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                return Err(ApiError::invalid_request("a parameter is not UTF-8"));
            }
            if pairs.len() >= PARAMETERS_MAX {
                return Err(ApiError::invalid_request("too many parameters"));
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(ApiError::invalid_request("a parameter is repeated"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    #[cfg(test)]
    pub fn parse_for_tests(body: &str) -> Self {
        Self::parse(body.as_bytes()).unwrap_or_default()
    }

    /// Whether a parameter is there and has this value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(known, given)| known == name && given == value)
    }

    /// Takes a parameter out; `None` if it is absent or empty.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1).filter(|value| !value.is_empty())
    }

    /// Takes a parameter that must be there and at most `max` bytes long.
    pub fn require(&mut self, name: &'static str, max: usize) -> Result<String, ApiError> {
        let value = self.take(name).ok_or_else(|| ApiError::missing(name))?;
        within(name, value, max)
    }

    /// Takes a parameter that may be there, at most `max` bytes long.
    pub fn optional(&mut self, name: &'static str, max: usize) -> Result<Option<String>, ApiError> {
        self.take(name).map(|value| within(name, value, max)).transpose()
    }
}

fn within(name: &'static str, value: String, max: usize) -> Result<String, ApiError> {
    let printable = value.bytes().all(|b| b >= 0x20 && b != 0x7f);
    if value.len() <= max && printable {
        Ok(value)
    } else {
        Err(ApiError::InvalidRequest(format!("{name} is too long or holds control characters")))
    }
}

async fn read_body(request: &HttpRequest, payload: &mut Payload) -> Result<BytesMut, ApiError> {
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_MAX) {
        return Err(ApiError::TooLarge);
    }
    let collect = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(512));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| ApiError::Interrupted)?;
            if body.len() + chunk.len() > BODY_MAX {
                return Err(ApiError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(BODY_TIMEOUT, collect).await.unwrap_or(Err(ApiError::Interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_for_each_name() {
        let mut form = Form::parse(b"client_id=a%20b&scope=&unknown=1").unwrap_or_default();
        assert_eq!(form.take("client_id").as_deref(), Some("a b"));
        assert_eq!(form.take("scope"), None);
        assert_eq!(form.take("client_id"), None);
        for bad in ["a=1&a=2", "a=&a=1", "a=%ff", "%ff=1"] {
            assert!(Form::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_and_control_characters() {
        let form = || Form::parse(b"x=12345&y=a%0Ab").unwrap_or_default();
        assert!(form().require("x", 5).is_ok());
        assert!(form().require("x", 4).is_err());
        assert!(form().require("y", 99).is_err());
        assert!(form().require("z", 99).is_err());
        assert!(matches!(form().optional("z", 99), Ok(None)));
    }
}
