//! A box without a browser: the device side of RFC 8628, over one keep-alive connection.
//!
//! It owns the codes it was given and the pace of its polls: at least `interval` seconds apart, 5 more after every
//! `slow_down` (RFC 8628 section 3.5), and no faster after a failed connection. It refuses nothing: an answer that
//! is not what the RFC asks for is handed to the caller as it is.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::http::{self, Answer, Fault};

/// `grant_type` of a poll (RFC 8628 section 3.4).
pub const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// `User-Agent` of a box in the field.
const USER_AGENT: &str = "DomoticzLinkyPlugin/2.6.0";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval when the answer names none, in seconds (RFC 8628 section 3.2).
const DEFAULT_INTERVAL_SECS: u64 = 5;
/// What a `slow_down` adds to the interval (RFC 8628 section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// A box.
#[derive(Clone, Debug)]
pub struct Device {
    base_url: String,
    client_id: String,
    client_secret: Option<String>,
    client: reqwest::Client,
    code: Option<DeviceCodeAnswer>,
}

/// The answer to a request for codes (RFC 8628 section 3.2).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DeviceCodeAnswer {
    /// What the box polls with.
    pub device_code: String,
    /// What the person types.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: String,
    /// The same with the code filled in.
    pub verification_uri_complete: Option<String>,
    /// Life of the codes, in seconds.
    pub expires_in: u64,
    /// Least time between polls, in seconds.
    #[serde(default = "default_interval_secs")]
    pub interval: u64,
}

impl Device {
    /// A box that talks to the proxy at `base_url` as `client_id`, without a secret.
    ///
    /// # Panics
    /// If no HTTP client can be built.
    pub fn new(base_url: impl Into<String>, client_id: impl Into<String>) -> Self {
        let client = http::builder()
            .pool_max_idle_per_host(1)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .default_headers(HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]))
            .build()
            .expect("an HTTP client");
        let base_url = base_url.into().trim_end_matches('/').to_owned();
        Self { base_url, client_id: client_id.into(), client_secret: None, client, code: None }
    }

    /// Sends `client_secret` in the body of every request.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// The codes of the last [`Device::request_code`].
    ///
    /// # Panics
    /// If no codes were asked for.
    pub fn code(&self) -> &DeviceCodeAnswer {
        self.code.as_ref().expect("codes were asked for")
    }

    /// Asks for codes, with `extra` form fields, and remembers them.
    pub async fn request_code(&mut self, extra: &[(&str, &str)]) -> Result<DeviceCodeAnswer, Fault> {
        let answer = self.post_form("/device/code", &self.form(extra)).await?;
        match serde_json::from_value::<DeviceCodeAnswer>(answer.json.clone()) {
            Ok(code) if answer.status == 200 => {
                self.code = Some(code.clone());
                Ok(code)
            }
            _ => Err(format!("no codes in the answer: HTTP {} {}", answer.status, answer.body).into()),
        }
    }

    /// Polls once, now, with the remembered code.
    pub async fn poll_once(&self) -> Result<Answer, Fault> {
        self.poll_code(&self.code().device_code).await
    }

    /// Polls once, now, with `device_code`.
    pub async fn poll_code(&self, device_code: &str) -> Result<Answer, Fault> {
        let form = self.form(&[("grant_type", DEVICE_CODE_GRANT), ("device_code", device_code)]);
        self.post_form("/device/token", &form).await
    }

    /// Polls as RFC 8628 section 3.5 asks until the answer is final, at most for `within`. The first poll comes
    /// one interval from now. Final is all but `authorization_pending`, `slow_down`, 5xx and lost connections.
    pub async fn poll_until_final(&self, within: Duration) -> Result<Answer, Fault> {
        let code = self.code();
        let polling = async {
            let mut pace = Pace(Duration::from_secs(code.interval));
            let mut wait = pace.0;
            loop {
                tokio::time::sleep(wait).await;
                let Ok(answer) = self.poll_code(&code.device_code).await else {
                    wait = pace.0;
                    continue;
                };
                match pace.after(&answer) {
                    Some(next) => wait = next,
                    None => return answer,
                }
            }
        };
        Ok(tokio::time::timeout(within, polling).await.map_err(|_| "no final answer in time")?)
    }

    /// Refreshes through `/device/proxy` with `extra` form fields.
    pub async fn refresh(&self, refresh_token: &str, extra: &[(&str, &str)]) -> Result<Answer, Fault> {
        let mut form = self.form(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]);
        form.extend_from_slice(extra);
        self.post_form("/device/proxy", &form).await
    }

    /// Posts a form of exactly these fields to `path`, which begins with a slash.
    pub async fn post_form(&self, path: &str, fields: &[(&str, &str)]) -> Result<Answer, Fault> {
        let request = self.client.post(format!("{}{path}", self.base_url)).form(fields);
        Ok(Answer::read(request.send().await?).await?)
    }

    /// Gets `path`, which begins with a slash and may carry a query.
    pub async fn get(&self, path: &str) -> Result<Answer, Fault> {
        let request = self.client.get(format!("{}{path}", self.base_url));
        Ok(Answer::read(request.send().await?).await?)
    }

    /// The client's own fields, then `extra`.
    fn form<'a>(&'a self, extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut form = vec![("client_id", self.client_id.as_str())];
        form.extend(self.client_secret.as_deref().map(|secret| ("client_secret", secret)));
        form.extend_from_slice(extra);
        form
    }
}

