//! The token endpoint (RFC 6749 section 3.2) and the way to the services of subscriptions and contracts; and what became of
//! a call, which decides whether it may be sent again.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actors::base::clock::SharedClock;
use actors::base::token_set::TokenSet;
use actors::enedis::contract::Contract;
use actors::enedis::port::{
    Answer, Attempt, AuthorizationServer, Call, ContractCall, Grant, MetersCall, NoContract, NoToken,
    RawAnswer, TokenCall,
};
use actors::metering::api_choice::ApiMode;
use actors::metering::resource_server::Verdict;
use async_trait::async_trait;
use awc::Client;
use futures_util::future::join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::contracts::Source;
use super::data::errors;
use super::{CallError, Response, address, client, receive, subscriptions};
use crate::config::{AuthMethod, Flow, Upstream};

/// Largest answer read. A token answer has under 4 KB, a list of services some more.
const BODY_MAX: usize = 64 * 1024;

/// The authorization server.
pub struct EnedisAuthorization {
    client: Client,
    upstream: Upstream,
    /// What stands beside it, where metering data is relayed: the address, and which generation is there.
    data: Option<(Url, ApiMode)>,
    clock: SharedClock,
}

impl EnedisAuthorization {
    /// Made on the thread where it stays.
    pub fn new(upstream: Upstream, flow: &Flow, clock: SharedClock, attempt: Duration) -> Rc<Self> {
        let data = match flow {
            Flow::Device => None,
            Flow::ClientCredentials(metering) => Some((metering.data.clone(), metering.relay.mode)),
        };
        Rc::new(Self { client: client(attempt), upstream, data, clock })
    }

    async fn token(&self, call: &TokenCall, limit: Duration) -> Result<Response, CallError> {
        let mut request = self.client.post(self.upstream.token.as_str()).force_close().timeout(limit);
        if let (AuthMethod::Basic, Some(secret)) = (self.upstream.auth_method, &call.client_secret) {
            // RFC 6749 section 2.3.1: both halves are form-encoded first.
            let encode = |half: &str| utf8_percent_encode(half, NON_ALPHANUMERIC).to_string();
            request = request.basic_auth(encode(&call.client_id), encode(secret));
        }
        let sent = request.send_form(&self.form(call));
        receive(sent, self.clock.as_ref(), limit, BODY_MAX).await
    }

    /// The form of a call, without copies of its secrets.
    fn form<'a>(&'a self, call: &'a TokenCall) -> Vec<(&'static str, Cow<'a, str>)> {
        let mut form = match &call.grant {
            Grant::AuthorizationCode { code, verifier } => {
                let mut form = vec![("grant_type", "authorization_code".into()), ("code", code.into())];
                form.extend(self.upstream.redirect_uri.as_ref().map(|uri| ("redirect_uri", uri.into())));
                form.extend(verifier.as_ref().map(|v| ("code_verifier", v.expose().into())));
                form
            }
            Grant::RefreshToken { refresh_token, scope } => {
                let mut form = vec![
                    ("grant_type", "refresh_token".into()),
                    ("refresh_token", refresh_token.as_str().into()),
                ];
                form.extend(scope.as_ref().map(|scope| ("scope", scope.into())));
                form
            }
            Grant::ClientCredentials => vec![("grant_type", "client_credentials".into())],
        };
        let basic = self.upstream.auth_method == AuthMethod::Basic && call.client_secret.is_some();
        if !basic {
            form.push(("client_id", call.client_id.as_str().into()));
            form.extend(call.client_secret.as_ref().map(|secret| ("client_secret", secret.as_str().into())));
        }
        form
    }

    async fn meters(&self, call: &MetersCall, limit: Duration) -> Result<Response, CallError> {
        let Some((data, _)) = &self.data else {
            return Err(CallError::NotSent("no data endpoint".to_owned()));
        };
        let address = address(data, subscriptions::PATH);
        let request =
            self.client.post(address).force_close().timeout(limit).bearer_auth(call.bearer.expose());
        let sent = request.send_json(&subscriptions::question(call.authorisation));
        receive(sent, self.clock.as_ref(), limit, BODY_MAX).await
    }

    /// Asks what 2026 has for a contract, at once; and v5, where that may be there and the off-peak hours are still missing.
    async fn contract(&self, call: &ContractCall, limit: Duration) -> Attempt {
        let Some((data, mode)) = &self.data else { return Attempt::Down(None) };
        let limit = if *mode == ApiMode::Auto { limit / 2 } else { limit };
        let mut told = Contracts::default();
        if *mode != ApiMode::Legacy {
            let parts = Source::NEW.map(|source| self.part(data, call, source, limit));
            join_all(parts).await.into_iter().for_each(|part| told.add(part));
        }
        let is_whole = told.contract.as_ref().is_some_and(|contract| contract.offpeak_hours.is_some());
        if *mode != ApiMode::New && !is_whole {
            told.add(self.part(data, call, Source::V5, limit).await);
        }
        told.end()
    }

    async fn part(
        &self,
        data: &Url,
        call: &ContractCall,
        source: Source,
        limit: Duration,
    ) -> Result<Contract, Verdict> {
        let request =
            self.client.get(address(data, &source.question(call.meter))).force_close().timeout(limit);
        // As for values: without it Enedis answers 500.
        let request =
            request.bearer_auth(call.bearer.expose()).insert_header((CONTENT_TYPE, "application/json"));
        let answer = receive(request.send(), self.clock.as_ref(), limit, BODY_MAX).await;
        let part = match &answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                source.read(call.meter, &answer.body).ok_or(Verdict::Down { retry_at: None })
            }
            Ok(answer) => Err(errors::judge(answer, self.clock.now())),
            Err(_) => Err(Verdict::Down { retry_at: None }),
        };
        if let Err(verdict) = &part {
            let status = answer.map_or(0, |answer| answer.status);
            tracing::info!(?source, status, ?verdict, "a part of a contract is not told");
        }
        part
    }
}

