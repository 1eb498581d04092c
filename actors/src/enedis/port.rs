//! The ports to Enedis, named after the roles of RFC 6749 section 1.1: the authorization server (tokens, and the service
//! that tells which meter a consent is for) and the resource server (metering data); and what an answer means for an
//! authorization code or refresh token that is good for one presentation only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use crate::base::clock::Timestamp;
use crate::base::code::PkceVerifier;
use crate::base::token_set::TokenSet;
use crate::metering::api_choice::Api;
use crate::metering::translate::UpstreamQuery;

/// Longest life of an application token that is believed; Enedis' is 12 600 s.
const BEARER_LIFE_MAX: Duration = Duration::from_secs(86_400);
/// Life of one whose answer does not say.
const BEARER_LIFE_UNSAID: Duration = Duration::from_secs(600);

/// One request to the token endpoint. `Debug` shows the kind only.
#[derive(Clone)]
pub struct TokenCall {
    /// Client at Enedis.
    pub client_id: String,
    /// Its secret, from the configuration or from the device.
    pub client_secret: Option<String>,
    /// What is presented.
    pub grant: Grant,
}

/// The client at Enedis, as configured. Where a part is missing, the device's own is used.
#[derive(Clone, Default)]
pub struct ConfiguredClient {
    /// `CLIENT_ID`.
    pub client_id: Option<String>,
    /// `CLIENT_SECRET`.
    pub client_secret: Option<String>,
}

impl ConfiguredClient {
    /// The credentials of one call: ours where configured, else the device's.
    pub fn call(&self, client_id: &str, client_secret: Option<String>, grant: Grant) -> TokenCall {
        TokenCall {
            client_id: self.client_id.clone().unwrap_or_else(|| client_id.to_owned()),
            client_secret: self.client_secret.clone().or(client_secret),
            grant,
        }
    }
}

/// What is presented to the token endpoint.
#[derive(Clone)]
pub enum Grant {
    /// RFC 6749 section 4.1.3, with RFC 7636 where PKCE is on.
    AuthorizationCode {
        /// The code Enedis gave to the browser.
        code: String,
        /// The verifier whose challenge was sent to the authorize endpoint.
        verifier: Option<PkceVerifier>,
    },
    /// RFC 6749 section 6.
    RefreshToken {
        /// The device's refresh token.
        refresh_token: String,
        /// Narrower scope, if the device asks for one.
        scope: Option<String>,
    },
    /// RFC 6749 section 4.4: the application for itself.
    ClientCredentials,
}

impl fmt::Debug for TokenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.grant {
            Grant::AuthorizationCode { .. } => "TokenCall(authorization_code)",
            Grant::RefreshToken { .. } => "TokenCall(refresh_token)",
            Grant::ClientCredentials => "TokenCall(client_credentials)",
        })
    }
}

/// The application's own token at Enedis. It opens every consented meter: never logged, never handed to a box.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Arc<str>);

impl Bearer {
    /// The token in an answer, and how long it lives.
    pub fn of(token: &TokenSet) -> Option<(Self, Duration)> {
        let (token, life) = token.access_token()?;
        Some((Self::from(token), life.unwrap_or(BEARER_LIFE_UNSAID).min(BEARER_LIFE_MAX)))
    }

    /// The form sent to Enedis.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Bearer {
    fn from(token: &str) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// A question to `subscribed_services/v1`: which meter is an authorisation of the v2 consent page for?
#[derive(Clone, Debug)]
pub struct ServicesCall {
    /// `autorisation_id` of the callback.
    pub authorisation: i64,
    /// The application's token.
    pub bearer: Bearer,
}

/// A call to the authorization server.
#[derive(Clone, Debug)]
pub enum Call {
    /// To the token endpoint.
    Token(TokenCall),
    /// To the service of subscriptions.
    Services(ServicesCall),
}

impl Call {
    /// Whether Enedis changes nothing by answering it, so that it may be sent again whatever became of it.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Token(call) => matches!(call.grant, Grant::ClientCredentials),
            Self::Services(_) => true,
        }
    }
}

/// A question for metering data. Holds the meter's number: not for logs.
#[derive(Clone)]
pub struct MeterCall {
    /// Which API.
    pub api: Api,
    /// Path and parameters.
    pub query: UpstreamQuery,
    /// The application's token.
    pub bearer: Bearer,
}

/// Whatever the token endpoint answered. `Debug` shows neither body nor headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// Body, bounded by the client.
    pub body: Vec<u8>,
    /// `Retry-After` or `nextAccessTime`: not before this instant.
    pub retry_at: Option<Timestamp>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// A call that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection was made: Enedis saw nothing.
    #[error("no connection: {0}")]
    NotSent(String),
    /// The request left, no whole answer came back: Enedis may have acted on it.
    #[error("no answer: {0}")]
    Lost(String),
}

