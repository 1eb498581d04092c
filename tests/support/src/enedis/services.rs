//! Owns the service that tells which meter an authorisation is for.

use serde_json::{Value, json};

use super::Options;
use super::book::Book;
use super::consents::{FOREIGN_AUTHORISATION, Grant, State};
use super::seen::ApiRequest;

/// States listed when the question names none.
const LISTED: [&str; 2] = ["ACTIF", "DEMANDE"];
/// Members of a question that Enedis knows.
const KNOWN: [&str; 7] =
    ["autorisationId", "comptage", "etatCode", "serviceType", "page", "autorisation", "pointId"];

/// Answers a question: status and JSON body.
pub(super) fn answer(options: &Options, book: &mut Book, request: &ApiRequest) -> (u16, Value) {
    match rows(options, book, request) {
        Ok((rows, false)) => (200, json!({"nbTotalServices": rows.len(), "serviceSouscrit": rows})),
        Ok((rows, true)) => (200, json!({"nbTotalServices": rows.len()})),
        Err((status, message)) => (status, json!({"code": status.to_string(), "message": message})),
    }
}

/// The rows asked for, and whether only their number is wanted.
fn rows(
    options: &Options,
    book: &mut Book,
    request: &ApiRequest,
) -> Result<(Vec<Value>, bool), (u16, &'static str)> {
    let json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let question: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let Some(question) = question.as_object().filter(|_| json) else {
        return Err((400, "Le corps doit être un objet JSON"));
    };
    if question.keys().any(|name| !KNOWN.contains(&name.as_str())) {
        return Err((400, "Paramètre inconnu"));
    }
    let count_only =
        question.get("comptage").and_then(Value::as_bool).ok_or((400, "comptage est obligatoire"))?;
    let id = question.get("autorisationId").and_then(Value::as_i64);
    let id = id.ok_or((400, "autorisationId est obligatoire"))?;
    let states = match question.get("etatCode") {
        None => LISTED.map(ToOwned::to_owned).to_vec(),
        Some(states) => serde_json::from_value::<Vec<String>>(states.clone())
            .map_err(|_| (400, "etatCode doit être une liste"))?,
    };
    let wanted = match question.get("serviceType") {
        None => true,
        Some(kind) => kind.as_str().ok_or((400, "serviceType doit être un texte"))? == "ACCES",
    };
    if id == FOREIGN_AUTHORISATION {
        return Err((403, "L'autorisation n'est pas celle de l'application"));
    }
    let (grant, out) = book.grants.ask(id).ok_or((404, "Aucun service pour cette autorisation"))?;
    let rows = if out && wanted { services(options, &grant) } else { Vec::new() };
    let listed =
        |row: &Value| row["etatCode"].as_str().is_some_and(|state| states.iter().any(|each| each == state));
    Ok((rows.into_iter().filter(listed).collect(), count_only))
}

/// Every service of a consent.
fn services(options: &Options, grant: &Grant) -> Vec<Value> {
    let Some(profile) = options.meters.profile(&grant.point) else { return Vec::new() };
    let (state, label) = match grant.state {
        State::Active | State::Fading => ("ACTIF", "Actif"),
        State::Ended => ("TERMINE", "Terminé"),
    };
    let directions = [(profile.consumption, false), (profile.production, true)];
    let mut rows = Vec::new();
    for (_, injection) in directions.into_iter().filter(|(measured, _)| *measured) {
        let curve = profile.curve.then_some(("CDC", "PT30M"));
        for (kind, step) in [("ENERGIE", "P1D"), ("PMAX", "P1D")].into_iter().chain(curve) {
            if kind == "PMAX" && injection {
                continue;
            }
            rows.push(json!({
                "id": format!("{}", 4_711 + rows.len()),
                "injection": injection,
                "soutirage": !injection,
                "serviceCode": "ACCES",
                "dateDebut": grant.since.to_string(),
                "dateFin": grant.since.months_ago(-36).plus(-1).to_string(),
                "etatCode": state,
                "etatLibelle": label,
                "pointId": grant.point,
                "mesuresTypeCode": kind,
                "mesuresPas": step,
                "autorisation": {"autorisationId": grant.authorisation, "autorisationType": "EXPLICITE"},
            }));
        }
    }
    rows
}
