//! `POST /device/token`: a device polls (RFC 8628 section 3.4), or refreshes a token of ours (RFC 6749 section 6).

use std::borrow::Cow;
use std::time::Duration;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use actors::base::code::{BearerToken, DeviceCode};
use actors::device_flow::poll::PollAnswer;
use actors::metering::tokens::earlier::EarlierLogin;
use actors::metering::tokens::service::{Refresh, Refreshed, TokenService};
use serde::Deserialize;

use super::client::Client;
use super::error::{ApiError, json_answer};
use super::form::Form;
use super::grant::GrantType;
use super::state::App;
use crate::metrics::PollEnd;

/// Longest accepted refresh token. Enedis' have under 100 characters; a JWT may have some thousand.
pub const REFRESH_TOKEN_MAX: usize = 8_192;
/// Seconds between polls of a device that another server told its interval: the plugin goes by its own, ten.
const PLUGINS_INTERVAL: u32 = 5;
/// Longest accepted `usage_points_id`: far more meters than one box has.
const METERS_TEXT_MAX: usize = 1_000;

/// A device asks whether its owner has decided, or for a new access token.
pub async fn token(app: Data<App>, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    let body = match app.read_body(&request, &mut payload).await {
        Ok(body) => body,
        Err(error) => return ended(&app, Err(error)),
    };
    let (grant, mut form) = match body.form().and_then(|mut form| Ok((GrantType::take(&mut form)?, form))) {
        Ok(read) => read,
        Err(error) => return ended(&app, Err(error)),
    };
    match (grant, &app.system().metering) {
        (GrantType::DeviceCode, _) => ended(&app, poll(&app, &request, form).await),
        (GrantType::RefreshToken, Some(metering)) => {
            refresh(&app, &request, &mut form, &metering.tokens).await.unwrap_or_else(rendered)
        }
        // The tokens are Enedis', and refreshed at /device/proxy.
        (GrantType::RefreshToken, None) => ended(&app, Err(ApiError::UnsupportedGrantType)),
    }
}

/// Counts a poll and renders its answer.
fn ended(app: &App, answer: Result<String, ApiError>) -> HttpResponse {
    app.counts().poll(poll_end(&answer));
    answer.map_or_else(rendered, json_answer)
}

// Not left to the framework, which would box the error on the way.
#[expect(clippy::needless_pass_by_value, reason = "ends what it is given")]
fn rendered(error: ApiError) -> HttpResponse {
    error.error_response()
}

/// A device refreshes its access token.
pub async fn refresh(
    app: &App,
    request: &HttpRequest,
    form: &mut Form<'_>,
    tokens: &TokenService,
) -> Result<HttpResponse, ApiError> {
    let client = Client::identify(request, form, &app.allowed_clients)?;
    let token = BearerToken::parse(&form.require("refresh_token", REFRESH_TOKEN_MAX)?);
    let meters = form.optional("usage_points_id", METERS_TEXT_MAX)?.map(Cow::into_owned);
    let (limits, now) = (&app.shared.limits, app.clock().now());
    // A box in a loop writes a token each time. Only tokens that led somewhere are remembered.
    let hash = token.as_ref().map(|token| app.keys().refresh(token));
    match &hash {
        Some(hash) if limits.refreshes_of_a_token.knows(hash) => {
            let room = limits.refreshes_of_a_token.has_room(hash, now);
            room.map_err(|retry_after| ApiError::TooManyRefreshes { retry_after })?;
        }
        _ => app.may_look_up(request)?,
    }
    match tokens.refresh(Refresh { token, client_id: client.id, meters, network: app.network(request) }).await
    {
        Refreshed::Token(body) => {
            app.metrics().refreshes.inc();
            if let Some(hash) = hash {
                // Refused only from the next one on.
                let _ = limits.refreshes_of_a_token.take(hash, now);
            }
            Ok(json_answer(body))
        }
        Refreshed::Invalid => {
            app.found_nothing(request);
            Err(ApiError::InvalidGrant)
        }
        Refreshed::Doubted => {
            app.found_nothing(request);
            Err(ApiError::StoreDoubted)
        }
        Refreshed::Unavailable => Err(ApiError::unavailable()),
    }
}

