//! The port to the authorization server (RFC 6749 section 1.1): tokens, and the service that tells which meter a consent
//! is for. It speaks in verdicts: what became of a call, and whether it may be sent again. An authorization code or
//! refresh token is good for one presentation only, so what may have been acted on is told from what was not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use derive_more::Debug;
use jiff::civil::Date;
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::code::PkceVerifier;
use crate::base::meter::Meter;
use crate::base::token_set::TokenSet;
use crate::enedis::contract::Contract;

/// Longest life of an application token that is believed; Enedis' is 12 600 s.
const BEARER_LIFE_MAX: Duration = Duration::from_secs(86_400);
/// Life of one whose answer does not say.
const BEARER_LIFE_UNSAID: Duration = Duration::from_secs(600);

/// One request to the token endpoint. `Debug` shows the kind only.
#[derive(Clone, Debug)]
#[debug("TokenCall({grant:?})")]
pub struct TokenCall {
    /// Client at Enedis.
    pub client_id: String,
    /// Its secret, from the configuration or from the device.
    pub client_secret: Option<Zeroizing<String>>,
    /// The device brought the secret: that Enedis does not accept the client is for the device to hear.
    pub is_devices_own: bool,
    /// What is presented.
    pub grant: Grant,
}

/// The client at Enedis, as configured. Where a part is missing, the device's own is used.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfiguredClient {
    /// `CLIENT_ID`.
    pub client_id: Option<String>,
    /// `CLIENT_SECRET`.
    pub client_secret: Option<Zeroizing<String>>,
}

impl ConfiguredClient {
    /// The credentials of one call: ours where configured, else the device's.
    pub fn call(&self, client_id: &str, client_secret: Option<Zeroizing<String>>, grant: Grant) -> TokenCall {
        TokenCall {
            is_devices_own: self.client_secret.is_none() && client_secret.is_some(),
            client_id: self.client_id.clone().unwrap_or_else(|| client_id.to_owned()),
            client_secret: self.client_secret.clone().or(client_secret),
            grant,
        }
    }
}

/// What is presented to the token endpoint.
#[derive(Clone, Debug)]
pub enum Grant {
    /// RFC 6749 section 4.1.3, with RFC 7636 where PKCE is on.
    #[debug("authorization_code")]
    AuthorizationCode {
        /// The code Enedis gave to the browser.
        code: String,
        /// The verifier whose challenge was sent to the authorize endpoint.
        verifier: Option<PkceVerifier>,
    },
    /// RFC 6749 section 6.
    #[debug("refresh_token")]
    RefreshToken {
        /// The device's refresh token.
        refresh_token: Zeroizing<String>,
        /// Narrower scope, if the device asks for one.
        scope: Option<String>,
    },
    /// RFC 6749 section 4.4: the application for itself.
    #[debug("client_credentials")]
    ClientCredentials,
}

/// The application's own token at Enedis. It opens every consented meter: never logged, never handed to a box.
#[derive(Clone, PartialEq, Eq, Debug)]
#[debug("Bearer(…)")]
pub struct Bearer(Arc<Zeroizing<String>>);

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
        Self(Arc::new(token.to_owned().into()))
    }
}

/// A question for the meters of a consent.
#[derive(Clone, Debug)]
pub struct MetersCall {
    /// The authorisation that the consent page named.
    pub authorisation: i64,
    /// The application's token.
    pub bearer: Bearer,
}

/// A question for the contract of a meter.
#[derive(Clone, Debug)]
pub struct ContractCall {
    /// Which meter. Whether the box may ask is checked elsewhere.
    pub meter: Meter,
    /// The application's token.
    pub bearer: Bearer,
}

/// A call to the authorization server, or to what stands beside it.
#[derive(Clone, Debug)]
pub enum Call {
    /// To the token endpoint.
    Token(TokenCall),
    /// To the token endpoint for a device, which receives the answer as it came.
    Refresh(TokenCall),
    /// To the service of subscriptions.
    Meters(MetersCall),
    /// To the services of contracts, each once.
    Contract(ContractCall),
}

impl Call {
    /// Whether nothing changes by its being answered, so that it may be sent again whatever became of it.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Token(call) => matches!(call.grant, Grant::ClientCredentials),
            Self::Refresh(_) => false,
            Self::Meters(_) | Self::Contract(_) => true,
        }
    }
}

/// What was answered; each variant to the call of its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Tokens, or why there are none.
    Token(Result<TokenSet, NoToken>),
    /// As it came.
    Refresh(RawAnswer),
    /// The meters, or why they are not told.
    Meters(Result<Subscription, NoMeters>),
    /// The contract, or why it is not told.
    Contract(Result<Contract, NoContract>),
}

/// An answer that is handed on unread. `Debug` does not show the body.
#[derive(Clone, PartialEq, Eq, Debug)]
#[debug("RawAnswer({status}, {} bytes)", body.len())]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// Body, bounded by the client.
    pub body: Vec<u8>,
}

/// What is known of an authorisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its meters, usually one; at most [`METERS_MAX`](crate::base::meter::METERS_MAX).
    pub meters: Vec<Meter>,
    /// The latest beginning of its services; `None` if none says.
    pub since: Option<Date>,
}

/// Why the meters of a consent are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMeters {
    /// Nothing yet: services are listed some time after the consent.
    NotYet,
    /// The application's token was not accepted.
    TokenRejected,
    /// Not an authorisation of this application.
    Refused,
    /// The application may not ask: its operator has to subscribe it.
    NotSubscribed,
    /// The gateway's trouble, or an answer that is none.
    Trouble,
}

/// Why a contract is not told. Nothing of it says anything about the consent: for weeks these services have refused what
/// was consented to, in the words of a missing consent, while values were answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoContract {
    /// The application's token was not accepted.
    TokenRejected,
    /// Enedis does not tell it, or not to this application: in its words, ASCII, at most 200 characters.
    NotTold(String),
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

/// What became of a call that was sent once.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// It was dealt with, or refused for good.
    Answered(Answer),
    /// The server is in trouble and may have acted on it: the answer is handed on, the call not sent again.
    Failed(Answer),
    /// It was not acted on, because our client, as it is configured, was not accepted.
    ClientRejected,
    /// It was not acted on, because the quota is used up: not again before the instant, if one is given.
    Busy(Option<Timestamp>),
    /// It was not acted on, or changes nothing: it may be sent again, not before the instant, if one is given.
    Down(Option<Timestamp>),
    /// No answer came, and it may have been acted on: to send it again could spend a code for nothing.
    Lost,
}

/// The authorization server. Lives on the exchanger's own thread, hence no `Send`.
#[async_trait(?Send)]
pub trait AuthorizationServer: 'static {
    /// Sends one request, once, within `limit`.
    async fn call(&self, call: Call, limit: Duration) -> Attempt;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_applications_token_has_a_bounded_life() {
        for (life, believed) in [("\"12600\"", 12_600), ("null", 600), ("1e8", 86_400)] {
            let body = format!(r#"{{"access_token":"a","expires_in":{life}}}"#);
            let (bearer, life) = Bearer::of(&TokenSet::from_bytes(body.as_bytes()).unwrap()).unwrap();
            assert_eq!((bearer.expose(), life.as_secs()), ("a", believed));
            assert_eq!(format!("{bearer:?}"), "Bearer(…)");
        }
    }
}
