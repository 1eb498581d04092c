//! Owns the record of what reached the simulator. It is kept for assertions, so it grows without bound: a
//! simulator lives as long as one test or one demonstration.

use std::time::{Duration, Instant};

use super::Api;

/// A snapshot of everything the simulator saw since it started.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests to the consent page, in order of arrival, faulty answers included.
    pub authorize_requests: Vec<AuthorizeRequest>,
    /// Requests to the data and subscription services, in order of arrival, faulty answers included.
    pub api_requests: Vec<ApiRequest>,
    /// Paths asked for that Enedis has not.
    pub unknown_paths: Vec<String>,
    /// Consents given: redirections that carried a code (v1) or an authorisation (v2).
    pub consents_allowed: usize,
    /// Consents refused: redirections with `access_denied`.
    pub consents_refused: usize,
    /// Requests to the token endpoint, in order of arrival, faulty answers included.
    pub token_requests: Vec<TokenRequest>,
    /// Authorization codes issued.
    pub codes: Vec<String>,
    /// Access tokens issued, those of the application itself included.
    pub access_tokens: Vec<String>,
    /// Refresh tokens issued.
    pub refresh_tokens: Vec<String>,
    /// The largest number of token requests that were being answered at the same time.
    pub max_concurrent_token_requests: usize,
}

/// One request to a service behind the gateway.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// When its head arrived.
    pub at: Instant,
    /// The API it belongs to, for the quota.
    pub api: Api,
    /// Its path.
    pub path: String,
    /// Parameters of the URL, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, which is empty for a `GET`.
    pub body: String,
    /// Status of the answer; `None`: a fault came first, or it is still being handled.
    pub status: Option<u16>,
}

/// One request to the consent page.
#[derive(Clone, Debug)]
pub struct AuthorizeRequest {
    /// 1 or 2: the version of the consent page.
    pub version: u8,
    /// When it arrived.
    pub at: Instant,
    /// Its parameters, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Its header fields, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// One request to the token endpoint.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// When its head arrived.
    pub at: Instant,
    /// Parameters of the URL, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Form fields, decoded, in order.
    pub fields: Vec<(String, String)>,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The code or refresh token it carries had been consumed before it arrived.
    pub after_success: bool,
    /// The effect it had.
    pub outcome: Outcome,
}

/// The effect of a token request, whatever became of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// None: a fault came first, or the request is still being handled.
    None,
    /// Tokens were issued, and a code or refresh token consumed.
    Granted,
    /// Refused with this OAuth error code.
    Refused(String),
}

impl ApiRequest {
    /// The first parameter `name`.
    pub fn param(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// The first header field `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

impl AuthorizeRequest {
    /// The first parameter `name`.
    pub fn param(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }
}

impl TokenRequest {
    /// The first form field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.fields, name)
    }

    /// The first header field `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

impl Seen {
    /// Requests to `api`.
    pub fn api_requests_of(&self, api: Api) -> impl Iterator<Item = &ApiRequest> {
        self.api_requests.iter().filter(move |request| request.api == api)
    }

    /// Token requests with this `grant_type`.
    pub fn token_requests_of(&self, grant_type: &str) -> impl Iterator<Item = &TokenRequest> {
        self.token_requests.iter().filter(move |request| request.field("grant_type") == Some(grant_type))
    }

    /// How often authorization code `code` was presented, whatever came of it.
    pub fn presentations(&self, code: &str) -> usize {
        self.token_requests_of("authorization_code")
            .filter(|request| request.field("code") == Some(code))
            .count()
    }

    /// How often each issued code was presented, in order of issue.
    pub fn presentations_per_code(&self) -> Vec<(String, usize)> {
        self.codes.iter().map(|code| (code.clone(), self.presentations(code))).collect()
    }

    /// Authorization codes presented again after they had been consumed, one entry per such presentation.
    pub fn codes_presented_after_success(&self) -> Vec<String> {
        self.token_requests_of("authorization_code")
            .filter(|request| request.after_success)
            .filter_map(|request| request.field("code").map(ToOwned::to_owned))
            .collect()
    }

    /// The shortest time between the arrivals of two token requests; `None` with fewer than two.
    pub fn min_token_spacing(&self) -> Option<Duration> {
        let mut arrivals: Vec<_> = self.token_requests.iter().map(|request| request.at).collect();
        arrivals.sort_unstable();
        arrivals.windows(2).map(|pair| pair[1].duration_since(pair[0])).min()
    }

    /// The largest number of token requests that arrived within any span of length `window`.
    pub fn max_token_requests_within(&self, window: Duration) -> usize {
        let mut arrivals: Vec<_> = self.token_requests.iter().map(|request| request.at).collect();
        arrivals.sort_unstable();
        (0..arrivals.len())
            .map(|first| {
                arrivals[first..].iter().take_while(|at| at.duration_since(arrivals[first]) < window).count()
            })
            .max()
            .unwrap_or(0)
    }

    /// Everything the simulator issued that must never be seen in a log or a store: codes and tokens.
    pub fn secrets(&self) -> Vec<String> {
        [&self.codes, &self.access_tokens, &self.refresh_tokens].into_iter().flatten().cloned().collect()
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
