//! What an answer of Enedis means for the box.
//!
//! The plugin draws lasting conclusions from statuses: 403 makes it erase its tokens, 400 and 500 to a request for
//! production mean "no production here", `invalid_token` makes it refresh **our** token. So Enedis' own errors about
//! data pass with their status and code, and everything that is only its gateway in trouble becomes 429 or 503.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api_choice::{Api, Report};
use super::request::MeterRequest;
use super::translate::to_v5;
use super::v5::V5Answer;
use crate::base::clock::Timestamp;
use crate::enedis::port::{Answer, CallError};
use crate::limits::quota::CLOSED_MAX;

/// Pause after a throttling answer that names no time: it may have been the limit per second.
const BUSY_UNNAMED: Duration = Duration::from_secs(10);
/// What the box is told to wait when Enedis does not answer. The plugin comes back after an hour anyway.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(60);
/// Longest code and description handed on, in characters.
const TEXT_MAX: usize = 200;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Values, as v5 writes them; perhaps none. They are about the meter that was asked for.
    Data(V5Answer),
    /// Enedis answered, and the answer is an error about this meter's data: hand it on. Never 403.
    DataError(DataError),
    /// Enedis says the owner's consent is not there. Not to be handed on before [`super::refusals`] believes it.
    NoConsent(DataError),
    /// Enedis did not deal with the question.
    Gateway(Gateway),
}

/// An error of Enedis about data, with the status and the code the box sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataError {
    /// 400 or 404; 403 only in [`Verdict::NoConsent`].
    pub status: u16,
    /// `error` in the body: an ADAM or STM code as sent, or one of v5's words.
    pub code: String,
    /// `error_description`, ASCII, at most 200 characters.
    pub description: String,
}

/// What Enedis' gateway in trouble calls for. Ordered by how long it keeps a box waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gateway {
    /// The application's token is not accepted: get a new one and call once more. If that ends here again, it is
    /// [`Self::Unavailable`].
    RenewToken,
    /// This API is closed, or the application is not subscribed to it: another API may do.
    NotThere,
    /// No answer, an answer that is none, or one that says Enedis cannot.
    Unavailable,
    /// The quota is used up: nothing may be sent before.
    Busy {
        /// Never later than an hour from the answer.
        until: Timestamp,
    },
}

/// What an error says about the next time the same is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Nothing measured in this range, yet or ever.
    NoData,
    /// The range begins before the meter's last activation, or before the consent.
    TooEarly,
    /// The range begins before what Enedis keeps.
    TooOld,
    /// The meter has no such direction: most have no production.
    NoDirection,
    /// The load curve is not recorded; its owner can have that changed.
    NotRecorded,
    /// Anything else.
    Other,
}

impl DataError {
    /// What v5 says of a range without values.
    pub fn no_data() -> Self {
        let description = "no measure found for this usage point".to_owned();
        Self { status: 404, code: "no_data_found".to_owned(), description }
    }

    /// What v5 says where the owner has to consent again. Only once that is believed.
    pub fn no_consent() -> Self {
        let description = "no consent can be found for this usage point".to_owned();
        Self { status: 403, code: "ADAM-DC-0008".to_owned(), description }
    }

    /// What it says about the next time.
    pub fn cause(&self) -> Cause {
        match self.code.as_str() {
            "no_data_found" | "STM-ERR-0000014" | "STM-ERR-0000019" | "STM-ERR-0000020" => Cause::NoData,
            "ADAM-ERR0123" | "ADAM-DC-0009" => Cause::TooEarly,
            "ADAM-DC-0016" | "ADAM-ERR0125" => Cause::TooOld,
            "ADAM-ERR0069" => Cause::NoDirection,
            "ADAM-ERR0061" | "ADAM-ERR0075" => Cause::NotRecorded,
            _ => Cause::Other,
        }
    }

    /// The body for the box.
    pub fn to_body(&self) -> String {
        serde_json::json!({"error": self.code, "error_description": self.description}).to_string()
    }
}

impl Gateway {
    /// Whether the same call may be put to the other API at once. Never because of the quota: that is one reason
    /// to leave Enedis alone, not two to ask it twice.
    pub const fn other_api_may_do(self) -> bool {
        matches!(self, Self::NotThere | Self::Unavailable)
    }

    /// Status and `Retry-After` for the box: 429 for the quota, else 503, nothing else ever.
    pub fn answer(self, now: Timestamp) -> (u16, Duration) {
        match self {
            Self::Busy { until } => (429, until.since(now).max(Duration::from_secs(1))),
            Self::RenewToken | Self::NotThere | Self::Unavailable => (503, UNAVAILABLE_RETRY),
        }
    }
}

impl Verdict {
    /// What it tells about the API that was asked; `None` if nothing.
    pub const fn report(&self) -> Option<Report> {
        match self {
            Self::Data(_) | Self::DataError(_) | Self::NoConsent(_) | Self::Gateway(Gateway::Busy { .. }) => {
                Some(Report::Works)
            }
            Self::Gateway(Gateway::NotThere) => Some(Report::NotThere),
            Self::Gateway(Gateway::Unavailable) => Some(Report::Trouble),
            Self::Gateway(Gateway::RenewToken) => None,
        }
    }
}

