//! Owns the client that [`crate::device`], [`crate::person`] and the tests send with, and the answer type they read: a
//! complete HTTP answer, its body in memory.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder};
use serde_json::Value;

use crate::tls;

/// Why a box or a person has no answer to give, in words.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A client that trusts the certificates of [`tls`], and no others.
pub fn builder() -> ClientBuilder {
    Client::builder().tls_backend_preconfigured(tls::client()).no_proxy()
}

/// One with nothing else set.
///
/// # Panics
/// If no HTTP client can be built.
pub fn client() -> Client {
    builder().build().expect("an HTTP client")
}

/// A complete answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code, such as 200.
    pub status: u16,
    /// Header fields as received.
    pub headers: HeaderMap,
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// The body parsed as JSON, [`Value::Null`] if it is not JSON.
    pub json: Value,
}

impl Answer {
    /// Reads `response` to its end.
    pub async fn read(response: reqwest::Response) -> Result<Self, reqwest::Error> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = String::from_utf8_lossy(&response.bytes().await?).into_owned();
        let json = serde_json::from_str(&body).unwrap_or(Value::Null);
        Ok(Self { status, headers, body, json })
    }

    /// The first value of header `name` (any case), if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The string member `name` of the JSON body.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.json.get(name)?.as_str()
    }

    /// The OAuth error code of the JSON body (RFC 6749 section 5.2).
    pub fn error(&self) -> Option<&str> {
        self.text("error")
    }

    /// The status and [`Answer::error`].
    pub fn outcome(&self) -> (u16, Option<&str>) {
        (self.status, self.error())
    }

    /// `Retry-After` when it is a number of seconds (RFC 9110 section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}
