//! Reads answers of `subscribed_services/v1`: which meter was consented under an authorisation of the v2 consent page,
//! and since when. Field names are those of Enedis' swagger of 2026.

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use crate::base::meter::METERS_MAX;
use crate::base::meter::Meter;
use crate::enedis::port::Answer;
use crate::metering::civil::parse_moment;

/// What is known of an authorisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its meters, usually one; at most [`METERS_MAX`].
    pub meters: Vec<Meter>,
    /// The latest beginning of its services; `None` if none says.
    pub since: Option<Date>,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Services {
    /// These meters.
    Found(Subscription),
    /// Nothing yet: Enedis lists services some time after the consent.
    NotYet,
    /// The application's token was not accepted.
    NewToken,
    /// Not an authorisation of this application.
    Refused,
    /// Enedis' gateway, or an answer that is none.
    Trouble,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    #[serde(default)]
    service_souscrit: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    etat_code: Option<String>,
    point_id: Option<String>,
    date_debut: Option<String>,
    autorisation: Option<Autorisation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Autorisation {
    autorisation_id: Option<Value>,
}

/// Reads the answer to a question for `authorisation`.
pub fn read(answer: &Answer, authorisation: i64) -> Services {
    match answer.status {
        200..300 => listing(&answer.body, authorisation),
        401 => Services::NewToken,
        // The gateway's own codes have six digits: the API is not subscribed, which is the operator's to mend.
        403 if gateway_code(&answer.body) => Services::Trouble,
        400 | 403 => Services::Refused,
        404 if serde_json::from_slice::<Value>(&answer.body).is_ok() => Services::NotYet,
        _ => Services::Trouble,
    }
}

fn gateway_code(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let fault = body.get("fault").unwrap_or(&body);
    match fault.get("code") {
        Some(Value::String(code)) => code.len() == 6 && code.starts_with("90"),
        Some(Value::Number(code)) => code.as_u64().is_some_and(|code| (900_000..910_000).contains(&code)),
        // A page of a proxy in between, or nothing.
        _ => true,
    }
}

fn listing(body: &[u8], authorisation: i64) -> Services {
    // A struct is read from a list as well, an empty one even from an empty list.
    let body = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let Some(listing) = body.and_then(|body| serde_json::from_value::<Listing>(body).ok()) else {
        return Services::Trouble;
    };
    let mut found = Subscription { meters: Vec::new(), since: None };
    let ours = |row: &&Row| {
        let id = row.autorisation.as_ref().and_then(|it| it.autorisation_id.as_ref());
        let same = id.is_none_or(|id| match id {
            Value::Number(id) => id.as_i64() == Some(authorisation),
            Value::String(id) => id.trim().parse() == Ok(authorisation),
            _ => false,
        });
        let live = row.etat_code.as_deref().is_none_or(|state| matches!(state, "ACTIF" | "DEMANDE"));
        same && live
    };
    for row in listing.service_souscrit.iter().filter(ours) {
        let Some(meter) = row.point_id.as_deref().and_then(|id| Meter::parse(id.trim())) else { continue };
        if !found.meters.contains(&meter) {
            found.meters.push(meter);
        }
        let since = row.date_debut.as_deref().and_then(parse_moment).map(jiff::civil::DateTime::date);
        found.since = found.since.max(since);
    }
    match found.meters.len() {
        0 => Services::NotYet,
        1..=METERS_MAX => Services::Found(found),
        _ => Services::Trouble,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, content_type: None, body: body.into(), retry_at: None }
    }

    fn row(point: &str, state: &str, id: i64, since: &str) -> String {
        format!(
            r#"{{"id":"4711","injection":false,"soutirage":true,"serviceCode":"ACCES","dateDebut":"{since}","etatCode":"{state}",
            "pointId":"{point}","mesuresTypeCode":"CDC","autorisation":{{"autorisationId":{id},"autorisationType":"EXPLICITE"}}}}"#
        )
    }

    fn list(rows: &[String]) -> Services {
        let body = format!(r#"{{"nbTotalServices":{},"serviceSouscrit":[{}]}}"#, rows.len(), rows.join(","));
        read(&answer(200, &body), i64::MAX - 1)
    }

    #[test]
    fn the_meter_and_its_date_are_found() {
        let id = i64::MAX - 1;
        let rows = [
            row("99999999999991", "ACTIF", id, "2026-11-20"),
            row("99999999999991", "DEMANDE", id, "2026-11-23"),
            row("99999999999992", "ACTIF", 5, "2026-11-24"),
            row("99999999999993", "TERMINE", id, "2026-11-24"),
        ];
        let Services::Found(found) = list(&rows) else { panic!("nothing found") };
        assert_eq!(found.meters, [Meter::parse("99999999999991").unwrap()]);
        assert_eq!(found.since, Some(date(2026, 11, 23)));
        assert_eq!(list(&rows[2..]), Services::NotYet, "another's rows are nothing");
        assert_eq!(list(&[]), Services::NotYet);
    }

    #[test]
    fn errors_are_told_apart() {
        let read = |status, body| read(&answer(status, body), 1);
        assert_eq!(read(404, r#"{"code":"404","message":"Aucun service"}"#), Services::NotYet);
        assert_eq!(read(403, r#"{"code":"403","message":"pas celle de l'application"}"#), Services::Refused);
        assert_eq!(read(400, r#"{"code":"400","message":"x"}"#), Services::Refused);
        assert_eq!(read(401, r#"{"code":"900901"}"#), Services::NewToken);
        assert_eq!(read(403, r#"{"code":"900908","message":"Resource forbidden "}"#), Services::Trouble);
        for (status, body) in [(200, "<html>"), (403, "<html>"), (404, "<html>"), (200, "[]"), (302, "")] {
            assert_eq!(read(status, body), Services::Trouble, "{status} {body}");
        }
    }
}
