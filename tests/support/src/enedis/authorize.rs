//! Owns the consent pages and their buttons.

use std::cmp::Ordering;

use jiff::civil::date;
use jiff::{Span, ToSpan as _};

use super::book::{Book, Consent, random_hex};
use super::shapes::only;
use super::{CONSENT_PATH, Endpoint, Options, Request, Response, STATE_MAX};

/// Answers `GET` on a consent page. Faults of the application itself (unknown client, `redirect_uri`, no usable
/// `state`) are pages, as the browser must not be sent to a stranger (RFC 6749 section 4.1.2.1); others return to the
/// callback.
pub(super) fn page(options: &Options, book: &mut Book, request: &Request) -> Result<Response, Response> {
    let consent = check(options, book, &request.query)?;
    let points = consent.holder.points();
    let id = random_hex(16);
    book.consents.insert(id.clone(), consent);
    let form = |choice: &str, point: &str, label: &str| {
        let field =
            |name: &str, value: &str| format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
        format!(
            "<form method=\"post\" action=\"{CONSENT_PATH}\">\n{}{}{}\n<button type=\"submit\">{label}</button>\n</form>\n",
            field("request", &id),
            field("choice", choice),
            field("point", point),
        )
    };
    let forms = match points.as_deref() {
        // One meter per consent: a button for each.
        Some(points) if request.endpoint == Endpoint::AuthorizeV2 => {
            let each = points.split(';').map(|point| form("share", point, &format!("Autoriser {point}")));
            each.chain([form("refuse", "", "Refuser")]).collect()
        }
        _ => form("allow", "", "Autoriser") + &form("refuse", "", "Refuser"),
    };
    let body = format!(
        "<p>Enedis simulé. L’application <strong>{}</strong> demande l’accès à vos données de consommation.</p>\n\
         <p>Points de livraison : {}</p>\n{forms}",
        options.client_id,
        points.as_deref().unwrap_or("aucun").replace(';', ", "),
    );
    Ok(Response::html(200, "Partage de vos données", &body))
}

pub(super) fn consent(
    options: &Options,
    book: &mut Book,
    fields: &[(String, String)],
) -> Result<Response, Response> {
    let field = |name| only(fields, name).ok().flatten().unwrap_or_default();
    let consent =
        book.consents.get(field("request")).cloned().ok_or_else(|| refused(400, "demande inconnue"))?;
    if book.callback.is_none() {
        return Err(back(book, &consent, &[]));
    }
    let (points, fades) = (consent.holder.points(), consent.holder.revokes());
    match (field("choice"), points.as_deref()) {
        ("allow", Some(points)) => {
            book.seen.consents_allowed += 1;
            for point in points.split(';') {
                book.grant(&options.client_id, point, fades);
            }
            let code = book.issue_code(consent.clone());
            Ok(back(book, &consent, &[("code", &code), ("usage_point_id", points)]))
        }
        // One meter, as on the page of version 2: the callback learns the authorisation, and neither a code nor the meter.
        ("share", Some(points)) => {
            let point = points.split(';').find(|point| *point == field("point"));
            let point = point.ok_or_else(|| refused(400, "point de livraison inconnu"))?;
            book.seen.consents_allowed += 1;
            let authorisation = book.grant(&options.client_id, point, fades).to_string();
            Ok(back(book, &consent, &[("autorisation_id", &authorisation)]))
        }
        _ => {
            let why = "User denied access to his data";
            Ok(back(book, &consent, &[("error", "access_denied"), ("error_description", why)]))
        }
    }
}

fn check(options: &Options, book: &mut Book, query: &[(String, String)]) -> Result<Consent, Response> {
    let param =
        |name: &str| only(query, name).map_err(|()| refused(400, &format!("paramètre répété : {name}")));
    // Enedis' firewall lets none through.
    if param("redirect_uri")?.is_some() {
        return Err(refused(404, "page introuvable"));
    }
    if param("client_id")? != Some(options.client_id.as_str()) {
        return Err(refused(400, "client_id inconnu"));
    }
    let state = param("state")?.ok_or_else(|| refused(400, "paramètre manquant : state"))?.to_owned();
    if state.chars().count() > STATE_MAX {
        return Err(refused(400, &format!("state dépasse {STATE_MAX} caractères")));
    }
    let challenge = param("code_challenge")?.map(ToOwned::to_owned);
    let method = param("code_challenge_method")?;
    let wrong = match (param("response_type")?, param("duration")?.map(str::parse::<Span>), &challenge) {
        (None, ..) => Some(("invalid_request", "missing_parameter")),
        (Some(other), ..) if other != "code" => {
            Some(("unsupported_response_type", "response_type must be code"))
        }
        (_, Some(Err(_)), _) => Some(("invalid_request", "invalid_duration_format")),
        (_, Some(Ok(duration)), _) if is_too_long(duration) => {
            Some(("invalid_request", "maximum_duration_exceeded"))
        }
        (.., None) if options.require_pkce => Some(("invalid_request", "code_challenge required")),
        (.., None) if method.is_none() => None,
        (.., Some(challenge)) if challenge.len() == 43 && method == Some("S256") => None,
        _ => Some(("invalid_request", "only S256 challenges are supported")),
    };
    let holder = options.meters.holder(&state, &mut book.next_meter);
    let consent = Consent { state, challenge, holder };
    match wrong {
        Some((error, why)) => Err(back(book, &consent, &[("error", error), ("error_description", why)])),
        None => Ok(consent),
    }
}

/// Consents last three years at most.
fn is_too_long(duration: Span) -> bool {
    duration.compare((3.years(), date(2026, 1, 1))).is_ok_and(Ordering::is_gt)
}

/// Sends the browser back with `answer` and the `state` in the query.
fn back(book: &Book, consent: &Consent, answer: &[(&str, &str)]) -> Response {
    let Some(target) = &book.callback else {
        return Response::html(
            500,
            "Simulator without a callback",
            "<p>Call <code>set_callback</code> first.</p>",
        );
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.extend_pairs(answer).append_pair("state", &consent.state).finish();
    let join = if target.contains('?') { '&' } else { '?' };
    Response::new(302, &[("Location", &format!("{target}{join}{query}"))], "")
}

fn refused(status: u16, why: &str) -> Response {
    Response::html(status, "Demande refusée", &format!("<p>{why}</p>"))
}
