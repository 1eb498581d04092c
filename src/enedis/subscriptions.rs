//! The service of subscriptions (Enedis' swagger `Services-souscrits` of 2026): which meter was consented under an
//! authorisation of the v2 consent page, and since when.

use actors::base::meter::{METERS_MAX, Meter};
use actors::enedis::port::{NoMeters, Subscription};
use actors::metering::civil::parse_moment;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Response;

/// Its path, below the data endpoint. Enedis wants the slash at its end.
pub const PATH: &str = "subscribed_services/v1/";

/// The gateway's code where this application is not subscribed to the API, which its operator can change.
const NOT_SUBSCRIBED: u64 = 900_908;

/// The question for the meters of `authorisation`.
pub fn question(authorisation: i64) -> Value {
    json!({
        "autorisationId": authorisation,
        // Rows, and not their number.
        "comptage": false,
        "etatCode": ["ACTIF", "DEMANDE"],
        "serviceType": "ACCES",
    })
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
pub fn read(answer: &Response, authorisation: i64) -> Result<Subscription, NoMeters> {
    let read = match answer.status {
        200..300 => listing(&answer.body, authorisation),
        401 => Err(NoMeters::TokenRejected),
        403 => match gateway_code(&answer.body) {
            Some(NOT_SUBSCRIBED) => Err(NoMeters::NotSubscribed),
            None => Err(NoMeters::Refused),
            Some(_) => Err(NoMeters::Trouble),
        },
        400 => Err(NoMeters::Refused),
        404 if serde_json::from_slice::<Value>(&answer.body).is_ok() => Err(NoMeters::NotYet),
        _ => Err(NoMeters::Trouble),
    };
    match read {
        Err(NoMeters::Trouble) => {
            tracing::warn!(status = answer.status, "Enedis does not tell the meter of a consent");
        }
        Err(NoMeters::NotSubscribed) => {
            tracing::error!(
                "Enedis does not let this application ask for the meter of a consent; subscribe it to Services-souscrits"
            );
        }
        _ => {}
    }
    read
}

/// The code of the gateway, of six digits, which says nothing of the consent; 0 for a page of a proxy in between, or nothing.
fn gateway_code(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let fault = body.get("fault").unwrap_or(&body);
    let code = match fault.get("code") {
        Some(Value::String(code)) => code.parse().ok(),
        Some(Value::Number(code)) => code.as_u64(),
        _ => return Some(0),
    };
    code.filter(|code| (900_000..910_000).contains(code))
}

fn listing(body: &[u8], authorisation: i64) -> Result<Subscription, NoMeters> {
    // A struct is read from a list as well, an empty one even from an empty list.
    let body = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let Some(listing) = body.and_then(|body| serde_json::from_value::<Listing>(body).ok()) else {
        return Err(NoMeters::Trouble);
    };
    let mut found = Subscription { meters: Vec::new(), since: None };
    let ours = |row: &&Row| {
        let id = row.autorisation.as_ref().and_then(|it| it.autorisation_id.as_ref());
        // A row that names no authorisation may be anybody's.
        let same = id.is_some_and(|id| match id {
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
        0 => Err(NoMeters::NotYet),
        1..=METERS_MAX => Ok(found),
        _ => Err(NoMeters::Trouble),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response { status, content_type: None, body: body.into(), retry_at: None }
    }

    fn row(point: &str, state: &str, id: i64, since: &str) -> String {
        format!(
            r#"{{"id":"4711","injection":false,"soutirage":true,"serviceCode":"ACCES","dateDebut":"{since}","etatCode":"{state}",
            "pointId":"{point}","mesuresTypeCode":"CDC","autorisation":{{"autorisationId":{id},"autorisationType":"EXPLICITE"}}}}"#
        )
    }

    fn list(rows: &[String]) -> Result<Subscription, NoMeters> {
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
        let found = list(&rows).unwrap();
        assert_eq!(found.meters, [Meter::parse("99999999999991").unwrap()]);
        assert_eq!(found.since, Some(date(2026, 11, 23)));
        assert_eq!(list(&rows[2..]), Err(NoMeters::NotYet), "another's rows are nothing");
        assert_eq!(list(&[]), Err(NoMeters::NotYet));
    }

    #[test]
    fn errors_are_told_apart() {
        for (status, body, expected) in [
            (404, r#"{"code":"404","message":"Aucun service"}"#, NoMeters::NotYet),
            (403, r#"{"code":"403","message":"pas celle de l'application"}"#, NoMeters::Refused),
            (400, r#"{"code":"400","message":"x"}"#, NoMeters::Refused),
            (401, r#"{"code":"900901"}"#, NoMeters::TokenRejected),
            (403, r#"{"code":"900908","message":"Resource forbidden "}"#, NoMeters::NotSubscribed),
            (403, r#"{"fault":{"code":900908}}"#, NoMeters::NotSubscribed),
            (403, r#"{"code":"900909"}"#, NoMeters::Trouble),
            (200, "<html>", NoMeters::Trouble),
            (403, "<html>", NoMeters::Trouble),
            (404, "<html>", NoMeters::Trouble),
            (200, "[]", NoMeters::Trouble),
            (302, "", NoMeters::Trouble),
        ] {
            assert_eq!(read(&answer(status, body), 1), Err(expected), "{status} {body}");
        }
    }
}
