//! The two APIs of Enedis: how a request is put to each, and how an answer of the new one (28 September 2026)
//! becomes a v5 answer.

use jiff::civil::DateTime;
use serde::Deserialize;

use super::api_choice::Api;
use super::civil::{hours_in, moment_text, parse_moment, plus};
use super::day::step_minutes;
use super::request::{MeterRequest, Resource};
use super::v5::{MeterReading, Point, ReadingType, Scalar, V5Answer};

/// A call as it is sent, below the data endpoint's base address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamQuery {
    /// Path without a leading slash; plain ASCII, needs no escaping.
    pub path: &'static str,
    /// The query, in order; plain ASCII, needs no escaping. Holds the meter's number: not for logs.
    pub pairs: Vec<(&'static str, String)>,
}

/// How `request` is put to `api`. Exactly the parameters of the swagger: others make the new API answer 500.
pub fn upstream_query(api: Api, request: MeterRequest) -> UpstreamQuery {
    let (meter, start, end) = match api {
        Api::Legacy => ("usage_point_id", "start", "end"),
        Api::New => ("pointId", "dateDebut", "dateFin"),
    };
    let mut pairs = vec![
        (meter, request.meter.to_string()),
        (start, request.range.start().to_string()),
        (end, request.range.end().to_string()),
    ];
    if api == Api::New && request.resource == Resource::DailyMaxPower {
        pairs.push(("mesuresPas", "P1D".to_owned()));
        pairs.push(("grandeurPhysique", "PMA".to_owned()));
    }
    let path = match api {
        Api::Legacy => request.resource.v5_path(),
        Api::New => new_path(request.resource),
    };
    UpstreamQuery { path, pairs }
}

/// Why an answer of the new API is no v5 answer. All of them are trouble at Enedis or here, none is the box's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// Not the JSON of the swagger.
    #[error("not an answer of the measure API")]
    Malformed,
    /// There are quantities, but not the one that was asked for in a known unit.
    #[error("the quantity asked for is not in the answer")]
    NoSuchQuantity,
    /// Values there are, but not one with a date (the sandbox writes `20XX-XX-XX`).
    #[error("no value has a readable date")]
    NoDates,
}

/// Reads an answer of the new API to a request for `resource` as a v5 answer.
///
/// Null values and values that are no number are left out; points are put in order; kW, kWh and kVA become W, Wh
/// and VA; of several `grandeur` those of the resource count (direction first, then physical quantity), together; a
/// missing step is taken from `pas`, else from the spacing of the points; equal `dateDebut` and `dateFin`
/// mean one day. An answer without any value is a v5 answer without points.
pub fn to_v5(resource: Resource, body: &[u8]) -> Result<V5Answer, TranslateError> {
    let answer: NewAnswer = serde_json::from_slice(body).map_err(|_| TranslateError::Malformed)?;
    let wanted = choose(resource, &answer.grandeur);
    if wanted.is_empty() && answer.grandeur.iter().any(|g| !g.points.is_empty()) {
        return Err(TranslateError::NoSuchQuantity);
    }
    let mut points = Vec::new();
    let mut undated = 0;
    let wanted =
        wanted.into_iter().flat_map(|(quantity, shift)| quantity.points.iter().map(move |p| (p, shift)));
    for (point, shift) in wanted {
        let Some(value) = point.value.as_ref().and_then(|v| decimal(&v.text(), shift)) else { continue };
        let Some(at) = point.date.as_deref().and_then(parse_moment) else {
            undated += 1;
            continue;
        };
        points.push((at, value, point));
    }
    if points.is_empty() && undated > 0 {
        return Err(TranslateError::NoDates);
    }
    // The day of the change to winter time repeats an hour: sorting by local time would mix the two.
    let backward = points.windows(2).filter(|pair| pair[1].0 < pair[0].0);
    let repeated = |pair: &[(DateTime, _, _)]| {
        hours_in(pair[0].0.date()) == 25 && pair[1].0.duration_until(pair[0].0).as_secs() <= 3_600
    };
    if !(backward.clone().count() == 1 && backward.clone().all(repeated)) {
        points.sort_by_key(|(at, ..)| *at);
    }
    let usual_step = answer.pas.filter(|pas| step_minutes(pas).is_some());
    let usual_step = usual_step.or_else(|| spacing(points.iter().map(|(at, ..)| *at)));
    let point = |(at, value, point): (DateTime, String, &NewPoint)| {
        let curve = resource.is_curve();
        let day_only = matches!(resource, Resource::DailyConsumption | Resource::DailyProduction);
        Point {
            value,
            date: if day_only { at.date().to_string() } else { moment_text(at) },
            interval_length: curve.then(|| point.step.clone().or_else(|| usual_step.clone())).flatten(),
            measure_type: curve.then(|| point.nature.clone()).flatten(),
        }
    };
    let (start, end) = period(&answer.periode);
    Ok(V5Answer {
        meter_reading: MeterReading {
            usage_point_id: answer.id_prm.text(),
            start,
            end,
            quality: answer.etape_metier.unwrap_or_else(|| "BRUT".to_owned()),
            reading_type: ReadingType::of(resource),
            interval_reading: points.into_iter().map(point).collect(),
        },
    })
}

