//! Configuration: every setting from the environment or an `.env` file, checked all at once.
//!
//! Owns the names, defaults and bounds of the settings. Promises: a faulty configuration is reported whole, by
//! variable name and expected form, and no value is ever echoed. Refuses: nothing is guessed; a value that cannot
//! be used stops the start (exit status 64).

mod parse;
mod source;
mod store;
mod version;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::device_flow::session::Lifetimes;
use actors::enedis::exchanger::ExchangerSettings;
use actors::enedis::port::ConfiguredClient;
use actors::limits::quota::QuotaSettings;
use actors::metering::api_choice::ApiMode;
use actors::metering::relay::RelaySettings;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;
use url::Url;

pub use parse::{ConfigErrors, Fault};
pub use source::{DotenvError, EnvSource};
pub use store::StoreConfig;
pub use version::{NoVersion, Version};

use parse::{Reader, is_this_machine};

const AUTHORIZE: &str = "https://mon-compte-particulier.enedis.fr/dataconnect/v1/oauth2/authorize";
const TOKEN: &str = "https://gw.ext.prod.api.enedis.fr/oauth2/v3/token";
const DATA: &str = "https://gw.ext.prod.api.enedis.fr";
/// Life of a consent that is asked for without a `DURATION`, in days: the longest there is.
const CONSENT_DAYS: u64 = 1_095;
/// Part of the meter cache that is in memory.
const METER_MEMORY_BYTES: usize = 64 << 20;
/// Longest `CLOCK_OFFSET_SECS`: ten years.
const CLOCK_OFFSET_MAX: u64 = 10 * 366 * 86_400;

/// A checked configuration.
#[derive(Clone)]
pub struct Config {
    /// `LISTEN`.
    pub listen: SocketAddr,
    /// `ADMIN_LISTEN`; `None` if off.
    pub admin_listen: Option<SocketAddr>,
    /// `BASE_URL`, without a trailing slash.
    pub base_url: String,
    /// `CLIENT_ID` and `ALLOWED_CLIENT_IDS`; empty accepts any client.
    pub allowed_clients: Vec<Arc<str>>,
    /// The client at Enedis (`CLIENT_ID`, `CLIENT_SECRET`).
    pub client: ConfiguredClient,
    /// Enedis' endpoints.
    pub upstream: Upstream,
    /// `FLOW`; with its settings.
    pub flow: Flow,
    /// `PKCE`.
    pub pkce: bool,
    /// 60 / `LIMIT_REQUESTS_PER_MINUTE` seconds, rounded up.
    pub interval: Duration,
    /// Deadlines of a flow.
    pub life: Lifetimes,
    /// `VERSION_MIN`; `None`: any plugin.
    pub version_min: Option<Version>,
    /// `DEVICE_CODES_PER_MINUTE_PER_IP`; 0 is off.
    pub codes_per_minute: u32,
    /// `MAX_PENDING_SESSIONS`.
    pub sessions_max: usize,
    /// `TRUSTED_PROXIES`.
    pub trusted_proxies: Vec<IpNet>,
    /// Where sessions are stored.
    pub store: StoreConfig,
    /// `DATA_DIR`.
    pub data_dir: PathBuf,
    /// `SECRET_KEY`; `None`: kept in `DATA_DIR`.
    pub secret_key: Option<[u8; 32]>,
    /// Quota and patience towards Enedis.
    pub exchanger: ExchangerSettings,
    /// `WORKERS`.
    pub workers: usize,
    /// `SHARDS`.
    pub shards: usize,
    /// `WRITE_BATCH_MAX`.
    pub write_batch_max: usize,
    /// `SHUTDOWN_SECS`.
    pub shutdown: Duration,
    /// `RUST_LOG`, `LOG_FORMAT`.
    pub log: LogConfig,
    /// `CLOCK_OFFSET_SECS`: how far this server's clock is ahead of the machine's.
    pub clock_offset: Duration,
}

/// Whose tokens a device receives.
#[derive(Clone, Debug)]
pub enum Flow {
    /// `DEVICE`: Enedis' own, by an exchange of the authorization code.
    Device,
    /// `CLIENT_CREDENTIALS`: ours, which open metering data here.
    ClientCredentials(MeteringConfig),
}

