//! The body of an answer with values, as boxes read it: the v5 shape of Enedis' swagger of 2023, whatever the supplier
//! speaks. All values are strings, and the list of values is written even when empty: the plugin dies of a missing one.

use serde::Serialize;

use super::request::{MeterRequest, Resource};
use super::resource_server::{Point, Reading};

/// The body with what was measured, for a box that asked `request`.
pub fn body(request: MeterRequest, reading: &Reading) -> String {
    let body = Body {
        meter_reading: MeterReading {
            usage_point_id: request.meter.to_string(),
            start: request.range.start().to_string(),
            end: request.range.end().to_string(),
            quality: &reading.quality,
            reading_type: ReadingType::of(request.resource),
            interval_reading: &reading.points,
        },
    };
    // Strings and lists only: writing them cannot fail.
    serde_json::to_string(&body).unwrap_or_default()
}

#[derive(Serialize)]
struct Body<'a> {
    meter_reading: MeterReading<'a>,
}

#[derive(Serialize)]
struct MeterReading<'a> {
    /// 14 digits; the plugin compares it with what it asked for.
    usage_point_id: String,
    /// First day, `YYYY-MM-DD`.
    start: String,
    /// The day after the last one.
    end: String,
    quality: &'a str,
    reading_type: ReadingType,
    interval_reading: &'a [Point],
}

#[derive(Serialize)]
struct ReadingType {
    measurement_kind: &'static str,
    unit: &'static str,
    aggregate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    measuring_period: Option<&'static str>,
}

impl ReadingType {
    /// What Enedis said of each resource.
    fn of(resource: Resource) -> Self {
        let (measurement_kind, unit, aggregate) = match resource {
            Resource::ConsumptionCurve | Resource::ProductionCurve => ("power", "W", "average"),
            Resource::DailyConsumption | Resource::DailyProduction => ("energy", "Wh", "sum"),
            Resource::DailyMaxPower => ("power", "VA", "maximum"),
        };
        let measuring_period = (!resource.is_curve()).then_some("P1D");
        Self { measurement_kind, unit, aggregate, measuring_period }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::testing::question;

    #[test]
    fn written_as_enedis_wrote_v5() {
        let body = |resource, points| {
            let request = question(resource, date(2026, 9, 29), date(2026, 9, 30));
            body(request, &Reading { quality: "BRUT".to_owned(), points })
        };
        let text = |text: &str| text.to_owned();
        let point = Point {
            value: text("540"),
            date: text("2026-09-29 00:30:00"),
            interval_length: Some(text("PT30M")),
            measure_type: Some(text("B")),
        };
        assert_eq!(
            body(Resource::ConsumptionCurve, vec![point]),
            r#"{"meter_reading":{"usage_point_id":"12345678901234","start":"2026-09-29","end":"2026-09-30","quality":"BRUT","reading_type":{"measurement_kind":"power","unit":"W","aggregate":"average"},"interval_reading":[{"value":"540","date":"2026-09-29 00:30:00","interval_length":"PT30M","measure_type":"B"}]}}"#
        );
        assert!(body(Resource::DailyMaxPower, Vec::new()).ends_with(
            r#""reading_type":{"measurement_kind":"power","unit":"VA","aggregate":"maximum","measuring_period":"P1D"},"interval_reading":[]}}"#
        ));
    }
}
