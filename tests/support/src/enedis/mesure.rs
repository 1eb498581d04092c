//! Owns the shapes of the API of 2026: its parameters, its `grandeur`, its errors, and the oddities that a
//! translation must cope with.

use serde_json::{Value, json};

use super::Options;
use super::book::Book;
use super::counts::Resource;
use super::data::{self, Ask, Point, Refusal};
use super::seen::ApiRequest;
use super::values::Direction;
use super::wire::only;

/// Oddities of answers of the API of 2026, off by default. Whatever is switched on, the values are those of API v5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a test")]
pub struct Quirks {
    /// About one point in eleven has no value: `"v": null` here, no point at all in API v5.
    pub null_values: bool,
    /// The points come in no order.
    pub unsorted: bool,
    /// Other quantities come first: reactive power of the same meter.
    pub several_grandeurs: bool,
    /// The wanted points are spread over two entries of the same quantity.
    pub split_grandeur: bool,
    /// Units are kW, kWh and kVA, with three decimals.
    pub kilo: bool,
}

/// Answers a question: status and JSON body.
pub(super) fn answer(
    options: &Options,
    book: &Book,
    resource: Resource,
    request: &ApiRequest,
) -> (u16, Value) {
    let known = |name: &str| {
        matches!(name, "pointId" | "dateDebut" | "dateFin")
            || (resource == Resource::MaxPower && matches!(name, "mesuresPas" | "grandeurPhysique"))
    };
    if request.query.iter().any(|(name, _)| !known(name)) {
        return technical_error();
    }
    let answered =
        read(resource, request).and_then(|ask| data::answer(options, book, &ask).map(|points| (ask, points)));
    match answered {
        Ok((ask, points)) => (200, measures(options.quirks, &ask, &points)),
        Err(refusal) => refused(refusal),
    }
}

/// 500 as the API of 2026 sends it.
pub(super) fn technical_error() -> (u16, Value) {
    (500, json!({"code": "500", "message": "Erreur technique"}))
}

/// What is the data's fault keeps the codes of old; the rest has a status as its code.
fn refused(refusal: Refusal) -> (u16, Value) {
    let message = match refusal {
        Refusal::BadRequest(what) => what,
        Refusal::NotHolder | Refusal::NoConsent => "Le client n'est pas titulaire du point demandé",
        Refusal::NoData => "Pas de mesure trouvée pour ce point",
        Refusal::NoSuchDirection | Refusal::TooLong | Refusal::TooOld | Refusal::BeforeActivation => {
            let (status, error, description) = refusal.v5();
            return (status, json!({"error": error, "error_description": description}));
        }
    };
    let (status, ..) = refusal.v5();
    (status, json!({"code": status.to_string(), "message": message}))
}

fn read(resource: Resource, request: &ApiRequest) -> Result<Ask, Refusal> {
    let param = |name| only(&request.query, name).map_err(|()| Refusal::BadRequest("paramètre répété"));
    let point = param("pointId")?.ok_or(Refusal::BadRequest("pointId est obligatoire"))?;
    if !data::is_point(point) {
        return Err(Refusal::BadRequest("pointId doit avoir 14 chiffres"));
    }
    let start = data::date(param("dateDebut")?, "dateDebut est obligatoire", "dateDebut n'est pas une date")?;
    let end = data::date(param("dateFin")?, "dateFin est obligatoire", "dateFin n'est pas une date")?;
    if resource == Resource::MaxPower {
        if param("mesuresPas")? != Some("P1D") {
            return Err(Refusal::BadRequest("mesuresPas doit être P1D"));
        }
        if !matches!(param("grandeurPhysique")?, Some("PMA" | "TOUT")) {
            return Err(Refusal::BadRequest("grandeurPhysique doit être PMA ou TOUT"));
        }
    }
    Ok(Ask { point: point.to_owned(), resource, start, end })
}

fn measures(quirks: Quirks, ask: &Ask, points: &[Point]) -> Value {
    let (physical, unit) = match ask.resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => ("PA", "W"),
        Resource::DailyConsumption | Resource::DailyProduction => ("EA", "Wh"),
        Resource::MaxPower => ("PMA", "VA"),
    };
    let unit = if quirks.kilo { format!("k{unit}") } else { unit.to_owned() };
    let business = match ask.resource.direction() {
        Direction::Consumption => "CONS",
        Direction::Production => "PROD",
    };
    let quantity = |physical: &str, unit: &str, points: &[Value]| json!({"grandeurMetier": business, "grandeurPhysique": physical, "unite": unit, "points": points, "calendrier": []});
    let curve = ask.resource.is_curve();
    let mut written: Vec<_> = points.iter().map(|point| write(quirks, curve, point)).collect();
    if quirks.unsorted {
        // A shuffle that is the same each time: the second half turned round and put between the first.
        let mut late = written.split_off(written.len() / 2);
        late.reverse();
        for (at, point) in late.into_iter().enumerate() {
            written.insert((at * 2).min(written.len()), point);
        }
    }
    let mut quantities = Vec::new();
    if quirks.several_grandeurs {
        let other: Vec<_> = points
            .iter()
            .map(|point| write(quirks, curve, &Point { value: Some(7), ..point.clone() }))
            .collect();
        quantities.push(quantity("PRI", "VAr", &other));
    }
    let cut = if quirks.split_grandeur { written.len() / 2 } else { 0 };
    if cut > 0 {
        quantities.push(quantity(physical, &unit, &written[..cut]));
    }
    quantities.push(quantity(physical, &unit, &written[cut..]));
    let mut answer = json!({
        "idPrm": ask.point,
        "etapeMetier": "BRUT",
        "periode": {"dateDebut": ask.start.to_string(), "dateFin": ask.end.to_string()},
        "modeCalcul": "MESURE",
        "grandeur": quantities,
        "contexte": [],
    });
    if !curve {
        answer["pas"] = "P1D".into();
    }
    if matches!(ask.resource, Resource::DailyConsumption | Resource::DailyProduction) {
        answer["typeValeur"] = "GLOBALE".into();
        answer["modeCalcul"] = "DIFF.INDEX".into();
    }
    answer
}

fn write(quirks: Quirks, curve: bool, point: &Point) -> Value {
    let value = match point.value {
        None => Value::Null,
        Some(value) if quirks.kilo => format!("{}.{:03}", value / 1_000, value % 1_000).into(),
        Some(value) => value.to_string().into(),
    };
    let mut written = json!({"v": value, "d": point.date});
    if curve {
        for (name, text) in [("p", "PT30M"), ("n", "B"), ("iv", "0"), ("ec", "0")] {
            written[name] = text.into();
        }
    }
    written
}
