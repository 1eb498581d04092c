//! `POST /device/revoke`: a box gives its tokens up (RFC 7009).
//!
//! Either token ends the grant with all its tokens, and what is remembered of meters that no other grant covers is
//! erased. An unknown token is no error (RFC 7009 section 2.2): there is nothing left to end.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actors::base::code::BearerToken;
use actors::metering::tokens::service::Revoked;

use super::client::Client;
use super::error::{ApiError, no_store};
use super::state::App;
use super::token::REFRESH_TOKEN_MAX;

/// A box gives a token up.
pub async fn revoke(
    app: Data<App>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let body = app.read_body(&request, &mut payload).await?;
    let mut form = body.form()?;
    // Enedis' own tokens are not ours to end.
    let Some(metering) = &app.system().metering else { return Err(ApiError::UnsupportedTokenType) };
    let client = Client::identify(&request, &mut form, &app.allowed_clients)?;
    let token = BearerToken::parse(&form.require("token", REFRESH_TOKEN_MAX)?);
    app.may_look_up(&request)?;
    let revoked = match token {
        Some(token) => app.revoke(&request, &metering.tokens, token, client.id).await,
        None => Revoked::Nothing,
    };
    match revoked {
        Revoked::Grant { uncovered } => {
            for meter in uncovered {
                metering.relay.forget(meter).await;
            }
        }
        Revoked::Nothing => app.found_nothing(&request),
        Revoked::Unavailable => return Err(ApiError::unavailable()),
    }
    Ok(no_store(HttpResponse::Ok()).finish())
}
