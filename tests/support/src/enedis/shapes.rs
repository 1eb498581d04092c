//! Owns how both data APIs write questions, answers and refusals. Whatever the oddities, the values are the same.

use serde_json::{Value, json};

use super::values::{Direction, Point, Refusal};
use super::{Request, Resource};
use crate::calendar::Day;

/// The only value of `name`: `Ok(None)` without one or with an empty one, `Err` with two (RFC 6749 section 3.1).
pub(super) fn only<'a>(pairs: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let value = values.next();
    if values.next().is_some() { Err(()) } else { Ok(value.filter(|value| !value.is_empty())) }
}

/// One of the two data APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V5,
    Of2026,
}

/// A well-formed question; `end` is excluded.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) point: String,
    pub(super) resource: Resource,
    pub(super) start: Day,
    pub(super) end: Day,
}

impl Dialect {
    /// Reads a question. The API of 2026 wants every parameter that it knows and no other.
    pub(super) fn read(self, resource: Resource, request: &Request) -> Result<Ask, Refusal> {
        if !request.is_of_type("application/json") {
            return Err(Refusal::Technical);
        }
        let [point, start, end] = match self {
            Self::V5 => ["usage_point_id", "start", "end"],
            Self::Of2026 => ["pointId", "dateDebut", "dateFin"],
        };
        let param = |name| {
            let value = only(&request.query, name).map_err(|()| Refusal::BadRequest("repeated parameter"))?;
            value.ok_or(Refusal::BadRequest("missing parameter"))
        };
        let date = |name| Day::parse(param(name)?).ok_or(Refusal::BadRequest("a date must be YYYY-MM-DD"));
        if self == Self::Of2026 {
            let max_power = resource == Resource::MaxPower;
            let known = |name: &str| {
                [point, start, end].contains(&name)
                    || max_power && matches!(name, "mesuresPas" | "grandeurPhysique")
            };
            if !request.query.iter().all(|(name, _)| known(name)) {
                return Err(Refusal::Technical);
            }
            if max_power
                && (param("mesuresPas")? != "P1D" || !["PMA", "TOUT"].contains(&param("grandeurPhysique")?))
            {
                return Err(Refusal::BadRequest("mesuresPas must be P1D, grandeurPhysique PMA or TOUT"));
            }
        }
        let point = param(point)?;
        if point.len() != 14 || !point.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::BadRequest("a usage point must have 14 digits"));
        }
        Ok(Ask { point: point.to_owned(), resource, start: date(start)?, end: date(end)? })
    }

    /// Status and body of a refusal. In the API of 2026, what is the data's fault keeps the codes of old; the rest has
    /// its status as its code.
    pub(super) fn refused(self, refusal: Refusal) -> (u16, Value) {
        let (status, error, text) = match refusal {
            Refusal::BadRequest(why) => (400, "invalid_request", why),
            Refusal::Technical => (500, "technical_error", "Technical error. Please try later."),
            Refusal::NotHolder => {
                (403, "ADAM-DC-0007", "The customer is not the holder of this usage point.")
            }
            Refusal::NoConsent => {
                (403, "ADAM-DC-0008", "No consent can be found for this customer and this usage point.")
            }
            Refusal::NoSuchDirection => (
                400,
                "ADAM-ERR0069",
                "The requested direction of measurement does not exist on this usage point.",
            ),
            Refusal::TooLong => {
                (400, "ADAM-ERR0126", "The requested period cannot exceed 7 consecutive days.")
            }
            Refusal::TooOld => (400, "ADAM-ERR0125", "The requested period is too far back in time."),
            Refusal::BeforeActivation => (
                400,
                "ADAM-ERR0123",
                "The requested period cannot be anterior to the meter's last activation date.",
            ),
            Refusal::NoData => (404, "no_data_found", "no measure found for this usage point"),
        };
        let message = match refusal {
            Refusal::NotHolder | Refusal::NoConsent => "Le client n'est pas titulaire du point demandé",
            Refusal::NoData => "Pas de mesure trouvée pour ce point",
            _ => text,
        };
        let body = if self == Self::Of2026 && !error.starts_with("ADAM-ERR") {
            json!({"code": status.to_string(), "message": message})
        } else {
            json!({"error": error, "error_description": text})
        };
        (status, body)
    }

    pub(super) fn written(self, quirks: bool, ask: &Ask, points: &[Point]) -> (u16, Value) {
        (200, if self == Self::V5 { v5(ask, points) } else { of_2026(quirks, ask, points) })
    }
}

