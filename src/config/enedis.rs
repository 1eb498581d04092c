//! The application at Enedis, or at whatever OAuth server stands in its place: endpoints, flow, quota and patience.

use std::sync::Arc;
use std::time::Duration;

use actors::enedis::exchanger::ExchangerSettings;
use actors::enedis::port::ConfiguredClient;
use actors::limits::quota::QuotaSettings;
use actors::metering::api_choice::ApiMode;
use actors::metering::relay::RelaySettings;
use jiff::fmt::temporal::SpanParser;
use url::Url;
use zeroize::Zeroizing;

use super::parse::{Reader, is_this_machine};

const AUTHORIZE_V1: &str = "https://mon-compte-particulier.enedis.fr/dataconnect/v1/oauth2/authorize";
const AUTHORIZE_V2: &str = "https://mon-compte-particulier.enedis.fr/dataconnect/v2/oauth2/authorize";
const TOKEN: &str = "https://gw.ext.prod.api.enedis.fr/oauth2/v3/token";
const DATA: &str = "https://gw.ext.prod.api.enedis.fr";
/// Life of a consent that is asked for without a `DURATION`, in days: the longest there is.
const CONSENT_DAYS: u64 = 1_095;
/// Part of the meter cache that is in memory.
const METER_MEMORY_BYTES: usize = 64 << 20;

/// The application at Enedis, and the calls there.
#[derive(Clone, PartialEq, Eq)]
pub struct EnedisConfig {
    /// The client at Enedis (`CLIENT_ID`, `CLIENT_SECRET`).
    pub client: ConfiguredClient,
    /// `CLIENT_ID` and `ALLOWED_CLIENT_IDS`; empty accepts any client.
    pub allowed_clients: Vec<Arc<str>>,
    /// `FLOW`; with its settings.
    pub flow: Flow,
    /// The authorization server.
    pub upstream: Upstream,
    /// `PKCE`.
    pub pkce: bool,
    /// Quota and patience.
    pub exchanger: ExchangerSettings,
    /// Whether every endpoint is on this machine, where only a simulated one can be.
    pub(super) is_simulated: bool,
}

/// Whose tokens a device receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// `DEVICE`: Enedis' own, by an exchange of the authorization code.
    Device,
    /// `CLIENT_CREDENTIALS`: ours, which open metering data here.
    ClientCredentials(MeteringConfig),
}

/// Settings of `FLOW=CLIENT_CREDENTIALS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteringConfig {
    /// `DATA_ENDPOINT`.
    pub data: Url,
    /// `DISABLE_DATA_ENDPOINT_AUTH`, also as the original misspelt it.
    pub open_to_all: bool,
    /// `ENEDIS_API_MODE`, quota and cache.
    pub relay: RelaySettings,
    /// `DURATION`, in days.
    pub consent_life: Duration,
}

/// The authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `AUTHORIZATION_ENDPOINT`.
    pub authorize: Url,
    /// `TOKEN_ENDPOINT`; with `FLOW=CLIENT_CREDENTIALS`, `TOKEN_ENDPOINT_V3`.
    pub token: Url,
    /// `TOKEN_ENDPOINT_AUTH_METHOD`.
    pub auth_method: AuthMethod,
    /// `REDIRECT_URI`, sent to the token endpoint.
    pub redirect_uri: Option<String>,
    /// `REDIRECT_URI_IN_AUTHORIZE`.
    pub redirect_uri_in_authorize: bool,
    /// `DURATION`; `None`: not sent.
    pub duration: Option<String>,
}

/// How the proxy authenticates at the token endpoint; the names are those of RFC 8414.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Client id and secret in the form.
    Post,
    /// HTTP Basic.
    Basic,
}

impl EnedisConfig {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let client_id = r.text("CLIENT_ID");
        let own = client_id.as_deref().map(Arc::from);
        let mut allowed_clients: Vec<Arc<str>> =
            r.list("ALLOWED_CLIENT_IDS").into_iter().map(Arc::from).collect();
        allowed_clients.extend(own.filter(|id| !allowed_clients.contains(id)));
        let client =
            ConfiguredClient { client_id, client_secret: r.text("CLIENT_SECRET").map(Zeroizing::new) };
        let exchanger = exchanger(r);
        let (duration, consent_life) = duration(r);
        let metering = metering(r, &exchanger, consent_life);
        let own_tokens = r.choice("FLOW", false, &[("DEVICE", false), ("CLIENT_CREDENTIALS", true)]);
        if own_tokens {
            for (name, given) in
                [("CLIENT_ID", client.client_id.is_some()), ("CLIENT_SECRET", client.client_secret.is_some())]
            {
                if !given {
                    r.fault(name, "a value, since FLOW is CLIENT_CREDENTIALS");
                }
            }
        }
        let upstream = upstream(r, own_tokens, duration);
        let is_local = |url: &Url| url.host_str().is_some_and(is_this_machine);
        let is_simulated = [&upstream.authorize, &upstream.token, &metering.data].into_iter().all(is_local);
        Self {
            is_simulated,
            client,
            allowed_clients,
            upstream,
            flow: if own_tokens { Flow::ClientCredentials(metering) } else { Flow::Device },
            pkce: r.flag("PKCE"),
            exchanger,
        }
    }
}

