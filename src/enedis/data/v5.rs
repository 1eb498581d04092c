//! The v5 API (`metering_data_*/v5`, Enedis' swagger of 2023): how a question is put to it, and its answers. Reading is
//! lenient: numbers for strings, nulls, missing lists.

use actors::metering::request::MeterRequest;
use actors::metering::resource_server::{Point, Reading};
use serde::Deserialize;

use super::Scalar;

/// Path and query of a question. Boxes ask by the same paths.
pub fn question(request: MeterRequest) -> (&'static str, String) {
    let MeterRequest { resource, meter, range } = request;
    let query = format!("usage_point_id={meter}&start={}&end={}", range.start(), range.end());
    (resource.v5_path(), query)
}

/// Reads an answer: which meter it is about, and what was measured; `None` if it is none. Values without a number or a
/// date are left out.
pub fn read(body: &[u8]) -> Option<(String, Reading)> {
    let Body { meter_reading: read } = serde_json::from_slice(body).ok()?;
    let point = |p: LoosePoint| {
        let (value, date) = (p.value?.text(), p.date?);
        Some(Point { value, date, interval_length: p.interval_length, measure_type: p.measure_type })
    };
    let points = read.interval_reading.unwrap_or_default().into_iter().filter_map(point).collect();
    let quality = read.quality.map(|quality| quality.text()).unwrap_or_default();
    Some((read.usage_point_id.text(), Reading { quality, points }))
}

#[derive(Deserialize)]
struct Body {
    meter_reading: MeterReading,
}

#[derive(Deserialize)]
struct MeterReading {
    usage_point_id: Scalar,
    quality: Option<Scalar>,
    interval_reading: Option<Vec<LoosePoint>>,
}

#[derive(Deserialize)]
struct LoosePoint {
    value: Option<Scalar>,
    date: Option<String>,
    interval_length: Option<String>,
    measure_type: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_answers_are_read_as_far_as_they_go() {
        let odd = br#"{"meter_reading":{"usage_point_id":12345678901234,"extra":1,"interval_reading":[
            {"value":540,"date":"2026-09-29"},{"value":null,"date":"2026-09-30"},{"date":"2026-10-01"}]}}"#;
        let (meter, reading) = read(odd).unwrap();
        assert_eq!(meter, "12345678901234");
        assert_eq!(reading.points.len(), 1);
        assert_eq!(reading.points[0].value, "540");
        assert_eq!(read(br#"{"meter_reading":{"usage_point_id":"1"}}"#).unwrap().1, Reading::default());
        for none in [&b"7"[..], b"[]", b"{}", b"<html>", b"", br#"{"meter_reading":[]}"#, br#"{"error":"x"}"#]
        {
            assert_eq!(read(none), None);
        }
    }
}