fn v5(ask: &Ask, points: &[Point]) -> Value {
    let (kind, unit, aggregate) = match ask.resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => ("power", "W", "average"),
        Resource::DailyConsumption | Resource::DailyProduction => ("energy", "Wh", "sum"),
        Resource::MaxPower => ("power", "VA", "maximum"),
    };
    let mut reading_type = json!({"measurement_kind": kind, "unit": unit, "aggregate": aggregate});
    if !ask.resource.is_curve() {
        reading_type["measuring_period"] = "P1D".into();
    }
    let intervals = points.iter().filter_map(|point| {
        let (value, date) = (point.value?.to_string(), &point.date);
        Some(if ask.resource.is_curve() {
            json!({"value": value, "date": date, "interval_length": "PT30M", "measure_type": "B"})
        } else {
            json!({"value": value, "date": date})
        })
    });
    json!({"meter_reading": {
        "usage_point_id": ask.point,
        "start": ask.start.to_string(),
        "end": ask.end.to_string(),
        "quality": "BRUT",
        "reading_type": reading_type,
        "interval_reading": intervals.collect::<Vec<_>>(),
    }})
}

/// With `quirks`: points without a value and in no order, another quantity first, the wanted one in two entries, and in
/// kW, kWh and kVA.
fn of_2026(quirks: bool, ask: &Ask, points: &[Point]) -> Value {
    let (physical, unit, mode) = match ask.resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => ("PA", "W", "MESURE"),
        Resource::DailyConsumption | Resource::DailyProduction => ("EA", "Wh", "DIFF.INDEX"),
        Resource::MaxPower => ("PMA", "VA", "MESURE"),
    };
    let business = match ask.resource.direction() {
        Direction::Consumption => "CONS",
        Direction::Production => "PROD",
    };
    let write = |point: &Point| {
        let kilo = |value: u32| format!("{}.{:03}", value / 1_000, value % 1_000);
        let value = point.value.map(|value| if quirks { kilo(value) } else { value.to_string() });
        if ask.resource.is_curve() {
            json!({"v": value, "d": point.date, "p": "PT30M", "n": "B", "iv": "0", "ec": "0"})
        } else {
            json!({"v": value, "d": point.date})
        }
    };
    let quantity = |physical: &str, unit: &str, points: &[Value]| {
        json!({"grandeurMetier": business, "grandeurPhysique": physical, "unite": unit, "points": points,
            "calendrier": []})
    };
    let mut written: Vec<_> = points.iter().map(write).collect();
    let quantities = if quirks {
        let reactive = quantity("PRI", "VAr", &written);
        // In no order, but the same each time.
        written.reverse();
        let middle = written.len() / 2;
        written[middle..].reverse();
        let (one, other) = written.split_at(middle);
        let unit = format!("k{unit}");
        vec![reactive, quantity(physical, &unit, one), quantity(physical, &unit, other)]
    } else {
        vec![quantity(physical, unit, &written)]
    };
    let mut answer = json!({
        "idPrm": ask.point,
        "etapeMetier": "BRUT",
        "periode": {"dateDebut": ask.start.to_string(), "dateFin": ask.end.to_string()},
        "modeCalcul": mode,
        "grandeur": quantities,
        "contexte": [],
    });
    if !ask.resource.is_curve() {
        answer["pas"] = "P1D".into();
    }
    if physical == "EA" {
        answer["typeValeur"] = "GLOBALE".into();
    }
    answer
}
