//! Owns the token endpoint: RFC 6749 with Enedis' shapes of answers.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::book::{Book, Consent};
use super::shapes::only;
use super::{Endpoint, Fault, Options, Request, Response, TOKEN_LIFE};

const FORM: &str = "application/x-www-form-urlencoded";
const SCOPE: &str = "/v3/metering_data/consumption_load_curve.GET /v3/metering_data/daily_consumption.GET";

/// A refusal: HTTP status, OAuth error code, description.
struct Refusal(u16, &'static str, &'static str);

const REPEATED: Refusal = Refusal(400, "invalid_request", "repeated parameter");
const MISSING: Refusal = Refusal(400, "invalid_request", "missing parameter");

/// Answers a token request, if the quota allows.
pub(super) fn answer(options: &Options, book: &mut Book, request: &Request) -> Result<Response, Fault> {
    if let Some(quota) = options.token_quota {
        book.take(Endpoint::Token, quota)?;
    }
    Ok(match grant(options, book, request) {
        Ok(body) => Response::json(200, &body),
        Err(Refusal(status, error, description)) => {
            Response::json(status, &json!({"error": error, "error_description": description}))
        }
    })
}

fn grant(options: &Options, book: &mut Book, request: &Request) -> Result<Value, Refusal> {
    if !request.is_of_type(FORM) {
        return Err(Refusal(415, "invalid_request", "the body must be a form"));
    }
    authenticate(options, request)?;
    let field = |name: &str| only(&request.fields, name).map_err(|()| REPEATED);
    let lifetime = TOKEN_LIFE.as_secs();
    let granted = match field("grant_type")?.ok_or(MISSING)? {
        "authorization_code" => {
            let code = field("code")?.ok_or(MISSING)?;
            // Enedis' own examples put `redirect_uri` in the query.
            let uri = field("redirect_uri")?.or(only(&request.query, "redirect_uri").ok().flatten());
            let (verifier, callback) = (field("code_verifier")?, book.callback.clone());
            book.redeem(code, |consent| {
                // Sent only here, it must be the registered one.
                if uri.is_some() && uri != callback.as_deref() {
                    return Err("redirect_uri mismatch");
                }
                check_verifier(consent, verifier)
            })
        }
        "refresh_token" => book.rotate(field("refresh_token")?.ok_or(MISSING)?),
        "client_credentials" if options.client_secret.is_some() => {
            // A string, as in Enedis' documents.
            return Ok(json!({"access_token": book.issue_application_token(), "token_type": "Bearer",
                "expires_in": lifetime.to_string(), "scope": ""}));
        }
        "client_credentials" => {
            return Err(Refusal(400, "unauthorized_client", "a public application has no token of its own"));
        }
        _ => return Err(Refusal(400, "unsupported_grant_type", "unknown grant type")),
    };
    let (access, refresh) = granted.map_err(|why| Refusal(400, "invalid_grant", why))?;
    let issued_ms = book.now().as_millis().to_string();
    Ok(
        json!({"access_token": access, "token_type": "Bearer", "expires_in": lifetime, "refresh_token": refresh,
        "scope": SCOPE, "refresh_token_issued_at": issued_ms, "issued_at": issued_ms}),
    )
}

/// Takes credentials from HTTP Basic or the body, not both, and never from the query string, which Enedis has
/// refused since July 2026 (RFC 6749 section 2.3.1).
fn authenticate(options: &Options, request: &Request) -> Result<(), Refusal> {
    let wrong = |description| Refusal(401, "invalid_client", description);
    if request.param("client_id").or(request.param("client_secret")).is_some() {
        return Err(wrong("credentials in the query string"));
    }
    let field = |name| only(&request.fields, name).map_err(|()| REPEATED);
    let in_body =
        (field("client_id")?.map(ToOwned::to_owned), field("client_secret")?.map(ToOwned::to_owned));
    let (id, secret) = match request.header("authorization") {
        Some(_) if in_body.1.is_some() => {
            return Err(Refusal(400, "invalid_request", "two ways of client authentication"));
        }
        Some(header) => {
            let (id, secret) = basic(header).ok_or(wrong("malformed Basic credentials"))?;
            if in_body.0.is_some_and(|other| other != id) {
                return Err(wrong("two client_id that differ"));
            }
            (Some(id), Some(secret).filter(|secret| !secret.is_empty()))
        }
        None => in_body,
    };
    if id.as_deref() != Some(options.client_id.as_str()) {
        return Err(wrong("unknown client_id"));
    }
    if secret == options.client_secret { Ok(()) } else { Err(wrong("wrong client_secret")) }
}

/// Decodes `Basic base64(form-encoded id ":" form-encoded secret)` (RFC 6749 section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        let form = format!("={}", text.replace('&', "%26"));
        form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decoded(id)?, decoded(secret)?)).filter(|_| scheme.eq_ignore_ascii_case("basic"))
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
