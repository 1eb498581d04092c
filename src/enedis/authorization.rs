//! The token endpoint (RFC 6749 section 3.2) and the service of subscriptions (Enedis' swagger `Services-souscrits`, 2026).

use std::rc::Rc;
use std::time::Duration;

use actors::base::clock::SharedClock;
use actors::enedis::port::{Answer, AuthorizationServer, Call, CallError, Grant, ServicesCall, TokenCall};
use awc::Client;
use futures_util::future::LocalBoxFuture;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::{address, client, receive};
use crate::config::{AuthMethod, Flow, Upstream};

/// Largest answer read. A token answer has under 4 KB, a list of services some more.
const BODY_MAX: usize = 64 * 1024;
/// Path of the service of subscriptions, below the data endpoint. Enedis wants the slash at its end.
const SERVICES_PATH: &str = "subscribed_services/v1/";

/// The authorization server.
pub struct EnedisAuthorization {
    client: Client,
    upstream: Upstream,
    services: Option<String>,
    clock: SharedClock,
}

impl EnedisAuthorization {
    /// Made on the thread where it stays.
    pub fn new(upstream: Upstream, flow: &Flow, clock: SharedClock, attempt: Duration) -> Rc<Self> {
        let services = match flow {
            Flow::Device => None,
            Flow::ClientCredentials(metering) => Some(address(&metering.data, SERVICES_PATH)),
        };
        Rc::new(Self { client: client(attempt), upstream, services, clock })
    }

    fn token(&self, call: &TokenCall, limit: Duration) -> LocalBoxFuture<'static, Result<Answer, CallError>> {
        let mut request = self.client.post(self.upstream.token.as_str()).force_close().timeout(limit);
        if let (AuthMethod::Basic, Some(secret)) = (self.upstream.auth_method, &call.client_secret) {
            // RFC 6749 section 2.3.1: both halves are form-encoded first.
            let encode = |half: &str| utf8_percent_encode(half, NON_ALPHANUMERIC).to_string();
            request = request.basic_auth(encode(&call.client_id), encode(secret));
        }
        let sent = request.send_form(&self.form(call));
        receive(sent, SharedClock::clone(&self.clock), limit, BODY_MAX)
    }

    fn form(&self, call: &TokenCall) -> Vec<(&'static str, String)> {
        let mut form = match &call.grant {
            Grant::AuthorizationCode { code, verifier } => {
                let mut form = vec![("grant_type", "authorization_code".to_owned()), ("code", code.clone())];
                form.extend(self.upstream.redirect_uri.clone().map(|uri| ("redirect_uri", uri)));
                form.extend(verifier.as_ref().map(|v| ("code_verifier", v.expose().to_owned())));
                form
            }
            Grant::RefreshToken { refresh_token, scope } => {
                let mut form = vec![
                    ("grant_type", "refresh_token".to_owned()),
                    ("refresh_token", refresh_token.clone()),
                ];
                form.extend(scope.clone().map(|scope| ("scope", scope)));
                form
            }
            Grant::ClientCredentials => vec![("grant_type", "client_credentials".to_owned())],
        };
        let basic = self.upstream.auth_method == AuthMethod::Basic && call.client_secret.is_some();
        if !basic {
            form.push(("client_id", call.client_id.clone()));
            form.extend(call.client_secret.clone().map(|secret| ("client_secret", secret)));
        }
        form
    }

    fn services(
        &self,
        call: &ServicesCall,
        limit: Duration,
    ) -> LocalBoxFuture<'static, Result<Answer, CallError>> {
        let Some(address) = &self.services else {
            return Box::pin(async { Err(CallError::NotSent("no data endpoint".to_owned())) });
        };
        let question = json!({
            "autorisationId": call.authorisation,
            // Rows, and not their number.
            "comptage": false,
            "etatCode": ["ACTIF", "DEMANDE"],
            "serviceType": "ACCES",
        });
        let request =
            self.client.post(address).force_close().timeout(limit).bearer_auth(call.bearer.expose());
        receive(request.send_json(&question), SharedClock::clone(&self.clock), limit, BODY_MAX)
    }
}

impl AuthorizationServer for EnedisAuthorization {
    fn call(&self, call: Call, limit: Duration) -> LocalBoxFuture<'static, Result<Answer, CallError>> {
        match &call {
            Call::Token(call) => self.token(call, limit),
            Call::Services(call) => self.services(call, limit),
        }
    }
}
