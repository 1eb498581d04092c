//! Every error a device can receive, and the only place that gives it a status, a body and headers.
//!
//! The bodies are those of RFC 6749 section 5.2 and RFC 8628 section 3.5. Errors that a device takes for final
//! (`invalid_*`) are reserved for requests that can never succeed; our own trouble is always
//! `temporarily_unavailable` with `Retry-After`, because the plugin erases its tokens on anything else.

use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use actors::base::admission::AskError;
use actors::metering::resource_server::DataError;
use serde::Serialize;

/// An error answer of the device endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// 400 `invalid_request`: the request is malformed, as the text says.
    InvalidRequest(String),
    /// 400 `invalid_request`: the body is larger than we read.
    TooLarge,
    /// 408 `temporarily_unavailable`: the body did not arrive in time, or not whole.
    Interrupted,
    /// `invalid_client`: 401 with a challenge if the client used HTTP Basic, else 400.
    InvalidClient {
        /// Whether the client used the `Authorization` header.
        basic: bool,
    },
    /// 400 `invalid_grant`: unknown, spent, or another client's code.
    InvalidGrant,
    /// 400 `unsupported_grant_type`.
    UnsupportedGrantType,
    /// 400 `unsupported_token_type`: Enedis' own token (RFC 7009 section 2.2.1).
    UnsupportedTokenType,
    /// 400 `version_mismatch`: the plugin is older than `VERSION_MIN`. The word is the original server's.
    VersionMismatch,
    /// 400 `authorization_pending`.
    AuthorizationPending {
        /// Seconds until the next poll.
        interval_secs: u32,
    },
    /// 400 `slow_down`.
    SlowDown {
        /// Seconds until the next poll.
        interval_secs: u32,
    },
    /// 400 `access_denied`: the person refused.
    AccessDenied,
    /// 400 `expired_token`: nobody decided in time.
    ExpiredToken,
    /// 429 `temporarily_unavailable`: this address asks for too many codes.
    TooManyCodes {
        /// When it may ask again.
        retry_after: Duration,
    },
    /// 429 `temporarily_unavailable`: too many refreshes of this address were refused, or one token is refreshed too often.
    TooManyRefreshes {
        /// When it may try again.
        retry_after: Duration,
    },
    /// 503 `temporarily_unavailable`: our own trouble, or Enedis'.
    Unavailable {
        /// When to come back.
        retry_after: Duration,
    },
    /// 503 `temporarily_unavailable`: a token that should be in this store is not. Not `invalid_grant`, on which a box erases
    /// its tokens: the store may be the wrong one.
    StoreDoubted,
    /// 401 `invalid_token` with a challenge: an access token of ours that is missing, unknown or ended (RFC 6750
    /// section 3.1). The plugin refreshes it by itself.
    InvalidToken,
    /// 404 `unknown_usage_point`: the access token does not cover this meter. Not 403: that makes the plugin erase its
    /// tokens.
    OtherMeter,
    /// Enedis' own error about a meter's data, with its status and code. 403 only if the owner has to consent again.
    Data(DataError),
    /// 429 `temporarily_unavailable`: Enedis' quota, or trouble that has just begun; the plugin asks again at once.
    EnedisBusy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// 404 `not_relayed`: identity, contact or address, which nobody is told here.
    Personal,
    /// 404 `not_found`: no such endpoint.
    NotFound,
    /// 405 `method_not_allowed`, with `Allow`.
    MethodNotAllowed {
        /// The methods there are.
        allow: &'static str,
    },
}

/// When to come back after trouble whose length is unknown.
pub const SOON: Duration = Duration::from_secs(5);
/// When to come back with a token that should be in the store: an operator has to see to it.
const DOUBTED: Duration = Duration::from_secs(300);

/// RFC 6750 section 3. Without a blank behind the comma and without a comma inside a part, on which the plugin would
/// stumble; it reads the error in the body first.
const BEARER_CHALLENGE: &str = "Bearer realm=\"device-flow-proxy\",error=\"invalid_token\"";

impl ApiError {
    /// `invalid_request` with a description in plain ASCII.
    pub fn invalid_request(description: &str) -> Self {
        Self::InvalidRequest(description.to_owned())
    }

    /// `invalid_request`: a required parameter is absent or empty.
    pub fn missing(name: &str) -> Self {
        Self::InvalidRequest(format!("{name} is missing"))
    }

    /// Our own trouble of unknown length.
    pub const fn unavailable() -> Self {
        Self::Unavailable { retry_after: SOON }
    }

