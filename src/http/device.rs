//! `POST /device/code` (RFC 8628 section 3.1) and `GET /device`, the page a person opens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::USER_AGENT;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::{StateSuffix, UserCode};
use actors::base::keyring::BrowserHash;
use actors::device_flow::registry::{FindAnswer, IssueAnswer, PendingCode};
use actors::device_flow::session::Request;
use serde::Serialize;

use super::browser;
use super::client::Client;
use super::error::{ApiError, json_answer};
use super::form::Body;
use super::{App, Query, version};
use crate::pages::{
    CodeError, ConfirmCode, EnterCode, NotMine, Page, Problem, ProblemKind, Trouble, TroubleKind,
};

/// Longest accepted `scope`. Enedis' own lists of scopes have some hundred characters.
const SCOPE_MAX: usize = 1_000;
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
    version::check(&request, app.settings.version_min.as_ref())?;
    let body = Body::read(&request, &mut payload).await?;
    let mut form = body.form()?;
    let client = Client::identify(&request, &mut form, &app.allowed_clients)?;
    let scope = form.optional("scope", SCOPE_MAX)?;
    if let Some(limiter) = &app.shared.code_limiter {
        let address = app.address(&request);
        limiter.take(address, app.clock().now()).map_err(|retry_after| {
            app.metrics().codes_limited.inc();
            ApiError::TooManyCodes { retry_after }
        })?;
    }
    let (code, device) = app.draw_code();
    // With a secret of our own the device's is not needed, and not kept.
    let own_secret = client.secret.filter(|_| app.settings.client.client_secret.is_none());
    let client_secret = own_secret.map(|secret| app.keys().seal(&mut *app.rng(), &device, secret.as_bytes()));
    let request = Request {
        client_id: client.id,
        client_secret,
        scope: scope.map(Arc::from),
        agent: agent(&request).map(Arc::from),
    };
    match app.system().registry.issue(device, request).await? {
        IssueAnswer::Issued(user) => {
            app.metrics().codes_issued.inc();
            let user_code = user.expose();
            let verification_uri = &app.site.verification_uri;
            let answer = DeviceAuthorization {
                device_code: code.expose(),
                verification_uri_complete: format!("{verification_uri}?code={user_code}"),
                user_code,
                verification_uri,
                expires_in: app.settings.life.code.as_secs(),
                interval: app.settings.interval.as_secs(),
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

/// What the box says of itself, in printable ASCII, for the person who confirms.
fn agent(request: &HttpRequest) -> Option<String> {
    let agent = request.headers().get(USER_AGENT)?.to_str().ok()?;
    let agent: String = agent.chars().filter(|c| !c.is_ascii_control()).take(AGENT_MAX).collect();
    (!agent.is_empty()).then_some(agent)
}

/// A person opens the page, with or without a code in the link.
pub async fn page(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let answer = answer(&app, &request).await;
    browser::bind(&app, &request, answer)
}

async fn answer(app: &App, request: &HttpRequest) -> HttpResponse {
    let lang = browser::language(request);
    let query = Query::parse(request);
    let Ok(state) = query.state_suffix() else {
        return browser::respond(
            app,
            Problem { site: app.site(), kind: ProblemKind::BadRequest }.render(lang),
        );
    };
    if query.get("not_mine").is_some() {
        return browser::respond(app, NotMine { site: app.site() }.render(lang));
    }
    let state = state.map(|suffix: StateSuffix| suffix.as_str().to_owned());
    let state = state.as_deref();
    let Some(typed) = query.code() else {
        let page = EnterCode { site: app.site(), typed: "", state, error: None }.render(lang);
        return browser::respond(app, page);
    };
    let page: Page = match find(app, request, typed).await {
        Found::Open(code, pending) => {
            let now = app.clock().now();
            ConfirmCode {
                site: app.site(),
                code: &code.expose(),
                state,
                client: &pending.client_id,
                user_agent: pending.agent.as_deref(),
                asked_ago: now.since(pending.requested_at),
                expires_in: pending.expires_at.since(now),
            }
            .render(lang)
        }
        Found::Refused(error) => {
            EnterCode { site: app.site(), typed, state, error: Some(error) }.render(lang)
        }
        Found::Unavailable => our_trouble(app, Some(typed)).render(lang),
    };
    browser::respond(app, page)
}

/// What a typed code leads to, after the limit on guesses.
pub enum Found {
    Open(UserCode, PendingCode),
    Refused(CodeError),
    Unavailable,
}

/// A guess at something that is not meant to be guessed: charged to the address and to the browser beforehand, so that
/// many at once are no way around the limit, and given back if it was right.
pub struct Guess {
    address: IpAddr,
    browser: Option<BrowserHash>,
    authorisation: bool,
}

impl Guess {
    /// Charges a guess at an authorisation, which costs Enedis' quota as well, or says how long none is looked at.
    pub fn at_authorisation(app: &App, request: &HttpRequest) -> Result<Self, Duration> {
        let guess = Self::charge(app, request)?;
        match app.shared.authorisation_limiter.take(guess.address, app.clock().now()) {
            Ok(()) => Ok(Self { authorisation: true, ..guess }),
            Err(wait) => {
                guess.give_back(app);
                Err(wait)
            }
        }
    }

    /// Charges a guess at a user code, or says how long none is looked at.
    pub fn charge(app: &App, request: &HttpRequest) -> Result<Self, Duration> {
        let (now, limits) = (app.clock().now(), &app.shared);
        let address = app.address(request);
        let browser = browser::browser(app, request).map(|token| app.keys().browser(&token));
        limits.guess_limiter.take(address, now)?;
        if let Some(browser) = browser
            && let Err(wait) = limits.browser_limiter.take(browser, now)
        {
            limits.guess_limiter.give_back(&address);
            return Err(wait);
        }
        Ok(Self { address, browser, authorisation: false })
    }

    /// It was right, or not looked at.
    pub fn give_back(self, app: &App) {
        app.shared.guess_limiter.give_back(&self.address);
        if let Some(browser) = self.browser {
            app.shared.browser_limiter.give_back(&browser);
        }
        if self.authorisation {
            app.shared.authorisation_limiter.give_back(&self.address);
        }
    }
}

/// Looks a typed code up.
pub async fn find(app: &App, request: &HttpRequest, typed: &str) -> Found {
    let guess = match Guess::charge(app, request) {
        Ok(guess) => guess,
        Err(wait) => return Found::Refused(CodeError::TooManyAttempts { wait }),
    };
    if let Some(code) = UserCode::parse(typed) {
        match app.system().registry.find_code(app.keys().user(&code)).await {
            Ok(FindAnswer::Open(pending)) => {
                guess.give_back(app);
                return Found::Open(code, pending);
            }
            Ok(FindAnswer::Unknown) => {}
            Ok(FindAnswer::Unavailable) | Err(_) => {
                guess.give_back(app);
                return Found::Unavailable;
            }
        }
    }
    app.metrics().wrong_codes.inc();
    Found::Refused(CodeError::NotValid)
}

/// The page for trouble of our own.
pub fn our_trouble<'a>(app: &'a App, code: Option<&'a str>) -> Trouble<'a> {
    let kind = TroubleKind::OurTrouble { wait: super::error::SOON };
    Trouble { site: app.site(), kind, status: 503, code, state: None }
}
