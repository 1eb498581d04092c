//! The port to the supplier's metering data (the resource server of RFC 6749 section 1.1). It takes questions about a
//! meter and answers with verdicts; how they are put and what was said over the wire is the supplier's client's to know.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::api_choice::Api;
use super::request::MeterRequest;
use crate::base::clock::Timestamp;
use crate::enedis::port::Bearer;

/// A question for metering data. Holds the meter's number: not for logs.
#[derive(Clone)]
pub struct MeterCall {
    /// Which API.
    pub api: Api,
    /// What is asked.
    pub request: MeterRequest,
    /// The application's token.
    pub bearer: Bearer,
}

/// The supplier's metering data. Lives on the relay's thread, hence no `Send`.
#[async_trait(?Send)]
pub trait ResourceServer: 'static {
    /// Puts one question, once, and answers within `limit`.
    async fn read(&self, call: MeterCall, limit: Duration) -> Verdict;
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Values of the meter that was asked for; perhaps none.
    Values(Reading),
    /// An error about this meter's data: hand it on. Never 403.
    DataError(DataError),
    /// The owner's consent is not there, it is said. Not to be handed on before [`super::refusals`] believes it.
    ConsentRefused {
        /// The code, for the log.
        code: String,
    },
    /// The application's token is not accepted.
    TokenRejected,
    /// This API is closed, or the application is not subscribed to it: another API may do.
    Closed,
    /// The quota is used up: nothing may be sent before `until`.
    Busy {
        /// Never later than an hour from the answer.
        until: Timestamp,
    },
    /// No answer, an answer that is none, or one that says that the supplier cannot.
    Down {
        /// Not before this instant, if one was given.
        retry_at: Option<Timestamp>,
    },
}

/// What was measured, in any order: [`days_of`](super::day::days_of) puts it in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `BRUT` (raw), `CORRIGE` or `BEST` (corrected); empty if unknown.
    pub quality: String,
    /// The values. Their texts are short: they are kept once for each value.
    pub points: Vec<Point>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The number in W, Wh or VA, as its resource has it.
    pub value: String,
    /// Curves: end of the step, `YYYY-MM-DD HH:MM:SS` in local time. Daily energy: the day. Max power: when it was.
    pub date: String,
    /// Curves: length of the step, such as `PT30M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_length: Option<String>,
    /// Curves: nature of the value, `B` for raw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_type: Option<String>,
}

/// An error about data, with the status and the code the box sees. It is kept in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataError {
    /// 400 or 404; 403 only of [`Self::no_consent`].
    pub status: u16,
    /// `error` in the body: the supplier's code as sent, or one of v5's words.
    pub code: String,
    /// `error_description`, ASCII, at most 200 characters.
    pub description: String,
    /// What it says about the next time the same is asked.
    #[serde(default)]
    pub cause: Cause,
}

/// What an error says about the next time the same is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Nothing measured in this range, yet or ever.
    NoData,
    /// The range begins before the meter's last activation, or before the consent.
    TooEarly,
    /// The range begins before what the supplier keeps.
    TooOld,
    /// The meter has no such direction: most have no production.
    NoDirection,
    /// The load curve is not recorded; its owner can have that changed.
    NotRecorded,
    /// Anything else.
    #[default]
    Other,
}

impl DataError {
    /// What a box is told of a range without values.
    pub fn no_data() -> Self {
        let description = "no measure found for this usage point".to_owned();
        Self { status: 404, code: "no_data_found".to_owned(), description, cause: Cause::NoData }
    }

    /// What a box is told whose owner has to consent again. Only once that is believed.
    pub fn no_consent() -> Self {
        let description = "no consent can be found for this usage point".to_owned();
        Self { status: 403, code: "ADAM-DC-0008".to_owned(), description, cause: Cause::Other }
    }

    /// The error as a box is told it. The plugin takes the codes of a missing direction, and of days before the meter's
    /// activation, for lasting and never asks again; it is told that there is no data, in the supplier's words.
    #[must_use]
    pub fn told(self) -> Self {
        match self.cause {
            Cause::NoDirection | Cause::TooEarly => Self { description: self.description, ..Self::no_data() },
            _ => self,
        }
    }

    /// The body for the box.
    pub fn to_body(&self) -> String {
        serde_json::json!({"error": self.code, "error_description": self.description}).to_string()
    }
}
