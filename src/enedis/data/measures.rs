//! The measure API of 28 September 2026 (`mesure_synchrone_auto/v2`): how a question is put to it, and its answers.

use actors::metering::civil::{moment_text, parse_moment};
use actors::metering::day::step_minutes;
use actors::metering::request::{MeterRequest, Resource};
use actors::metering::resource_server::{Point, Reading};
use jiff::civil::DateTime;
use serde::Deserialize;

use super::Scalar;

/// Path and query of a question. Exactly the parameters of the swagger: others make the API answer 500.
pub fn question(request: MeterRequest) -> (&'static str, String) {
    let MeterRequest { resource, meter, range } = request;
    let mut query = format!("pointId={meter}&dateDebut={}&dateFin={}", range.start(), range.end());
    let path = match resource {
        Resource::ConsumptionCurve => "mesure_synchrone_auto/v2/courbe_de_charge_consommation",
        Resource::ProductionCurve => "mesure_synchrone_auto/v2/courbe_de_charge_production",
        Resource::DailyConsumption => "mesure_synchrone_auto/v2/consommation_quotidienne",
        Resource::DailyProduction => "mesure_synchrone_auto/v2/production_quotidienne",
        Resource::DailyMaxPower => {
            query.push_str("&mesuresPas=P1D&grandeurPhysique=PMA");
            "mesure_synchrone_auto/v2/puissance_conso_max_quotidienne"
        }
    };
    (path, query)
}

/// Reads an answer to a question for `resource`: which meter it is about, and what was measured. `None` if it is not the
/// JSON of the swagger, has quantities but not the one asked for in a known unit, or values but not one with a date
/// (the sandbox writes `20XX-XX-XX`).
///
/// Null values and values that are no number are left out; points stay in the order they came in; kW, kWh and kVA become W, Wh
/// and VA; of several `grandeur` those of the resource count (direction first, then physical quantity), together; a
/// missing step is taken from `pas`, else from the spacing of the points.
pub fn read(resource: Resource, body: &[u8]) -> Option<(String, Reading)> {
    let answer: Body = serde_json::from_slice(body).ok()?;
    let wanted = choose(resource, &answer.grandeur);
    if wanted.is_empty() && answer.grandeur.iter().any(|g| !g.points.is_empty()) {
        return None;
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
        return None;
    }
    let usual_step = answer.pas.filter(|pas| step_minutes(pas).is_some());
    let usual_step = usual_step.or_else(|| spacing(points.iter().map(|(at, ..)| *at).collect()));
    let point = |(at, value, point): (DateTime, String, &MeasuredPoint)| {
        let curve = resource.is_curve();
        let day_only = matches!(resource, Resource::DailyConsumption | Resource::DailyProduction);
        Point {
            value,
            date: if day_only { at.date().to_string() } else { moment_text(at) },
            interval_length: curve.then(|| point.step.clone().or_else(|| usual_step.clone())).flatten(),
            measure_type: curve.then(|| point.nature.clone()).flatten(),
        }
    };
    let quality = answer.etape_metier.unwrap_or_else(|| "BRUT".to_owned());
    Some((answer.id_prm.text(), Reading { quality, points: points.into_iter().map(point).collect() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    id_prm: Scalar,
    etape_metier: Option<String>,
    pas: Option<String>,
    grandeur: Vec<Quantity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quantity {
    grandeur_metier: Option<String>,
    grandeur_physique: Option<String>,
    unite: Option<String>,
    #[serde(default)]
    points: Vec<MeasuredPoint>,
}

#[derive(Deserialize)]
struct MeasuredPoint {
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
fn spacing(mut moments: Vec<DateTime>) -> Option<String> {
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[0].duration_until(pair[1]).as_secs());
    let gap = gaps.filter(|gap| *gap > 0).min()?;
    let step = format!("PT{}M", gap / 60);
    (gap % 60 == 0 && step_minutes(&step).is_some()).then_some(step)
}

#[cfg(test)]
mod tests;
