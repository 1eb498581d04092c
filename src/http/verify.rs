//! `GET /auth/verify_code`: the person decides on the page that shows what a code would link, and is sent to Enedis.
//!
//! The page's buttons carry a proof that this very browser was shown it. Without one, this address shows the page: a link in
//! a mail, or a picture on another site, decides nothing.

use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::{StateSuffix, UserCode};
use actors::base::keyring::ShownPage;
use actors::device_flow::registry::{ConfirmAnswer, Confirmed, DenyAnswer, Refusal};
use actors::device_flow::session::ReturnError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

use super::browser::{self, Bound};
use super::device::{OUR_TROUBLE, shown};
use super::query::Query;
use super::state::App;
use crate::config::Upstream;
use crate::pages::{CodeError, Problem};

/// Takes the person's decision, or shows what there is to decide.
pub async fn verify(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let browser = Bound::of(&app, &request);
    let response = answer(&app, &request, &browser).await;
    browser.bind(&app, response)
}

async fn answer(app: &App, request: &HttpRequest, browser: &Bound) -> HttpResponse {
    let (pages, query) = (app.pages(request), Query::parse(request));
    let Ok(suffix) = query.state_suffix() else {
        return browser::respond(app, pages.problem(Problem::BadRequest));
    };
    let state = suffix.as_ref().map(StateSuffix::as_str);
    let Some(typed) = query.code() else {
        return browser::respond(app, pages.enter_code("", state, Some(CodeError::Missing)));
    };
    let proof = query.get("proof");
    let proven = |code: &UserCode| {
        let shown = app.keys().proof(ShownPage::Confirm, &browser.token, code);
        proof.is_some_and(|proof| shown.is(proof))
    };
    match UserCode::parse(typed).filter(proven) {
        Some(code) if query.get("refuse").is_some() => decline(app, request, code).await,
        Some(code) => confirm(app, request, browser, code, suffix).await,
        None if proof.is_some() && browser.is_new => browser::respond(app, pages.problem(Problem::NoCookies)),
        None => browser::respond(app, shown(app, request, browser).await),
    }
}

/// The person goes on to Enedis.
async fn confirm(
    app: &App,
    request: &HttpRequest,
    browser: &Bound,
    code: UserCode,
    suffix: Option<StateSuffix>,
) -> HttpResponse {
    let pages = app.pages(request);
    let state = suffix.as_ref().map(StateSuffix::as_str);
    let (user, browser) = (app.keys().user(&code), app.keys().browser(&browser.token));
    let suffix = suffix.clone().unwrap_or_default();
    let page = match app.system().registry.confirm(user, browser, suffix, app.settings.enedis.pkce).await {
        Ok(ConfirmAnswer::Confirmed(confirmed)) => {
            let client = app.settings.enedis.client.client_id.as_deref().unwrap_or(&confirmed.client_id);
            let location = authorize_url(&app.settings.enedis.upstream, client, &confirmed);
            let mut response = HttpResponse::Found();
            browser::secure(app, &mut response);
            response.insert_header((LOCATION, location.as_str()));
            return response.cookie(browser::code_cookie(app, &code)).finish();
        }
        Ok(ConfirmAnswer::Unknown) => pages.enter_code(&code.expose(), state, Some(CodeError::NotValid)),
        Ok(ConfirmAnswer::InUse) => pages.problem(Problem::AlreadyUsed),
        Ok(ConfirmAnswer::Unavailable) | Err(_) => pages.trouble(OUR_TROUBLE, Some(&code.expose())),
    };
    browser::respond(app, page)
}

/// The person says that the request is not theirs: the device is told `access_denied`.
async fn decline(app: &App, request: &HttpRequest, code: UserCode) -> HttpResponse {
    let pages = app.pages(request);
    let refusal = Refusal::OnOurPage { user: app.keys().user(&code) };
    let page = match app.deny(request, refusal).await {
        Ok(DenyAnswer::Denied(_)) => pages.not_mine(),
        Ok(DenyAnswer::No(ReturnError::Gone)) => {
            pages.enter_code(&code.expose(), None, Some(CodeError::NotValid))
        }
        Ok(DenyAnswer::Unavailable) | Err(_) => pages.trouble(OUR_TROUBLE, Some(&code.expose())),
        Ok(DenyAnswer::No(_)) => pages.problem(Problem::AlreadyUsed),
    };
    browser::respond(app, page)
}

/// The authorization request (RFC 6749 section 4.1.1). Enedis refuses a `redirect_uri` and wants a `duration`;
/// other servers want it the other way round.
fn authorize_url(upstream: &Upstream, client_id: &str, confirmed: &Confirmed) -> Url {
    let mut url = upstream.authorize.clone();
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", "code");
        query.append_pair("client_id", client_id);
        query.append_pair("state", confirmed.state.expose());
        if let Some(duration) = &upstream.duration {
            query.append_pair("duration", duration);
        }
        if let Some(scope) = &confirmed.scope {
            query.append_pair("scope", scope);
        }
        if let Some(verifier) = &confirmed.verifier {
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()));
            query.append_pair("code_challenge", &challenge);
            query.append_pair("code_challenge_method", "S256");
        }
        if let (true, Some(uri)) = (upstream.redirect_uri_in_authorize, &upstream.redirect_uri) {
            query.append_pair("redirect_uri", uri);
        }
    }
    url
}
