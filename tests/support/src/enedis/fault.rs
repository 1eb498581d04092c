//! Owns the faults that the simulator can be told to commit, and the bodies Enedis sends with them.

use std::time::Duration;

use serde_json::json;

use crate::calendar::wall_clock;

/// A door of the simulator that faults can be scripted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `GET /dataconnect/v1/oauth2/authorize`, the consent page.
    Authorize,
    /// `GET /dataconnect/v2/oauth2/authorize`, the consent page since 2026.
    AuthorizeV2,
    /// `POST /oauth2/v3/token`.
    Token,
    /// `POST /subscribed_services/v1/`.
    SubscribedServices,
    /// `GET /metering_data_…/v5/…`.
    DataV5,
    /// `GET /mesure_synchrone_auto/v2/…`.
    Data2026,
}

impl Endpoint {
    /// Every door: for an Enedis that is down as a whole.
    pub const ALL: [Self; 6] = [
        Self::Authorize,
        Self::AuthorizeV2,
        Self::Token,
        Self::SubscribedServices,
        Self::DataV5,
        Self::Data2026,
    ];
}

/// What happens to one request. "Effect" is what a correct request changes: a code is consumed, tokens are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    Pass,
    /// Wait, then have the effect and answer. A client that leaves meanwhile has caused no effect.
    Delay(Duration),
    /// Have the effect at once, then wait before the answer: a client's timeout falls after the effect.
    SlowAnswer(Duration),
    /// Answer this, with no effect.
    Status {
        /// HTTP status code.
        code: u16,
        /// Header fields, `Content-Type` included.
        headers: Vec<(String, String)>,
        /// The whole body.
        body: String,
    },
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
    /// `code` with a JSON body.
    pub fn json(code: u16, body: &serde_json::Value) -> Self {
        Self::Status {
            code,
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: body.to_string(),
        }
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
        Self::json(
            403,
            &json!({"code": "900908", "message": "Resource forbidden ",
                "description": "User is NOT authorized to access the Resource. API Subscription validation failed."}),
        )
    }

    /// 429 as the gateway sends it when the hourly quota is spent: no `Retry-After`, the time is in the body, for
    /// example `2026-Jul-17 05:00:00+0000 UTC` (see [`next_access_time`]).
    pub fn quota(next_access_time: &str) -> Self {
        let description =
            format!("You have exceeded your quota .You can access API after {next_access_time}");
        Self::json(
            429,
            &json!({"code": "900804", "message": "Message throttled out",
                "description": description, "nextAccessTime": next_access_time}),
        )
    }

    /// [`Fault::quota`] with a time `wait` from now by the wall clock, rounded up to a whole second.
    pub fn quota_for(wait: Duration) -> Self {
        Self::quota(&next_access_time(wall_clock() + wait + Duration::from_millis(999)))
    }

    /// 503 with an HTML body, as a load balancer sends it.
    pub fn unavailable() -> Self {
        Self::Status {
            code: 503,
            headers: vec![("Content-Type".into(), "text/html".into())],
            body: "<html><body><h1>503 Service Unavailable</h1></body></html>".into(),
        }
    }

    /// 500 with Enedis' usual JSON body.
    pub fn server_error() -> Self {
        Self::json(
            500,
            &json!({"error": "technical_error", "error_description": "Technical error. Please try later."}),
        )
    }

    /// 400 with an OAuth error (RFC 6749 section 5.2).
    pub fn oauth_error(error: &str) -> Self {
        Self::json(400, &json!({"error": error, "error_description": "scripted"}))
    }

    /// The same fault with one more header field; only [`Fault::Status`] has any.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

/// Writes the moment `since_epoch` (since 1970, UTC) as the gateway does: `2026-Jul-17 05:00:00+0000 UTC`.
pub fn next_access_time(since_epoch: Duration) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let secs = since_epoch.as_secs();
    let (mut days, of_day) = (secs / 86_400, secs % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{}-{:02} {hour:02}:{minute:02}:{second:02}+0000 UTC", MONTHS[month], days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_access_time_is_written_as_the_gateway_does() {
        assert_eq!(next_access_time(Duration::from_secs(1_784_264_400)), "2026-Jul-17 05:00:00+0000 UTC");
        assert_eq!(next_access_time(Duration::from_secs(1_709_164_800)), "2024-Feb-29 00:00:00+0000 UTC");
        assert_eq!(next_access_time(Duration::from_secs(1_798_761_599)), "2026-Dec-31 23:59:59+0000 UTC");
    }

    #[test]
    fn a_quota_body_names_the_time_twice() {
        let Fault::Status { code, body, .. } = Fault::quota("2026-Jul-17 05:00:00+0000 UTC") else {
            panic!("a quota is a status")
        };
        assert_eq!(code, 429);
        assert_eq!(body.matches("2026-Jul-17 05:00:00+0000 UTC").count(), 2);
    }
}
