//! The v5 answer, which is what boxes read whatever Enedis speaks. Field names are those of the swagger of 2023;
//! all values are strings. Reading is lenient (numbers for strings, nulls, missing lists), writing is exact: the
//! plugin dies of a missing `interval_reading`.

use serde::{Deserialize, Deserializer, Serialize};

use super::request::Resource;

/// Longest text within an answer; a date with its time has 19 characters.
const TEXT_MAX: usize = 32;

/// The whole body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V5Answer {
    /// The one member.
    pub meter_reading: MeterReading,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterReading {
    /// 14 digits; the plugin compares it with what it asked for.
    #[serde(deserialize_with = "text")]
    pub usage_point_id: String,
    /// First day, `YYYY-MM-DD`.
    #[serde(default, deserialize_with = "text")]
    pub start: String,
    /// The day after the last one.
    #[serde(default, deserialize_with = "text")]
    pub end: String,
    /// `BRUT` (raw), `CORRIGE` or `BEST` (corrected).
    #[serde(default, deserialize_with = "text")]
    pub quality: String,
    /// Unit and kind of the values.
    #[serde(default)]
    pub reading_type: ReadingType,
    /// The values, in order of time; written even when empty.
    #[serde(default, deserialize_with = "points")]
    pub interval_reading: Vec<Point>,
}

/// Unit and kind of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadingType {
    /// `power` or `energy`.
    pub measurement_kind: String,
    /// `W`, `Wh` or `VA`.
    pub unit: String,
    /// `average`, `sum` or `maximum`.
    pub aggregate: String,
    /// `P1D` for daily resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measuring_period: Option<String>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The number, in the unit of the reading type.
    pub value: String,
    /// Curves: end of the step, `YYYY-MM-DD HH:MM:SS` in local time. Daily energy: the day. Max power: when it was.
    pub date: String,
    /// Curves: length of the step, such as `PT30M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_length: Option<String>,
    /// Curves: nature of the value, `B` for raw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_type: Option<String>,
}

impl V5Answer {
    /// Reads a body of Enedis' v5 API; `None` if it is none. Points without a value or a date are left out.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(body).ok().filter(Self::is_terse)
    }

    /// Whether its texts are as short as such texts are: they are kept once for each day or value.
    pub fn is_terse(&self) -> bool {
        let reading = &self.meter_reading;
        let short = |text: &String| text.len() <= TEXT_MAX;
        let point = |point: &Point| {
            let texts = [
                Some(&point.value),
                Some(&point.date),
                point.interval_length.as_ref(),
                point.measure_type.as_ref(),
            ];
            texts.into_iter().flatten().all(short)
        };
        short(&reading.quality) && reading.interval_reading.iter().all(point)
    }

    /// The body as sent to a box.
    pub fn to_body(&self) -> String {
        // Strings and lists only: writing them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl ReadingType {
    /// What Enedis says of each resource.
    pub fn of(resource: Resource) -> Self {
        let (kind, unit, aggregate) = match resource {
            Resource::ConsumptionCurve | Resource::ProductionCurve => ("power", "W", "average"),
            Resource::DailyConsumption | Resource::DailyProduction => ("energy", "Wh", "sum"),
            Resource::DailyMaxPower => ("power", "VA", "maximum"),
        };
        Self {
            measurement_kind: kind.to_owned(),
            unit: unit.to_owned(),
            aggregate: aggregate.to_owned(),
            measuring_period: (!resource.is_curve()).then(|| "P1D".to_owned()),
        }
    }
}

/// A string, or a number written as one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Text(String),
    Number(serde_json::Number),
}

impl Scalar {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<Scalar>::deserialize(from)?.map(|scalar| scalar.text()).unwrap_or_default())
}

fn points<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Point>, D::Error> {
    #[derive(Deserialize)]
    struct Loose {
        value: Option<Scalar>,
        date: Option<String>,
        interval_length: Option<String>,
        measure_type: Option<String>,
    }
    let loose = Option::<Vec<Loose>>::deserialize(from)?.unwrap_or_default();
    let point = |p: Loose| {
        let value = p.value?.text();
        let (date, interval_length, measure_type) = (p.date?, p.interval_length, p.measure_type);
        Some(Point { value, date, interval_length, measure_type })
    };
    Ok(loose.into_iter().filter_map(point).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: &str = r#"{"meter_reading":{"usage_point_id":"12345678901234","start":"2026-09-29","end":"2026-09-30","quality":"BRUT","reading_type":{"measurement_kind":"power","unit":"W","aggregate":"average"},"interval_reading":[{"value":"540","date":"2026-09-29 00:30:00","interval_length":"PT30M","measure_type":"B"}]}}"#;

    #[test]
    fn written_as_it_was_read() {
        assert_eq!(V5Answer::read(CURVE.as_bytes()).unwrap().to_body(), CURVE);
    }

    #[test]
    fn odd_answers_are_read_as_far_as_they_go() {
        let odd = br#"{"meter_reading":{"usage_point_id":12345678901234,"extra":1,"interval_reading":[
            {"value":540,"date":"2026-09-29"},{"value":null,"date":"2026-09-30"},{"date":"2026-10-01"}]}}"#;
        let read = V5Answer::read(odd).unwrap();
        assert_eq!(read.meter_reading.usage_point_id, "12345678901234");
        assert_eq!(read.meter_reading.interval_reading.len(), 1);
        assert_eq!(read.meter_reading.interval_reading[0].value, "540");
        let bare = V5Answer::read(br#"{"meter_reading":{"usage_point_id":"1"}}"#).unwrap();
        assert!(bare.to_body().contains(r#""interval_reading":[]"#));
        for none in [&b"7"[..], b"[]", b"{}", b"<html>", b"", br#"{"meter_reading":[]}"#, br#"{"error":"x"}"#]
        {
            assert_eq!(V5Answer::read(none), None);
        }
    }

    #[test]
    fn long_texts_are_no_answer() {
        let answer = |value: &str, quality: &str| {
            let body = format!(
                r#"{{"meter_reading":{{"usage_point_id":"1","quality":"{quality}","interval_reading":[{{"value":"{value}","date":"2026-09-29"}}]}}}}"#
            );
            V5Answer::read(body.as_bytes())
        };
        assert!(answer("540", "BRUT").is_some());
        assert_eq!(answer(&"1".repeat(33), "BRUT"), None);
        assert_eq!(answer("540", &"B".repeat(33)), None);
    }

    #[test]
    fn units_of_each_resource() {
        let json = |r| serde_json::to_string(&ReadingType::of(r)).unwrap();
        let curve = r#"{"measurement_kind":"power","unit":"W","aggregate":"average"}"#;
        assert_eq!(json(Resource::ProductionCurve), curve);
        let power =
            r#"{"measurement_kind":"power","unit":"VA","aggregate":"maximum","measuring_period":"P1D"}"#;
        assert_eq!(json(Resource::DailyMaxPower), power);
    }
}
