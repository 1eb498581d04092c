//! Owns the answers of the simulator, the faults that it can be told to commit, and the bodies Enedis sends with them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::calendar::wall_clock;

/// An answer as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Response {
    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, headers, body: body.into() }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        let headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")];
        Self::new(status, &headers, body.to_string())
    }

    /// A French page; `title` and `body` are trusted HTML.
    pub(super) fn html(status: u16, title: &str, body: &str) -> Self {
        let text = format!(
            "<!DOCTYPE html>\n<html lang=\"fr\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
             <body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
        );
        Self::new(status, &[("Content-Type", "text/html; charset=utf-8")], text)
    }

    /// 200 with a page, where JSON is expected.
    pub(super) fn maintenance() -> Self {
        Self::html(200, "Maintenance", "<p>Le service est momentanément indisponible.</p>")
    }
}

/// What happens to one request. "Effect" is what a correct request changes: a code is consumed, tokens are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    Pass,
    /// Have the effect at once, then wait before the answer: a client's timeout falls after the effect.
    SlowAnswer(Duration),
    /// Answer this, with no effect.
    Answer(Response),
    /// Read the request, then close the connection; no effect.
    CutBefore,
    /// Have the effect, then close the connection with no byte of an answer.
    CutAfter,
    /// Have the effect, then answer 200 with an HTML page in place of the JSON.
    NotJson,
    /// Answer 200 with an HTML page; no effect.
    Html,
    /// Never answer, with no effect, until the client leaves or the simulator is dropped.
    Hang,
}

impl Fault {
    /// Answers `status` with these header fields, `Content-Type` included, and this body.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Self::Answer(Response::new(status, headers, body))
    }

    /// `status` with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Answer(Response::json(status, body))
    }

    /// 429 with `Retry-After` in seconds and the gateway's body without a time.
    pub fn too_many(retry_after_secs: u64) -> Self {
        Self::throttled().with_header("Retry-After", &retry_after_secs.to_string())
    }

    /// 429 with the gateway's body that names no time, and no `Retry-After`.
    pub fn throttled() -> Self {
        let body = json!({"fault": {"code": 900_807, "message": "Message throttled out",
            "description": "You have exceeded your quota"}});
        Self::json(429, &body)
    }

    /// 401 of the gateway: the application's token is unknown to it, or expired.
    pub fn invalid_credentials() -> Self {
        Self::json(401, &json!({"code": "900901", "message": "Invalid Credentials"}))
    }

    /// 403 of the gateway: the application has not subscribed to the API.
    pub fn not_subscribed() -> Self {
        let description =
            "User is NOT authorized to access the Resource. API Subscription validation failed.";
        let body = json!({"code": "900908", "message": "Resource forbidden ", "description": description});
        Self::json(403, &body)
    }

    /// 429 as the gateway sends it when the hourly quota is spent: no `Retry-After`, the body names the moment `until`
    /// (since 1970, UTC), rounded up to a whole second, for example `2026-Jul-17 05:00:00+0000 UTC`.
    pub(super) fn quota_until(until: Duration) -> Self {
        let secs = until.as_secs() + u64::from(until.subsec_nanos() > 0);
        let until = Timestamp::from_second(i64::try_from(secs).unwrap_or(0)).unwrap_or_default();
        let until = until.strftime("%Y-%b-%d %H:%M:%S+0000 UTC").to_string();
        let description = format!("You have exceeded your quota .You can access API after {until}");
        let body = json!({"code": "900804", "message": "Message throttled out", "description": description,
            "nextAccessTime": until});
        Self::json(429, &body)
    }

    /// 429 as the gateway sends it when the hourly quota is spent for another `wait` by the wall clock.
    pub fn quota_for(wait: Duration) -> Self {
        Self::quota_until(wall_clock() + wait)
    }

    /// 503 with an HTML body, as a load balancer sends it.
    pub fn unavailable() -> Self {
        let body = "<html><body><h1>503 Service Unavailable</h1></body></html>";
        Self::answer(503, &[("Content-Type", "text/html")], body)
    }

    /// 500 with Enedis' usual JSON body.
    pub fn server_error() -> Self {
        let description = "Technical error. Please try later.";
        Self::json(500, &json!({"error": "technical_error", "error_description": description}))
    }

    /// 400 with an OAuth error (RFC 6749 section 5.2).
    pub fn oauth_error(error: &str) -> Self {
        Self::json(400, &json!({"error": error, "error_description": "scripted"}))
    }

    /// The same fault with one more header field; only [`Fault::Answer`] has any.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer(response) = &mut self {
            response.headers.push((name.into(), value.into()));
        }
        self
    }
}
