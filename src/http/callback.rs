//! `GET /auth/redirect`: Enedis sends the browser back.
//!
//! The v1 page returns a code and the meters, the v2 page an authorisation; which of them counts is decided by `FLOW`.
//! Idempotent: a reload shows the same end. Enedis is known to return without a `state`, with an error as the code,
//! and with parameters in the path; each of these gets a page that says how to go on.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::StateToken;
use actors::base::meter::parse_meters;
use actors::device_flow::consent::{AuthorizationReturn, ConsentOutcome, Returned};
use actors::device_flow::registry::{DenyAnswer, Failure};
use actors::device_flow::session::Settled;

use super::browser;
use super::device::{Guess, our_trouble};
use super::{App, Query};
use crate::config::Flow;
use crate::pages::{Lang, Page, Problem, ProblemKind, Refused, SignedIn, Trouble, TroubleKind};

/// Longest authorization code that is presented. Enedis' have about 40 characters.
const CODE_MAX: usize = 4_096;
/// Meters one consent names at most.
const METERS_MAX: usize = 20;
/// Longest usage point id; Enedis' have 14 digits.
const METER_MAX: usize = 32;

/// Enedis comes back.
pub async fn redirect(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let lang = browser::language(&request);
    let page = answer(&app, &request, lang).await;
    browser::respond(&app, page)
}

/// Enedis comes back with its parameters in the path.
pub async fn malformed(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let lang = browser::language(&request);
    tracing::warn!("Enedis returned with a malformed address");
    browser::respond(&app, problem(&app, ProblemKind::MalformedReturn).render(lang))
}

async fn answer(app: &App, request: &HttpRequest, lang: Lang) -> Page {
    let query = Query::parse(request);
    if query.repeats(&["state", "code", "usage_point_id", "autorisation_id", "error"]) {
        return problem(app, ProblemKind::MalformedReturn).render(lang);
    }
    if let Some(error) = query.get("error") {
        return refused(app, request, error, query.get("state"), lang).await;
    }
    let (returned, meters) = match returned(app, &query) {
        Ok(returned) => returned,
        Err(kind) => return problem(app, kind).render(lang),
    };
    let Some(state) = query.get("state").and_then(StateToken::parse) else {
        return problem(app, ProblemKind::BadState).render(lang);
    };
    let Some(browser) = browser::browser(app, request) else {
        return problem(app, ProblemKind::OtherBrowser).render(lang);
    };
    let guess = match returned {
        // The number can be guessed, and each guess costs a call to Enedis.
        Returned::Authorisation(_) => match Guess::at_authorisation(app, request) {
            Ok(guess) => Some(guess),
            Err(wait) => return problem(app, ProblemKind::TooManyAttempts { wait }).render(lang),
        },
        Returned::Code { .. } | Returned::Meters { .. } => None,
    };
    let returned = AuthorizationReturn { state, browser, returned };
    let outcome = app.system().consent.complete(returned).await;
    if let Some(guess) = guess.filter(|_| !is_suspicious(&outcome)) {
        guess.give_back(app);
    }
    app.metrics().consent(&outcome);
    let entered = browser::entered_code(app, request);
    render(app, outcome, &meters, entered.as_deref(), lang)
}

/// What Enedis returned beside the `state`, and the meters that the page names.
fn returned(app: &App, query: &Query) -> Result<(Returned, Vec<String>), ProblemKind> {
    let code = query.get("code");
    if code.is_some_and(|code| code.len() > CODE_MAX || code.chars().any(char::is_control)) {
        return Err(ProblemKind::MalformedReturn);
    }
    if query.get("state").is_none() {
        return Err(ProblemKind::MissingParameters);
    }
    match &app.settings.flow {
        Flow::Device => {
            let code = code.ok_or(ProblemKind::MissingParameters)?.to_owned();
            let meters = usage_points(query.get("usage_point_id")).ok_or(ProblemKind::MalformedReturn)?;
            let usage_point_id = (!meters.is_empty()).then(|| meters.join(";"));
            Ok((Returned::Code { code, usage_point_id }, meters))
        }
        Flow::ClientCredentials(_) => {
            if let Some(id) = query.get("autorisation_id") {
                let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
                let id = id.parse().ok().filter(|_| digits).ok_or(ProblemKind::MalformedReturn)?;
                return Ok((Returned::Authorisation(id), Vec::new()));
            }
            let (Some(code), Some(text)) = (code, query.get("usage_point_id")) else {
                return Err(ProblemKind::MissingParameters);
            };
            let meters = parse_meters(text).ok_or(ProblemKind::MalformedReturn)?;
            let shown = meters.iter().map(ToString::to_string).collect();
            Ok((Returned::Meters { code: code.to_owned(), meters }, shown))
        }
    }
}

