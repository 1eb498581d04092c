use jiff::civil::date;
use proptest::prelude::*;

use super::*;

const TODAY: Date = date(2026, 11, 23);
const CLC: &str = "metering_data_clc/v5/consumption_load_curve";
const GOOD: [(&str, &str); 3] =
    [("usage_point_id", "12345678901234"), ("start", "2026-11-16"), ("end", "2026-11-23")];

fn parse(path: &str, query: &[(&str, &str)]) -> Result<MeterRequest, RequestError> {
    MeterRequest::parse(path, query.iter().copied(), TODAY)
}

#[test]
fn what_the_plugin_asks_is_read() {
    for resource in Resource::ALL {
        let request = parse(resource.v5_path(), &GOOD).unwrap();
        assert_eq!(request.resource, resource);
        assert_eq!(request.meter.to_string(), "12345678901234");
        assert_eq!(request.range.day_count(), 7);
    }
    let leading_zeros = [("usage_point_id", "00005678901234"), GOOD[1], GOOD[2]];
    assert_eq!(parse(CLC, &leading_zeros).unwrap().meter.to_string(), "00005678901234");
    assert!(parse(CLC, &[GOOD[0], GOOD[1], GOOD[2], ("person_id", "4711")]).is_ok());
}

#[test]
fn no_path_but_the_five() {
    for path in [
        "",
        "/metering_data_clc/v5/consumption_load_curve",
        "metering_data_clc/v5/consumption_load_curve/",
        "metering_data_clc//v5/consumption_load_curve",
        "metering_data_clc%2Fv5%2Fconsumption_load_curve",
        "metering_data_clc/v5/../v5/consumption_load_curve",
        "metering_data_clc/v5/./consumption_load_curve",
        "metering_data_clc/v5/consumption_load_curve/../../../customers_i/v5/identity",
        "metering_data_clc/v5/consumption_load_curve?usage_point_id=1",
        "metering_data_clc/v5/consumption_load_curve;a=b",
        "metering_data_clc\\v5\\consumption_load_curve",
        "Metering_data_clc/v5/consumption_load_curve",
        "metering_data_clc/v4/consumption_load_curve",
        "metering_data_plc/v5/consumption_load_curve",
        "customers_upc/v5/usage_points/contracts",
        "mesure_synchrone_auto/v2/courbe_de_charge_consommation",
        "situation_contrat_auto/v1/12345678901234",
        "oauth2/v3/token",
    ] {
        assert_eq!(parse(path, &GOOD), Err(RequestError::UnknownPath), "{path}");
    }
}

#[test]
fn no_parameter_but_the_four_and_each_once() {
    let others = "pointId|dateDebut|dateFin|mesuresPas|grandeurPhysique|Usage_point_id|usage_point_id[]|usage_point_id |\
                  usage_point_id%00|access_token|";
    for extra in others.split('|') {
        let query = [GOOD[0], GOOD[1], GOOD[2], (extra, "99999999999999")];
        assert_eq!(parse(CLC, &query), Err(RequestError::UnknownParameter), "{extra}");
    }
    for again in GOOD {
        let query = [GOOD[0], GOOD[1], GOOD[2], again];
        assert_eq!(parse(CLC, &query), Err(RequestError::RepeatedParameter), "{again:?}");
    }
    let person = [GOOD[0], GOOD[1], GOOD[2], ("person_id", "1&pointId=2")];
    assert_eq!(parse(CLC, &person), Err(RequestError::BadPerson));
}

#[test]
fn meters_and_dates_are_checked() {
    let malformed =
        ["", "1234567890123", "123456789012345", "1234567890123a", "+2345678901234", "１2345678901"];
    for text in malformed {
        let query = [("usage_point_id", text), GOOD[1], GOOD[2]];
        assert_eq!(parse(CLC, &query), Err(RequestError::BadMeter), "{text}");
    }
    assert_eq!(parse(CLC, &GOOD[1..]), Err(RequestError::MissingMeter));
    assert_eq!(parse(CLC, &GOOD[..2]), Err(RequestError::MissingDates));
    for (start, end, error) in [
        ("2026-11-23", "2026-11-23", RequestError::EmptyRange),
        ("2026-11-23", "2026-11-22", RequestError::EmptyRange),
        ("2026-11-20", "2026-11-25", RequestError::Future),
        ("2026-02-30", "2026-11-22", RequestError::BadDates),
        ("1999-12-31", "2026-11-22", RequestError::BadDates),
        ("2022-11-01", "2026-11-22", RequestError::TooLong),
    ] {
        assert_eq!(parse(CLC, &[GOOD[0], ("start", start), ("end", end)]), Err(error), "{start} {end}");
    }
    assert!(parse(CLC, &[GOOD[0], ("start", "2026-11-23"), ("end", "2026-11-24")]).is_ok());
    let three_years = [GOOD[0], ("start", "2023-11-24"), ("end", "2026-11-23")];
    assert_eq!(parse(Resource::DailyMaxPower.v5_path(), &three_years).unwrap().range.day_count(), 1095);
}

#[test]
fn debug_hides_the_meter() {
    let text = format!("{:?}", parse(CLC, &GOOD).unwrap());
    assert!(text.contains("…1234") && !text.contains("567890"), "{text}");
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_well_formed(
        path in "(metering_data_(clc|plc|dc)/v5/(consumption_load_curve|daily_consumption))|.{0,60}",
        query in proptest::collection::vec(
            (
                "(usage_point_id|start|end|person_id|pointId|.{0,6})",
                "([0-9]{13,15}|20[0-9]{2}-[01][0-9]-[0-3][0-9]|.{0,9})",
            ),
            0..6,
        ),
    ) {
        if let Ok(request) = MeterRequest::parse(&path, query.clone(), TODAY) {
            prop_assert_eq!(request.resource.v5_path(), path);
            prop_assert_eq!(request.meter.to_string().len(), 14);
            prop_assert!((1..=DAYS_MAX).contains(&request.range.day_count()));
            prop_assert!(query.len() <= 4);
        }
    }
}
