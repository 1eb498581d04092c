//! What is not the flow itself: the start page, the stylesheet, metadata (RFC 8414) and health.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::browser;
use super::error::{ApiError, SOON, json_answer, json_body, secs_up};
use super::grant::GrantType;
use super::state::App;
use super::status::Readiness;
use crate::config::Flow;
use crate::pages::{Problem, STYLE};

/// `GET /`.
pub async fn home(app: Data<App>, request: HttpRequest) -> HttpResponse {
    browser::respond(&app, app.pages(&request).home())
}

/// `GET /privacy`.
pub async fn privacy(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let life = match &app.settings.enedis.flow {
        Flow::Device => None,
        Flow::ClientCredentials(metering) => Some(metering.consent_life),
    };
    browser::respond(&app, app.pages(&request).privacy(life))
}

/// The stylesheet; its address changes with its content.
pub async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/css; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(STYLE)
}

/// Browsers ask for it by themselves.
pub async fn no_icon() -> HttpResponse {
    HttpResponse::NoContent().insert_header((CACHE_CONTROL, "public, max-age=86400")).finish()
}

/// Authorization server metadata (RFC 8414), also under the name `OpenID` clients look for.
pub async fn metadata(app: Data<App>) -> HttpResponse {
    let base = &app.settings.server.base_url;
    let mut grants = vec![GrantType::DeviceCode.name()];
    // Enedis' own tokens are refreshed at an address that the metadata has no name for.
    grants.extend(app.system().metering.is_some().then_some(GrantType::RefreshToken.name()));
    let mut document = json!({
        "issuer": base,
        // Clients that only know redirects insist on the member; people start at the same page.
        "authorization_endpoint": app.site.verification_uri,
        "device_authorization_endpoint": format!("{base}/device/code"),
        "token_endpoint": format!("{base}/device/token"),
        "grant_types_supported": grants,
        "response_types_supported": ["none"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic"],
        "ui_locales_supported": ["fr", "en"],
    });
    if app.system().metering.is_some() {
        document["revocation_endpoint"] = format!("{base}/device/revoke").into();
    }
    json_answer(document.to_string())
}

/// The process answers.
pub async fn live() -> HttpResponse {
    json_answer(json!({ "status": "ok" }).to_string())
}

/// Whether this process takes work: 200 if everything works here and will for a while; else 503. The body says what works.
pub async fn ready(app: Data<App>) -> HttpResponse {
    let readiness = Readiness::of(&app).await;
    let started = app.system().registry.is_complete();
    let store = started && app.shared.store_probe.takes_writes(app.shared.store.as_ref()).await;
    let status = if readiness == Readiness::Ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // A poll of a session that is pending is answered from memory, whatever the store does.
    let body = json!({ "status": readiness.word(), "pending_polls": started, "codes_and_tokens": store });
    let mut answer = json_body(status, body.to_string());
    if !status.is_success() {
        answer.headers_mut().insert(RETRY_AFTER, secs_up(SOON).into());
    }
    answer
}

/// No such address: JSON for what looks like a device's request, a page for people.
pub async fn not_found(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let accepts_html =
        request.headers().get("accept").is_some_and(|v| v.as_bytes().starts_with(b"text/html"));
    if accepts_html {
        Ok(browser::respond(&app, app.pages(&request).problem(Problem::NotFound)))
    } else {
        Err(ApiError::NotFound)
    }
}