    fn code(&self) -> &str {
        match self {
            Self::InvalidRequest(_) | Self::TooLarge => "invalid_request",
            Self::Interrupted
            | Self::TooManyCodes { .. }
            | Self::TooManyRefreshes { .. }
            | Self::EnedisBusy { .. }
            | Self::StoreDoubted
            | Self::Unavailable { .. } => "temporarily_unavailable",
            Self::InvalidToken => "invalid_token",
            Self::OtherMeter => "unknown_usage_point",
            Self::Data(error) => &error.code,
            Self::InvalidClient { .. } => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::VersionMismatch => "version_mismatch",
            Self::AuthorizationPending { .. } => "authorization_pending",
            Self::SlowDown { .. } => "slow_down",
            Self::AccessDenied => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::Personal => "not_relayed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
        }
    }

    fn description(&self) -> &str {
        match self {
            Self::InvalidRequest(text) => text,
            Self::TooLarge => "the body is larger than 16 KB",
            Self::Interrupted => "the body did not arrive whole and in time",
            Self::InvalidClient { .. } => "the client is not known here, or its secret is wrong",
            Self::InvalidGrant => {
                "the code or token is unknown, was used or revoked, or belongs to another client"
            }
            Self::UnsupportedGrantType => "this grant_type is not supported here",
            Self::UnsupportedTokenType => "tokens of Enedis are ended at Enedis",
            Self::VersionMismatch => "this version of the plugin is too old, please update it",
            Self::AuthorizationPending { .. } => "the person has not decided yet",
            Self::SlowDown { .. } => "polling too fast, keep to the interval",
            Self::AccessDenied => "the person refused",
            Self::ExpiredToken => "the code has expired, ask for a new one",
            Self::TooManyCodes { .. } => "too many device codes were asked for from this address",
            Self::TooManyRefreshes { .. } => "too many refreshes, or too many of this address were refused",
            Self::InvalidToken => "the access token is missing, unknown or expired, refresh it",
            Self::OtherMeter => "the access token does not cover this usage_point_id",
            Self::Data(error) => &error.description,
            Self::EnedisBusy { .. } => "Enedis cannot be asked at the moment, try again",
            Self::StoreDoubted => "the token should be known here and is not, keep it and try again later",
            Self::Unavailable { .. } => "the service is in trouble or busy, try again later",
            Self::Personal => "identity, contact and addresses are not relayed",
            Self::NotFound => "there is no such endpoint",
            Self::MethodNotAllowed { .. } => "the endpoint does not take this method",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyCodes { retry_after }
            | Self::TooManyRefreshes { retry_after }
            | Self::EnedisBusy { retry_after }
            | Self::Unavailable { retry_after } => Some(*retry_after),
            Self::StoreDoubted => Some(DOUBTED),
            Self::Interrupted => Some(SOON),
            _ => None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_)
            | Self::TooLarge
            | Self::InvalidClient { basic: false }
            | Self::InvalidGrant
            | Self::UnsupportedGrantType
            | Self::UnsupportedTokenType
            | Self::VersionMismatch
            | Self::AuthorizationPending { .. }
            | Self::SlowDown { .. }
            | Self::AccessDenied
            | Self::ExpiredToken => StatusCode::BAD_REQUEST,
            Self::InvalidClient { basic: true } | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::Interrupted => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyCodes { .. } | Self::TooManyRefreshes { .. } | Self::EnedisBusy { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            // What Enedis cannot say of data is trouble.
            Self::Data(error) => {
                StatusCode::from_u16(error.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::StoreDoubted | Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound | Self::Personal | Self::OtherMeter => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = no_store(HttpResponse::build(self.status_code()));
        if let Some(wait) = self.retry_after() {
            response.insert_header((RETRY_AFTER, HeaderValue::from(secs_up(wait))));
        }
        let (error, error_description) = (self.code(), self.description());
        match self {
            Self::InvalidClient { basic: true } => {
                response.insert_header((WWW_AUTHENTICATE, "Basic realm=\"device-flow-proxy\""));
            }
            Self::InvalidToken => {
                response.insert_header((WWW_AUTHENTICATE, BEARER_CHALLENGE));
            }
            Self::MethodNotAllowed { allow } => {
                response.insert_header((ALLOW, *allow));
            }
            // What is left of the body must not be taken for the next request.
            Self::TooLarge | Self::Interrupted => {
                response.force_close();
            }
            // The interval is in the body too: some clients read it there, and only there.
            Self::AuthorizationPending { interval_secs } | Self::SlowDown { interval_secs } => {
                return response.insert_header((CONTENT_TYPE, JSON)).body(again(
                    error,
                    error_description,
                    *interval_secs,
                ));
            }
            _ => {}
        }
        // Strings only: this cannot fail.
        let body = serde_json::to_string(&ErrorBody { error, error_description }).unwrap_or_default();
        response.insert_header((CONTENT_TYPE, JSON)).body(body)
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Overloaded | AskError::Timeout | AskError::Stopped => Self::unavailable(),
        }
    }
}

/// RFC 6749 section 5.2.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    error_description: &'a str,
}

/// The body of an answer to a poll that is to be repeated, by far the most frequent one: written down as it is, since
/// nothing in our own texts needs escaping.
fn again(error: &str, error_description: &str, interval: u32) -> String {
    format!(r#"{{"error":"{error}","error_description":"{error_description}","interval":{interval}}}"#)
}

// Static, so that no answer copies them.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Adds what every answer of a device endpoint carries (RFC 6749 section 5.1).
pub fn no_store(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response.insert_header((CACHE_CONTROL, NO_STORE)).insert_header((PRAGMA, NO_CACHE));
    // What a stranger can have repeated in an answer is never taken for a page.
    response.insert_header((X_CONTENT_TYPE_OPTIONS, NO_SNIFF));
    response
}

/// A successful JSON answer of a device endpoint.
pub fn json_answer(body: String) -> HttpResponse {
    json_body(StatusCode::OK, body)
}

/// A JSON answer with this status.
pub fn json_body(status: StatusCode, body: String) -> HttpResponse {
    no_store(HttpResponse::build(status)).insert_header((CONTENT_TYPE, JSON)).body(body)
}

/// Whole seconds, rounded up.
pub fn secs_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_answers() {
        let wait = Duration::from_millis(1_500);
        let table = [
            (ApiError::invalid_request("x"), 400, "invalid_request"),
            (ApiError::TooLarge, 400, "invalid_request"),
            (ApiError::Interrupted, 408, "temporarily_unavailable"),
            (ApiError::InvalidClient { basic: false }, 400, "invalid_client"),
            (ApiError::InvalidClient { basic: true }, 401, "invalid_client"),
            (ApiError::InvalidGrant, 400, "invalid_grant"),
            (ApiError::UnsupportedGrantType, 400, "unsupported_grant_type"),
            (ApiError::UnsupportedTokenType, 400, "unsupported_token_type"),
            (ApiError::VersionMismatch, 400, "version_mismatch"),
            (ApiError::AuthorizationPending { interval_secs: 5 }, 400, "authorization_pending"),
            (ApiError::SlowDown { interval_secs: 10 }, 400, "slow_down"),
            (ApiError::AccessDenied, 400, "access_denied"),
            (ApiError::ExpiredToken, 400, "expired_token"),
            (ApiError::TooManyCodes { retry_after: wait }, 429, "temporarily_unavailable"),
            (ApiError::TooManyRefreshes { retry_after: wait }, 429, "temporarily_unavailable"),
            (ApiError::Unavailable { retry_after: wait }, 503, "temporarily_unavailable"),
            (ApiError::StoreDoubted, 503, "temporarily_unavailable"),
            (ApiError::InvalidToken, 401, "invalid_token"),
            (ApiError::OtherMeter, 404, "unknown_usage_point"),
            (ApiError::EnedisBusy { retry_after: wait }, 429, "temporarily_unavailable"),
            (ApiError::Data(DataError::no_data()), 404, "no_data_found"),
            (ApiError::Data(DataError::no_consent()), 403, "ADAM-DC-0008"),
            (ApiError::NotFound, 404, "not_found"),
            (ApiError::MethodNotAllowed { allow: "POST" }, 405, "method_not_allowed"),
        ];
        for (error, status, code) in table {
            let response = error.error_response();
            assert_eq!(response.status().as_u16(), status, "{error:?}");
            assert_eq!(error.code(), code);
            assert_eq!(response.headers().get(CACHE_CONTROL).unwrap(), "no-store");
            assert_eq!(response.headers().get(PRAGMA).unwrap(), "no-cache");
            assert_eq!(response.headers().get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
            assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), status == 401);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), matches!(status, 408 | 429 | 503));
            // RFC 6749 section 5.2 allows neither quotes nor backslashes nor anything beyond ASCII.
            let legal = |b: u8| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            assert!(error.description().bytes().all(legal), "{error:?}");
        }
        let text = again("slow_down", ApiError::SlowDown { interval_secs: 10 }.description(), 10);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["error"], &json["interval"]), (&"slow_down".into(), &10.into()));
        let retry = ApiError::Unavailable { retry_after: wait }.error_response();
        assert_eq!(retry.headers().get(RETRY_AFTER).unwrap(), "2");
    }
}
