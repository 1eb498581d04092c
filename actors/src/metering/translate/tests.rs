use jiff::civil::date;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::base::meter::Meter;
use crate::metering::day::days_of;
use crate::metering::request::DayRange;

const PRM: &str = "99999999999991";

fn v5(resource: Resource, body: &Value) -> Result<MeterReading, TranslateError> {
    to_v5(resource, body.to_string().as_bytes()).map(|answer| answer.meter_reading)
}

fn answer(metier: &str, physique: &str, unite: &str, points: impl Into<Value>) -> Value {
    let points = points.into();
    json!({"idPrm": PRM, "etapeMetier": "BRUT", "periode": {"dateDebut": "2026-09-29", "dateFin": "2026-10-01"},
        "modeCalcul": "MESURE", "contexte": [], "grandeur": [{"grandeurMetier": metier,
        "grandeurPhysique": physique, "unite": unite, "calendrier": [], "points": points}]})
}

fn values(reading: &MeterReading) -> Vec<(&str, &str)> {
    reading.interval_reading.iter().map(|p| (p.date.as_str(), p.value.as_str())).collect()
}

#[test]
fn requests_in_both_tongues() {
    let meter = Meter::parse("00000000000042").unwrap();
    let range = DayRange::new(date(2026, 9, 29), date(2026, 10, 1)).unwrap();
    let text = |api, resource| {
        let query = upstream_query(api, MeterRequest { resource, meter, range });
        let pairs: Vec<String> = query.pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{}?{}", query.path, pairs.join("&"))
    };
    assert_eq!(
        text(Api::New, Resource::DailyMaxPower),
        "mesure_synchrone_auto/v2/puissance_conso_max_quotidienne?pointId=00000000000042&dateDebut=2026-09-29\
         &dateFin=2026-10-01&mesuresPas=P1D&grandeurPhysique=PMA"
    );
    assert_eq!(
        text(Api::New, Resource::ProductionCurve),
        "mesure_synchrone_auto/v2/courbe_de_charge_production?pointId=00000000000042&dateDebut=2026-09-29\
         &dateFin=2026-10-01"
    );
    assert_eq!(
        text(Api::Legacy, Resource::DailyMaxPower),
        "metering_data_dcmp/v5/daily_consumption_max_power?usage_point_id=00000000000042&start=2026-09-29\
         &end=2026-10-01"
    );
}

/// The example of the swagger's shape, word for word what v5 would have said.
#[test]
fn a_curve_as_enedis_sends_it() {
    let body = answer(
        "CONS",
        "PA",
        "W",
        json!([{"v": "512", "d": "2026-09-29 00:30:00", "p": "PT30M", "n": "B", "iv": "0", "ec": "0"},
               {"v": "498", "d": "2026-10-01 00:00:00", "p": "PT30M", "n": "B", "iv": "0", "ec": "0"}]),
    );
    let written = to_v5(Resource::ConsumptionCurve, body.to_string().as_bytes()).unwrap().to_body();
    assert_eq!(
        written,
        r#"{"meter_reading":{"usage_point_id":"99999999999991","start":"2026-09-29","end":"2026-10-01","quality":"BRUT","reading_type":{"measurement_kind":"power","unit":"W","aggregate":"average"},"interval_reading":[{"value":"512","date":"2026-09-29 00:30:00","interval_length":"PT30M","measure_type":"B"},{"value":"498","date":"2026-10-01 00:00:00","interval_length":"PT30M","measure_type":"B"}]}}"#
    );
}

#[test]
fn daily_energy_and_max_power() {
    let energy = answer(
        "CONS",
        "EA",
        "Wh",
        json!([{"v": "33100", "d": "2026-09-29"}, {"v": "37950", "d": "2026-09-30"}]),
    );
    let reading = v5(Resource::DailyConsumption, &energy).unwrap();
    assert_eq!(values(&reading), [("2026-09-29", "33100"), ("2026-09-30", "37950")]);
    assert_eq!(reading.interval_reading[0].interval_length, None);
    assert_eq!(reading.reading_type.measuring_period.as_deref(), Some("P1D"));
    let power = answer("CONS", "PMA", "VA", json!([{"v": "4650", "d": "2026-09-29 13:03:35"}]));
    let reading = v5(Resource::DailyMaxPower, &power).unwrap();
    assert_eq!(values(&reading), [("2026-09-29 13:03:35", "4650")]);
    // The plugin wants a time.
    let bare = answer("CONS", "PMA", "kVA", json!([{"v": "4.65", "d": "2026-09-29"}]));
    assert_eq!(values(&v5(Resource::DailyMaxPower, &bare).unwrap()), [("2026-09-29 00:00:00", "4650")]);
}

#[test]
fn nulls_go_and_order_comes() {
    let body = answer(
        "PROD",
        "PA",
        "kW",
        json!([{"v": "1.5", "d": "2026-09-29 02:00:00", "n": "B"}, {"v": null, "d": "2026-09-29 01:30:00"},
               {"v": 0.25, "d": "2026-09-29 00:30:00"}, {"v": "-", "d": "2026-09-29 03:00:00"},
               {"v": "2", "d": "2026-09-29 01:00:00"}, {"d": "2026-09-29 04:00:00"}, {"v": "3"}]),
    );
    let reading = v5(Resource::ProductionCurve, &body).unwrap();
    assert_eq!(
        values(&reading),
        [("2026-09-29 00:30:00", "250"), ("2026-09-29 01:00:00", "2000"), ("2026-09-29 02:00:00", "1500")]
    );
    assert!(
        reading.interval_reading.iter().all(|p| p.interval_length.as_deref() == Some("PT30M")),
        "from spacing"
    );
    let mut given = body.clone();
    given["pas"] = "PT15M".into();
    let reading = v5(Resource::ProductionCurve, &given).unwrap();
    assert_eq!(reading.interval_reading[0].interval_length.as_deref(), Some("PT15M"), "from pas");
}

