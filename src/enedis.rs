//! Enedis over HTTP: the authorization server ([`authorization`]), the services of subscriptions and contracts beside it,
//! and the resource server ([`data`]). The only files that know Enedis' paths, headers, JSON and error codes: everything else
//! hears verdicts, and another supplier's API would be another folder like this one.
//!
//! One request is one connection: on a connection kept from before, a failure to send could not be told from a
//! lost answer, and an authorization code would be given up for nothing. Redirects are not followed, because the
//! secret must not go elsewhere.

pub mod authorization;
mod contracts;
pub mod data;
pub mod said;
pub(crate) mod subscriptions;
pub mod timed;

use std::time::Duration;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use actors::base::clock::{Clock, Timestamp};
use awc::error::{ConnectError, SendRequestError};
use awc::{Client, Connector, SendClientRequest};
use serde_json::Value;
use url::Url;

/// What Enedis answered to one request.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// Body, bounded.
    pub body: Vec<u8>,
    /// `Retry-After` or `nextAccessTime`: not before this instant.
    pub retry_at: Option<Timestamp>,
}

/// A request that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection was made: Enedis saw nothing.
    #[error("no connection: {0}")]
    NotSent(String),
    /// The request left, no whole answer came back: Enedis may have acted on it.
    #[error("no answer: {0}")]
    Lost(String),
}

/// A client that gives a connection half of `attempt` to be made (name look-up included), so that a host that does
/// not answer is recognised as such before the attempt as a whole times out. Stays on its thread.
fn client(attempt: Duration) -> Client {
    let connector = Connector::new().timeout(attempt / 2).handshake_timeout(attempt / 2);
    Client::builder()
        .connector(connector)
        .timeout(attempt)
        .disable_redirects()
        .add_default_header((ACCEPT, "application/json"))
        .add_default_header(("user-agent", concat!("device-flow-proxy/", env!("CARGO_PKG_VERSION"))))
        .finish()
}

/// `path` below `endpoint`, which may end in a slash or not.
fn address(endpoint: &Url, path: &str) -> String {
    format!("{}/{path}", endpoint.as_str().trim_end_matches('/'))
}

/// Waits for the whole answer to a request that was sent, at most for `limit`; `body_max` bounds its body.
async fn receive(
    sent: SendClientRequest,
    clock: &dyn Clock,
    limit: Duration,
    body_max: usize,
) -> Result<Response, CallError> {
    let exchange = async move {
        let mut response =
            sent.await.map_err(|error| not_sent(error).unwrap_or_else(|error| lost(&error)))?;
        let status = response.status().as_u16();
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (now, wall) = (clock.now(), clock.wall());
        let after = retry_after(response.headers(), wall);
        let body = response.body().limit(body_max).await;
        let body = body.map_err(|_| CallError::Lost("the answer broke off".to_owned()))?.to_vec();
        let retry_at = after.into_iter().chain(next_access_time(&body)).max().map(|at| now + at.since(wall));
        Ok(Response { status, content_type, body, retry_at })
    };
    let late = |_| Err(CallError::Lost("no whole answer in time".to_owned()));
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(late)
}

/// Errors that can only come before anything was sent. `Disconnected` is not one of them: the client reports it
/// when the connection breaks while it waits for the answer.
fn not_sent(error: SendRequestError) -> Result<CallError, SendRequestError> {
    match error {
        SendRequestError::Connect(
            early @ (ConnectError::Resolver(_)
            | ConnectError::NoRecords
            | ConnectError::Unresolved
            | ConnectError::SslIsNotSupported
            | ConnectError::Timeout
            | ConnectError::Io(_)),
        ) => Ok(CallError::NotSent(early.to_string())),
        SendRequestError::Url(error) => Ok(CallError::NotSent(error.to_string())),
        other => Err(other),
    }
}

/// Everything else. Never the error's own text: some quote what was sent.
fn lost(error: &SendRequestError) -> CallError {
    CallError::Lost(match error {
        SendRequestError::Timeout => "no answer in time".to_owned(),
        _ => "the connection broke".to_owned(),
    })
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = value.parse::<u32>() {
        return Some(now + Duration::from_secs(secs.into()));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(Timestamp::EPOCH + at.duration_since(std::time::UNIX_EPOCH).ok()?)
}

/// `nextAccessTime` of the gateway's throttling answer, such as `2026-Jul-17 05:00:00+0000 UTC`.
pub(crate) fn next_access_time(body: &[u8]) -> Option<Timestamp> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = body.get("nextAccessTime")?.as_str()?;
    let at = jiff::Timestamp::strptime("%Y-%b-%d %H:%M:%S%z UTC", text.trim()).ok()?;
    Some(Timestamp::from_millis(u64::try_from(at.as_millisecond()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_next_access_time() {
        let body = br#"{"code":"900804","nextAccessTime":"2026-Jul-17 05:00:00+0000 UTC"}"#;
        assert_eq!(next_access_time(body), Some(Timestamp::from_millis(1_784_264_400_000)));
        for odd in [&b"<html>"[..], b"{}", br#"{"nextAccessTime":"tomorrow"}"#, br#"{"nextAccessTime":7}"#] {
            assert_eq!(next_access_time(odd), None);
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = Timestamp::from_millis(1_000_000);
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("7"), Some(Timestamp::from_millis(1_007_000)));
        assert_eq!(read("Thu, 01 Jan 1970 00:20:00 GMT"), Some(Timestamp::from_millis(1_200_000)));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