const fn new_path(resource: Resource) -> &'static str {
    match resource {
        Resource::ConsumptionCurve => "mesure_synchrone_auto/v2/courbe_de_charge_consommation",
        Resource::ProductionCurve => "mesure_synchrone_auto/v2/courbe_de_charge_production",
        Resource::DailyConsumption => "mesure_synchrone_auto/v2/consommation_quotidienne",
        Resource::DailyProduction => "mesure_synchrone_auto/v2/production_quotidienne",
        Resource::DailyMaxPower => "mesure_synchrone_auto/v2/puissance_conso_max_quotidienne",
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAnswer {
    id_prm: Scalar,
    etape_metier: Option<String>,
    #[serde(default)]
    periode: Period,
    pas: Option<String>,
    grandeur: Vec<Quantity>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Period {
    date_debut: String,
    date_fin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quantity {
    grandeur_metier: Option<String>,
    grandeur_physique: Option<String>,
    unite: Option<String>,
    #[serde(default)]
    points: Vec<NewPoint>,
}

#[derive(Deserialize)]
struct NewPoint {
    #[serde(rename = "v")]
    value: Option<Scalar>,
    #[serde(rename = "d")]
    date: Option<String>,
    #[serde(rename = "p")]
    step: Option<String>,
    #[serde(rename = "n")]
    nature: Option<String>,
}

/// The quantity that answers `resource`, with the power of ten its values take. Of several, the one with most values,
/// and every other entry of the same names: Enedis may spread one quantity over several.
fn choose(resource: Resource, quantities: &[Quantity]) -> Vec<(&Quantity, usize)> {
    let direction = if resource.is_production() { "PROD" } else { "CONS" };
    let (physical, unit) = match resource {
        Resource::ConsumptionCurve | Resource::ProductionCurve => ("PA", "W"),
        Resource::DailyConsumption | Resource::DailyProduction => ("EA", "Wh"),
        Resource::DailyMaxPower => ("PMA", "VA"),
    };
    // A name that is missing may be ours; a name that differs is not.
    let fits = |name: &Option<String>, wanted| name.as_deref().is_none_or(|name| name == wanted);
    let shift = |given: &Option<String>| match given.as_deref() {
        None => Some(0),
        Some(given) if given.eq_ignore_ascii_case(unit) => Some(0),
        Some(given) if given.strip_prefix(['k', 'K']).is_some_and(|u| u.eq_ignore_ascii_case(unit)) => {
            Some(3)
        }
        Some(_) => None,
    };
    let values = |q: &Quantity| q.points.iter().filter(|p| p.value.is_some()).count();
    let named = |q: &Quantity| (q.grandeur_metier.is_some(), q.grandeur_physique.is_some());
    let mut fitting: Vec<_> = quantities
        .iter()
        .filter(|q| fits(&q.grandeur_metier, direction) && fits(&q.grandeur_physique, physical))
        .filter_map(|q| Some((q, shift(&q.unite)?)))
        .collect();
    // Of two values of one date the first will count.
    fitting.sort_by_key(|(q, _)| std::cmp::Reverse((named(q), values(q))));
    let best = fitting.first().map(|(q, _)| named(q));
    fitting.retain(|(q, _)| Some(named(q)) == best);
    fitting
}

/// A decimal number times ten to the `shift`, without rounding through floats; digits left behind the point are
/// dropped when scaled. `None` if it is no plain decimal number.
fn decimal(text: &str, shift: usize) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once(['.', ',']).unwrap_or((digits, ""));
    let numeric = |part: &str| part.len() <= 15 && part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(fraction) {
        return None;
    }
    if shift == 0 {
        return Some(text.to_owned());
    }
    let scaled: String = fraction.chars().chain(std::iter::repeat('0')).take(shift).collect();
    let number = format!("{whole}{scaled}");
    let number = number.trim_start_matches('0');
    Some(if number.is_empty() { "0".to_owned() } else { format!("{sign}{number}") })
}

/// The smallest spacing of points that is a step of a curve.
fn spacing(moments: impl Iterator<Item = DateTime> + Clone) -> Option<String> {
    let gaps = moments.clone().zip(moments.skip(1)).map(|(a, b)| a.duration_until(b).as_secs());
    let gap = gaps.filter(|gap| *gap > 0).min()?;
    let step = format!("PT{}M", gap / 60);
    (gap % 60 == 0 && step_minutes(&step).is_some()).then_some(step)
}

fn period(period: &Period) -> (String, String) {
    match (parse_moment(&period.date_debut), parse_moment(&period.date_fin)) {
        (Some(start), Some(end)) => {
            let (start, end) = (start.date(), end.date());
            (start.to_string(), end.max(plus(start, 1)).to_string())
        }
        _ => (period.date_debut.clone(), period.date_fin.clone()),
    }
}

#[cfg(test)]
mod tests;
