//! `POST /device/proxy`: a device refreshes its token through us, and we add the secret it must not know.
//!
//! With `FLOW=CLIENT_CREDENTIALS` the tokens are ours, and this is another address of `POST /device/token`.
//!
//! Refuses everything but a refresh for an accepted client: with the secret added, any other grant would let a
//! stranger act as the application.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actors::enedis::exchanger::Exchanged;
use actors::enedis::port::Grant;
use zeroize::Zeroizing;

use super::client::Client;
use super::error::{ApiError, no_store};
use super::grant::GrantType;
use super::limits::Presented;
use super::state::App;
use super::token::{self, REFRESH_TOKEN_MAX};

/// A device refreshes its token. Enedis' status, content type and body come back as they are.
pub async fn refresh(
    app: Data<App>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let body = app.read_body(&request, &mut payload).await?;
    let mut form = body.form()?;
    if GrantType::take(&mut form)? != GrantType::RefreshToken {
        return Err(ApiError::UnsupportedGrantType);
    }
    if let Some(metering) = &app.system().metering {
        // Tokens are ours: the oldest plugins refresh here.
        return token::refresh(&app, &request, &mut form, &metering.tokens).await;
    }
    let client = Client::identify(&request, &mut form, &app.allowed_clients)?;
    let refresh_token = Zeroizing::new(form.require("refresh_token", REFRESH_TOKEN_MAX)?.into_owned());
    let scope = form.scope()?.map(Cow::into_owned);
    let (limits, network, now) = (&app.shared.limits, app.network(&request), app.clock().now());
    // A token that is known to be good costs nobody else anything, wherever it comes from.
    let known = &limits.refreshes_of_a_token;
    let hash = app.keys().foreign_refresh(&refresh_token);
    let charge = if known.knows(&hash) {
        known.take(hash, now)
    } else {
        // Charged beforehand, and given back unless Enedis refuses.
        limits.present(Presented::RefreshToken, network, now)
    };
    let charge = charge.map_err(|retry_after| ApiError::TooManyRefreshes { retry_after })?;
    let grant = Grant::RefreshToken { refresh_token, scope };
    let call = app.settings.enedis.client.call(&client.id, client.secret, grant);
    let exchanged = app.system().exchanger.refresh(network, call).await;
    match &exchanged {
        Exchanged::Answered(answer) if (400..500).contains(&answer.status) => known.forget(&hash),
        Exchanged::Answered(answer) if answer.status == 200 => {
            charge.give_back();
            token::remember(&app, &answer.body);
            // A box in a loop spends the quota of all.
            let _ = known.take(hash, now);
        }
        _ => charge.give_back(),
    }
    match exchanged {
        Exchanged::Answered(answer) => {
            app.metrics().refreshes.inc();
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            let content_type = answer.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            // Whatever Enedis' gateway says, it must not run in our origin.
            Ok(no_store(HttpResponse::build(status))
                .insert_header((CONTENT_TYPE, content_type))
                .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
                .body(answer.body))
        }
        Exchanged::Lost => Err(ApiError::unavailable()),
        Exchanged::NotDone { retry_after, .. } => Err(ApiError::Unavailable { retry_after }),
    }
}
