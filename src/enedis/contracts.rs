//! Contracts: v5's one answer, or what 2026 has in its place, which is three APIs that each are subscribed to by
//! themselves: the contract (`situation_contrat_auto`), its summary (`synth_contrat_auto`) and the meter with its off-peak
//! hours (`comptage_auto`). Their shapes vary and one of them names the owner: only the fields of [`Contract`] are read,
//! each of which is a short text, and nothing else of an answer goes anywhere.

use actors::base::meter::Meter;
use actors::enedis::contract::Contract;
use actors::metering::civil::{paris_offset, parse_moment};
use serde_json::Value;

/// Longest text of a field, in characters.
const TEXT_MAX: usize = 120;

/// An API that tells of contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The contracts of 2026.
    Situation,
    /// Their summary.
    Summary,
    /// The meter.
    Metering,
    /// All of it, in v5.
    V5,
}

impl Source {
    /// What 2026 has; what one does not say another may.
    pub const NEW: [Self; 3] = [Self::Situation, Self::Summary, Self::Metering];

    /// Path and query of the question for a meter.
    pub fn question(self, meter: Meter) -> String {
        match self {
            Self::Situation => format!("situation_contrat_auto/v1/{meter}"),
            Self::Summary => format!("synth_contrat_auto/v1/{meter}"),
            Self::Metering => format!("comptage_auto/v1/{meter}"),
            Self::V5 => format!("customers_upc/v5/usage_points/contracts?usage_point_id={meter}"),
        }
    }

    /// Reads an answer; `None` if it is none of its shape, or about another meter.
    pub fn read(self, meter: Meter, body: &[u8]) -> Option<Contract> {
        let body: Value = serde_json::from_slice(body).ok()?;
        match self {
            Self::Situation => situation(meter, &body),
            Self::Summary => body.is_object().then(|| summary(&body)),
            Self::Metering => body.is_object().then(|| metering(&body)),
            Self::V5 => v5(meter, &body),
        }
    }
}

/// A list of contracts. Of several that of consumption counts: a meter that also feeds in has one of production beside it.
fn situation(meter: Meter, body: &Value) -> Option<Contract> {
    let listed = body.as_array().map_or_else(|| std::slice::from_ref(body), Vec::as_slice);
    let contracts: Vec<&Value> = listed.iter().filter(|contract| contract.is_object()).collect();
    let is_its = |contract: &&Value| {
        contract.get("usage_point_id").and_then(text).is_none_or(|id| id == meter.to_string())
    };
    let of_consumption = |contract: &&&Value| {
        segment(&contract["segment"]).is_some_and(|name| name.starts_with('C'))
            || contract["contract_type"].as_str() == Some("Contrat GRD-F")
    };
    let its: Vec<&Value> = contracts.into_iter().filter(is_its).collect();
    let contract = its.iter().find(of_consumption).or(its.first())?;
    let power = &contract["subscribed_power"];
    let power = text(power).or_else(|| Some(format!("{} {}", text(&power["value"])?, text(&power["unit"])?)));
    Some(Contract {
        segment: segment(&contract["segment"]),
        subscribed_power: power.filter(|power| is_short(power)),
        distribution_tariff: text(&contract["distribution_tariff"]),
        contract_type: text(&contract["contract_type"]),
        ..Contract::default()
    })
}

fn summary(body: &Value) -> Contract {
    let level = text(&body["services_level"]).map(|level| level.to_lowercase());
    let status = level.and_then(|level| match level.as_str() {
        "0" => Some("no_com"),
        "1" | "2" => Some("com"),
        level if level.starts_with("communicant") => Some("com"),
        level if level.starts_with("non communicant") => Some("no_com"),
        _ => None,
    });
    Contract {
        usage_point_status: status.map(str::to_owned),
        segment: segment(&body["segments"]),
        last_activation_date: text(&body["consumption_last_activation_date"])
            .and_then(|day| with_offset(&day)),
        ..Contract::default()
    }
}

/// Where exactly the hours stand in it was never seen.
fn metering(body: &Value) -> Contract {
    let code = find(body, "typeComptage").and_then(|kind| text(&kind["code"]));
    let meter_type = code.map(|code| if code.starts_with("LINKY") { "AMM".to_owned() } else { code });
    Contract {
        meter_type,
        offpeak_hours: find(body, "plageHeuresCreuses").and_then(text),
        ..Contract::default()
    }
}

fn v5(meter: Meter, body: &Value) -> Option<Contract> {
    let points = body["customer"]["usage_points"].as_array()?;
    let is_its = |point: &&Value| text(&point["usage_point"]["usage_point_id"]) == Some(meter.to_string());
    let point = points.iter().find(is_its)?;
    let of = |part: &str, name: &str| text(&point[part][name]);
    let contract = |name: &str| of("contracts", name);
    Some(Contract {
        usage_point_status: of("usage_point", "usage_point_status"),
        meter_type: of("usage_point", "meter_type"),
        segment: contract("segment"),
        subscribed_power: contract("subscribed_power"),
        last_activation_date: contract("last_activation_date"),
        distribution_tariff: contract("distribution_tariff"),
        offpeak_hours: contract("offpeak_hours"),
        contract_type: contract("contract_type"),
        contract_status: contract("contract_status"),
        last_distribution_tariff_change_date: contract("last_distribution_tariff_change_date"),
        is_partial: false,
    })
}

/// A text, or a number as one; `None` if it is empty or longer than such texts are.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    is_short(&text).then_some(text)
}