impl DeviceCodeAnswer {
    /// Where to send the person: the complete link if there is one.
    pub fn link(&self) -> &str {
        self.verification_uri_complete.as_deref().unwrap_or(&self.verification_uri)
    }
}

/// The token members of a successful answer that a box keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// `access_token`.
    pub access: String,
    /// `refresh_token`.
    pub refresh: String,
}

impl Tokens {
    /// Reads them from the JSON of a token answer; `None` if one is missing.
    pub fn read(json: &Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        Some(Self { access: text("access_token")?, refresh: text("refresh_token")? })
    }
}

/// The time between polls.
struct Pace(Duration);

impl Pace {
    /// The wait before the next poll; `None` after a final answer.
    fn after(&mut self, answer: &Answer) -> Option<Duration> {
        match answer.outcome() {
            (400, Some("authorization_pending")) => Some(self.0),
            (400, Some("slow_down")) => {
                self.0 += SLOW_DOWN;
                Some(self.0)
            }
            (500.., _) => Some(answer.retry_after().unwrap_or(self.0).max(self.0)),
            _ => None,
        }
    }
}

fn default_interval_secs() -> u64 {
    DEFAULT_INTERVAL_SECS
}

#[cfg(test)]
mod tests {
    use reqwest::header::RETRY_AFTER;

    use super::*;

    fn answer(status: u16, error: &str, retry_after: Option<&'static str>) -> Answer {
        let json = serde_json::json!({ "error": error });
        let retry_after = retry_after.map(|secs| (RETRY_AFTER, HeaderValue::from_static(secs)));
        Answer { status, headers: HeaderMap::from_iter(retry_after), body: json.to_string(), json }
    }

    #[test]
    fn slow_down_adds_five_seconds_for_good() {
        let secs = |secs| Some(Duration::from_secs(secs));
        let mut pace = Pace(Duration::from_secs(5));
        assert_eq!(pace.after(&answer(400, "authorization_pending", None)), secs(5));
        assert_eq!(pace.after(&answer(400, "slow_down", None)), secs(10));
        assert_eq!(pace.after(&answer(400, "authorization_pending", None)), secs(10));
        assert_eq!(pace.after(&answer(503, "temporarily_unavailable", Some("30"))), secs(30));
        assert_eq!(pace.after(&answer(503, "temporarily_unavailable", Some("1"))), secs(10));
        for error in ["access_denied", "expired_token", "invalid_grant"] {
            assert_eq!(pace.after(&answer(400, error, None)), None);
        }
        assert_eq!(pace.after(&answer(200, "", None)), None);
    }
}
