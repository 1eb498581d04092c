//! Owns codes and tokens: what is asked, and the reactions to what the token endpoint answers.

use std::time::Duration;

use serde_json::Value;

use super::fetch::Cycle;
use super::message::{CLIENT_ID, Crash, Kind, Next, Reply, Request, text};
use super::{INTERVAL, Plugin, Step};

/// Taken off the life of an access token when it is stored, and again when it is used.
const MARGIN_SECS: i64 = 600;
/// Errors on which the box stops for good, whatever the status.
const FATAL: [&str; 3] = ["unauthorized", "invalid_grant", "invalid_request"];

impl Plugin {
    /// A new cycle: with tokens that still live some time, fetch; with others, refresh; without, ask for consent.
    pub(super) fn begin(&mut self) -> Option<Request> {
        self.cycle = Cycle::default();
        match self.saved.expires_at {
            Some(expires_at) if self.now < expires_at.plus_secs(-MARGIN_SECS) => self.start(),
            Some(_) => self.refresh(),
            None => {
                let fields = [("client_id", CLIENT_ID)];
                self.send(Request::form(&self.settings, Kind::DeviceCode, &fields))
            }
        }
    }

    /// Asks whether the owner has consented.
    pub(super) fn poll(&mut self) -> Option<Request> {
        let fields = [
            ("client_id", CLIENT_ID),
            ("grant_type", crate::device::DEVICE_CODE_GRANT),
            ("device_code", &self.device_code),
        ];
        self.send(Request::form(&self.settings, Kind::Poll, &fields))
    }

    /// Asks for a new access token; once per cycle.
    pub(super) fn refresh(&mut self) -> Option<Request> {
        self.cycle.refreshed = true;
        let points = self.saved.usage_points.join(",");
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("usage_points_id", &points),
            ("refresh_token", &self.saved.refresh_token),
        ];
        self.send(Request::form(&self.settings, Kind::Refresh, &fields))
    }

    /// The answer with codes: anything else is asked again.
    pub(super) fn on_device_code(&mut self, reply: Option<&Reply>) -> Next {
        let Some(reply) = reply.filter(|reply| reply.status == 200) else { return Ok(self.retry()) };
        let members = reply.members()?.unwrap_or_default();
        let codes = (members.get("device_code"), members.get("user_code"));
        let (Some(device), Some(user)) = codes else { return Ok(self.retry()) };
        self.device_code = text(device);
        self.user_code = Some(text(user));
        Ok(self.poll())
    }

    /// The answer to a poll or a refresh. The error in the body counts before the status.
    pub(super) fn on_token(&mut self, reply: Option<&Reply>) -> Next {
        let Some(reply) = reply else { return Ok(self.retry()) };
        let error = reply.error()?;
        if FATAL.contains(&error.as_str()) {
            return Ok(self.disable());
        }
        let Some(members) = reply.members()? else { return Ok(self.retry()) };
        if error == "authorization_pending" {
            if let Some(interval) = members.get("interval") {
                let secs = whole(interval).and_then(|secs| u64::try_from(secs).ok());
                self.interval = secs.map_or(INTERVAL, Duration::from_secs);
            }
            self.step = Step::AskAgain;
            self.in_a_while(self.interval);
            return Ok(None);
        }
        if reply.status != 200 {
            return Ok(self.retry());
        }
        if let Some(points) = members.get("usage_points_id") {
            self.saved.usage_points = text(points).split(',').map(ToOwned::to_owned).collect();
        }
        let mut all = true;
        let mut keep = |name: &str, place: &mut String| match members.get(name) {
            Some(value) => *place = text(value),
            None => all = false,
        };
        keep("refresh_token", &mut self.saved.refresh_token);
        keep("access_token", &mut self.saved.access_token);
        keep("token_type", &mut self.saved.token_type);
        match members.get("expires_in") {
            Some(expires_in) => {
                let secs = whole(expires_in).ok_or(Crash)?;
                self.saved.expires_at = Some(self.now.plus_secs(secs - MARGIN_SECS));
            }
            None => all = false,
        }
        Ok(if all { self.start() } else { self.retry() })
    }
}

/// What `int()` makes of it.
fn whole(value: &Value) -> Option<i64> {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "int() truncates as well")]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
