//! `GET /data/proxy/{v5 path}`: a box reads metering data with a token of ours (`FLOW=CLIENT_CREDENTIALS`).
//!
//! Refuses everything but the whitelisted questions of [`actors::metering::request`], about meters that the token covers:
//! the application's token at Enedis opens every consented meter, so nothing of a request is passed on unread. The path
//! is compared as it came, undecoded.
//!
//! `GET /data/status`: how the last questions ended.

use std::time::Duration;

use actix_web::http::header::{ACCEPT, AUTHORIZATION, HeaderValue, VARY, VIA};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use actors::base::clock::Timestamp;
use actors::base::code::BearerToken;
use actors::base::meter::Meter;
use actors::metering::civil::today;
use actors::metering::refusals::is_young;
use actors::metering::relay::{COME_BACK, Consent, Relayed};
use actors::metering::request::{CONTRACTS, MeterRequest, RequestError};
use actors::metering::tokens::service::{Opened, Unproven};
use actors::system::MeteringHandles;
use serde_json::json;

use super::error::{ApiError, json_answer};
use super::format::Format;
use super::large::{self, Permit};
use super::query::Query;
use super::questions::Asked;
use super::state::App;
use super::status;
use super::version;
use crate::config::Flow;
use crate::metrics::DataEnd;
use crate::pages::AnswerEnd;

/// Where the paths of the v5 API begin.
const PREFIX: &str = "/data/proxy/";

/// Longest time a box waits for its answer, look-up of its token included. The plugin sends again after 30 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// A box asks for values.
pub async fn read(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let mut asked = None;
    let answer = tokio::time::timeout(PATIENCE, answer(&app, &request, &mut asked)).await;
    let answer = answer.unwrap_or(Err(ApiError::EnedisBusy { retry_after: COME_BACK }));
    app.metrics().data(end(&answer));
    if let Some(noted) = asked {
        let end = told(&app, &answer, &noted).await;
        let (meter, values, _) = noted;
        let values = values.map(|request| (request.resource, request.range));
        app.shared.questions.note(meter, Asked { at: app.clock().wall(), values, end });
    }
    let mut response = match answer {
        Ok((body, permit)) => large::hold(Format::of(&request).answer(body), permit),
        Err(error) => error.error_response(),
    };
    response.headers_mut().insert(VARY, ACCEPT.into());
    response.headers_mut().insert(VIA, app.site.via.clone());
    response
}

type Answer = Result<(String, Option<Permit>), ApiError>;

fn end(answer: &Answer) -> DataEnd {
    match answer {
        Ok(_) => DataEnd::Values,
        Err(ApiError::Data(error)) if error.status == 403 => DataEnd::ConsentGone,
        Err(ApiError::Data(_)) => DataEnd::EnedisError,
        Err(ApiError::InvalidToken) => DataEnd::InvalidToken,
        Err(ApiError::EnedisBusy { .. }) => DataEnd::Busy,
        Err(ApiError::Unavailable { .. }) => DataEnd::Unavailable,
        Err(_) => DataEnd::Refused,
    }
}

/// A question that may be asked: about which meter, for which values, by which consent.
type Noted = (Meter, Option<MeterRequest>, Consent);

/// How a question ended, for people.
async fn told(app: &App, answer: &Answer, (_, values, consent): &Noted) -> AnswerEnd {
    let is_refused = async || match (&app.system().metering, values) {
        (Some(metering), Some(request)) => metering.relay.is_refused(*request, *consent).await,
        _ => false,
    };
    match answer {
        Ok(_) => AnswerEnd::Values,
        Err(ApiError::Data(error)) if error.status == 403 => AnswerEnd::Withdrawn,
        Err(ApiError::Data(error)) if error.status == 404 => AnswerEnd::NoData,
        Err(ApiError::Data(_)) => AnswerEnd::Error,
        Err(ApiError::EnedisBusy { .. } | ApiError::Unavailable { .. }) if is_refused().await => {
            if is_young(app.clock().wall(), consent.given) { AnswerEnd::NotReady } else { AnswerEnd::Refused }
        }
        Err(ApiError::EnedisBusy { .. }) => AnswerEnd::Busy,
        Err(ApiError::Unavailable { .. }) => AnswerEnd::EnedisDown,
        Err(_) => AnswerEnd::OurTrouble,
    }
}

