//! Enedis as it is asked in these benches: it answers at once, from a string.

use std::time::Duration;

use actors::base::meter::Meter;
use actors::base::token_set::TokenSet;
use actors::enedis::contract::Contract;
use actors::enedis::port::{Answer, Attempt, AuthorizationServer, Call, NoMeters, RawAnswer};
use actors::metering::civil::{moment_text, plus, today};
use actors::metering::request::{DayRange, MeterRequest, Resource};
use actors::metering::resource_server::{MeterCall, ResourceServer, Verdict};
use async_trait::async_trait;
use device_flow_proxy::enedis::Response;
use device_flow_proxy::enedis::data::judge;
use jiff::SignedDuration;
use serde_json::json;

use crate::running::START;

/// The meter that [`curve`] is about.
pub const PRM: &str = "12345678901234";

/// Gives a token for whatever is presented.
pub struct Tokens;

#[async_trait(?Send)]
impl AuthorizationServer for Tokens {
    async fn call(&self, call: Call, _: Duration) -> Attempt {
        let body = br#"{"access_token":"oNOmvxyCQZSwjXYQJZSTIVrrJcrcLYzAWAnFTuWSDmVnKEQAKhQS7t","expires_in":12600,"token_type":"Bearer","scope":"","refresh_token":"ijRNFTbbRLEGbyyWCBmmJvqCQ5CfaxJmoYL9xlI7BCWLMN"}"#;
        let answer = match call {
            Call::Token(_) => Answer::Token(Ok(TokenSet::from_bytes(body).expect("a token answer"))),
            Call::Refresh(_) => {
                let content_type = Some("application/json".to_owned());
                Answer::Refresh(RawAnswer { status: 200, content_type, body: body.to_vec() })
            }
            Call::Meters(_) => Answer::Meters(Err(NoMeters::NotYet)),
            Call::Contract(_) => Answer::Contract(Ok(Contract::default())),
        };
        Attempt::Answered(answer)
    }
}

/// Knows the load curve of [`week`] of every meter.
pub struct Curves {
    body: String,
}

impl Default for Curves {
    fn default() -> Self {
        Self { body: curve(week()) }
    }
}

#[async_trait(?Send)]
impl ResourceServer for Curves {
    async fn read(&self, call: MeterCall, _: Duration) -> Verdict {
        let MeterCall { api, request, .. } = call;
        let answer = response(self.body.replace(PRM, &request.meter.to_string()).into_bytes());
        judge(api, request, &Ok(answer), START)
    }
}

/// An answer with this body.
pub fn response(body: Vec<u8>) -> Response {
    Response { status: 200, content_type: Some("application/json".into()), body, retry_at: None }
}

/// The days until yesterday.
pub fn until_yesterday(days: i64) -> DayRange {
    let today = today(START);
    DayRange::new(plus(today, -days), today).expect("some days")
}

/// What the plugin asks for at a time.
pub fn week() -> DayRange {
    until_yesterday(7)
}

/// A question about [`PRM`].
pub fn about(resource: Resource, range: DayRange) -> MeterRequest {
    MeterRequest { resource, meter: Meter::parse(PRM).expect("14 digits"), range }
}

/// A load curve in half hours, as the API of 2026 writes it.
pub fn curve(range: DayRange) -> String {
    let (start, end) = (range.start(), range.end());
    let points = (1..=48 * range.day_count()).map(|n| {
        let at = moment_text(start.at(0, 0, 0, 0).saturating_add(SignedDuration::from_mins(30 * n)));
        json!({"v": (100 + n * 7 % 4_000).to_string(), "d": at, "p": "PT30M", "n": "B", "iv": "0", "ec": "0"})
    });
    let points: Vec<_> = points.collect();
    let curve = json!({"grandeurMetier": "CONS", "grandeurPhysique": "PA", "unite": "W", "calendrier": [],
        "points": points});
    let period = json!({"dateDebut": start.to_string(), "dateFin": end.to_string()});
    json!({"idPrm": PRM, "etapeMetier": "BRUT", "periode": period, "modeCalcul": "MESURE", "contexte": [],
        "grandeur": [curve]})
    .to_string()
}