impl Upstream {
    /// Whether people are sent to the consent page of 2026, whose address says so.
    pub fn asks_v2(&self) -> bool {
        self.authorize.path_segments().is_some_and(|mut segments| segments.any(|segment| segment == "v2"))
    }
}

fn upstream(r: &mut Reader<'_>, own_tokens: bool, duration: Option<String>) -> Upstream {
    let (v1, v3) = (r.url("TOKEN_ENDPOINT", TOKEN, false), r.url("TOKEN_ENDPOINT_V3", TOKEN, false));
    // HTTP Basic is what Enedis is sure to take since July 2026.
    let (token, auth_method) = if own_tokens { (v3, AuthMethod::Basic) } else { (v1, AuthMethod::Post) };
    // Only the page of 2026 tells us the meter in a way that a stranger cannot write.
    let authorize = if own_tokens { AUTHORIZE_V2 } else { AUTHORIZE_V1 };
    let methods = [("client_secret_post", AuthMethod::Post), ("client_secret_basic", AuthMethod::Basic)];
    let upstream = Upstream {
        authorize: r.url("AUTHORIZATION_ENDPOINT", authorize, false),
        token,
        auth_method: r.choice("TOKEN_ENDPOINT_AUTH_METHOD", auth_method, &methods),
        redirect_uri: r.url_as_written("REDIRECT_URI"),
        redirect_uri_in_authorize: r.flag("REDIRECT_URI_IN_AUTHORIZE"),
        duration,
    };
    if upstream.redirect_uri_in_authorize && upstream.redirect_uri.is_none() {
        r.fault("REDIRECT_URI", "to be set, since REDIRECT_URI_IN_AUTHORIZE is on");
    }
    upstream
}

fn exchanger(r: &mut Reader<'_>) -> ExchangerSettings {
    let settings = ExchangerSettings {
        in_flight: r.number("ENEDIS_IN_FLIGHT", 1, 1..=64),
        quota: QuotaSettings {
            per_second: r.number("ENEDIS_CALLS_PER_SECOND", 5, 1..=100_000),
            per_hour: r.number("ENEDIS_CALLS_PER_HOUR", 1_000, 1..=100_000_000),
        },
        attempt: r.seconds("ENEDIS_TIMEOUT_SECS", 10, 1..=60),
        deadline: r.seconds("ENEDIS_DEADLINE_SECS", 25, 2..=120),
    };
    if settings.attempt >= settings.deadline {
        r.fault("ENEDIS_TIMEOUT_SECS", "less than ENEDIS_DEADLINE_SECS");
    }
    settings
}

fn metering(r: &mut Reader<'_>, exchanger: &ExchangerSettings, consent_life: Duration) -> MeteringConfig {
    let cache_mb: u64 = r.number("METER_CACHE_MAX_MB", 1_024, 1..=1_000_000);
    MeteringConfig {
        data: r.url("DATA_ENDPOINT", DATA, true),
        open_to_all: r.flag("DISABLE_DATA_ENDPOINT_AUTH") | r.flag("DISABLE_DATA_ENPOINT_AUTH"),
        relay: RelaySettings {
            mode: r.choice(
                "ENEDIS_API_MODE",
                ApiMode::Auto,
                &[("auto", ApiMode::Auto), ("new", ApiMode::New), ("legacy", ApiMode::Legacy)],
            ),
            quota: exchanger.quota,
            attempt: exchanger.attempt,
            cache_max_bytes: cache_mb << 20,
            memory_max_bytes: METER_MEMORY_BYTES,
            prefetch: r.choice("PREFETCH", true, &[("on", true), ("off", false)]),
        },
        consent_life,
    }
}

/// `DURATION` as it is sent, `None` if it is not, and the life of a consent.
fn duration(r: &mut Reader<'_>) -> (Option<String>, Duration) {
    let text = Some(r.text_or("DURATION", "P3Y")).filter(|text| !text.is_empty());
    let days = text.as_deref().map_or(Some(CONSENT_DAYS), consent_days);
    if days.is_none() {
        r.fault("DURATION", "an ISO 8601 duration in days, weeks, months or years such as P3Y, or nothing");
    }
    (text, Duration::from_secs(days.unwrap_or(CONSENT_DAYS) * 86_400))
}

/// Days of an ISO 8601 duration; `None` if it is none, or not between a day and three years.
fn consent_days(text: &str) -> Option<u64> {
    // No hours, no signs, no small letters.
    text.bytes().all(|b| b.is_ascii_digit() || b"PYMWD".contains(&b)).then_some(())?;
    let span = SpanParser::new().parse_span(text).ok()?;
    let days = i64::from(span.get_years()) * 365
        + i64::from(span.get_months()) * 30
        + i64::from(span.get_weeks()) * 7
        + i64::from(span.get_days());
    // Three years, and the leap day in them.
    u64::try_from(days).ok().filter(|days| (1..=1_096).contains(days))
}
