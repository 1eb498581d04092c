//! `POST /device/token`: a device polls (RFC 8628 section 3.4).

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actors::code::DeviceCode;
use actors::poll::PollAnswer;
use actors::registry::Poll;

use super::App;
use super::client::Client;
use super::error::{ApiError, json_answer};
use super::form::Form;
use super::version;
use crate::metrics::PollEnd;

/// The grant type of RFC 8628 section 3.4.
pub const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device asks whether its owner has decided.
pub async fn poll(
    app: Data<App>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let answer = answer(&app, &request, &mut payload).await;
    app.metrics().poll(poll_end(&answer));
    answer.map(json_answer)
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
            | ApiError::Interrupted
            | ApiError::TooManyCodes { .. }
            | ApiError::TooManyRefreshes { .. },
        ) => PollEnd::Unavailable,
        Err(
            ApiError::InvalidRequest(_)
            | ApiError::TooLarge
            | ApiError::InvalidClient { .. }
            | ApiError::InvalidGrant
            | ApiError::UnsupportedGrantType
            | ApiError::VersionMismatch
            | ApiError::NotFound
            | ApiError::MethodNotAllowed { .. },
        ) => PollEnd::Invalid,
    }
}

async fn answer(app: &App, request: &HttpRequest, payload: &mut Payload) -> Result<String, ApiError> {
    version::check(request, app.settings.version_min.as_ref())?;
    let mut form = Form::read(request, payload).await?;
    let grant_type = form.take("grant_type").ok_or_else(|| ApiError::missing("grant_type"))?;
    if grant_type != DEVICE_CODE_GRANT {
        return Err(ApiError::UnsupportedGrantType);
    }
    let client = Client::identify(request, &mut form, &app.settings.allowed_clients)?;
    let code = form.take("device_code").ok_or_else(|| ApiError::missing("device_code"))?;
    // Not of the shape we issue: as unknown as any other.
    let code = DeviceCode::parse(&code).ok_or(ApiError::InvalidGrant)?;
    let poll = Poll {
        device: app.keys().device(&code),
        client_id: client.id.into(),
        client_secret: client.secret,
        style: client.style,
    };
    match app.system().registry.poll(poll).await? {
        PollAnswer::Token(body) => Ok(body),
        PollAnswer::Pending { interval_secs } => Err(ApiError::AuthorizationPending { interval_secs }),
        PollAnswer::SlowDown { interval_secs } => Err(ApiError::SlowDown { interval_secs }),
        PollAnswer::Denied => Err(ApiError::AccessDenied),
        PollAnswer::Expired => Err(ApiError::ExpiredToken),
        PollAnswer::Invalid => Err(ApiError::InvalidGrant),
        PollAnswer::BadSecret => {
            Err(ApiError::InvalidClient { basic: client.style == actors::poll::AuthStyle::Basic })
        }
        PollAnswer::Unavailable => Err(ApiError::unavailable()),
    }
}