/// Enedis' token endpoint and service of subscriptions. Lives on the exchanger's own thread, hence no `Send`.
pub trait AuthorizationServer: 'static {
    /// Sends one request, once, within `limit`.
    fn call(&self, call: Call, limit: Duration) -> LocalBoxFuture<'static, Result<Answer, CallError>>;
}

/// Enedis' metering data. Lives on the relay's thread.
pub trait ResourceServer: 'static {
    /// Sends one request, once, within `limit`.
    fn get(&self, call: MeterCall, limit: Duration) -> LocalBoxFuture<'static, Result<Answer, CallError>>;
}

/// What an attempt means for the request behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Enedis acted on it or refused it for good: hand the answer on.
    Final(Answer),
    /// Enedis certainly did not act on it: try again, not before the instant if one is given.
    Again(Option<Timestamp>),
    /// Enedis may have acted on it: presenting it again could burn it.
    Lost,
}

/// Reads an attempt. 429 and 503 say that the request was not processed (RFC 9110 section 15.6.4, RFC 6585
/// section 4); so does a connection that was never made. A broken connection, a time-out, 500, 502 and 504
/// leave it open, which does not matter to a call that is [repeatable](Call::is_repeatable).
pub fn meaning(attempt: Result<Answer, CallError>, repeatable: bool) -> Meaning {
    match attempt {
        Ok(answer) if matches!(answer.status, 429 | 503) || (repeatable && answer.status >= 500) => {
            Meaning::Again(answer.retry_at)
        }
        Ok(answer) => Meaning::Final(answer),
        Err(CallError::Lost(_)) if !repeatable => Meaning::Lost,
        Err(CallError::NotSent(_) | CallError::Lost(_)) => Meaning::Again(None),
    }
}

/// A token endpoint's answer that is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// An OAuth error (RFC 6749 section 5.2).
    #[error("Enedis refused: {error}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The `error` member, at most 100 characters.
        error: String,
    },
    /// Not a JSON object with an `access_token`.
    #[error("Enedis answered {status} without a token")]
    Garbled {
        /// HTTP status.
        status: u16,
    },
}

/// Reads a token endpoint's answer.
pub fn read_token(answer: &Answer) -> Result<TokenSet, NoToken> {
    let status = answer.status;
    let Ok(Value::Object(members)) = serde_json::from_slice(&answer.body) else {
        return Err(NoToken::Garbled { status });
    };
    if let Some(Value::String(error)) = members.get("error") {
        return Err(NoToken::Refused { status, error: error.chars().take(100).collect() });
    }
    let success = (200..300).contains(&status);
    TokenSet::new(members).filter(|_| success).ok_or(NoToken::Garbled { status })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, content_type: None, body: body.into(), retry_at: None }
    }

    #[test]
    fn only_unprocessed_requests_are_tried_again() {
        let lost = || Err(CallError::Lost(String::new()));
        for repeatable in [false, true] {
            assert_eq!(meaning(Ok(answer(429, "")), repeatable), Meaning::Again(None));
            assert_eq!(meaning(Ok(answer(503, "")), repeatable), Meaning::Again(None));
            assert_eq!(meaning(Err(CallError::NotSent(String::new())), repeatable), Meaning::Again(None));
            for status in [200, 400, 401, 403] {
                let meaning = meaning(Ok(answer(status, "")), repeatable);
                assert!(matches!(meaning, Meaning::Final(_)), "{status}");
            }
        }
        for status in [500, 502, 504] {
            assert!(matches!(meaning(Ok(answer(status, "")), false), Meaning::Final(_)), "{status}");
            assert_eq!(meaning(Ok(answer(status, "")), true), Meaning::Again(None), "{status}");
        }
        assert_eq!(meaning(lost(), false), Meaning::Lost);
        assert_eq!(meaning(lost(), true), Meaning::Again(None));
    }

    #[test]
    fn token_answers_are_told_from_the_rest() {
        let refused = read_token(&answer(400, r#"{"error":"invalid_grant"}"#));
        assert_eq!(refused, Err(NoToken::Refused { status: 400, error: "invalid_grant".into() }));
        for (status, body) in [(200, "<html>"), (200, "{}"), (200, "[]"), (500, r#"{"access_token":"a"}"#)] {
            assert_eq!(read_token(&answer(status, body)), Err(NoToken::Garbled { status }), "{body}");
        }
        // A 200 that carries an error is an error (seen at Enedis).
        assert!(read_token(&answer(200, r#"{"error":"unauthorized"}"#)).is_err());
    }

    #[test]
    fn the_applications_token_has_a_bounded_life() {
        let read = |body: &str| Bearer::of(&read_token(&answer(200, body)).unwrap()).unwrap().1.as_secs();
        assert_eq!(read(r#"{"access_token":"a","expires_in":"12600","scope":""}"#), 12_600);
        assert_eq!(read(r#"{"access_token":"a"}"#), 600);
        assert_eq!(read(r#"{"access_token":"a","expires_in":1e8}"#), 86_400);
        assert_eq!(format!("{:?}", Bearer::from("secret")), "Bearer(…)");
    }
}
