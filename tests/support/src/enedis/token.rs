//! Owns the token endpoint: RFC 6749 with Enedis' shapes of answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::book::{Book, Consent, Tokens};
use super::seen::{Outcome, TokenRequest};
use super::wire::{Page, only, respond, scripted};
use super::{Api, Fault, Options, Quota, Shared};

const SCOPE: &str = "/v3/metering_data/consumption_load_curve.GET /v3/metering_data/daily_consumption.GET";

/// A refusal: HTTP status, OAuth error code, description.
struct Refusal(u16, &'static str, &'static str);

/// Answers the recorded token request number `index` and notes its outcome.
pub(super) fn answer(shared: &Shared, index: usize) -> Page {
    let mut book = shared.book();
    if let Some(quota) = &shared.options.token_quota
        && let Some(refusal) = refusal(&mut book, quota)
    {
        book.seen.token_requests[index].outcome = Outcome::Refused("quota".into());
        return refusal;
    }
    let request = book.seen.token_requests[index].clone();
    let result = grant(&shared.options, &mut book, &request);
    let (status, body, outcome) = match result {
        Ok(body) => (200, body, Outcome::Granted),
        Err(Refusal(status, error, description)) => {
            let body = json!({"error": error, "error_description": description});
            (status, body, Outcome::Refused(error.into()))
        }
    };
    book.seen.token_requests[index].outcome = outcome;
    drop(book);
    let mut headers =
        vec![("content-type", "application/json"), ("cache-control", "no-store"), ("pragma", "no-cache")];
    if status == 401 {
        headers.push(("www-authenticate", "Basic realm=\"simulated Enedis\""));
    }
    respond(status, &headers, body.to_string())
}

/// Counts one call; the answer to it if the quota of the token endpoint is spent.
fn refusal(book: &mut Book, quota: &Quota) -> Option<Page> {
    let now = book.now();
    *book.counts.requests.entry(Api::Token).or_default() += 1;
    let (second, hour) = book.busy.entry(Api::Token).or_default().count(quota, now);
    book.counts.note_rate(Api::Token, second, hour);
    let until = book.quotas.entry(Api::Token).or_default().take(quota, now).err()?;
    *book.counts.throttled.entry(Api::Token).or_default() += 1;
    match quota.refusal(until) {
        Fault::Status { code, headers, body } => Some(scripted(code, &headers, body)),
        _ => unreachable!("a quota refuses with a status"),
    }
}

fn grant(options: &Options, book: &mut Book, request: &TokenRequest) -> Result<Value, Refusal> {
    let form = "application/x-www-form-urlencoded";
    let content_type = request.header("content-type").unwrap_or_default();
    if !content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(form) {
        return Err(Refusal(415, "invalid_request", "the body must be a form"));
    }
    let field = |name: &str| {
        only(&request.fields, name).map_err(|()| Refusal(400, "invalid_request", "repeated parameter"))
    };
    authenticate(options, request)?;
    let missing = Refusal(400, "invalid_request", "missing parameter");
    match field("grant_type")? {
        None => Err(missing),
        Some("authorization_code") => {
            let code = field("code")?.ok_or(missing)?;
            let sent_uri = field("redirect_uri")?.or(query_redirect_uri(request));
            let verifier = field("code_verifier")?;
            let callback = book.callback.clone();
            let tokens = book
                .redeem(code, options.code_lifetime, |consent| {
                    check_redirect_uri(consent, callback.as_deref(), sent_uri)?;
                    check_verifier(consent, verifier)
                })
                .map_err(|reason| Refusal(400, "invalid_grant", reason))?;
            Ok(token_answer(options, &tokens, book.now()))
        }
        Some("refresh_token") => {
            let token = field("refresh_token")?.ok_or(missing)?;
            let tokens = book.rotate(token).map_err(|reason| Refusal(400, "invalid_grant", reason))?;
            Ok(token_answer(options, &tokens, book.now()))
        }
        Some("client_credentials") if options.client_secret.is_none() => {
            Err(Refusal(400, "unauthorized_client", "a public application has no token of its own"))
        }
        Some("client_credentials") => Ok(json!({
            "access_token": book.issue_application_token(),
            "token_type": "Bearer",
            "expires_in": expires_in(options),
            "scope": "",
        })),
        Some(_) => Err(Refusal(400, "unsupported_grant_type", "unknown grant type")),
    }
}

