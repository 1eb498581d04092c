//! Owns the shapes of API v5: its parameters, its `meter_reading`, its errors.

use serde_json::{Value, json};

use super::Options;
use super::book::Book;
use super::counts::Resource;
use super::data::{self, Ask, Point, Refusal};
use super::seen::ApiRequest;
use super::wire::only;

/// Answers a question: status and JSON body.
pub(super) fn answer(
    options: &Options,
    book: &Book,
    resource: Resource,
    request: &ApiRequest,
) -> (u16, Value) {
    let answered =
        read(resource, request).and_then(|ask| data::answer(options, book, &ask).map(|points| (ask, points)));
    match answered {
        Ok((ask, points)) => (200, reading(&ask, &points)),
        Err(refusal) => {
            let (status, error, description) = refusal.v5();
            (status, json!({"error": error, "error_description": description}))
        }
    }
}

/// 500 as API v5 sends it.
pub(super) fn technical_error() -> (u16, Value) {
    (500, json!({"error": "technical_error", "error_description": "Technical error. Please try later."}))
}

fn read(resource: Resource, request: &ApiRequest) -> Result<Ask, Refusal> {
    let param = |name| only(&request.query, name).map_err(|()| Refusal::BadRequest("repeated parameter"));
    let point = param("usage_point_id")?.ok_or(Refusal::BadRequest("missing parameter: usage_point_id"))?;
    if !data::is_point(point) {
        return Err(Refusal::BadRequest("usage_point_id must have 14 digits"));
    }
    let start = data::date(param("start")?, "missing parameter: start", "start must be YYYY-MM-DD")?;
    let end = data::date(param("end")?, "missing parameter: end", "end must be YYYY-MM-DD")?;
    Ok(Ask { point: point.to_owned(), resource, start, end })
}

fn reading(ask: &Ask, points: &[Point]) -> Value {
    let (kind, unit, aggregate) = match ask.resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => ("power", "W", "average"),
        Resource::DailyConsumption | Resource::DailyProduction => ("energy", "Wh", "sum"),
        Resource::MaxPower => ("power", "VA", "maximum"),
    };
    let mut reading_type = json!({"measurement_kind": kind, "unit": unit, "aggregate": aggregate});
    if !ask.resource.is_curve() {
        reading_type["measuring_period"] = "P1D".into();
    }
    let intervals: Vec<_> = points
        .iter()
        .filter_map(|point| {
            let mut interval = json!({"value": point.value?.to_string(), "date": point.date});
            if ask.resource.is_curve() {
                interval["interval_length"] = "PT30M".into();
                interval["measure_type"] = "B".into();
            }
            Some(interval)
        })
        .collect();
    json!({"meter_reading": {
        "usage_point_id": ask.point,
        "start": ask.start.to_string(),
        "end": ask.end.to_string(),
        "quality": "BRUT",
        "reading_type": reading_type,
        "interval_reading": intervals,
    }})
}