/// Whether an outcome is what guessing comes to.
fn is_suspicious(outcome: &ConsentOutcome) -> bool {
    matches!(
        outcome,
        ConsentOutcome::AlreadyLinked
            | ConsentOutcome::Foreign
            | ConsentOutcome::NotListed
            | ConsentOutcome::Unknown
    )
}

/// Enedis returned an error instead of a code (RFC 6749 section 4.1.2.1). Only `access_denied` is the person's own
/// decision; anything else may be tried again while the code lives.
async fn refused(app: &App, request: &HttpRequest, error: &str, state: Option<&str>, lang: Lang) -> Page {
    let entered = browser::entered_code(app, request);
    if error != "access_denied" {
        tracing::warn!("Enedis returned an error to the browser");
        let kind = TroubleKind::EnedisRejected { error: Some(error).filter(|error| is_error_code(error)) };
        return Trouble { site: app.site(), kind, status: 502, code: entered.as_deref(), state: None }
            .render(lang);
    }
    let Some(state) = state.and_then(StateToken::parse) else {
        return problem(app, ProblemKind::BadState).render(lang);
    };
    let Some(browser) = browser::browser(app, request) else {
        return problem(app, ProblemKind::OtherBrowser).render(lang);
    };
    let (state, browser) = (app.keys().state(&state), app.keys().browser(&browser));
    let outcome = match app.system().registry.deny(state, browser).await {
        Ok(DenyAnswer::Denied) => ConsentOutcome::Denied,
        Ok(DenyAnswer::No(Failure::Settled(Settled::Approved))) => ConsentOutcome::Approved,
        Ok(DenyAnswer::No(failure)) => failure.into(),
        Err(_) => ConsentOutcome::Unavailable,
    };
    app.metrics().consent(&outcome);
    render(app, outcome, &[], entered.as_deref(), lang)
}

/// The page for each outcome.
fn render(app: &App, outcome: ConsentOutcome, meters: &[String], code: Option<&str>, lang: Lang) -> Page {
    let site = app.site();
    let trouble = |kind, status| Trouble { site, kind, status, code, state: None }.render(lang);
    match outcome {
        ConsentOutcome::Approved => SignedIn { site, usage_points: meters }.render(lang),
        ConsentOutcome::Denied => Refused { site }.render(lang),
        ConsentOutcome::Unknown => problem(app, ProblemKind::BadState).render(lang),
        ConsentOutcome::OtherBrowser => problem(app, ProblemKind::OtherBrowser).render(lang),
        ConsentOutcome::InProgress => problem(app, ProblemKind::InProgress).render(lang),
        ConsentOutcome::NotListed => problem(app, ProblemKind::NotListed).render(lang),
        ConsentOutcome::AlreadyLinked => problem(app, ProblemKind::NotFresh).render(lang),
        ConsentOutcome::Busy { retry_after } => trouble(TroubleKind::EnedisBusy { wait: retry_after }, 503),
        ConsentOutcome::Down { retry_after } => {
            let mut page = trouble(TroubleKind::EnedisUnavailable, 503);
            page.retry_after_secs = Some(super::error::secs_up(retry_after));
            page
        }
        ConsentOutcome::Lost => trouble(TroubleKind::EnedisUnavailable, 504),
        ConsentOutcome::Rejected { error } => {
            trouble(TroubleKind::EnedisRejected { error: Some(&error) }, 502)
        }
        ConsentOutcome::Presented | ConsentOutcome::Garbled | ConsentOutcome::Foreign => {
            trouble(TroubleKind::EnedisRejected { error: None }, 502)
        }
        ConsentOutcome::Unavailable => our_trouble(app, code).render(lang),
    }
}

fn problem(app: &App, kind: ProblemKind) -> Problem<'_> {
    Problem { site: app.site(), kind }
}

/// Whether a text is an error code (RFC 6749 section 4.1.2.1) and not a sentence that somebody wants our page to say.
fn is_error_code(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The meters of a v1 return, separated by `;` or `,`. Absent is fine; `None` if any is no identifier.
fn usage_points(text: Option<&str>) -> Option<Vec<String>> {
    let ids: Vec<_> = text.unwrap_or_default().split([';', ',']).filter(|id| !id.is_empty()).collect();
    let good = |id: &&str| id.len() <= METER_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric());
    (ids.len() <= METERS_MAX && ids.iter().all(good)).then(|| ids.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_identifiers() {
        assert_eq!(usage_points(None), Some(vec![]));
        assert_eq!(usage_points(Some("1;2,3;")).unwrap(), ["1", "2", "3"]);
        for bad in ["1;<b>", "1 2", &"1".repeat(33), &"1;".repeat(21)] {
            assert_eq!(usage_points(Some(bad)), None, "{bad}");
        }
    }
}