/// What the services of contracts have said, the better ones first.
#[derive(Default)]
struct Contracts {
    contract: Option<Contract>,
    refused: Vec<Verdict>,
}

impl Contracts {
    fn add(&mut self, part: Result<Contract, Verdict>) {
        match part {
            Ok(part) => {
                self.contract = Some(match self.contract.take() {
                    Some(before) => before.or(part),
                    None => part,
                });
            }
            Err(verdict) => self.refused.push(verdict),
        }
    }

    /// What of it is there; if nothing is, the reason that is soonest over.
    fn end(self) -> Attempt {
        let rank = |verdict: &Verdict| match verdict {
            Verdict::TokenRejected => 0,
            Verdict::Busy { .. } => 1,
            Verdict::Down { .. } => 2,
            Verdict::DataError(_) => 3,
            Verdict::Closed | Verdict::ConsentRefused { .. } | Verdict::Values(_) => 4,
        };
        let worst = self.refused.into_iter().min_by_key(rank);
        let answered = |contract| Attempt::Answered(Answer::Contract(contract));
        if let Some(contract) = self.contract {
            let is_partial = worst.is_some_and(|verdict| rank(&verdict) < 3);
            return answered(Ok(Contract { is_partial, ..contract }));
        }
        match worst {
            Some(Verdict::TokenRejected) => answered(Err(NoContract::TokenRejected)),
            Some(Verdict::Busy { until }) => Attempt::Busy(Some(until)),
            Some(Verdict::Down { retry_at }) => Attempt::Down(retry_at),
            Some(Verdict::DataError(error)) => answered(Err(NoContract::NotTold(error.description))),
            _ => answered(Err(NoContract::NotTold("Enedis does not tell this contract".to_owned()))),
        }
    }
}

#[async_trait(?Send)]
impl AuthorizationServer for EnedisAuthorization {
    async fn call(&self, call: Call, limit: Duration) -> Attempt {
        let attempt = match &call {
            Call::Contract(call) => return self.contract(call, limit).await,
            Call::Token(call) | Call::Refresh(call) => self.token(call, limit).await,
            Call::Meters(call) => self.meters(call, limit).await,
        };
        judge(&call, attempt)
    }
}

/// What became of `call`. 429 and 503 say that the request was not processed (RFC 9110 section 15.6.4, RFC 6585
/// section 4); so does a connection that was never made. A broken connection, a time-out, 500, 502 and 504
/// leave it open, which does not matter to a call that is [repeatable](Call::is_repeatable).
fn judge(call: &Call, attempt: Result<Response, CallError>) -> Attempt {
    let api = if matches!(call, Call::Meters(_)) { "subscribed_services" } else { "token" };
    let answer = match attempt {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(api, %error, "Enedis did not answer");
            let may_be_repeated = call.is_repeatable() || matches!(error, CallError::NotSent(_));
            return if may_be_repeated { Attempt::Down(None) } else { Attempt::Lost };
        }
    };
    let status = answer.status;
    if status >= 500 {
        tracing::warn!(api, status, "Enedis is in trouble");
    }
    match status {
        429 => Attempt::Busy(answer.retry_at),
        503 => Attempt::Down(answer.retry_at),
        500.. if call.is_repeatable() => Attempt::Down(answer.retry_at),
        500.. => Attempt::Failed(read(call, answer)),
        // The secret that this server adds is wrong: no device may take that for its own fault.
        400 | 401 if is_our_client_rejected(call, &answer) => Attempt::ClientRejected,
        _ => Attempt::Answered(read(call, answer)),
    }
}

