//! The metering data APIs: how a question is put to either, and what its answer means.

pub(super) mod errors;
mod measures;
mod v5;

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actors::base::clock::{SharedClock, Timestamp};
use actors::metering::api_choice::Api;
use actors::metering::request::MeterRequest;
use actors::metering::resource_server::{MeterCall, Reading, ResourceServer, Verdict};
use async_trait::async_trait;
use awc::Client;
use serde::Deserialize;
use url::Url;

use super::{CallError, Response, address, client, receive};

/// Largest answer read. A week of a load curve in steps of five minutes has some 250 KB.
const BODY_MAX: usize = 2 * 1024 * 1024;
/// Longest text within a value; a date with its time has 19 characters.
const TEXT_MAX: usize = 32;

/// The resource server.
pub struct EnedisData {
    client: Client,
    endpoint: Url,
    clock: SharedClock,
}

impl EnedisData {
    /// Made on the thread where it stays.
    pub fn new(endpoint: Url, clock: SharedClock, attempt: Duration) -> Rc<Self> {
        Rc::new(Self { client: client(attempt), endpoint, clock })
    }
}

#[async_trait(?Send)]
impl ResourceServer for EnedisData {
    async fn read(&self, call: MeterCall, limit: Duration) -> Verdict {
        let MeterCall { api, request, bearer } = call;
        let (path, query) = question(api, request);
        let sent = self
            .client
            .get(format!("{}?{query}", address(&self.endpoint, path)))
            .force_close()
            .timeout(limit)
            .bearer_auth(bearer.expose())
            // There is no body, but without it Enedis answers 500 (since January 2026).
            .insert_header((CONTENT_TYPE, "application/json"))
            .send();
        let attempt = receive(sent, self.clock.as_ref(), limit, BODY_MAX).await;
        judge(api, request, &attempt, self.clock.now())
    }
}

/// Path and query that put `request` to `api`: plain ASCII that needs no escaping. They hold the meter's number: not for
/// logs.
pub fn question(api: Api, request: MeterRequest) -> (&'static str, String) {
    match api {
        Api::New => measures::question(request),
        Api::Legacy => v5::question(request),
    }
}

/// Reads what came of `request`, put to `api`.
pub fn judge(
    api: Api,
    request: MeterRequest,
    attempt: &Result<Response, CallError>,
    now: Timestamp,
) -> Verdict {
    let verdict = match attempt {
        // Values first: they are by far the largest answers, and are read once.
        Ok(answer) => match values(api, request, answer) {
            Some(reading) => Verdict::Values(reading),
            None => errors::judge(answer, now),
        },
        Err(_) => Verdict::Down { retry_at: None },
    };
    if matches!(verdict, Verdict::Closed | Verdict::Busy { .. } | Verdict::Down { .. }) {
        let status = attempt.as_ref().map_or(0, |answer| answer.status);
        let resource = request.resource.name();
        tracing::warn!(?api, status, ?verdict, resource, "a data call failed at the gateway");
    }
    verdict
}

/// The values in an answer; `None` if there are none, or they are another meter's, which nobody may see.
fn values(api: Api, request: MeterRequest, answer: &Response) -> Option<Reading> {
    if !(200..300).contains(&answer.status) {
        return None;
    }
    let (meter, reading) = match api {
        Api::New => measures::read(request.resource, &answer.body),
        Api::Legacy => v5::read(&answer.body),
    }?;
    (meter == request.meter.to_string() && is_terse(&reading)).then_some(reading)
}

/// Whether the texts of a reading are as short as such texts are: they are kept once for each day or value.
fn is_terse(reading: &Reading) -> bool {
    let mut texts = reading.points.iter().flat_map(|point| {
        let step = [point.interval_length.as_ref(), point.measure_type.as_ref()];
        step.into_iter().flatten().chain([&point.value, &point.date])
    });
    reading.quality.len() <= TEXT_MAX && texts.all(|text| text.len() <= TEXT_MAX)
}

/// A string, or a number written as one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use actors::metering::request::Resource;
    use actors::testing::question as question_of_days;
    use jiff::civil::date;

    use super::*;

    fn request(resource: Resource) -> MeterRequest {
        question_of_days(resource, date(2026, 9, 29), date(2026, 10, 1))
    }

    fn judged(api: Api, body: &str) -> Verdict {
        let answer = Response { status: 200, content_type: None, body: body.into(), retry_at: None };
        judge(api, request(Resource::DailyConsumption), &Ok(answer), Timestamp::EPOCH)
    }

    #[test]
    fn v5_is_asked_as_boxes_ask() {
        assert_eq!(
            question(Api::Legacy, request(Resource::DailyMaxPower)),
            (
                "metering_data_dcmp/v5/daily_consumption_max_power",
                "usage_point_id=12345678901234&start=2026-09-29&end=2026-10-01".to_owned()
            )
        );
    }

    #[test]
    fn values_of_either_api_but_of_no_other_meter() {
        let new = r#"{"idPrm":"12345678901234","periode":{"dateDebut":"2026-09-29","dateFin":"2026-09-30"},"grandeur":[{"grandeurMetier":"CONS","grandeurPhysique":"EA","unite":"Wh","points":[{"v":"33100","d":"2026-09-29"}]}]}"#;
        let v5 = r#"{"meter_reading":{"usage_point_id":"12345678901234","quality":"BRUT","interval_reading":[{"value":"33100","date":"2026-09-29"}]}}"#;
        let down = Verdict::Down { retry_at: None };
        assert!(matches!(judged(Api::New, new), Verdict::Values(_)));
        assert_eq!(judged(Api::New, new), judged(Api::Legacy, v5));
        for (api, body) in [(Api::New, new), (Api::Legacy, v5)] {
            assert_eq!(judged(api, &body.replace("12345678901234", "12345678901235")), down);
        }
        for (short, long) in [("33100", "1".repeat(33)), ("BRUT", "B".repeat(33))] {
            assert_eq!(judged(Api::Legacy, &v5.replace(short, &long)), down, "longer than such texts are");
        }
        assert_eq!(judged(Api::New, v5), down, "the other API's shape");
    }

    #[test]
    fn no_answer_at_all() {
        for error in [CallError::NotSent("x".into()), CallError::Lost("x".into())] {
            let verdict = judge(Api::New, request(Resource::DailyConsumption), &Err(error), Timestamp::EPOCH);
            assert_eq!(verdict, Verdict::Down { retry_at: None });
        }
    }
}
