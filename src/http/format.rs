//! In which form metering data is answered: JSON as Enedis' v5 has it, or CSV (RFC 4180) for whoever prefers that
//! (`Accept`, RFC 9110 section 12.5.1). Errors are JSON either way.

use actix_web::http::StatusCode;
use actix_web::http::header::{Accept, CONTENT_TYPE, Header, Quality};
use actix_web::mime::{self, Mime};
use actix_web::{HttpRequest, HttpResponse};
use csv::{Terminator, Writer, WriterBuilder};
use serde_json::Value;

use super::error::{json_answer, no_store};

/// `Content-Type` of CSV (RFC 4180 section 3, RFC 7111).
const CSV: &str = "text/csv; charset=utf-8; header=present";

/// The columns of values, in this order.
const VALUES: [&str; 7] =
    ["usage_point_id", "date", "value", "unit", "interval_length", "measure_type", "quality"];

/// The columns of a contract, and where each stands.
const CONTRACT: [(&str, &str); 11] = [
    ("usage_point", "usage_point_id"),
    ("usage_point", "usage_point_status"),
    ("usage_point", "meter_type"),
    ("contracts", "segment"),
    ("contracts", "subscribed_power"),
    ("contracts", "last_activation_date"),
    ("contracts", "distribution_tariff"),
    ("contracts", "offpeak_hours"),
    ("contracts", "contract_type"),
    ("contracts", "contract_status"),
    ("contracts", "last_distribution_tariff_change_date"),
];

/// A form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The default.
    Json,
    /// A line with names, then one for each value.
    Csv,
}

impl Format {
    /// What a request prefers. JSON wherever it does not say that it would rather have CSV.
    pub fn of(request: &HttpRequest) -> Self {
        let Ok(accept) = Accept::parse(request) else { return Self::Json };
        if weight(&accept, &mime::TEXT_CSV) > weight(&accept, &mime::APPLICATION_JSON) {
            Self::Csv
        } else {
            Self::Json
        }
    }

    /// The answer with this body, which is JSON.
    pub fn answer(self, body: String) -> HttpResponse {
        match self {
            Self::Json => json_answer(body),
            Self::Csv => no_store(HttpResponse::build(StatusCode::OK))
                .insert_header((CONTENT_TYPE, CSV))
                .body(table(&body)),
        }
    }
}

/// The weight that the most specific range gives a type.
fn weight(accept: &Accept, wanted: &Mime) -> Quality {
    let specificity = |range: &Mime| match (range.type_(), range.subtype()) {
        (mime::STAR, _) => Some(0),
        (kind, mime::STAR) if kind == wanted.type_() => Some(1),
        (kind, sub) if (kind, sub) == (wanted.type_(), wanted.subtype()) => Some(2),
        _ => None,
    };
    let ranges = accept.iter().filter_map(|range| Some((specificity(&range.item)?, range.quality)));
    ranges.max_by_key(|(specificity, _)| *specificity).map_or(Quality::ZERO, |(_, quality)| quality)
}

/// A v5 answer as a table.
fn table(body: &str) -> Vec<u8> {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let mut csv = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    let of = |from: &Value, name: &str| from[name].as_str().unwrap_or_default().to_owned();
    if let Some(points) = answer["customer"]["usage_points"].as_array() {
        row(&mut csv, CONTRACT.map(|(_, name)| name));
        for point in points {
            row(&mut csv, CONTRACT.map(|(part, name)| of(&point[part], name)));
        }
        return csv.into_inner().unwrap_or_default();
    }
    let reading = &answer["meter_reading"];
    row(&mut csv, VALUES);
    for value in reading["interval_reading"].as_array().into_iter().flatten() {
        let [meter, quality] = ["usage_point_id", "quality"].map(|name| of(reading, name));
        let [date, number, length, kind] =
            ["date", "value", "interval_length", "measure_type"].map(|name| of(value, name));
        row(&mut csv, [meter, date, number, of(&reading["reading_type"], "unit"), length, kind, quality]);
    }
    csv.into_inner().unwrap_or_default()
}

/// Writing to memory cannot fail, and all rows have as many fields.
fn row<const N: usize>(csv: &mut Writer<Vec<u8>>, fields: [impl AsRef<[u8]>; N]) {
    let _ = csv.write_record(fields);
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn csv_is_for_whoever_prefers_it() {
        for (accept, format) in [
            (None, Format::Json),
            (Some("application/json"), Format::Json),
            (Some("*/*"), Format::Json),
            (Some("text/csv"), Format::Csv),
            (Some("text/*;q=0.2, text/csv"), Format::Csv),
            (Some("text/html, text/*"), Format::Csv),
            (Some("text/csv, application/json"), Format::Json),
            (Some("application/json;q=0.5, text/csv;q=0.8"), Format::Csv),
            (Some("*/*, text/csv;q=0.9"), Format::Json),
            (Some("*/*;q=0.1, text/csv;q=0"), Format::Json),
            (Some("text/html"), Format::Json),
            (Some("text/csv;q=x, ?"), Format::Json),
        ] {
            let request = accept
                .map_or_else(TestRequest::get, |accept| TestRequest::get().append_header((ACCEPT, accept)));
            assert_eq!(Format::of(&request.to_http_request()), format, "{accept:?}");
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_value() {
        let body = r#"{"meter_reading":{"usage_point_id":"12345678901234","start":"2026-09-29","end":"2026-09-30","quality":"BRUT",
            "reading_type":{"measurement_kind":"power","unit":"W","aggregate":"average"},"interval_reading":[
            {"value":"540","date":"2026-09-29 00:30:00","interval_length":"PT30M","measure_type":"B"},
            {"value":"5,4\"","date":"2026-09-29 01:00:00"}]}}"#;
        let expected = "usage_point_id,date,value,unit,interval_length,measure_type,quality\r\n\
            12345678901234,2026-09-29 00:30:00,540,W,PT30M,B,BRUT\r\n\
            12345678901234,2026-09-29 01:00:00,\"5,4\"\"\",W,,,BRUT\r\n";
        assert_eq!(String::from_utf8(table(body)).unwrap(), expected);
        assert_eq!(table("{}"), expected.as_bytes()[..=expected.find('\n').unwrap()]);
    }
}