/// Remembers the refresh token in an answer of Enedis: whoever brings it later is no stranger.
pub fn remember(app: &App, body: &[u8]) {
    #[derive(Deserialize)]
    struct Tokens {
        refresh_token: String,
    }
    if let Ok(Tokens { refresh_token }) = serde_json::from_slice(body) {
        let hash = app.keys().foreign_refresh(&refresh_token);
        app.shared.limits.refreshes_of_a_token.note(hash, app.clock().now());
    }
}

fn poll_end(answer: &Result<String, ApiError>) -> PollEnd {
    match answer {
        Ok(_) => PollEnd::Token,
        Err(ApiError::AuthorizationPending { .. }) => PollEnd::Pending,
        Err(ApiError::SlowDown { .. }) => PollEnd::SlowDown,
        Err(ApiError::AccessDenied) => PollEnd::Denied,
        Err(ApiError::ExpiredToken) => PollEnd::Expired,
        Err(
            ApiError::Unavailable { .. }
            | ApiError::StoreDoubted
            | ApiError::Interrupted
            | ApiError::TooManyCodes { .. }
            | ApiError::TooManyRefreshes { .. }
            | ApiError::EnedisBusy { .. },
        ) => PollEnd::Unavailable,
        Err(
            ApiError::InvalidRequest(_)
            | ApiError::TooLarge
            | ApiError::InvalidClient { .. }
            | ApiError::InvalidGrant
            | ApiError::UnsupportedGrantType
            | ApiError::UnsupportedTokenType
            | ApiError::VersionMismatch
            | ApiError::InvalidToken
            | ApiError::OtherMeter
            | ApiError::Data(_)
            | ApiError::NotFound
            | ApiError::Personal
            | ApiError::MethodNotAllowed { .. },
        ) => PollEnd::Invalid,
    }
}

async fn poll(app: &App, request: &HttpRequest, mut form: Form<'_>) -> Result<String, ApiError> {
    let client = Client::identify(request, &mut form, &app.allowed_clients)?;
    let code = form.take("device_code").ok_or_else(|| ApiError::missing("device_code"))?;
    // Not of the shape we issue: as unknown as any other.
    let code = DeviceCode::parse(&code).ok_or(ApiError::InvalidGrant)?;
    let device = app.keys().device(&code);
    app.may_look_up(request)?;
    match app.system().registry.poll(device, client.id, client.secret, client.style).await? {
        PollAnswer::Token(body) => {
            if app.system().metering.is_none() {
                remember(app, body.as_bytes());
            }
            Ok(body)
        }
        PollAnswer::Pending { interval_secs } => Err(ApiError::AuthorizationPending { interval_secs }),
        PollAnswer::SlowDown { interval_secs } => Err(ApiError::SlowDown { interval_secs }),
        PollAnswer::Denied => Err(ApiError::AccessDenied),
        PollAnswer::Expired => Err(ApiError::ExpiredToken),
        PollAnswer::Invalid => {
            let unknown = elsewhere(app, &code).await;
            if !matches!(unknown, Ok(_) | Err(ApiError::AuthorizationPending { .. })) {
                app.found_nothing(request);
            }
            unknown
        }
        PollAnswer::BadSecret => Err(ApiError::InvalidClient {
            basic: client.style == actors::device_flow::poll::AuthStyle::Basic,
        }),
        PollAnswer::Unavailable => Err(ApiError::unavailable()),
    }
}

/// What a device is told whose code is not known here: it may have been given by the PHP server.
async fn elsewhere(app: &App, code: &DeviceCode) -> Result<String, ApiError> {
    let Some(metering) = &app.system().metering else { return Err(ApiError::InvalidGrant) };
    match metering.tokens.earlier_login(code).await {
        Ok(None) => Err(ApiError::InvalidGrant),
        Ok(Some(EarlierLogin::Pending)) => {
            Err(ApiError::AuthorizationPending { interval_secs: PLUGINS_INTERVAL })
        }
        Ok(Some(EarlierLogin::Done(tokens))) => Ok(tokens.body_after(Duration::ZERO)),
        Err(error) => {
            tracing::warn!(%error, "a login of the PHP server could not be looked up");
            Err(ApiError::unavailable())
        }
    }
}
