//! Counters, gauges and histograms for `/metrics`, in the `OpenMetrics` text format or that of Prometheus.
//!
//! Requests count themselves in [`Metrics`]; everything else is [`Observed`] of the actors when somebody scrapes. Each
//! metric is a line of `table`, with its name and help. Knows nothing of HTTP: the HTTP side says by the enums below how
//! something ended.

mod process;
mod row;
mod table;

use std::time::Duration;

use actors::base::clock::machine::ClockSnapshot;
use actors::base::grant_issuer::NotIssued;
use actors::base::histogram::Distribution;
use actors::device_flow::consent::ConsentOutcome;
use actors::device_flow::registry::RegistrySnapshot;
use actors::device_flow::writer::WriterSnapshot;
use actors::enedis::exchanger::ExchangerSnapshot;
use actors::metering::relay::RelaySnapshot;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use self::row::Scrape;
use crate::store::StoreCounts;

/// Declares an enum whose variants are the values of a label.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is named as its value is")]
        pub enum $name {
            $($variant,)+
        }

        impl $name {
            /// Every one, in the order of its number.
            pub const ALL: [Self; [$($value),+].len()] = [$(Self::$variant),+];

            /// The value of the label.
            pub const fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

label_values! {
    /// How a poll was answered: with an answer of RFC 8628 section 3.5, with a refusal of the request, the client or the
    /// code (`invalid`), or with trouble of ours.
    PollEnd {
        Token = "token",
        Pending = "authorization_pending",
        SlowDown = "slow_down",
        Denied = "access_denied",
        Expired = "expired_token",
        Invalid = "invalid",
        Unavailable = "temporarily_unavailable",
    }
}

label_values! {
    /// How a question for metering data was answered.
    DataEnd {
        Values = "values",
        EnedisError = "enedis_error",
        ConsentGone = "consent_gone",
        InvalidToken = "invalid_token",
        Refused = "refused",
        Busy = "busy",
        Unavailable = "temporarily_unavailable",
    }
}

label_values! {
    /// How a person's return from Enedis ended.
    ConsentEnd {
        Approved = "approved",
        Denied = "denied",
        Refused = "refused",
        EnedisTrouble = "enedis_trouble",
        StoreTrouble = "store_trouble",
    }
}

impl From<&ConsentOutcome> for ConsentEnd {
    fn from(outcome: &ConsentOutcome) -> Self {
        match outcome {
            ConsentOutcome::Approved => Self::Approved,
            ConsentOutcome::Denied => Self::Denied,
            ConsentOutcome::Unknown
            | ConsentOutcome::OtherBrowser
            | ConsentOutcome::InProgress
            | ConsentOutcome::NotIssued(NotIssued::Foreign | NotIssued::AlreadyLinked)
            | ConsentOutcome::Presented => Self::Refused,
            ConsentOutcome::NotIssued(NotIssued::Unavailable) => Self::StoreTrouble,
            ConsentOutcome::NotIssued(_)
            | ConsentOutcome::Lost
            | ConsentOutcome::Rejected { .. }
            | ConsentOutcome::Garbled => Self::EnedisTrouble,
        }
    }
}

label_values! {
    /// What is asked of the server, by its path.
    Route {
        Token = "/device/token",
        Code = "/device/code",
        Refresh = "/device/proxy",
        Revoke = "/device/revoke",
        Data = "/data/proxy",
        Device = "/device",
        Verify = "/auth/verify_code",
        Redirect = "/auth/redirect",
        Status = "/status",
        StatusJson = "/status.json",
        Live = "/health/live",
        Ready = "/health/ready",
        Other = "other",
    }
}

label_values! {
    /// The class of an answer's status.
    StatusClass {
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
    }
}

/// How long requests took, of each route and class of status.
pub type RequestTimes = [[Distribution; StatusClass::ALL.len()]; Route::ALL.len()];

/// Polls by answer.
pub type PollCounts = [(PollEnd, u64); PollEnd::ALL.len()];

/// What requests count. Every counter starts at zero with the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Device codes issued.
    pub codes_issued: Counter,
    /// Device codes refused for want of room or of a store.
    pub codes_refused: Counter,
    /// Device codes refused to an address that asks too often.
    pub codes_limited: Counter,
    /// User codes that led nowhere.
    pub wrong_codes: Counter,
    /// Refreshes answered with a token, or by Enedis.
    pub refreshes: Counter,
    consents: [Counter; ConsentEnd::ALL.len()],
    data: [Counter; DataEnd::ALL.len()],
}

impl Metrics {
    /// Counts the answer to a question for metering data.
    pub fn data(&self, end: DataEnd) {
        self.data[end as usize].inc();
    }

    /// Counts how a person's return from Enedis ended.
    pub fn consent(&self, end: ConsentEnd) {
        self.consents[end as usize].inc();
    }
}

/// Connections of devices and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// How many are open.
    pub open: usize,
    /// How many may be.
    pub max: usize,
    /// How many were refused to networks that have their share.
    pub refused: u64,
}

/// What the rest of the server says of itself when somebody scrapes.
#[derive(Debug)]
pub struct Observed {
    /// Requests being handled.
    pub in_flight: usize,
    /// Whether this instance is about to go, or its operator says that it takes no work.
    pub draining: bool,
    /// Instances that share the store, this one included.
    pub instances: u32,
    /// Connections.
    pub connections: ConnectionCounts,
    /// Polls since the start.
    pub polls: PollCounts,
    /// How long requests took.
    pub requests: RequestTimes,
    /// How long calls to Enedis took, by API and result.
    pub calls: Vec<([&'static str; 2], Distribution)>,
    /// Calls that each of Enedis' APIs takes in a clock hour.
    pub calls_per_hour: u32,
    /// The interval that devices are told.
    pub interval: Duration,
    /// The store.
    pub store: StoreCounts,
    /// The clock.
    pub clock: ClockSnapshot,
    /// The registry, if it answers.
    pub registry: Option<RegistrySnapshot>,
    /// The store's writer, if it answers.
    pub writer: Option<WriterSnapshot>,
    /// The calls to Enedis' authorization server, if their actor answers.
    pub exchanger: Option<ExchangerSnapshot>,
    /// Metering data, if it is relayed.
    pub relay: Option<RelaySnapshot>,
    /// Grants that were found to be used from two networks in turn, where tokens are ours.
    pub doubled_grants: Option<u64>,
    /// Lines of the audit record that the store has not taken.
    pub audit_unwritten: usize,
    /// Claims of meters that a box holds, by the v1 page, where tokens are ours.
    pub second_claims: Option<u64>,
}

/// The formats of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// That of Prometheus, version 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// What it is called as a `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything, as text.
pub fn render(counted: &Metrics, observed: &Observed, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(table::rows(counted, observed))));
    let mut told = String::new();
    // Writing to a string cannot fail.
    let _ = match format {
        Format::Prometheus => prometheus_text::encode(&mut told, &registry),
        Format::OpenMetrics => text::encode(&mut told, &registry),
    };
    told
}
