//! What an answer without values means for the box.
//!
//! The plugin draws lasting conclusions from statuses: 403 makes it erase its tokens, 400 and 500 to a request for
//! production mean "no production here", `invalid_token` makes it refresh **our** token. So Enedis' own errors about
//! data pass with their status and code, and everything that is only its gateway in trouble is none about data.

use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::limits::quota::CLOSED_MAX;
use actors::metering::resource_server::{Cause, DataError, Verdict};
use serde_json::Value;

use crate::enedis::Response;

/// Pause after a throttling answer that names no time: it may have been the limit per second.
const BUSY_UNNAMED: Duration = Duration::from_secs(10);
/// Longest code and description handed on, in characters.
const TEXT_MAX: usize = 200;

/// Reads an answer without values. [`Response::retry_at`] carries `Retry-After` or `nextAccessTime`.
pub fn judge(answer: &Response, now: Timestamp) -> Verdict {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
    let said = body.as_ref().map(Said::read).unwrap_or_default();
    let down = Verdict::Down { retry_at: answer.retry_at };
    if let Some(verdict) = gateway(&said, answer, now) {
        return verdict;
    }
    match answer.status {
        400 | 403 | 404 if body.is_some() => data_error(answer.status, &said).unwrap_or(down),
        // A gateway that knows the API answers in JSON.
        404 => Verdict::Closed,
        _ => down,
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
fn gateway(said: &Said, answer: &Response, now: Timestamp) -> Option<Verdict> {
    let code = said.code.as_str();
    let throttled = code.len() == 6 && code.starts_with("90080");
    if throttled || answer.status == 429 || code == "429" {
        let hour = (now.as_secs() / 3_600 + 1) * 3_600_000;
        // Two generations of bodies: the limit per hour was called Q4 once.
        let unnamed =
            if said.mentions("quota.q4") { Timestamp::from_millis(hour) } else { now + BUSY_UNNAMED };
        let until = answer.retry_at.filter(|at| *at > now).unwrap_or(unnamed);
        return Some(Verdict::Busy { until: until.min(now + CLOSED_MAX) });
    }
    match code {
        "900900" | "900901" | "900902" | "900903" | "900904" | "invalid_token" => {
            Some(Verdict::TokenRejected)
        }
        "900906" | "900907" | "900908" => Some(Verdict::Closed),
        _ if said.status_report && answer.status == 404 => Some(Verdict::Closed),
        // The numbers of the gateway's own faults and of the mediation behind it.
        _ if code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Verdict::Down { retry_at: answer.retry_at })
        }
        _ if answer.status == 401 => Some(Verdict::TokenRejected),
        _ => None,
    }
}

/// What a 400, 403 or 404 in JSON says about the data; `None`: nothing, it is trouble.
fn data_error(status: u16, said: &Said) -> Option<Verdict> {
    let code = said.code.as_str();
    let known = code.starts_with("ADAM-") || code.starts_with("STM-");
    let error = |status, code: &str| {
        let ascii = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
        Verdict::DataError(DataError {
            status,
            code: code.chars().filter(char::is_ascii_graphic).take(TEXT_MAX).collect(),
            description: said.words.chars().take(TEXT_MAX).map(ascii).collect(),
            cause: cause(code),
        })
    };
    let verdict = match (status, code) {
        // The two codes were seen with 400 as well.
        (_, "ADAM-DC-0007" | "ADAM-DC-0008") | (403, "unauthorized_user") => {
            Verdict::ConsentRefused { code: code.to_owned() }
        }
        // The new API has no code for it: "Le client n'est pas titulaire du point demandé".
        (403, _) if !known && said.mentions("titulaire") => {
            Verdict::ConsentRefused { code: "ADAM-DC-0007".to_owned() }
        }
        // The range begins before the consent: consenting again would not help, so it must not look like that.
        (_, "ADAM-DC-0009") => error(404, code),
        (403, _) | (_, "ADAM-DC-0500" | "STM-ERR-0000001" | "technical_error" | "server_error") => {
            return None;
        }
        (_, _) if known => error(status, code),
        // Anything else is put in v5's words: an unknown word might be one the plugin acts upon.
        (404, "no_data_found") => error(404, code),
        (404, _) if ["mesure", "measure", "donn", "data"].iter().any(|word| said.mentions(word)) => {
            error(404, "no_data_found")
        }
        // "Not Found", or nothing: that is about the path, not about the meter.
        (404, _) if said.words.is_empty() || said.mentions("not found") || said.mentions("no matching") => {
            Verdict::Closed
        }
        // Words nobody knows: they may be about this meter alone, and the API is not closed because of them.
        (404, _) => return None,
        (_, "") if said.words.is_empty() => return None,
        (_, _) => error(400, "invalid_request"),
    };
    Some(verdict)
}

/// What an error says about the next time.
fn cause(code: &str) -> Cause {
    match code {
        "no_data_found" | "STM-ERR-0000014" | "STM-ERR-0000019" | "STM-ERR-0000020" => Cause::NoData,
        "ADAM-ERR0123" | "ADAM-DC-0009" => Cause::TooEarly,
        "ADAM-DC-0016" | "ADAM-ERR0125" => Cause::TooOld,
        "ADAM-ERR0069" => Cause::NoDirection,
        "ADAM-ERR0061" | "ADAM-ERR0075" => Cause::NotRecorded,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests;
