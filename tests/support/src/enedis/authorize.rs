//! Owns the consent pages and their buttons.

use super::book::Consent;
use super::wire::{Page, html, only, respond};
use super::{CONSENT_PATH, STATE_MAX, Shared};

/// Answers `GET` on the consent page of `version` 1 or 2. Faults of the application itself (unknown client, `redirect_uri`, no usable
/// `state`) are pages, as the browser must not be sent to a stranger (RFC 6749 section 4.1.2.1); others return to
/// the callback.
pub(super) fn page(shared: &Shared, version: u8, query: &[(String, String)]) -> Page {
    let consent = match check(shared, version, query) {
        Ok(consent) => consent,
        Err(Refusal::Page(status, reason)) => {
            return html(status, "Demande refusée", &format!("<p>{}</p>", escape(&reason)));
        }
        Err(Refusal::Callback { error, description, state }) => {
            return back(
                shared,
                None,
                &[("error", error), ("error_description", description), ("state", &state)],
            );
        }
    };
    let points = consent.holder.points();
    let id = shared.book().begin(consent);
    let form = |choice: &str, point: &str, label: &str| {
        let point = if point.is_empty() {
            String::new()
        } else {
            format!("<input type=\"hidden\" name=\"point\" value=\"{point}\">\n")
        };
        format!(
            "<form method=\"post\" action=\"{CONSENT_PATH}\">\n<input type=\"hidden\" name=\"request\" value=\"{id}\">\n{point}\
             <input type=\"hidden\" name=\"choice\" value=\"{choice}\">\n<button type=\"submit\">{label}</button>\n</form>\n"
        )
    };
    let forms = match &points {
        // One meter per consent: a button for each.
        Some(points) if version == 2 => {
            let each = points.split(';').map(|point| form("allow", point, &format!("Autoriser {point}")));
            each.chain([form("refuse", "", "Refuser"), form("fail", "", "Abandonner")]).collect()
        }
        _ => form("allow", "", "Autoriser") + &form("refuse", "", "Refuser"),
    };
    let body = format!(
        "<p>Enedis simulé. L’application <strong>{}</strong> demande l’accès à vos données de consommation.</p>\n\
         <p>Points de livraison : {}</p>\n{forms}",
        escape(&shared.options.client_id),
        points.as_deref().unwrap_or("aucun").replace(';', ", "),
    );
    html(200, "Partage de vos données", &body)
}

/// Answers the buttons of the consent page.
pub(super) fn consent(shared: &Shared, fields: &[(String, String)]) -> Page {
    let (Ok(Some(id)), Ok(Some(choice))) = (only(fields, "request"), only(fields, "choice")) else {
        return html(400, "Demande refusée", "<p>Formulaire incomplet.</p>");
    };
    let Some(consent) = shared.book().consent(id) else {
        return html(400, "Demande refusée", "<p>Demande inconnue.</p>");
    };
    if shared.book().callback.is_none() {
        return no_callback();
    }
    let (state, redirect_uri) = (consent.state.clone(), consent.redirect_uri.clone());
    let points = consent.holder.points();
    let refusal = match (choice, points) {
        ("allow", Some(points)) if consent.version == 2 => return share(shared, &consent, &points, fields),
        ("allow", Some(points)) => {
            let mut book = shared.book();
            book.seen.consents_allowed += 1;
            let today = book.today();
            for point in points.split(';') {
                book.grants.give(point, today, consent.holder.revokes());
            }
            let code = book.issue_code(consent);
            drop(book);
            let answer = [("code", code.as_str()), ("state", &state), ("usage_point_id", &points)];
            return back(shared, redirect_uri.as_deref(), &answer);
        }
        ("allow" | "refuse", _) => {
            [("error", "access_denied"), ("error_description", "User denied access to his data")]
        }
        ("fail", _) => [("error", "demande_non_aboutie"), ("error_description", "La demande n'a pas abouti")],
        _ => return html(400, "Demande refusée", "<p>Choix inconnu.</p>"),
    };
    shared.book().seen.consents_refused += 1;
    let answer = [refusal[0], refusal[1], ("state", state.as_str())];
    back(shared, redirect_uri.as_deref(), &answer)
}