/// Settings of `FLOW=CLIENT_CREDENTIALS`.
#[derive(Clone, Debug)]
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

/// Enedis, or whatever OAuth server stands in its place.
#[derive(Clone, Debug)]
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

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `RUST_LOG` directives.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Config {
    /// Reads and checks every setting.
    pub fn read(source: &EnvSource) -> Result<Self, ConfigErrors> {
        let mut r = Reader::new(source);
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let workers = r.number("WORKERS", cpus, 1..=256);
        let client_id = r.text("CLIENT_ID");
        let mut allowed_clients: Vec<Arc<str>> =
            r.list("ALLOWED_CLIENT_IDS").into_iter().map(Arc::from).collect();
        let own = client_id.as_deref().map(Arc::from);
        allowed_clients.extend(own.filter(|id| !allowed_clients.contains(id)));
        let client = ConfiguredClient { client_id, client_secret: r.text("CLIENT_SECRET") };
        let base_url = r.url("BASE_URL", "http://localhost:8080", true);
        let base_url = base_url.map(|url| url.as_str().trim_end_matches('/').to_owned());
        let flows = [("DEVICE", FlowName::Device), ("CLIENT_CREDENTIALS", FlowName::ClientCredentials)];
        let flow_name = r.choice("FLOW", FlowName::Device, &flows);
        let upstream = upstream(&mut r, flow_name);
        let per_minute: u64 = r.number("LIMIT_REQUESTS_PER_MINUTE", 12, 1..=60_000);
        let attempt = r.seconds("ENEDIS_TIMEOUT_SECS", 10, 1..=60);
        let deadline = r.seconds("ENEDIS_DEADLINE_SECS", 25, 2..=120);
        if attempt >= deadline {
            r.fault("ENEDIS_TIMEOUT_SECS", "less than ENEDIS_DEADLINE_SECS");
        }
        let quota = QuotaSettings {
            per_second: r.number("ENEDIS_CALLS_PER_SECOND", 5, 1..=100_000),
            per_hour: r.number("ENEDIS_CALLS_PER_HOUR", 1_000, 1..=100_000_000),
        };
        let metering = metering(&mut r, quota, attempt);
        let clock_offset = r.seconds("CLOCK_OFFSET_SECS", 0, 0..=CLOCK_OFFSET_MAX);
        if !clock_offset.is_zero() && !is_rehearsal(upstream.as_ref(), metering.as_ref()) {
            r.fault(
                "CLOCK_OFFSET_SECS",
                "0, unless every endpoint of Enedis is a simulated one on this machine",
            );
        }
        if flow_name == FlowName::ClientCredentials {
            for (name, given) in
                [("CLIENT_ID", client.client_id.is_some()), ("CLIENT_SECRET", client.client_secret.is_some())]
            {
                if !given {
                    r.fault(name, "a value, since FLOW is CLIENT_CREDENTIALS");
                }
            }
        }
        let flow = match (flow_name, metering) {
            (FlowName::ClientCredentials, Some(metering)) => Flow::ClientCredentials(metering),
            _ => Flow::Device,
        };
        let redelivery_secs = if matches!(flow, Flow::ClientCredentials(_)) { 180 } else { 60 };
        let store = store::read(&mut r);
        let secret_key = store::secret_key(&mut r, &store);
        let config = Self {
            listen: r.socket("LISTEN", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            admin_listen: admin_listen(&mut r),
            base_url: base_url.unwrap_or_default(),
            allowed_clients,
            client,
            flow,
            pkce: r.flag("PKCE"),
            interval: Duration::from_secs(60_u64.div_ceil(per_minute)),
            life: Lifetimes {
                code: r.seconds("CODE_LIFETIME_SECS", 300, 1..=86_400),
                consent: r.seconds("CONSENT_WINDOW_SECS", 900, 1..=86_400),
                // The plugin sends a poll again whose answer was lost, three times within some two minutes and a half.
                redelivery: r.seconds("TOKEN_REDELIVERY_SECS", redelivery_secs, 0..=3_600),
                ..Lifetimes::default()
            },
            version_min: r
                .value("VERSION_MIN", "a version such as 2.6.0", None, |text| text.parse().ok().map(Some)),
            codes_per_minute: r.number("DEVICE_CODES_PER_MINUTE_PER_IP", 0, 0..=1_000_000),
            sessions_max: r.number("MAX_PENDING_SESSIONS", 1_000_000, 1..=100_000_000),
            trusted_proxies: r.networks("TRUSTED_PROXIES", "127.0.0.0/8,::1"),
            store,
            data_dir: r.text("DATA_DIR").unwrap_or_else(|| "./data".to_owned()).into(),
            secret_key,
            exchanger: ExchangerSettings {
                in_flight: r.number("ENEDIS_IN_FLIGHT", 1, 1..=64),
                quota,
                attempt,
                deadline,
            },
            workers,
            shards: r.number(
                "SHARDS",
                workers.min(actors::base::keyring::SLOTS),
                1..=actors::base::keyring::SLOTS,
            ),
            write_batch_max: r.number("WRITE_BATCH_MAX", 512, 1..=10_000),
            shutdown: r.seconds("SHUTDOWN_SECS", 30, 1..=300),
            log: log(&mut r),
            clock_offset,
            upstream: upstream.unwrap_or_else(Upstream::unreachable_default),
        };
        r.finish()?;
        Ok(config)
    }
}

impl Config {
    /// What the configuration comes to, without its secrets: for comparing two, and for the log.
    pub fn summary(&self) -> String {
        let Self {
            listen,
            admin_listen,
            base_url,
            allowed_clients,
            client,
            upstream,
            flow,
            pkce,
            interval,
            ..
        } = self;
        let Self {
            life,
            version_min,
            codes_per_minute,
            sessions_max,
            trusted_proxies,
            store,
            data_dir,
            secret_key,
            ..
        } = self;
        let Self { exchanger, workers, shards, write_batch_max, shutdown, log, clock_offset, .. } = self;
        let own_secret = client.client_secret.is_some();
        let own_key = secret_key.is_some();
        format!(
            "{listen} {admin_listen:?} {base_url} {allowed_clients:?} own_secret={own_secret} {upstream:?} {flow:?} \
             pkce={pkce} \
             {interval:?} {life:?} {version_min:?} codes_per_minute={codes_per_minute} sessions_max={sessions_max} \
             {trusted_proxies:?} {store:?} {} own_key={own_key} {exchanger:?} workers={workers} \
             shards={shards} write_batch_max={write_batch_max} {shutdown:?} {log:?} {clock_offset:?}",
            data_dir.display(),
        )
    }
}

impl Upstream {
    /// Whether people are sent to the consent page of 2026, whose address says so.
    pub fn asks_v2(&self) -> bool {
        self.authorize.path_segments().is_some_and(|mut segments| segments.any(|segment| segment == "v2"))
    }

    // Stands in while faults are collected; `Config::read` then fails.
    fn unreachable_default() -> Self {
        #[expect(clippy::unwrap_used, reason = "a constant; parsed by a test")]
        let url = |text: &str| Url::parse(text).unwrap();
        Self {
            authorize: url(AUTHORIZE),
            token: url(TOKEN),
            auth_method: AuthMethod::Post,
            redirect_uri: None,
            redirect_uri_in_authorize: false,
            duration: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FlowName {
    Device,
    ClientCredentials,
}

fn upstream(r: &mut Reader<'_>, flow: FlowName) -> Option<Upstream> {
    let authorize = r.url("AUTHORIZATION_ENDPOINT", AUTHORIZE, false);
    let (v1, v3) = (r.url("TOKEN_ENDPOINT", TOKEN, false), r.url("TOKEN_ENDPOINT_V3", TOKEN, false));
    let (token, auth_default) = match flow {
        FlowName::Device => (v1, AuthMethod::Post),
        // What Enedis is sure to take since July 2026.
        FlowName::ClientCredentials => (v3, AuthMethod::Basic),
    };
    let redirect_uri = r.text("REDIRECT_URI").and_then(|_| r.url("REDIRECT_URI", "", false));
    let redirect_uri_in_authorize = r.flag("REDIRECT_URI_IN_AUTHORIZE");
    if redirect_uri_in_authorize && redirect_uri.is_none() {
        r.fault("REDIRECT_URI", "to be set, since REDIRECT_URI_IN_AUTHORIZE is on");
    }
    let methods = [("client_secret_post", AuthMethod::Post), ("client_secret_basic", AuthMethod::Basic)];
    let auth_method = r.choice("TOKEN_ENDPOINT_AUTH_METHOD", auth_default, &methods);
    let duration = r.text_or("DURATION", "P3Y");
    if !is_duration(&duration) {
        r.fault("DURATION", "an ISO 8601 duration in days, weeks, months or years such as P3Y, or nothing");
    }
    Some(Upstream {
        authorize: authorize?,
        token: token?,
        auth_method,
        // As written: servers compare it character by character.
        redirect_uri: redirect_uri.and_then(|_| r.text("REDIRECT_URI")),
        redirect_uri_in_authorize,
        duration: Some(duration).filter(|d| !d.is_empty()),
    })
}

fn metering(r: &mut Reader<'_>, quota: QuotaSettings, attempt: Duration) -> Option<MeteringConfig> {
    let data = r.url("DATA_ENDPOINT", DATA, true);
    let mode = r.value("ENEDIS_API_MODE", "one of auto, new, legacy", ApiMode::Auto, ApiMode::parse);
    let cache_mb: u64 = r.number("METER_CACHE_MAX_MB", 1_024, 1..=1_000_000);
    let open_to_all = r.flag("DISABLE_DATA_ENDPOINT_AUTH") | r.flag("DISABLE_DATA_ENPOINT_AUTH");
    let days = consent_days(&r.text_or("DURATION", "P3Y")).unwrap_or(CONSENT_DAYS);
    Some(MeteringConfig {
        data: data?,
        open_to_all,
        relay: RelaySettings {
            mode,
            quota,
            attempt,
            cache_max_bytes: cache_mb << 20,
            memory_max_bytes: METER_MEMORY_BYTES,
        },
        consent_life: Duration::from_secs(days * 86_400),
    })
}

/// Whether every endpoint of Enedis is on this machine, where only a simulated one can be.
fn is_rehearsal(upstream: Option<&Upstream>, metering: Option<&MeteringConfig>) -> bool {
    let local = |url: &Url| url.host_str().is_some_and(is_this_machine);
    let endpoints = upstream.map(|upstream| local(&upstream.authorize) && local(&upstream.token));
    let data = metering.map(|metering| local(&metering.data));
    endpoints == Some(true) && data == Some(true)
}

fn is_duration(text: &str) -> bool {
    text.is_empty() || consent_days(text).is_some()
}

/// Days of an ISO 8601 duration; `None` if it is none, or not between a day and three years.
fn consent_days(text: &str) -> Option<u64> {
    let (mut days, mut number, mut last_unit) = (0, String::new(), None);
    for c in text.strip_prefix('P')?.chars() {
        // Units come in this order, each once.
        match ['Y', 'M', 'W', 'D'].iter().position(|unit| *unit == c) {
            None if c.is_ascii_digit() && number.len() < 4 => number.push(c),
            Some(at) if last_unit < Some(at) => {
                days += number.parse::<u64>().ok()? * [365, 30, 7, 1][at];
                last_unit = Some(at);
                number.clear();
            }
            _ => return None,
        }
    }
    // Three years, and the leap day in them.
    (number.is_empty() && last_unit.is_some() && (1..=1_096).contains(&days)).then_some(days)
}

fn admin_listen(r: &mut Reader<'_>) -> Option<SocketAddr> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
    r.value("ADMIN_LISTEN", "an address and port, or off", Some(default), |text| {
        if text.eq_ignore_ascii_case("off") { Some(None) } else { text.parse().ok().map(Some) }
    })
}

fn log(r: &mut Reader<'_>) -> LogConfig {
    let filter = r.text("RUST_LOG").unwrap_or_else(|| "info,actix_server=warn,actix_http=off".to_owned());
    if EnvFilter::try_new(&filter).is_err() {
        r.fault("RUST_LOG", "directives such as info or device_flow_proxy=debug,info");
    }
    LogConfig { filter, json: r.choice("LOG_FORMAT", false, &[("text", false), ("json", true)]) }
}

#[cfg(test)]
mod tests;