#[test]
fn neighbours_are_swapped_back_but_for_the_hour_that_comes_twice() {
    let order = |day: &str, times: &[&str]| {
        let points: Vec<Value> =
            times.iter().map(|t| json!({"v": "1", "d": format!("{day} {t}:00"), "p": "PT30M"})).collect();
        let reading = v5(Resource::ConsumptionCurve, &answer("CONS", "PA", "W", points)).unwrap();
        reading.interval_reading.iter().map(|p| p.date[11..16].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(order("2026-09-29", &["01:00", "00:30", "01:30"]), ["00:30", "01:00", "01:30"]);
    let twice = ["02:00", "02:30", "03:00", "02:30", "03:00", "03:30"];
    assert_eq!(order("2026-10-25", &twice), twice);
}

#[test]
fn the_right_one_of_several_quantities() {
    let quantity = |metier: &str, physique: &str, unite: &str, v: &str| {
        json!({"grandeurMetier": metier, "grandeurPhysique": physique, "unite": unite,
            "points": [{"v": v, "d": "2026-09-29 00:30:00", "p": "PT30M"}]})
    };
    let body = json!({"idPrm": PRM, "etapeMetier": "BEST", "periode": {"dateDebut": "2026-09-29", "dateFin": "2026-09-29"},
        "grandeur": [quantity("PROD", "PA", "W", "1"), quantity("CONS", "ERI", "VArh", "2"),
            quantity("CONS", "PA", "W", "3"), quantity("CONS", "EA", "Wh", "4"), quantity("CONS", "PMA", "VA", "5")]});
    for (resource, value) in [
        (Resource::ProductionCurve, "1"),
        (Resource::ConsumptionCurve, "3"),
        (Resource::DailyConsumption, "4"),
        (Resource::DailyMaxPower, "5"),
    ] {
        let reading = v5(resource, &body).unwrap();
        assert_eq!(reading.interval_reading[0].value, value, "{resource:?}");
        assert_eq!((reading.start.as_str(), reading.end.as_str()), ("2026-09-29", "2026-09-30"), "one day");
        assert_eq!(reading.quality, "BEST");
    }
    assert_eq!(v5(Resource::DailyProduction, &body), Err(TranslateError::NoSuchQuantity));
}

#[test]
fn empty_is_not_malformed() {
    for grandeur in
        [json!([]), json!([{"grandeurMetier": "PROD", "grandeurPhysique": "PA", "unite": "W", "points": []}])]
    {
        let body = json!({"idPrm": PRM, "periode": {}, "grandeur": grandeur});
        assert!(v5(Resource::ConsumptionCurve, &body).unwrap().interval_reading.is_empty());
    }
    let sandbox = answer("CONS", "EA", "Wh", json!([{"v": "1", "d": "20XX-XX-XX"}]));
    assert_eq!(v5(Resource::DailyConsumption, &sandbox), Err(TranslateError::NoDates));
    for odd in ["", "7", "[]", "{}", "<html>", r#"{"meter_reading":{}}"#, r#"{"idPrm":"1"}"#] {
        assert_eq!(
            to_v5(Resource::DailyConsumption, odd.as_bytes()),
            Err(TranslateError::Malformed),
            "{odd}"
        );
    }
}

#[test]
fn numbers_are_scaled_without_floats() {
    for (text, shift, scaled) in [
        ("4078", 0, Some("4078")),
        ("4.078", 3, Some("4078")),
        ("4,0789", 3, Some("4078")),
        ("0.001", 3, Some("1")),
        ("0", 3, Some("0")),
        ("0.0", 3, Some("0")),
        ("12", 3, Some("12000")),
        ("-1.2", 3, Some("-1200")),
        (" 7 ", 0, Some("7")),
        ("", 0, None),
        ("-", 0, None),
        (".5", 3, None),
        ("1e3", 0, None),
        ("NaN", 0, None),
        ("1.2.3", 0, None),
        ("9999999999999999", 0, None),
    ] {
        assert_eq!(decimal(text, shift).as_deref(), scaled, "{text} × 10^{shift}");
    }
}

proptest! {
    /// However the points come, the v5 answer has each value under its date, in order, and the days are whole.
    #[test]
    fn order_never_matters(turn in 0_usize..96, back in any::<bool>()) {
        let mut points: Vec<Value> = (1..=96_i64)
            .map(|n| {
                let at = date(2026, 9, 29).at(0, 0, 0, 0).saturating_add(jiff::SignedDuration::from_mins(n * 30));
                json!({"v": n.to_string(), "d": moment_text(at), "p": "PT30M", "n": "B"})
            })
            .collect();
        points.rotate_left(turn);
        if back {
            points.reverse();
        }
        let reading = v5(Resource::ConsumptionCurve, &answer("CONS", "PA", "W", points)).unwrap();
        let values: Vec<i64> = reading.interval_reading.iter().map(|p| p.value.parse().unwrap()).collect();
        let expected: Vec<i64> = (1..=96).collect();
        prop_assert_eq!(values, expected);
        let range = DayRange::new(date(2026, 9, 29), date(2026, 10, 1)).unwrap();
        let days = days_of(Resource::ConsumptionCurve, range, &reading);
        prop_assert!(days.values().all(|day| day.points.len() == 48));
    }

    #[test]
    fn nothing_panics(body in ".{0,200}", number in ".{0,20}", shift in 0_usize..4) {
        for resource in Resource::ALL {
            let _ = to_v5(resource, body.as_bytes());
        }
        decimal(&number, shift);
    }
}
