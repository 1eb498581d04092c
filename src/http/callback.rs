//! `GET /auth/redirect`: Enedis sends the browser back.
//!
//! The v1 page returns a code and the meters, the v2 page an authorisation; only the page that is configured is believed.
//! Idempotent: a reload shows the same end. Enedis is known to return without a `state`, with an error as the code,
//! and with parameters in the path; each of these gets a page that says how to go on.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use actors::base::grant_issuer::NotIssued;
use actors::base::keyring::{BrowserHash, StateHash};
use actors::base::meter::{METERS_MAX, listed, parse_meters};
use actors::device_flow::consent::{AuthorizationReturn, ConsentOutcome, Returned};
use actors::device_flow::registry::{CheckAnswer, DenyAnswer, Refusal};

use super::browser;
use super::device::OUR_TROUBLE;
use super::limits::Presented;
use super::others;
use super::query::Query;
use super::state::App;
use crate::config::{EnedisConfig, Flow};
use crate::enedis::said::{self, Said};
use crate::pages::{Page, Problem, Trouble};

/// Longest authorization code that is presented. Enedis' have about 40 characters.
const CODE_MAX: usize = 4_096;
/// Longest usage point id; Enedis' have 14 digits.
const METER_MAX: usize = 32;

/// An error of Enedis': what it means, and its name; empty if it is none that is known.
type Told = (Said, &'static str);

/// The `state` and the browser that it is bound to, by their hashes.
type SetOut = (StateHash, BrowserHash);

/// Enedis comes back.
pub async fn redirect(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let page = answer(&app, &request).await;
    browser::respond(&app, page)
}

/// Enedis comes back with its parameters in the path.
pub async fn malformed(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let error = said::misplaced(request.uri().path());
    tracing::warn!(error, "Enedis returned with a malformed address");
    let page = match error {
        Some(error) => stateless(&app, &request, said::said(error, "")),
        None => app.pages(&request).problem(Problem::MalformedReturn),
    };
    browser::respond(&app, page)
}

async fn answer(app: &App, request: &HttpRequest) -> Page {
    let (pages, query) = (app.pages(request), Query::parse(request));
    if query.repeats(&["state", "code", "usage_point_id", "autorisation_id", "error"]) {
        return pages.problem(Problem::MalformedReturn);
    }
    let misplaced = || query.get("code").and_then(said::misplaced);
    if let Some(error) = query.get("error").or_else(misplaced) {
        let told = said::said(error, query.get("error_description").unwrap_or_default());
        return refused(app, request, told, query.get("state")).await;
    }
    let returned = match returned(&app.settings.enedis, &query) {
        Ok(returned) => returned,
        Err(problem) => return pages.problem(problem),
    };
    let (state, browser) = match browser::sent_by(app, request, query.get("state")) {
        Ok(sent_by) => sent_by,
        Err(problem) => return pages.problem(problem),
    };
    let set_out = (app.keys().state(&state), app.keys().browser(&browser));
    // A reload, which the page itself makes until the device has its token.
    if let Some(page) = approved(app, request, set_out).await {
        return page;
    }
    let (presented, is_claim) = match returned {
        Returned::Code { .. } => (Some(Presented::Code), false),
        Returned::Authorisation(_) => (Some(Presented::Authorisation), false),
        Returned::Meters { .. } => (None, true),
    };
    let (network, cookie, now) = (app.network(request), browser::hashed(app, request), app.clock().now());
    let charge = match app.shared.limits.take_return(presented, network, cookie, now) {
        Ok(charge) => charge,
        Err(wait) => return pages.problem(Problem::TooManyAttempts { wait }),
    };
    let returned = AuthorizationReturn { state, browser, network, returned };
    let outcome = app.system().consent.complete(returned).await;
    // Nothing shows that a claim is right.
    let is_harmless = !is_suspicious(&outcome);
    if is_harmless && (!is_claim || outcome != ConsentOutcome::Approved) {
        charge.give_back();
    }
    ended(app, request, &outcome, set_out).await
}

/// The page of a consent that is recorded: which meters it is for, and whether the device has its token yet.
async fn approved(app: &App, request: &HttpRequest, (state, browser): SetOut) -> Option<Page> {
    match app.system().registry.check(state, browser).await {
        Ok(CheckAnswer::Approved { delivered, usage_points, refresh }) => {
            let (others, questions) = match refresh {
                Some(own) => others::of(app, request, own).await,
                None => Default::default(),
            };
            let others: Vec<_> = others.iter().map(|other| other.shown(app, request)).collect();
            Some(app.pages(request).signed_in(&usage_points, delivered, &others, &questions))
        }
        _ => None,
    }
}

/// What Enedis returned beside the `state`.
pub fn returned(enedis: &EnedisConfig, query: &Query) -> Result<Returned, Problem> {
    let code = query.get("code");
    if code.is_some_and(|code| code.len() > CODE_MAX || code.chars().any(char::is_control)) {
        return Err(Problem::MalformedReturn);
    }
    if query.get("state").is_none() {
        return Err(Problem::MissingParameters);
    }
    match &enedis.flow {
        Flow::Device => {
            let code = code.ok_or(Problem::MissingParameters)?.to_owned();
            let meters = usage_points(query.get("usage_point_id")).ok_or(Problem::MalformedReturn)?;
            let usage_point_id = (!meters.is_empty()).then(|| meters.join(";"));
            Ok(Returned::Code { code, usage_point_id })
        }
        Flow::ClientCredentials(_) if enedis.upstream.asks_v2() => {
            // Whoever holds a browser can name a meter in its address; the v2 page never does.
            if query.get("usage_point_id").is_some() {
                tracing::warn!("a return names a meter, as the v2 consent page does not; refused");
                return Err(Problem::MalformedReturn);
            }
            let id = query.get("autorisation_id").ok_or(Problem::MissingParameters)?;
            let digits = id.bytes().all(|b| b.is_ascii_digit());
            let id = id.parse().ok().filter(|_| digits).ok_or(Problem::MalformedReturn)?;
            Ok(Returned::Authorisation(id))
        }
        Flow::ClientCredentials(_) => {
            let (Some(code), Some(text)) = (code, query.get("usage_point_id")) else {
                return Err(Problem::MissingParameters);
            };
            let meters = parse_meters(text).ok_or(Problem::MalformedReturn)?;
            Ok(Returned::Meters { code: code.to_owned(), meters })
        }
    }
}

/// Whether an outcome is what guessing comes to.
fn is_suspicious(outcome: &ConsentOutcome) -> bool {
    matches!(
        outcome,
        ConsentOutcome::Unknown
            | ConsentOutcome::Rejected { .. }
            | ConsentOutcome::NotIssued(NotIssued::AlreadyLinked | NotIssued::Foreign | NotIssued::NotListed)
    )
}

/// Enedis returned an error instead of a code (RFC 6749 section 4.1.2.1). Only `access_denied` is the person's own
/// decision; anything else may be tried again while the code lives.
async fn refused(app: &App, request: &HttpRequest, told: Told, state: Option<&str>) -> Page {
    let pages = app.pages(request);
    // Enedis' own failures come without one.
    if state.is_none() && !matches!(told.0, Said::Denied | Said::Other) {
        return stateless(app, request, told);
    }
    let (state, browser) = match browser::sent_by(app, request, state) {
        Ok(sent_by) => sent_by,
        Err(problem) => return pages.problem(problem),
    };
    let set_out = (app.keys().state(&state), app.keys().browser(&browser));
    let (state, browser) = set_out;
    let unavailable = ConsentOutcome::NotIssued(NotIssued::Unavailable);
    let outcome = if told.0 == Said::Denied {
        match app.deny(request, Refusal::AtEnedis { state, browser }).await {
            Ok(DenyAnswer::Denied(_)) => ConsentOutcome::Denied,
            Ok(DenyAnswer::No(error)) => error.into(),
            Ok(DenyAnswer::Unavailable) | Err(_) => unavailable,
        }
    } else {
        match app.system().registry.check(state, browser).await {
            Ok(CheckAnswer::Awaited) => ConsentOutcome::Rejected { error: told.1.to_owned() },
            Ok(CheckAnswer::Approved { .. }) => ConsentOutcome::Approved,
            Ok(CheckAnswer::No(error)) => error.into(),
            Ok(CheckAnswer::Unavailable) | Err(_) => unavailable,
        }
    };
    if let ConsentOutcome::Rejected { .. } = &outcome {
        note(told);
    }
    ended(app, request, &outcome, set_out).await
}

/// An error that came without a `state`: whose request it ended is not known, but what it means is.
fn stateless(app: &App, request: &HttpRequest, told: Told) -> Page {
    tracing::warn!(error = told.1, "Enedis returned an error without a state");
    let code = browser::entered_code(app, request);
    let trouble = Trouble::EnedisError { said: told.0, error: Some(told.1) };
    app.pages(request).trouble(trouble, code.as_deref())
}

/// An error of Enedis' in the log; one that only the operator can mend, as such.
fn note((said, error): Told) {
    if said == Said::OurSetup {
        tracing::error!(
            error,
            "Enedis refuses this server's authorization request; check CLIENT_ID, DURATION and the redirect address at Enedis"
        );
    } else {
        tracing::warn!(error, "Enedis returned an error to the browser");
    }
}

/// Counts an outcome, and gives the page for it.
async fn ended(app: &App, request: &HttpRequest, outcome: &ConsentOutcome, set_out: SetOut) -> Page {
    app.metrics().consent(outcome.into());
    let pages = app.pages(request);
    let code = browser::entered_code(app, request);
    let trouble = |trouble| pages.trouble(trouble, code.as_deref());
    match outcome {
        // It stands, whatever can be told of it.
        ConsentOutcome::Approved => {
            approved(app, request, set_out).await.unwrap_or_else(|| pages.signed_in(&[], false, &[], &[]))
        }
        ConsentOutcome::Denied => pages.refused(),
        ConsentOutcome::Unknown => pages.problem(Problem::BadState),
        ConsentOutcome::OtherBrowser => pages.problem(Problem::OtherBrowser),
        ConsentOutcome::InProgress => pages.problem(Problem::InProgress),
        ConsentOutcome::NotIssued(NotIssued::NotListed) => pages.problem(Problem::NotListed),
        ConsentOutcome::NotIssued(NotIssued::AlreadyLinked) => pages.problem(Problem::NotFresh),
        ConsentOutcome::NotIssued(NotIssued::TooMany { retry_after }) => {
            pages.problem(Problem::TooManyAttempts { wait: *retry_after })
        }
        ConsentOutcome::NotIssued(NotIssued::Busy { retry_after }) => {
            trouble(Trouble::EnedisBusy { wait: *retry_after })
        }
        ConsentOutcome::NotIssued(NotIssued::Down { retry_after }) => {
            trouble(Trouble::EnedisDown { wait: *retry_after })
        }
        ConsentOutcome::Lost => trouble(Trouble::EnedisSilent),
        ConsentOutcome::NotIssued(NotIssued::NotAccepted) => {
            trouble(Trouble::EnedisError { said: Said::OurSetup, error: None })
        }
        ConsentOutcome::NotIssued(NotIssued::Foreign) => trouble(Trouble::EnedisNotReady),
        ConsentOutcome::Rejected { error } => {
            trouble(Trouble::EnedisError { said: said::said(error, "").0, error: Some(error) })
        }
        ConsentOutcome::Presented | ConsentOutcome::Garbled => {
            trouble(Trouble::EnedisError { said: Said::Other, error: None })
        }
        ConsentOutcome::NotIssued(NotIssued::Unavailable) => trouble(OUR_TROUBLE),
    }
}

/// The meters of a return with `FLOW=DEVICE`, where another OAuth server than Enedis may name them in its own way.
/// Absent is fine; `None` if any is no identifier.
fn usage_points(text: Option<&str>) -> Option<Vec<String>> {
    let ids: Vec<_> = listed(text.unwrap_or_default()).map(str::to_owned).collect();
    let good = |id: &String| id.len() <= METER_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric());
    (ids.len() <= METERS_MAX && ids.iter().all(good)).then_some(ids)
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