/// Reads what came of `call`, put to `api`. [`Answer::retry_at`] carries `Retry-After` or `nextAccessTime`.
pub fn judge(api: Api, call: MeterRequest, attempt: &Result<Answer, CallError>, now: Timestamp) -> Verdict {
    let Ok(answer) = attempt else { return Verdict::Gateway(Gateway::Unavailable) };
    // Values first: they are by far the largest answers, and are read once.
    if (200..300).contains(&answer.status)
        && let Some(data) = data(api, call, answer)
    {
        return Verdict::Data(data);
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
    let said = body.as_ref().map(Said::read).unwrap_or_default();
    if let Some(gateway) = gateway_code(&said, answer, now) {
        return Verdict::Gateway(gateway);
    }
    match answer.status {
        400 | 403 | 404 if body.is_some() => data_error(answer.status, &said),
        // A gateway that knows the API answers in JSON.
        404 => Verdict::Gateway(Gateway::NotThere),
        _ => Verdict::Gateway(Gateway::Unavailable),
    }
}

/// The code and the words of an error, in any of the shapes seen.
#[derive(Default)]
struct Said {
    code: String,
    words: String,
    status_report: bool,
}

impl Said {
    fn read(body: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let nested = ["fault", "error"].iter().find_map(|name| body.get(name).filter(|v| v.is_object()));
        let inner = nested.unwrap_or(body);
        let find = |names: &[&str]| names.iter().find_map(|name| inner.get(name).and_then(text));
        Self {
            code: find(&["error", "code"]).unwrap_or_default(),
            words: find(&["error_description", "message", "description"]).unwrap_or_default(),
            status_report: inner.get("type").is_some_and(|t| t == "Status report"),
        }
    }

    fn mentions(&self, word: &str) -> bool {
        self.words.to_lowercase().contains(word)
    }
}

/// What only the gateway says, whatever the status around it.
fn gateway_code(said: &Said, answer: &Answer, now: Timestamp) -> Option<Gateway> {
    let code = said.code.as_str();
    let throttled = code.len() == 6 && code.starts_with("90080");
    if throttled || answer.status == 429 || code == "429" {
        let hour = (now.as_secs() / 3_600 + 1) * 3_600_000;
        // Two generations of bodies: the limit per hour was called Q4 once.
        let unnamed =
            if said.mentions("quota.q4") { Timestamp::from_millis(hour) } else { now + BUSY_UNNAMED };
        let until = answer.retry_at.filter(|at| *at > now).unwrap_or(unnamed);
        return Some(Gateway::Busy { until: until.min(now + CLOSED_MAX) });
    }
    match code {
        "900900" | "900901" | "900902" | "900903" | "900904" | "invalid_token" => Some(Gateway::RenewToken),
        "900906" | "900907" | "900908" => Some(Gateway::NotThere),
        _ if said.status_report && answer.status == 404 => Some(Gateway::NotThere),
        // The numbers of the gateway's own faults and of the mediation behind it.
        _ if code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()) => Some(Gateway::Unavailable),
        _ if answer.status == 401 => Some(Gateway::RenewToken),
        _ => None,
    }
}

/// The values in an answer; `None` if there are none, or they are another meter's, which nobody may see.
fn data(api: Api, call: MeterRequest, answer: &Answer) -> Option<V5Answer> {
    let read = match api {
        Api::New => to_v5(call.resource, &answer.body).ok().filter(V5Answer::is_terse),
        Api::Legacy => V5Answer::read(&answer.body),
    };
    read.filter(|read| read.meter_reading.usage_point_id == call.meter.to_string())
}

fn data_error(status: u16, said: &Said) -> Verdict {
    let code = said.code.as_str();
    let known = code.starts_with("ADAM-") || code.starts_with("STM-");
    let error = |status, code: &str| {
        let code = code.chars().filter(char::is_ascii_graphic).take(TEXT_MAX).collect();
        let ascii = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
        let description = said.words.chars().take(TEXT_MAX).map(ascii).collect();
        DataError { status, code, description }
    };
    match (status, code) {
        // The two codes were seen with 400 as well.
        (_, "ADAM-DC-0007" | "ADAM-DC-0008") | (403, "unauthorized_user") => {
            Verdict::NoConsent(error(403, code))
        }
        // The new API has no code for it: "Le client n'est pas titulaire du point demandé".
        (403, _) if !known && said.mentions("titulaire") => Verdict::NoConsent(error(403, "ADAM-DC-0007")),
        // The range begins before the consent: consenting again would not help, so it must not look like that.
        (_, "ADAM-DC-0009") => Verdict::DataError(error(404, code)),
        (403, _) => Verdict::Gateway(Gateway::Unavailable),
        (_, "ADAM-DC-0500" | "STM-ERR-0000001" | "technical_error" | "server_error") => {
            Verdict::Gateway(Gateway::Unavailable)
        }
        (_, _) if known => Verdict::DataError(error(status, code)),
        // Anything else is put in v5's words: an unknown word might be one the plugin acts upon.
        (404, "no_data_found") => Verdict::DataError(error(404, code)),
        (404, _) if ["mesure", "measure", "donn", "data"].iter().any(|word| said.mentions(word)) => {
            Verdict::DataError(error(404, "no_data_found"))
        }
        // "Not Found", or nothing: that is about the path, not about the meter.
        (404, _) if said.words.is_empty() || said.mentions("not found") || said.mentions("no matching") => {
            Verdict::Gateway(Gateway::NotThere)
        }
        // Words nobody knows: they may be about this meter alone, and the API is not closed because of them.
        (404, _) => Verdict::Gateway(Gateway::Unavailable),
        (_, "") if said.words.is_empty() => Verdict::Gateway(Gateway::Unavailable),
        (_, _) => Verdict::DataError(error(400, "invalid_request")),
    }
}

#[cfg(test)]
mod tests;