/// Takes credentials from HTTP Basic or the body, not both, and never from the query string, which Enedis has
/// refused since July 2026 (RFC 6749 section 2.3.1).
fn authenticate(options: &Options, request: &TokenRequest) -> Result<(), Refusal> {
    let wrong = |description| Refusal(401, "invalid_client", description);
    if request.query.iter().any(|(name, _)| name == "client_id" || name == "client_secret") {
        return Err(wrong("credentials in the query string"));
    }
    let repeated = |()| Refusal(400, "invalid_request", "repeated parameter");
    let body_id = only(&request.fields, "client_id").map_err(repeated)?.map(ToOwned::to_owned);
    let body_secret = only(&request.fields, "client_secret").map_err(repeated)?.map(ToOwned::to_owned);
    let (id, secret) = match request.header("authorization") {
        Some(_) if body_secret.is_some() => {
            return Err(Refusal(400, "invalid_request", "two ways of client authentication"));
        }
        Some(header) => {
            let (id, secret) = basic(header).ok_or(wrong("malformed Basic credentials"))?;
            if body_id.is_some_and(|body_id| body_id != id) {
                return Err(wrong("two client_id that differ"));
            }
            (Some(id), Some(secret).filter(|secret| !secret.is_empty()))
        }
        None => (body_id, body_secret),
    };
    if id.as_deref() != Some(options.client_id.as_str()) {
        return Err(wrong("unknown client_id"));
    }
    if secret != options.client_secret {
        return Err(wrong("wrong client_secret"));
    }
    Ok(())
}

/// Decodes `Basic base64(form-encoded id ":" form-encoded secret)` (RFC 6749 section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    form_urlencoded::parse(text.replace('=', "%3D").replace('&', "%26").as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

/// `redirect_uri` in the query of the token endpoint, where Enedis' own examples put it.
fn query_redirect_uri(request: &TokenRequest) -> Option<&str> {
    only(&request.query, "redirect_uri").ok().flatten()
}

/// A `redirect_uri` sent to the consent page must be repeated (RFC 6749 section 4.1.3); one that is sent only here
/// must be the registered one.
fn check_redirect_uri(
    consent: &Consent,
    callback: Option<&str>,
    sent: Option<&str>,
) -> Result<(), &'static str> {
    match (consent.redirect_uri.as_deref().or(callback), sent) {
        (expected, Some(sent)) if expected != Some(sent) => Err("redirect_uri mismatch"),
        (_, None) if consent.redirect_uri.is_some() => Err("redirect_uri missing"),
        _ => Ok(()),
    }
}

/// RFC 7636 section 4.6. A verifier without a challenge is refused: it shows a downgrade (RFC 9700 section 2.1.1).
fn check_verifier(consent: &Consent, verifier: Option<&str>) -> Result<(), &'static str> {
    match (&consent.challenge, verifier) {
        (None, None) => Ok(()),
        (Some(_), None) => Err("code_verifier missing"),
        (None, Some(_)) => Err("code_verifier without a code_challenge"),
        (Some(_), Some(verifier)) if !(43..=128).contains(&verifier.len()) => Err("code_verifier length"),
        (Some(challenge), Some(verifier)) => {
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            if *challenge == hash { Ok(()) } else { Err("code_verifier mismatch") }
        }
    }
}

/// A string, as in Enedis' documents, or a number, as in some answers.
fn expires_in(options: &Options) -> Value {
    let secs = options.token_lifetime.as_secs();
    if options.expires_in_number { secs.into() } else { secs.to_string().into() }
}

/// Enedis' token answer, API v1, at `now` (since 1970).
fn token_answer(options: &Options, tokens: &Tokens, now: Duration) -> Value {
    let issued_ms = now.as_millis().to_string();
    let mut answer = json!({
        "access_token": tokens.access,
        "token_type": "Bearer",
        "expires_in": options.token_lifetime.as_secs(),
        "refresh_token": tokens.refresh,
        "scope": SCOPE,
        "refresh_token_issued_at": issued_ms,
        "issued_at": issued_ms,
    });
    if let (Some(name), Some(points)) = (&options.usage_point_field, tokens.holder.points()) {
        answer[name.as_str()] = points.replace(';', ",").into();
    }
    answer
}
