//! What every page has in common: headers, and the cookies of one browser.
//!
//! The first cookie binds a consent to the browser that began it (RFC 6749 section 10.12); it outlives one
//! consent and means nothing to anybody else. The second remembers the user code for a retry link, the third a language that was chosen. All are
//! `HttpOnly` and `SameSite=Lax`, so that Enedis' redirect carries them; with https they are `__Host-` cookies.

use actix_web::cookie::time::Duration as CookieDuration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, REFRESH,
    RETRY_AFTER, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use actors::base::code::{BrowserToken, StateToken, UserCode};
use actors::base::keyring::BrowserHash;

use super::state::App;
use crate::pages::{Page, Problem};

/// Nothing but our stylesheet. Forms may go anywhere, because browsers apply `form-action` to each redirect that
/// follows a form, and where Enedis sends people to sign in is Enedis' choice.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action *; frame-ancestors 'none'; base-uri 'none'";
/// How long a browser keeps its binding; longer than any consent takes.
const BINDING_LIFE: CookieDuration = CookieDuration::days(1);
/// How long a browser keeps the language that its reader chose.
const LANG_LIFE: CookieDuration = CookieDuration::days(365);

/// A rendered page as a response.
pub fn respond(app: &App, page: Page) -> HttpResponse {
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    secure(app, &mut response);
    if let Some(secs) = page.retry_after_secs {
        response.insert_header((RETRY_AFTER, secs.to_string()));
    }
    response
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_LANGUAGE, page.lang.tag()))
        .insert_header((VARY, "Accept-Language, Cookie"));
    if let Some(secs) = page.reload_secs {
        response.insert_header((REFRESH, secs.to_string()));
    }
    if page.keeps_lang {
        response.cookie(cookie(app, app.site.lang_cookie(), page.lang.tag().to_owned(), LANG_LIFE));
    }
    response.body(page.html)
}

/// The headers that keep a page, or a redirect, to itself.
pub fn secure(app: &App, response: &mut HttpResponseBuilder) {
    response
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"));
    if app.site.https {
        response.insert_header((STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    }
}

/// The browser behind a request, if it carries our cookie.
pub fn browser(app: &App, request: &HttpRequest) -> Option<BrowserToken> {
    BrowserToken::parse(request.cookie(binding_name(app))?.value())
}

/// Our `state`, and the browser that it is bound to.
pub fn sent_by(
    app: &App,
    request: &HttpRequest,
    state: Option<&str>,
) -> Result<(StateToken, BrowserToken), Problem> {
    let state = state.and_then(StateToken::parse).ok_or(Problem::BadState)?;
    Ok((state, browser(app, request).ok_or(Problem::OtherBrowser)?))
}

/// The same, as limits count it.
pub fn hashed(app: &App, request: &HttpRequest) -> Option<BrowserHash> {
    browser(app, request).map(|token| app.keys().browser(&token))
}

/// A browser that has its cookie, or gets it with the answer: of two clicks, or of one whose answer was lost, the second
/// must not look like another browser.
pub struct Bound {
    /// The cookie.
    pub token: BrowserToken,
    /// It came without one. A browser that does so after a page of ours refuses cookies.
    pub is_new: bool,
}

impl Bound {
    /// The browser behind a request.
    pub fn of(app: &App, request: &HttpRequest) -> Self {
        match browser(app, request) {
            Some(token) => Self { token, is_new: false },
            None => Self { token: BrowserToken::generate(&mut *app.rng()), is_new: true },
        }
    }

    /// Adds the cookie to an answer, whatever the answer says: the next attempt counts as the same browser's.
    pub fn bind(&self, app: &App, mut response: HttpResponse) -> HttpResponse {
        if self.is_new {
            // A header value of hex digits and our own name.
            let _ = response.add_cookie(&cookie(app, binding_name(app), self.token.expose(), BINDING_LIFE));
        }
        response
    }
}

/// The user code this browser entered last.
pub fn entered_code(app: &App, request: &HttpRequest) -> Option<String> {
    UserCode::parse(request.cookie(code_name(app))?.value()).map(|code| code.expose())
}

/// The cookie that remembers the user code.
pub fn code_cookie(app: &App, code: &UserCode) -> Cookie<'static> {
    cookie(app, code_name(app), code.expose(), BINDING_LIFE)
}

fn cookie(app: &App, name: &'static str, value: String, life: CookieDuration) -> Cookie<'static> {
    Cookie::build(name, value)
        .path("/")
        .http_only(true)
        .secure(app.site.https)
        .same_site(SameSite::Lax)
        .max_age(life)
        .finish()
}

fn binding_name(app: &App) -> &'static str {
    if app.site.https { "__Host-dfp-browser" } else { "dfp-browser" }
}

fn code_name(app: &App) -> &'static str {
    if app.site.https { "__Host-dfp-code" } else { "dfp-code" }
}

/// Whether a page of another site loads ours as a picture, a script or the like, which nobody sees and whose viewer did
/// nothing. Browsers say so themselves (Fetch Metadata); those that do not are served as ever.
pub fn is_foreign_part(request: &HttpRequest) -> bool {
    let says = |name, value: &[u8]| request.headers().get(name).is_some_and(|it| it.as_bytes() == value);
    says("sec-fetch-site", b"cross-site") && !says("sec-fetch-mode", b"navigate")
}
