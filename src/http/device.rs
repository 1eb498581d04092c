//! `POST /device/code` (RFC 8628 section 3.1) and `GET /device`, the page a person opens.

use std::sync::Arc;

use actix_web::http::header::USER_AGENT;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::{StateSuffix, UserCode};
use actors::base::keyring::ShownPage;
use actors::base::sealed::Purpose;
use actors::device_flow::registry::{FindAnswer, IssueAnswer, PendingCode};
use actors::device_flow::session::Request;
use serde::Serialize;
use zeroize::Zeroizing;

use super::browser::{self, Bound};
use super::client::Client;
use super::error::{ApiError, SOON, json_answer};
use super::query::Query;
use super::state::App;
use crate::pages::{CodeError, ConfirmCode, Page, Place, Problem, Trouble};

/// Trouble of our own, for people.
pub const OUR_TROUBLE: Trouble<'static> = Trouble::OurTrouble { wait: SOON };
/// What is kept of a `User-Agent`, in bytes.
const AGENT_MAX: usize = 80;

#[derive(Serialize)]
struct DeviceAuthorization<'a> {
    device_code: String,
    user_code: String,
    verification_uri: &'a str,
    verification_uri_complete: String,
    expires_in: u64,
    interval: u64,
}

/// A device asks for its codes.
pub async fn authorize(
    app: Data<App>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let body = app.read_body(&request, &mut payload).await?;
    let mut form = body.form()?;
    let client = Client::identify(&request, &mut form, &app.allowed_clients)?;
    let scope = form.scope()?;
    if let Some(limiter) = &app.shared.limits.codes {
        limiter.take(app.network(&request), app.clock().now()).map_err(|retry_after| {
            app.metrics().codes_limited.inc();
            ApiError::TooManyCodes { retry_after }
        })?;
    }
    let (code, device) = app.draw_code();
    // With a secret of our own the device's is not needed, and not kept.
    let own_secret = client.secret.filter(|_| app.settings.enedis.client.client_secret.is_none());
    let seal = |secret: Zeroizing<String>| {
        app.keys().seal(&mut *app.rng(), Purpose::ClientSecret, &device, secret.as_bytes())
    };
    let client_secret = own_secret.map(seal);
    let request = Request {
        client_id: client.id,
        client_secret,
        scope: scope.map(Arc::from),
        agent: agent(&request).map(Arc::from),
        network: Some(app.network(&request)),
    };
    match app.system().registry.issue(device, request).await? {
        IssueAnswer::Issued(user) => {
            app.metrics().codes_issued.inc();
            let user_code = user.expose();
            let verification_uri = &app.site.verification_uri;
            let answer = DeviceAuthorization {
                device_code: code.expose(),
                verification_uri_complete: complete(&app, &user),
                user_code,
                verification_uri,
                expires_in: app.settings.devices.life.code.as_secs(),
                interval: app.system().interval.told().as_secs(),
            };
            // Strings and integers only: this cannot fail.
            Ok(json_answer(serde_json::to_string(&answer).unwrap_or_default()))
        }
        IssueAnswer::Full | IssueAnswer::Unavailable => {
            app.metrics().codes_refused.inc();
            Err(ApiError::unavailable())
        }
    }
}

/// `verification_uri_complete`.
fn complete(app: &App, code: &UserCode) -> String {
    format!("{}?code={}", app.site.verification_uri, code.expose())
}

/// What the box says of itself, in printable ASCII, for the person who confirms.
fn agent(request: &HttpRequest) -> Option<String> {
    let agent = request.headers().get(USER_AGENT)?.to_str().ok()?;
    let agent: String = agent.chars().filter(|c| !c.is_ascii_control()).take(AGENT_MAX).collect();
    (!agent.is_empty()).then_some(agent)
}

/// A person opens the page, with or without a code in the link.
pub async fn page(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let browser = Bound::of(&app, &request);
    let page = shown(&app, &request, &browser).await;
    browser.bind(&app, browser::respond(&app, page))
}

/// What the code of an address would link, for the person to decide; or the page that asks for a code.
pub async fn shown(app: &App, request: &HttpRequest, browser: &Bound) -> Page {
    let (pages, query) = (app.pages(request), Query::parse(request));
    let Ok(state) = query.state_suffix() else { return pages.problem(Problem::BadRequest) };
    let state = state.as_ref().map(StateSuffix::as_str);
    let Some(typed) = query.code() else { return pages.enter_code("", state, None) };
    if browser::is_foreign_part(request) {
        return pages.problem(Problem::BadRequest);
    }
    if app.shared.limits.is_guessed_at(app.clock().now())
        && let Some(code) = UserCode::parse(typed)
    {
        // One more step costs a person a moment, and whoever guesses a second request and a browser of its own.
        let step = app.keys().proof(ShownPage::LookUp, &browser.token, &code);
        if !query.get("step").is_some_and(|proof| step.is(proof)) {
            return pages.second_step(typed, state, &step.expose());
        }
    }
    match find(app, request, typed).await {
        Found::Open(code, pending) => {
            let now = app.clock().now();
            pages.confirm_code(ConfirmCode {
                code: &code.expose(),
                link: &complete(app, &code),
                proof: &app.keys().proof(ShownPage::Confirm, &browser.token, &code).expose(),
                state,
                client: app.settings.site.client_name(&pending.client_id),
                user_agent: pending.agent.as_deref(),
                place: pending.network.map(|network| {
                    let is_same = network == app.network(request);
                    if is_same { Place::Yours } else { Place::Elsewhere(network.shown()) }
                }),
                enedis_down: is_enedis_down(app).await,
                asked_ago: now.since(pending.requested_at),
                expires_in: pending.expires_at.since(now),
            })
        }
        Found::Refused(error) => pages.enter_code(typed, state, Some(error)),
        Found::Unavailable => pages.trouble(OUR_TROUBLE, Some(typed)),
    }
}

/// Whether a consent would fail at Enedis, as far as is known: better told before the way there than after it.
async fn is_enedis_down(app: &App) -> bool {
    let seen = app.system().exchanger.snapshot().await;
    seen.is_ok_and(|seen| seen.token.allowance.breaker_open || seen.services.allowance.breaker_open)
}

/// What a typed code leads to, after the limit on guesses.
enum Found {
    Open(UserCode, PendingCode),
    Refused(CodeError),
    Unavailable,
}

/// Looks a typed code up.
async fn find(app: &App, request: &HttpRequest, typed: &str) -> Found {
    let (limits, now) = (&app.shared.limits, app.clock().now());
    let charge = match limits.guess_code(app.network(request), browser::hashed(app, request), now) {
        Ok(charge) => charge,
        Err(wait) => return Found::Refused(CodeError::TooManyAttempts { wait }),
    };
    if let Some(code) = UserCode::parse(typed) {
        match app.system().registry.find_code(app.keys().user(&code)).await {
            Ok(FindAnswer::Open(pending)) => {
                limits.right_code(charge);
                return Found::Open(code, pending);
            }
            Ok(FindAnswer::Unknown) => {}
            Ok(FindAnswer::Unavailable) | Err(_) => {
                charge.give_back();
                return Found::Unavailable;
            }
        }
    }
    limits.wrong_code(now);
    app.metrics().wrong_codes.inc();
    Found::Refused(CodeError::NotValid)
}
