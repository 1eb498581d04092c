use actors::metering::request::DayRange;
use actors::testing::meter;
use jiff::civil::date;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PRM: &str = "99999999999991";

fn measured(resource: Resource, body: &Value) -> Option<Reading> {
    let (meter, reading) = read(resource, body.to_string().as_bytes())?;
    assert_eq!(meter, PRM);
    Some(reading)
}

fn answer(metier: &str, physique: &str, unite: &str, points: impl Into<Value>) -> Value {
    let points = points.into();
    json!({"idPrm": PRM, "etapeMetier": "BRUT", "periode": {"dateDebut": "2026-09-29", "dateFin": "2026-10-01"},
        "modeCalcul": "MESURE", "contexte": [], "grandeur": [{"grandeurMetier": metier,
        "grandeurPhysique": physique, "unite": unite, "calendrier": [], "points": points}]})
}

fn values(read: &Reading) -> Vec<(&str, &str)> {
    read.points.iter().map(|p| (p.date.as_str(), p.value.as_str())).collect()
}

#[test]
fn questions_have_the_parameters_of_the_swagger() {
    let days = "pointId=00000000000042&dateDebut=2026-09-29&dateFin=2026-10-01";
    for (resource, path, more) in [
        (Resource::DailyMaxPower, "puissance_conso_max_quotidienne", "&mesuresPas=P1D&grandeurPhysique=PMA"),
        (Resource::ProductionCurve, "courbe_de_charge_production", ""),
    ] {
        let range = DayRange::new(date(2026, 9, 29), date(2026, 10, 1)).unwrap();
        let (found, query) = question(MeterRequest { resource, meter: meter(42), range });
        assert_eq!(found, format!("mesure_synchrone_auto/v2/{path}"));
        assert_eq!(query, format!("{days}{more}"), "{resource:?}");
    }
}

#[test]
fn a_curve_as_enedis_sends_it() {
    let sent = json!([{"v": "512", "d": "2026-09-29 00:30:00", "p": "PT30M", "n": "B", "iv": "0", "ec": "0"},
        {"v": "498", "d": "2026-10-01 00:00:00", "p": "PT30M", "n": "B", "iv": "0", "ec": "0"}]);
    let read = measured(Resource::ConsumptionCurve, &answer("CONS", "PA", "W", sent)).unwrap();
    assert_eq!(values(&read), [("2026-09-29 00:30:00", "512"), ("2026-10-01 00:00:00", "498")]);
    let step = |p: &Point| (p.interval_length.clone(), p.measure_type.clone());
    assert!(read.points.iter().all(|p| step(p) == (Some("PT30M".into()), Some("B".into()))));
    assert_eq!(read.quality, "BRUT");
}

#[test]
fn daily_energy_and_max_power() {
    let (energy, power) = (Resource::DailyConsumption, Resource::DailyMaxPower);
    for (resource, quantity, unit, points, expected) in [
        (energy, "EA", "Wh", json!([{"v": "33100", "d": "2026-09-29"}]), ("2026-09-29", "33100")),
        (
            power,
            "PMA",
            "VA",
            json!([{"v": "4650", "d": "2026-09-29 13:03:35"}]),
            ("2026-09-29 13:03:35", "4650"),
        ),
        // The plugin wants a time.
        (power, "PMA", "kVA", json!([{"v": "4.65", "d": "2026-09-29"}]), ("2026-09-29 00:00:00", "4650")),
    ] {
        let read = measured(resource, &answer("CONS", quantity, unit, points)).unwrap();
        assert_eq!((values(&read), &read.points[0].interval_length), (vec![expected], &None));
    }
}

#[test]
fn nulls_go_and_steps_come() {
    let body = answer(
        "PROD",
        "PA",
        "kW",
        json!([{"v": "1.5", "d": "2026-09-29 02:00:00", "n": "B"}, {"v": null, "d": "2026-09-29 01:30:00"},
               {"v": 0.25, "d": "2026-09-29 00:30:00"}, {"v": "-", "d": "2026-09-29 03:00:00"},
               {"v": "2", "d": "2026-09-29 01:00:00"}, {"d": "2026-09-29 04:00:00"}, {"v": "3"}]),
    );
    let read = measured(Resource::ProductionCurve, &body).unwrap();
    assert_eq!(
        values(&read),
        [("2026-09-29 02:00:00", "1500"), ("2026-09-29 00:30:00", "250"), ("2026-09-29 01:00:00", "2000")]
    );
    assert!(read.points.iter().all(|p| p.interval_length.as_deref() == Some("PT30M")), "from spacing");
    let mut given = body.clone();
    given["pas"] = "PT15M".into();
    let read = measured(Resource::ProductionCurve, &given).unwrap();
    assert_eq!(read.points[0].interval_length.as_deref(), Some("PT15M"), "from pas");
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
        let read = measured(resource, &body).unwrap();
        assert_eq!(read.points[0].value, value, "{resource:?}");
        assert_eq!(read.quality, "BEST");
    }
    assert_eq!(measured(Resource::DailyProduction, &body), None);
}

#[test]
fn empty_is_not_malformed() {
    for grandeur in
        [json!([]), json!([{"grandeurMetier": "PROD", "grandeurPhysique": "PA", "unite": "W", "points": []}])]
    {
        let body = json!({"idPrm": PRM, "periode": {}, "grandeur": grandeur});
        assert!(measured(Resource::ConsumptionCurve, &body).unwrap().points.is_empty());
    }
    let sandbox = answer("CONS", "EA", "Wh", json!([{"v": "1", "d": "20XX-XX-XX"}]));
    assert_eq!(measured(Resource::DailyConsumption, &sandbox), None);
    for odd in ["", "7", "[]", "{}", "<html>", r#"{"meter_reading":{}}"#, r#"{"idPrm":"1"}"#] {
        assert_eq!(read(Resource::DailyConsumption, odd.as_bytes()), None, "{odd}");
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
    #[test]
    fn nothing_panics(body in ".{0,200}", number in ".{0,20}", shift in 0_usize..4) {
        for resource in Resource::ALL {
            let _ = read(resource, body.as_bytes());
        }
        decimal(&number, shift);
    }
}