fn is_short(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= TEXT_MAX && !text.contains(char::is_control)
}

/// `C5`, in any of the shapes seen: a text, `{"segment": …}`, or a list of either.
fn segment(value: &Value) -> Option<String> {
    match value {
        Value::Array(list) => list.iter().find_map(segment),
        Value::Object(members) => members.get("segment").and_then(text),
        other => text(other),
    }
}

/// The first value of this name, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => {
            members.get(name).or_else(|| members.values().find_map(|member| find(member, name)))
        }
        Value::Array(list) => list.iter().find_map(|member| find(member, name)),
        _ => None,
    }
}

/// A day as v5 wrote it, with the offset of its midnight in France.
fn with_offset(day: &str) -> Option<String> {
    let day = parse_moment(day)?.date();
    Some(format!("{day}{}", paris_offset(day)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const PRM: &str = "99999999999991";

    fn meter() -> Meter {
        Meter::parse(PRM).unwrap()
    }

    fn read(source: Source, body: &Value) -> Option<Contract> {
        source.read(meter(), body.to_string().as_bytes())
    }

    fn person() -> Value {
        json!([{"usage_point_id": PRM, "contract_type": "Contrat GRD-A", "segment": "P4"},
            {"usage_point_id": PRM, "contract_start": "2022-05-11T00:00:00+0200", "contract_type": "Contrat GRD-F",
            "contractor": "SUPPLIER X", "distribution_tariff": "Tarif BT<=36kVA", "segment": [{"segment": "C5"}],
            "subscribed_power": {"unit": "kVA", "value": "9"}, "customer": {"customer": {"adress": {"line1": "12 RUE"}}},
            "contact_data": {"email": "a@b", "phone": "0600000000"}, "person": {"lastname": "DURAND", "segment": "X"}}])
    }

    #[test]
    fn three_answers_of_2026_make_one() {
        let situation = read(Source::Situation, &person()).unwrap();
        let summary = json!({"segments": [{"segment": "C5"}], "consumption_last_activation_date": "2019-07-04",
            "services_level": "Communicant (ouvert aux services)"});
        let metering = json!({"dispositifComptage": {"typeComptage": {"code": "LINKY", "libelle": "x"},
            "compteurs": [{"numeroSerie": "012345678901"}], "relais": {"plageHeuresCreuses": " HC (22H30-6H30) "}}});
        let parts = [read(Source::Summary, &summary).unwrap(), read(Source::Metering, &metering).unwrap()];
        let whole = parts.into_iter().fold(situation, Contract::or);
        let some = |text: &str| Some(text.to_owned());
        let expected = Contract {
            usage_point_status: some("com"),
            meter_type: some("AMM"),
            segment: some("C5"),
            subscribed_power: some("9 kVA"),
            last_activation_date: some("2019-07-04+02:00"),
            distribution_tariff: some("Tarif BT<=36kVA"),
            offpeak_hours: some("HC (22H30-6H30)"),
            contract_type: some("Contrat GRD-F"),
            ..Contract::default()
        };
        assert_eq!(whole, expected);
        let told = whole.body(meter());
        for secret in ["12 RUE", "a@b", "0600000000", "DURAND", "SUPPLIER", "012345678901"] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }

    #[test]
    fn v5_passes_through_but_for_whatever_else_is_in_it() {
        let body = json!({"customer": {"customer_id": "-1234567890", "usage_points": [
            {"usage_point": {"usage_point_id": "1"}, "contracts": {"segment": "C1"}},
            {"usage_point": {"usage_point_id": PRM, "usage_point_status": "com", "meter_type": "AMM",
                "usage_point_addresses": {"street": "12 RUE"}},
             "contracts": {"segment": "C5", "subscribed_power": "9 kVA", "last_activation_date": "2019-03-04+01:00",
                "distribution_tariff": "BTINFCU4", "offpeak_hours": null, "contract_type": "Contrat GRD-F",
                "contract_status": "SERVC", "last_distribution_tariff_change_date": "2021-08-01+02:00", "person": "DURAND"}}]}});
        let told: Value = serde_json::from_str(&read(Source::V5, &body).unwrap().body(meter())).unwrap();
        let point = &told["customer"]["usage_points"][0];
        let mut expected = body["customer"]["usage_points"][1].clone();
        expected["contracts"].as_object_mut().unwrap().remove("person");
        expected["usage_point"].as_object_mut().unwrap().remove("usage_point_addresses");
        assert_eq!(point, &expected);
        assert_eq!(read(Source::V5, &json!({"customer": {"usage_points": []}})), None);
    }

    #[test]
    fn what_is_anothers_or_no_answer_is_nothing() {
        let other = person().to_string().replace(PRM, "99999999999992");
        assert_eq!(Source::Situation.read(meter(), other.as_bytes()), None);
        let long = json!({"relais": {"plageHeuresCreuses": "x".repeat(121)}});
        assert_eq!(read(Source::Metering, &long), Some(Contract::default()));
        for source in [Source::Situation, Source::Summary, Source::Metering, Source::V5] {
            for none in ["", "7", "[]", "<html>", "[7]", "\"x\""] {
                assert_eq!(source.read(meter(), none.as_bytes()), None, "{source:?} {none}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(body in "[\\[{}\\]\":,a-z0-9]{0,80}") {
            for source in [Source::Situation, Source::Summary, Source::Metering, Source::V5] {
                source.read(meter(), body.as_bytes());
            }
        }
    }
}
