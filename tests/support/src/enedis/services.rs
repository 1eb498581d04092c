//! Owns the service that tells which meter an authorisation is for.

use serde::Deserialize;
use serde_json::{Value, json};

use super::book::{Book, GrantState};
use super::{FOREIGN_AUTHORISATION, Options, Request, Response};

/// A question. Members that are ignored are those that Enedis knows, and no others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    autorisation_id: i64,
    /// Only the number of services is wanted.
    comptage: bool,
    #[serde(default = "listed")]
    etat_code: Vec<String>,
    #[serde(default = "acces")]
    service_type: String,
    #[serde(rename = "page")]
    _page: Option<Value>,
    #[serde(rename = "autorisation")]
    _autorisation: Option<Value>,
    #[serde(rename = "pointId")]
    _point_id: Option<Value>,
}

/// States listed when the question names none.
fn listed() -> Vec<String> {
    vec!["ACTIF".into(), "DEMANDE".into()]
}

fn acces() -> String {
    "ACCES".into()
}

pub(super) fn answer(options: &Options, book: &mut Book, request: &Request) -> Response {
    match rows(options, book, request) {
        Ok((rows, false)) => {
            Response::json(200, &json!({"nbTotalServices": rows.len(), "serviceSouscrit": rows}))
        }
        Ok((rows, true)) => Response::json(200, &json!({"nbTotalServices": rows.len()})),
        Err((status, message)) => {
            Response::json(status, &json!({"code": status.to_string(), "message": message}))
        }
    }
}

/// The services asked for, and whether only their number is wanted; else a status and a message.
fn rows(options: &Options, book: &mut Book, request: &Request) -> Result<(Vec<Value>, bool), (u16, String)> {
    if !request.is_of_type("application/json") {
        return Err((400, "Le corps doit être un objet JSON".into()));
    }
    let question: Question = serde_json::from_str(&request.body).map_err(|error| (400, error.to_string()))?;
    let id = question.autorisation_id;
    if id == FOREIGN_AUTHORISATION {
        return Err((403, "L'autorisation n'est pas celle de l'application".into()));
    }
    let (point, grant) = book
        .grants
        .iter_mut()
        .find(|(_, grant)| grant.authorisation == id)
        .ok_or_else(|| (404, "Aucun service pour cette autorisation".to_owned()))?;
    grant.questions += 1;
    let (state, label) = match grant.state {
        GrantState::Active | GrantState::Fading => ("ACTIF", "Actif"),
        GrantState::Ended => ("TERMINE", "Terminé"),
    };
    let is_listed = grant.questions > book.services_empty_first
        && question.service_type == acces()
        && question.etat_code.iter().any(|wanted| wanted == state);
    let profile = options.meters.profile(point).filter(|_| is_listed);
    let kinds = profile.iter().flat_map(|profile| {
        let services = [
            (profile.consumption, false, "ENERGIE", "P1D"),
            (profile.consumption, false, "PMAX", "P1D"),
            (profile.consumption && profile.curve, false, "CDC", "PT30M"),
            (profile.production, true, "ENERGIE", "P1D"),
            (profile.production && profile.curve, true, "CDC", "PT30M"),
        ];
        services.into_iter().filter(|(there, ..)| *there).enumerate()
    });
    let row = |(number, (_, injection, kind, step)): (usize, (bool, bool, &str, &str))| {
        json!({
            "id": (4_711 + number).to_string(),
            "injection": injection,
            "soutirage": !injection,
            "serviceCode": "ACCES",
            "dateDebut": grant.since.to_string(),
            "dateFin": grant.since.months_ago(-36).plus(-1).to_string(),
            "etatCode": state,
            "etatLibelle": label,
            "pointId": point,
            "mesuresTypeCode": kind,
            "mesuresPas": step,
            "autorisation": {"autorisationId": id, "autorisationType": "EXPLICITE"},
        })
    };
    Ok((kinds.map(row).collect(), question.comptage))
}
