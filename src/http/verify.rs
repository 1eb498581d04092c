//! `GET /auth/verify_code`: the person confirms the code and is sent to Enedis.

use actix_web::http::header::LOCATION;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::{BrowserToken, StateSuffix};
use actors::device_flow::registry::{ConfirmAnswer, Confirmed};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;

use super::browser;
use super::device::{Found, OUR_TROUBLE, find};
use super::query::Query;
use super::state::App;
use crate::config::Upstream;
use crate::pages::{CodeError, Problem};

/// Checks the code, binds the browser, and redirects.
pub async fn verify(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let known = browser::browser(&app, &request);
    let token = known.clone().unwrap_or_else(|| BrowserToken::generate(&mut *app.rng()));
    let mut response = answer(&app, &request, &token).await;
    if known.is_none() {
        // Also after a refusal, so that the next attempt counts as the same browser's.
        let _ = response.add_cookie(&browser::binding_cookie(&app, &token));
    }
    response
}

async fn answer(app: &App, request: &HttpRequest, token: &BrowserToken) -> HttpResponse {
    let (pages, query) = (app.pages(request), Query::parse(request));
    let problem = |problem| browser::respond(app, pages.problem(problem));
    let Ok(suffix) = query.state_suffix() else { return problem(Problem::BadRequest) };
    let state = suffix.as_ref().map(StateSuffix::as_str);
    let typed = query.code().unwrap_or_default();
    let refused = |error| browser::respond(app, pages.enter_code(typed, state, Some(error)));
    let unavailable = || browser::respond(app, pages.trouble(OUR_TROUBLE, Some(typed)));
    if typed.is_empty() {
        return refused(CodeError::Missing);
    }
    let code = match find(app, request, typed).await {
        Found::Open(code, _) => code,
        Found::Refused(error) => return refused(error),
        Found::Unavailable => return unavailable(),
    };
    if browser::came_from_elsewhere(request) {
        // A link in a mail must not carry anybody past the page that says what is being linked.
        let mut page = Url::parse(&app.site.verification_uri).ok();
        if let Some(page) = &mut page {
            page.query_pairs_mut().append_pair("code", &code.expose());
            if let Some(state) = state {
                page.query_pairs_mut().append_pair("state", state);
            }
        }
        return redirect(app, page.as_ref().map_or(&app.site.verification_uri, Url::as_str)).finish();
    }
    let (user, browser) = (app.keys().user(&code), app.keys().browser(token));
    let suffix = suffix.clone().unwrap_or_default();
    match app.system().registry.confirm(user, browser, suffix, app.settings.enedis.pkce).await {
        Ok(ConfirmAnswer::Confirmed(confirmed)) => {
            let client = app.settings.enedis.client.client_id.as_deref().unwrap_or(&confirmed.client_id);
            let location = authorize_url(&app.settings.enedis.upstream, client, &confirmed);
            redirect(app, location.as_str()).cookie(browser::code_cookie(app, code)).finish()
        }
        Ok(ConfirmAnswer::Unknown) => refused(CodeError::NotValid),
        Ok(ConfirmAnswer::InUse) => problem(Problem::AlreadyUsed),
        Ok(ConfirmAnswer::Unavailable) | Err(_) => unavailable(),
    }
}

fn redirect(app: &App, location: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Found();
    browser::secure(app, &mut response);
    response.insert_header((LOCATION, location));
    response
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