/// `GET /data/status`: a box asks how the last questions about its meters ended.
pub async fn status(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let Some(metering) = &app.system().metering else { return Err(ApiError::NotFound) };
    let token = bearer(&request).ok_or(ApiError::InvalidToken)?;
    app.may_look_up(&request)?;
    let covers = metering.tokens.covers(&token).await.map_err(|error| {
        tracing::warn!(%error, "an access token could not be looked up");
        ApiError::unavailable()
    })?;
    let Some((meters, consented_at)) = covers else {
        app.found_nothing(&request);
        return Err(ApiError::InvalidToken);
    };
    let pages = app.pages(&request);
    let question = |asked: Asked| {
        let mut told = json!({
            "at": status::instant(asked.at), "path": asked.values.map_or(CONTRACTS, |(what, _)| what.v5_path()),
            "ended": asked.end.name(), "told": pages.told(asked.end),
        });
        if let Some((_, days)) = asked.values {
            told["start"] = days.start().to_string().into();
            told["end"] = days.end().to_string().into();
        }
        told
    };
    let meter = |meter: &Meter| {
        let questions: Vec<_> = app.shared.questions.of(*meter).into_iter().map(question).collect();
        json!({ "usage_point_id": meter.to_string(), "questions": questions })
    };
    let meters: Vec<_> = meters.iter().map(meter).collect();
    let told = json!({ "consented_at": status::instant(consented_at), "meters": meters });
    let mut response = json_answer(told.to_string());
    response.headers_mut().insert(VARY, HeaderValue::from_static("Authorization, Accept-Language"));
    Ok(response)
}

async fn answer(app: &App, request: &HttpRequest, noted: &mut Option<Noted>) -> Answer {
    let (Some(metering), Flow::ClientCredentials(settings)) =
        (&app.system().metering, &app.settings.enedis.flow)
    else {
        return Err(ApiError::NotFound);
    };
    version::check(request, app.settings.devices.version_min.as_ref())?;
    let asked = parse(app, request)?;
    let meter = match asked {
        Wanted::Values(question, _) => question.meter,
        Wanted::Contract(meter) => meter,
    };
    // Without tokens there is no consent to go by: whatever is remembered counts.
    let (consent, unproven) = if settings.open_to_all {
        (Consent::from(Timestamp::EPOCH), None)
    } else {
        authorise(app, metering, request, meter).await?
    };
    if !settings.open_to_all {
        let values = match &asked {
            Wanted::Values(question, _) => Some(*question),
            Wanted::Contract(_) => None,
        };
        *noted = Some((meter, values, consent));
    }
    let (question, changed_since) = match asked {
        Wanted::Values(question, changed_since) => (question, changed_since),
        Wanted::Contract(meter) => {
            let told = metering.contracts.read(meter, consent, app.network(request)).await;
            return relayed(told).map(|body| (body, None));
        }
    };
    let permit = app.shared.large.permit(question, app.network(request));
    let permit = permit.map_err(|large::TooMany| ApiError::EnedisBusy { retry_after: COME_BACK })?;
    let body = relayed(metering.relay.read_changed(question, consent, changed_since).await)?;
    if let Some(grant) = unproven {
        metering.tokens.prove(grant).await;
    }
    Ok((body, permit))
}

fn relayed(told: Relayed) -> Result<String, ApiError> {
    match told {
        Relayed::Answer(body) => Ok(body),
        Relayed::Error(error) => Err(ApiError::Data(error)),
        Relayed::Busy { retry_after } => Err(ApiError::EnedisBusy { retry_after }),
        Relayed::Unavailable { retry_after } => Err(ApiError::Unavailable { retry_after }),
    }
}

/// A question.
enum Wanted {
    /// For values; perhaps only for those that came after an instant.
    Values(MeterRequest, Option<Timestamp>),
    /// For the contract of a meter.
    Contract(Meter),
}

