//! Owns the record of what reached the simulator, and every number drawn from it. It is kept for assertions, so it
//! grows without bound: a simulator lives as long as one test or one demonstration.

use std::collections::HashMap;

use super::Resource;

/// What faults can be scripted for, and what has a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `GET /dataconnect/v1/oauth2/authorize`, the consent page.
    Authorize,
    /// `GET /dataconnect/v2/oauth2/authorize`, the consent page since 2026.
    AuthorizeV2,
    /// `POST /oauth2/v3/token`, whose quota is [`super::Options::token_quota`].
    Token,
    /// `POST /subscribed_services/v1/`.
    SubscribedServices,
    /// `GET /metering_data_…/v5/…`.
    DataV5,
    /// `GET /mesure_synchrone_auto/v2/…`.
    Data2026,
}

impl Endpoint {
    /// Every endpoint: for an Enedis that is down as a whole.
    pub const ALL: [Self; 6] = [
        Self::Authorize,
        Self::AuthorizeV2,
        Self::Token,
        Self::SubscribedServices,
        Self::DataV5,
        Self::Data2026,
    ];
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it asked.
    pub endpoint: Endpoint,
    /// Its path.
    pub path: String,
    /// Parameters of the URL, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Form fields of the body, decoded, in order.
    pub fields: Vec<(String, String)>,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, which is empty for a `GET`.
    pub body: String,
    /// The code or refresh token it carries had been consumed before it arrived.
    pub after_success: bool,
    /// Status of the answer that its effect led to; `None`: a fault came first, or it is still being handled.
    pub status: Option<u16>,
}

impl Request {
    /// The first parameter `name` of the URL.
    pub fn param(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// The first form field `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.fields, name)
    }

    /// The first header field `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// Its body has this media type, whatever its parameters.
    pub(super) fn is_of_type(&self, media_type: &str) -> bool {
        let sent = self.header("content-type").and_then(|sent| sent.split(';').next()).unwrap_or_default();
        sent.trim().eq_ignore_ascii_case(media_type)
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A snapshot of everything the simulator saw since it started.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests to the consent pages, in order of arrival, faulty answers included.
    pub authorize_requests: Vec<Request>,
    /// Requests to the data and subscription services, in order of arrival, faulty answers included.
    pub api_requests: Vec<Request>,
    /// Requests to the token endpoint, in order of arrival, faulty answers included.
    pub token_requests: Vec<Request>,
    /// Paths asked for that Enedis has not.
    pub unknown_paths: Vec<String>,
    /// Requests for what [`Simulator::set_page`](super::Simulator::set_page) put there, with their queries.
    pub pages: Vec<String>,
    /// Consents given: redirections that carried a code (v1) or an authorisation (v2).
    pub consents_allowed: usize,
    /// Authorization codes issued.
    pub codes: Vec<String>,
    /// Access tokens issued, those of the application itself included.
    pub access_tokens: Vec<String>,
    /// Refresh tokens issued.
    pub refresh_tokens: Vec<String>,
    /// The largest number of token requests that were being answered at the same time.
    pub max_concurrent_token_requests: usize,
}

impl Seen {
    /// The requests among which those to `endpoint` are.
    pub(super) fn requests_mut(&mut self, endpoint: Endpoint) -> &mut Vec<Request> {
        match endpoint {
            Endpoint::Authorize | Endpoint::AuthorizeV2 => &mut self.authorize_requests,
            Endpoint::Token => &mut self.token_requests,
            Endpoint::SubscribedServices | Endpoint::DataV5 | Endpoint::Data2026 => &mut self.api_requests,
        }
    }

    /// Token requests with this `grant_type`.
    pub fn token_requests_of(&self, grant_type: &str) -> impl Iterator<Item = &Request> {
        self.token_requests.iter().filter(move |request| request.field("grant_type") == Some(grant_type))
    }

    /// How often each issued code was presented, whatever came of it, in order of issue.
    pub fn presentations_per_code(&self) -> Vec<(String, usize)> {
        let times = |code: &String| {
            let presented = self.token_requests_of("authorization_code");
            presented.filter(|request| request.field("code") == Some(code)).count()
        };
        self.codes.iter().map(|code| (code.clone(), times(code))).collect()
    }

    /// Authorization codes presented again after they had been consumed, one entry per such presentation.
    pub fn codes_presented_after_success(&self) -> Vec<String> {
        let again = self.token_requests_of("authorization_code").filter(|request| request.after_success);
        again.filter_map(|request| request.field("code").map(ToOwned::to_owned)).collect()
    }

    /// Everything the simulator issued that must never be seen in a log or a store: codes and tokens.
    pub fn secrets(&self) -> Vec<String> {
        [&self.codes, &self.access_tokens, &self.refresh_tokens].into_iter().flatten().cloned().collect()
    }
}

/// What reached the gateway and the token endpoint since the start, or since the last
/// [`super::Simulator::reset_counts`], in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that arrived, whatever became of them.
    pub requests: HashMap<Endpoint, u64>,
    /// Data requests that arrived, on either API, by usage point as it was sent, and resource.
    pub per_meter: HashMap<(String, Resource), u64>,
    /// Requests answered 429 because the quota was spent; scripted answers are not among them.
    pub throttled: HashMap<Endpoint, u64>,
}

impl Counts {
    pub(super) fn of<'a>(requests: impl Iterator<Item = &'a Request>) -> Self {
        let mut counts = Self::default();
        for request in requests {
            *counts.requests.entry(request.endpoint).or_default() += 1;
            if let Some((_, resource)) = Resource::at(&request.path) {
                let point = request.param("usage_point_id").or(request.param("pointId")).unwrap_or_default();
                *counts.per_meter.entry((point.to_owned(), resource)).or_default() += 1;
            }
            if request.status == Some(429) {
                *counts.throttled.entry(request.endpoint).or_default() += 1;
            }
        }
        counts
    }

    /// Requests to `endpoint` that arrived.
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.requests.get(&endpoint).copied().unwrap_or(0)
    }

    /// Requests to both data APIs that arrived.
    pub fn data_requests(&self) -> u64 {
        self.requests(Endpoint::DataV5) + self.requests(Endpoint::Data2026)
    }

    /// Data requests about usage point `point` for `resource` that arrived, on either API.
    pub fn of_meter(&self, point: &str, resource: Resource) -> u64 {
        self.per_meter.get(&(point.to_owned(), resource)).copied().unwrap_or(0)
    }

    /// Requests to `endpoint` answered 429 because the quota was spent.
    pub fn throttled(&self, endpoint: Endpoint) -> u64 {
        self.throttled.get(&endpoint).copied().unwrap_or(0)
    }

    /// The same over all endpoints.
    pub fn throttled_in_all(&self) -> u64 {
        self.throttled.values().sum()
    }
}
