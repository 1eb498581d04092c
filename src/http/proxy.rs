//! `POST /device/proxy`: a device refreshes its token through us, and we add the secret it must not know.
//!
//! Equal refreshes are one exchange (`refreshes.rs`), which goes on without those who have gone once Enedis was asked.
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
use actors::base::network::Network;
use actors::enedis::exchanger::Exchanged;
use actors::enedis::port::{Grant, RawAnswer, TokenCall};
use zeroize::Zeroizing;

use super::client::Client;
use super::error::{ApiError, no_store};
use super::grant::GrantType;
use super::limits::Presented;
use super::refreshes::{self, Ended, Exchange};
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
    let key = {
        // No part of a form holds a line break.
        let secret = client.secret.as_ref().map_or("", |secret| secret.as_str());
        let parts = [&client.id, secret, scope.as_deref().unwrap_or_default(), &refresh_token];
        app.keys().foreign_refresh(&Zeroizing::new(parts.join("\n")))
    };
    let (waiter, exchange) = app.shared.refreshes.join(key, app.clock().now())?;
    if let Some(exchange) = exchange {
        let grant = Grant::RefreshToken { refresh_token, scope };
        let call = app.settings.enedis.client.call(&client.id, client.secret, grant);
        let network = app.network(&request);
        // Not this handler's: it ends with its caller, and what Enedis has answered must not be lost.
        actix_rt::spawn(carry_out(Data::clone(&app), network, call, exchange));
    }
    let answer = refreshes::wait(waiter, key, app.keys()).await?;
    app.metrics().refreshes.inc();
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let content_type = answer.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    // Whatever Enedis' gateway says, it must not run in our origin.
    Ok(no_store(HttpResponse::build(status))
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .body(answer.body))
}

/// Asks Enedis, and tells all who wait.
async fn carry_out(app: Data<App>, network: Network, call: TokenCall, exchange: Exchange) {
    let ended = match ask(&app, network, call, &exchange).await {
        Ok(answer) => exchange.seal(app.keys(), &mut *app.rng(), answer),
        Err(error) => Ended::Not(error),
    };
    app.shared.refreshes.end(&exchange, ended, app.clock().now());
}

async fn ask(
    app: &App,
    network: Network,
    call: TokenCall,
    exchange: &Exchange,
) -> Result<RawAnswer, ApiError> {
    let (limits, now) = (&app.shared.limits, app.clock().now());
    // A token that is known to be good costs nobody else anything, wherever it comes from.
    let known = &limits.refreshes_of_a_token;
    let Grant::RefreshToken { refresh_token, .. } = &call.grant else { return Err(ApiError::unavailable()) };
    let hash = app.keys().foreign_refresh(refresh_token);
    let charge = if known.knows(&hash) {
        known.take(hash, now)
    } else {
        // Charged beforehand, and given back unless Enedis refuses.
        limits.present(Presented::RefreshToken, network, now)
    };
    let charge = charge.map_err(|retry_after| ApiError::TooManyRefreshes { retry_after })?;
    let wanted = exchange.clone();
    let exchanged = app.system().exchanger.refresh(network, call, move || wanted.is_wanted()).await;
    match &exchanged {
        Exchanged::Answered(answer) if (400..500).contains(&answer.status) => known.forget(&hash),
        Exchanged::Answered(answer) if answer.status == 200 => {
            charge.give_back();
            token::remember(app, &answer.body);
            // A box in a loop spends the quota of all.
            let _ = known.take(hash, now);
        }
        _ => charge.give_back(),
    }
    match exchanged {
        Exchanged::Answered(answer) => Ok(answer),
        Exchanged::Lost => Err(ApiError::unavailable()),
        Exchanged::NotDone { retry_after, .. } => Err(ApiError::Unavailable { retry_after }),
    }
}