/// Whether Enedis says `invalid_client` of the client as it is configured (RFC 6749 section 5.2). The application's own token is
/// asked for with it alone, and whoever does so hears it.
fn is_our_client_rejected(call: &Call, answer: &Response) -> bool {
    #[derive(Deserialize)]
    struct Error {
        error: String,
    }
    let (Call::Token(sent) | Call::Refresh(sent)) = call else { return false };
    let is_ours = !sent.is_devices_own && !matches!(sent.grant, Grant::ClientCredentials);
    is_ours && serde_json::from_slice(&answer.body).is_ok_and(|Error { error }| error == "invalid_client")
}

fn read(call: &Call, answer: Response) -> Answer {
    match call {
        Call::Token(_) => Answer::Token(read_token(&answer)),
        Call::Refresh(_) => {
            let Response { status, content_type, body, .. } = answer;
            Answer::Refresh(RawAnswer { status, content_type, body })
        }
        Call::Meters(call) => Answer::Meters(subscriptions::read(&answer, call.authorisation)),
        // Put together from several answers, each read by itself.
        Call::Contract(_) => Answer::Contract(Err(NoContract::NotTold(String::new()))),
    }
}

fn read_token(answer: &Response) -> Result<TokenSet, NoToken> {
    let status = answer.status;
    let Ok(Value::Object(members)) = serde_json::from_slice(&answer.body) else {
        return Err(NoToken::Garbled { status });
    };
    // A 200 that carries an error is an error (seen at Enedis).
    if let Some(Value::String(error)) = members.get("error") {
        return Err(NoToken::Refused { status, error: error.chars().take(100).collect() });
    }
    let success = (200..300).contains(&status);
    TokenSet::new(members).filter(|_| success).ok_or(NoToken::Garbled { status })
}

#[cfg(test)]
mod tests {
    use actors::enedis::port::Bearer;

    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response { status, content_type: None, body: body.into(), retry_at: None }
    }

    fn token(grant: Grant) -> Call {
        Call::Token(TokenCall { client_id: "box".into(), client_secret: None, is_devices_own: false, grant })
    }

    #[test]
    fn only_unprocessed_requests_are_tried_again() {
        let meters = Call::Meters(MetersCall { authorisation: 1, bearer: Bearer::from("b") });
        let code = token(Grant::AuthorizationCode { code: "c".into(), verifier: None });
        let not_sent = || Err(CallError::NotSent(String::new()));
        let lost = || Err(CallError::Lost(String::new()));
        for call in [&code, &token(Grant::ClientCredentials), &meters] {
            assert_eq!(judge(call, Ok(answer(429, ""))), Attempt::Busy(None));
            assert_eq!(judge(call, Ok(answer(503, ""))), Attempt::Down(None));
            assert_eq!(judge(call, not_sent()), Attempt::Down(None));
            for status in [200, 400, 401, 403] {
                let attempt = judge(call, Ok(answer(status, "")));
                assert!(matches!(attempt, Attempt::Answered(_)), "{status}");
            }
            for status in [500, 502, 504] {
                let attempt = judge(call, Ok(answer(status, "")));
                if call.is_repeatable() {
                    assert_eq!(attempt, Attempt::Down(None), "{status}");
                } else {
                    assert!(matches!(attempt, Attempt::Failed(_)), "{status}");
                }
            }
        }
        assert_eq!(judge(&code, lost()), Attempt::Lost);
        assert_eq!(judge(&meters, lost()), Attempt::Down(None));
    }

    #[test]
    fn a_client_that_is_not_accepted_is_ours_or_the_devices() {
        let refresh = |is_devices_own| {
            let grant = Grant::RefreshToken { refresh_token: "r".to_owned().into(), scope: None };
            Call::Refresh(TokenCall { client_id: "c".into(), client_secret: None, is_devices_own, grant })
        };
        let own = token(Grant::ClientCredentials);
        let rejected = || Ok(answer(401, r#"{"error":"invalid_client"}"#));
        assert_eq!(judge(&refresh(false), rejected()), Attempt::ClientRejected);
        for (call, body) in [
            (&refresh(true), r#"{"error":"invalid_client"}"#),
            (&refresh(false), r#"{"error":"invalid_grant"}"#),
            (&refresh(false), "invalid_client"),
            (&own, r#"{"error":"invalid_client"}"#),
        ] {
            assert!(matches!(judge(call, Ok(answer(400, body))), Attempt::Answered(_)), "{body}");
        }
    }

    #[test]
    fn token_answers_are_told_from_the_rest() {
        let refused = read_token(&answer(400, r#"{"error":"invalid_grant"}"#));
        assert_eq!(refused, Err(NoToken::Refused { status: 400, error: "invalid_grant".into() }));
        for (status, body) in [(200, "<html>"), (200, "{}"), (200, "[]"), (500, r#"{"access_token":"a"}"#)] {
            assert_eq!(read_token(&answer(status, body)), Err(NoToken::Garbled { status }), "{body}");
        }
        assert!(read_token(&answer(200, r#"{"error":"unauthorized"}"#)).is_err());
        assert!(read_token(&answer(200, r#"{"access_token":"a"}"#)).is_ok());
    }
}