/// The parameter of this server's own: only days whose values came here after this instant are wanted.
const CHANGED_SINCE: &str = "changed_since";

fn parse(app: &App, request: &HttpRequest) -> Result<Wanted, ApiError> {
    let path = request.uri().path();
    // At the root, or below the path of BASE_URL.
    let below = path.strip_prefix(app.site.path.as_str()).and_then(|path| path.strip_prefix(PREFIX));
    let path = below.or_else(|| path.strip_prefix(PREFIX)).ok_or(ApiError::NotFound)?;
    let query = Query::parse(request);
    let refused = |error: RequestError| match error {
        RequestError::UnknownPath => ApiError::NotFound,
        RequestError::Personal => ApiError::Personal,
        // The wall clock has jumped back under this process: it may be ours that is wrong.
        RequestError::Future if today(app.clock().now()) > today(app.clock().wall()) => {
            ApiError::unavailable()
        }
        error => ApiError::InvalidRequest(error.to_string()),
    };
    if path == CONTRACTS {
        return MeterRequest::contract_of(query.0).map(Wanted::Contract).map_err(refused);
    }
    let changed_since = changed_since(&query)?;
    let pairs = query.0.into_iter().filter(|(name, _)| name != CHANGED_SINCE);
    let question = MeterRequest::parse(path, pairs, today(app.clock().wall())).map_err(refused)?;
    Ok(Wanted::Values(question, changed_since))
}

/// The instant (RFC 3339) in a query, if there is one.
fn changed_since(query: &Query) -> Result<Option<Timestamp>, ApiError> {
    let mut given = query.0.iter().filter(|(name, _)| name == CHANGED_SINCE).map(|(_, text)| text);
    let (first, second) = (given.next(), given.next());
    let Some(text) = first else { return Ok(None) };
    let instant = text.parse::<jiff::Timestamp>().ok().filter(|_| second.is_none());
    let millis = instant.and_then(|instant| u64::try_from(instant.as_millisecond()).ok());
    let wanted = "changed_since must be one instant, such as 2026-11-23T08:00:00Z";
    millis.map(|ms| Some(Timestamp::from_millis(ms))).ok_or_else(|| ApiError::invalid_request(wanted))
}

/// The consent of the owner of `meter`, by the request's access token.
async fn authorise(
    app: &App,
    metering: &MeteringHandles,
    request: &HttpRequest,
    meter: Meter,
) -> Result<(Consent, Option<Unproven>), ApiError> {
    let token = bearer(request).ok_or(ApiError::InvalidToken)?;
    app.may_look_up(request)?;
    match metering.tokens.open(&token, meter).await {
        Opened::Meter { consented_at: given, expires_at: ends, unproven } => {
            Ok((Consent { given, ends, is_proven: unproven.is_none() }, unproven))
        }
        Opened::OtherMeters => Err(ApiError::OtherMeter),
        Opened::Nothing => {
            app.found_nothing(request);
            Err(ApiError::InvalidToken)
        }
        Opened::Unavailable => Err(ApiError::unavailable()),
    }
}

/// The access token of a request. The PHP server took it without `Bearer` as well.
fn bearer(request: &HttpRequest) -> Option<BearerToken> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next()?.to_str().ok()?.trim();
    // Two are a contradiction.
    if headers.next().is_some() {
        return None;
    }
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        Some(_) => return None,
        None => header,
    };
    BearerToken::parse(token.trim())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_token_is_read_with_and_without_its_scheme() {
        let token = "a1".repeat(32);
        let read = |headers: &[String]| {
            let mut request = TestRequest::get();
            for header in headers {
                request = request.append_header((AUTHORIZATION, header.as_str()));
            }
            bearer(&request.to_http_request()).is_some()
        };
        for good in [format!("Bearer {token}"), format!("bearer  {token}"), token.clone()] {
            assert!(read(std::slice::from_ref(&good)), "{good}");
        }
        for bad in [String::new(), "Bearer".into(), format!("Basic {token}"), format!("Bearer {token}0")] {
            assert!(!read(std::slice::from_ref(&bad)), "{bad}");
        }
        assert!(!read(&[]) && !read(&[token.clone(), token]));
    }
}