/// Shares one meter, as the page of version 2 does: the callback learns the authorisation, and neither a code nor
/// the meter.
fn share(shared: &Shared, consent: &Consent, points: &str, fields: &[(String, String)]) -> Page {
    let point = match only(fields, "point") {
        Ok(Some(point)) if points.split(';').any(|held| held == point) => point,
        _ => return html(400, "Demande refusée", "<p>Point de livraison inconnu.</p>"),
    };
    let mut book = shared.book();
    if shared.options.reshare_fails && book.grants.allows(point) {
        drop(book);
        return html(409, "Demande refusée", "<p>Ce point de livraison est déjà partagé.</p>");
    }
    book.seen.consents_allowed += 1;
    let today = book.today();
    let authorisation = book.grants.give(point, today, consent.holder.revokes()).to_string();
    drop(book);
    let answer = [("autorisation_id", authorisation.as_str()), ("state", consent.state.as_str())];
    back(shared, consent.redirect_uri.as_deref(), &answer)
}

enum Refusal {
    Page(u16, String),
    Callback { error: &'static str, description: &'static str, state: String },
}

fn check(shared: &Shared, version: u8, query: &[(String, String)]) -> Result<Consent, Refusal> {
    let param =
        |name: &str| only(query, name).map_err(|()| Refusal::Page(400, format!("paramètre répété : {name}")));
    let redirect_uri = param("redirect_uri")?.map(ToOwned::to_owned);
    if let Some(sent) = &redirect_uri {
        if !shared.options.allow_redirect_uri {
            return Err(Refusal::Page(404, "Page introuvable".into()));
        }
        if shared.book().callback.as_ref() != Some(sent) {
            return Err(Refusal::Page(400, "redirect_uri inconnue".into()));
        }
    }
    if param("client_id")? != Some(shared.options.client_id.as_str()) {
        return Err(Refusal::Page(400, "client_id inconnu".into()));
    }
    let Some(state) = param("state")?.map(ToOwned::to_owned) else {
        return Err(Refusal::Page(400, "paramètre manquant : state".into()));
    };
    if state.chars().count() > STATE_MAX {
        return Err(Refusal::Page(400, format!("state dépasse {STATE_MAX} caractères")));
    }
    let back = |error, description| Refusal::Callback { error, description, state: state.clone() };
    match param("response_type")? {
        Some("code") => {}
        Some(_) => return Err(back("unsupported_response_type", "response_type must be code")),
        None => return Err(back("invalid_request", "missing_parameter")),
    }
    match param("duration")?.map(days) {
        Some(None) => return Err(back("invalid_request", "invalid_duration_format")),
        Some(Some(days)) if days > 3 * 366 => {
            return Err(back("invalid_request", "maximum_duration_exceeded"));
        }
        None | Some(Some(_)) => {}
    }
    let challenge = param("code_challenge")?.map(ToOwned::to_owned);
    match (&challenge, param("code_challenge_method")?) {
        (Some(challenge), Some("S256")) if challenge.len() == 43 => {}
        (None, None) if !shared.options.require_pkce => {}
        (None, None) => return Err(back("invalid_request", "code_challenge required")),
        _ => return Err(back("invalid_request", "only S256 challenges are supported")),
    }
    let holder = shared.options.meters.holder(&state, &mut shared.book().next_meter);
    Ok(Consent { state, challenge, redirect_uri, version, holder })
}

/// Days in an ISO 8601 duration of one part: days, weeks, months of 30.5 days or years of 366.
fn days(duration: &str) -> Option<u64> {
    let rest = duration.strip_prefix('P')?;
    let unit = rest.chars().last()?;
    let count: u64 = rest.strip_suffix(unit)?.parse().ok()?;
    let days = match unit {
        'D' => count,
        'W' => count.checked_mul(7)?,
        'M' => count.checked_mul(61)? / 2,
        'Y' => count.checked_mul(366)?,
        _ => return None,
    };
    (days > 0).then_some(days)
}

/// Sends the browser back with `answer` in the query.
fn back(shared: &Shared, redirect_uri: Option<&str>, answer: &[(&str, &str)]) -> Page {
    let Some(target) = redirect_uri.map(ToOwned::to_owned).or_else(|| shared.book().callback.clone()) else {
        return no_callback();
    };
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
    let join = if target.contains('?') { '&' } else { '?' };
    respond(302, &[("location", &format!("{target}{join}{query}"))], String::new())
}

fn no_callback() -> Page {
    html(500, "Simulator without a callback", "<p>Call <code>set_callback</code> first.</p>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
