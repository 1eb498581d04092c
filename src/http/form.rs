//! Reads a request's form as OAuth wants it (RFC 6749 section 3.2, RFC 8628 section 3.1): the right media type,
//! each parameter once, a parameter without a value as absent, everything in the body and nothing in the URL.
//!
//! Refuses with an [`ApiError`] that says what is wrong; a body that merely stopped arriving is a transient fault.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{Bytes, BytesMut, Payload};
use actors::base::timer;
use futures_util::StreamExt;

use super::error::ApiError;

/// Largest accepted body. The largest honest one, a refresh with its token, has about 3 KB.
pub const BODY_MAX: usize = 16 * 1024;
/// Most parameters of one request. No request needs more than six.
const PARAMETERS_MAX: usize = 64;
/// Longest accepted `scope`. Enedis' own lists of scopes have some hundred characters.
const SCOPE_MAX: usize = 1_000;
/// Longest time a body may take to arrive. Shorter than a device's patience (30 s).
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of one request, of the right media type and not empty.
pub struct Body(Bytes);

impl Body {
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
        Ok(Self(body))
    }

    /// Its parameters.
    pub fn form(&self) -> Result<Form<'_>, ApiError> {
        Form::parse(&self.0)
    }
}

/// The parameters of one request, borrowed from its body where nothing is escaped. Every name occurs once.
#[derive(Default)]
pub struct Form<'b>(Vec<(Cow<'b, str>, Cow<'b, str>)>);

impl<'b> Form<'b> {
    /// Reads a body.
    pub fn parse(body: &'b [u8]) -> Result<Self, ApiError> {
        let mut pairs: Vec<(Cow<'b, str>, Cow<'b, str>)> = Vec::with_capacity(4);
        for part in body.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            let pair = decode(part).ok_or_else(|| ApiError::invalid_request("a parameter is not UTF-8"))?;
            if pairs.len() >= PARAMETERS_MAX {
                return Err(ApiError::invalid_request("too many parameters"));
            }
            if pairs.iter().any(|(known, _)| *known == pair.0) {
                return Err(ApiError::invalid_request("a parameter is repeated"));
            }
            pairs.push(pair);
        }
        Ok(Self(pairs))
    }

    /// Takes a parameter out; `None` if it is absent or empty.
    pub fn take(&mut self, name: &str) -> Option<Cow<'b, str>> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1).filter(|value| !value.is_empty())
    }

    /// Takes a parameter that must be there and at most `max` bytes long.
    pub fn require(&mut self, name: &'static str, max: usize) -> Result<Cow<'b, str>, ApiError> {
        let value = self.take(name).ok_or_else(|| ApiError::missing(name))?;
        within(name, value, max)
    }

    /// Takes a parameter that may be there, at most `max` bytes long.
    pub fn optional(&mut self, name: &'static str, max: usize) -> Result<Option<Cow<'b, str>>, ApiError> {
        self.take(name).map(|value| within(name, value, max)).transpose()
    }

    /// Takes the `scope` out.
    pub fn scope(&mut self) -> Result<Option<Cow<'b, str>>, ApiError> {
        self.optional("scope", SCOPE_MAX)
    }
}

/// A name and its value; `None` if they are not UTF-8, here or already where they come from. What has nothing to decode, as
/// nearly all of a poll, is taken as it is: the decoder costs ten times as much.
fn decode(part: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    if part.is_ascii() && !part.contains(&b'%') && !part.contains(&b'+') {
        let text = str::from_utf8(part).ok()?;
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        return Some((name.into(), value.into()));
    }
    let (name, value) = form_urlencoded::parse(part).next()?;
    let is_whole = |text: &str| !text.contains('\u{fffd}');
    (is_whole(&name) && is_whole(&value)).then_some((name, value))
}

fn within<'b>(name: &'static str, value: Cow<'b, str>, max: usize) -> Result<Cow<'b, str>, ApiError> {
    let printable = value.bytes().all(|b| b >= 0x20 && b != 0x7f);
    if value.len() <= max && printable {
        Ok(value)
    } else {
        Err(ApiError::InvalidRequest(format!("{name} is too long or holds control characters")))
    }
}

async fn read_body(request: &HttpRequest, payload: &mut Payload) -> Result<Bytes, ApiError> {
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_MAX) {
        return Err(ApiError::TooLarge);
    }
    // A body that came with its head is there at the second look.
    timer::within(BODY_TIMEOUT, 2, read_chunks(payload, announced))
        .await
        .unwrap_or(Err(ApiError::Interrupted))
}

async fn read_chunks(payload: &mut Payload, announced: Option<usize>) -> Result<Bytes, ApiError> {
    let first = next_chunk(payload).await?.unwrap_or_default();
    // Nearly every body comes in one piece, which is taken as it is.
    if announced == Some(first.len()) {
        return Ok(first);
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or(512));
    let mut chunk = first;
    loop {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(ApiError::TooLarge);
        }
        body.extend_from_slice(&chunk);
        match next_chunk(payload).await? {
            Some(next) => chunk = next,
            None => return Ok(body.freeze()),
        }
    }
}

async fn next_chunk(payload: &mut Payload) -> Result<Option<Bytes>, ApiError> {
    payload.next().await.transpose().map_err(|_| ApiError::Interrupted)
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
        let mut form = Form::parse(b"&&a=b=c&%63=d&e&=f").unwrap_or_default();
        for (name, value) in [("a", Some("b=c")), ("c", Some("d")), ("e", None), ("", Some("f"))] {
            assert_eq!(form.take(name).as_deref(), value, "{name}");
        }
        for bad in ["a=1&a=2", "a=&a=1", "a=%ff", "%ff=1", "a=\u{fffd}"] {
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
