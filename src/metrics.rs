//! Counters and gauges for `/metrics`, in the `OpenMetrics` text format.
//!
//! Requests count themselves here; everything else is read from the actors when somebody scrapes.

use actors::device_flow::consent::ConsentOutcome;
use actors::device_flow::registry::RegistrySnapshot;
use actors::device_flow::writer::WriterSnapshot;
use actors::enedis::exchanger::{ExchangerSnapshot, LaneSnapshot};
use actors::metering::relay::{ApiSnapshot, RelaySnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::http::error::ApiError;
use crate::store::StoreCounts;

/// How a poll was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the answers of RFC 8628 section 3.5, and what comes before them")]
pub enum PollEnd {
    Token,
    Pending,
    SlowDown,
    Denied,
    Expired,
    /// The request, the client or the code was refused.
    Invalid,
    /// Our trouble.
    Unavailable,
}

/// Polls by answer.
pub type PollCounts = [(PollEnd, u64); PollEnd::ALL.len()];

// The last one's number, so that none can be forgotten in the list.
const _: () = assert!(PollEnd::Unavailable as usize + 1 == PollEnd::ALL.len());

impl PollEnd {
    /// Every one, in the order of its number.
    pub const ALL: [Self; 7] = [
        Self::Token,
        Self::Pending,
        Self::SlowDown,
        Self::Denied,
        Self::Expired,
        Self::Invalid,
        Self::Unavailable,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Pending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::Denied => "access_denied",
            Self::Expired => "expired_token",
            Self::Invalid => "invalid",
            Self::Unavailable => "temporarily_unavailable",
        }
    }
}

/// What the rest of the server says of itself when somebody scrapes.
#[derive(Debug)]
pub struct Observed {
    /// Requests being handled.
    pub in_flight: usize,
    /// Polls since the start.
    pub polls: PollCounts,
    /// The store.
    pub store: StoreCounts,
    /// The registry, if it answers.
    pub registry: Option<RegistrySnapshot>,
    /// The store's writer, if it answers.
    pub writer: Option<WriterSnapshot>,
    /// The door to Enedis, if it answers.
    pub exchanger: Option<ExchangerSnapshot>,
    /// Metering data, if it is relayed.
    pub relay: Option<RelaySnapshot>,
}

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
    consents: Consents,
    data: DataAnswers,
}

#[derive(Debug, Default)]
struct DataAnswers {
    values: Counter,
    enedis: Counter,
    consent_gone: Counter,
    invalid_token: Counter,
    refused: Counter,
    busy: Counter,
    unavailable: Counter,
}

#[derive(Debug, Default)]
struct Consents {
    approved: Counter,
    denied: Counter,
    refused: Counter,
    enedis: Counter,
    unavailable: Counter,
}

impl Metrics {
    /// Counts the answer to a question for metering data.
    pub fn data(&self, answer: Result<(), &ApiError>) {
        let data = &self.data;
        let counter = match answer {
            Ok(()) => &data.values,
            Err(ApiError::Data(error)) if error.status == 403 => &data.consent_gone,
            Err(ApiError::Data(_)) => &data.enedis,
            Err(ApiError::InvalidToken) => &data.invalid_token,
            Err(ApiError::EnedisBusy { .. }) => &data.busy,
            Err(ApiError::Unavailable { .. }) => &data.unavailable,
            Err(_) => &data.refused,
        };
        counter.inc();
    }

    /// Counts how a person's return from Enedis ended.
    pub fn consent(&self, outcome: &ConsentOutcome) {
        let consents = &self.consents;
        let counter = match outcome {
            ConsentOutcome::Approved => &consents.approved,
            ConsentOutcome::Denied => &consents.denied,
            ConsentOutcome::Unknown
            | ConsentOutcome::OtherBrowser
            | ConsentOutcome::InProgress
            | ConsentOutcome::Foreign
            | ConsentOutcome::AlreadyLinked
            | ConsentOutcome::Presented => &consents.refused,
            ConsentOutcome::Busy { .. }
            | ConsentOutcome::Down { .. }
            | ConsentOutcome::Lost
            | ConsentOutcome::Rejected { .. }
            | ConsentOutcome::NotListed
            | ConsentOutcome::Garbled => &consents.enedis,
            ConsentOutcome::Unavailable => &consents.unavailable,
        };
        counter.inc();
    }
}

/// Everything, as text.
pub fn render(metrics: &Metrics, observed: Observed) -> String {
    let mut registry = Registry::with_prefix("dfp");
    let plain = [
        ("device_codes_issued", "Device codes issued", &metrics.codes_issued),
        ("device_codes_refused", "Device codes refused for want of room or store", &metrics.codes_refused),
        ("device_codes_limited", "Device codes refused to one address", &metrics.codes_limited),
        ("wrong_user_codes", "User codes that led nowhere", &metrics.wrong_codes),
        ("refreshes", "Refreshes answered with a token, or by Enedis", &metrics.refreshes),
    ];
    for (name, help, counter) in plain {
        registry.register(name, help, counter.clone());
    }
    let (consents, data) = (&metrics.consents, &metrics.data);
    registry.register_collector(Box::new(Labelled {
        name: "polls",
        help: "Polls by answer",
        label: "answer",
        counts: observed.polls.map(|(end, count)| (end.label(), count)).to_vec(),
    }));
    registry.register_collector(Box::new(Labelled {
        name: "consents",
        help: "Returns from Enedis by end",
        label: "end",
        counts: [
            ("approved", &consents.approved),
            ("denied", &consents.denied),
            ("refused", &consents.refused),
            ("enedis_trouble", &consents.enedis),
            ("store_trouble", &consents.unavailable),
        ]
        .map(counted)
        .to_vec(),
    }));
    registry.register_collector(Box::new(Labelled {
        name: "data_answers",
        help: "Questions for metering data by answer",
        label: "answer",
        counts: [
            ("values", &data.values),
            ("enedis_error", &data.enedis),
            ("consent_gone", &data.consent_gone),
            ("invalid_token", &data.invalid_token),
            ("refused", &data.refused),
            ("busy", &data.busy),
            ("temporarily_unavailable", &data.unavailable),
        ]
        .map(counted)
        .to_vec(),
    }));
    registry.register_collector(Box::new(observed));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

fn counted((value, counter): (&'static str, &Counter)) -> (&'static str, u64) {
    (value, counter.get())
}

/// Counters told apart by one label.
#[derive(Debug)]
struct Labelled {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    counts: Vec<(&'static str, u64)>,
}

impl Collector for Labelled {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        for (value, count) in &self.counts {
            ConstCounter::new(*count).encode(metric.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: usize| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        gauge("requests_in_flight", "Requests being handled", self.in_flight)?;
        if let Some(registry) = &self.registry {
            gauge("sessions", "Sessions in memory, tombstones included", registry.sessions)?;
            gauge("paced_sessions", "Sessions whose pacing is remembered", registry.throttler.paced)?;
        }
        if let Some(writer) = &self.writer {
            gauge("writer_queue", "Writes waiting for a group", writer.queued)?;
        }
        if let Some(exchanger) = &self.exchanger {
            let LaneSnapshot { queued, in_flight, used_this_hour, breaker_open, .. } = exchanger.token;
            gauge("enedis_queue", "Token calls waiting", queued)?;
            gauge("enedis_in_flight", "Token calls under way", in_flight)?;
            gauge("enedis_breaker_open", "1 while token calls to Enedis are held back", breaker_open.into())?;
            gauge("enedis_used_this_hour", "Token calls in the current clock hour", used_this_hour as usize)?;
        }
        if let Some(relay) = &self.relay {
            gauge("data_waiting", "Questions for metering data that wait for Enedis", relay.waiting)?;
            gauge("data_queue", "Data calls waiting for their turn", relay.queued)?;
            gauge("data_in_flight", "Data calls under way", relay.in_flight)?;
            gauge("data_memory_entries", "Values of the meter cache in memory", relay.remembered)?;
            gauge("data_memory_bytes", "Bytes they take", relay.memory_bytes)?;
            for (api, name) in [(&relay.new, "new"), (&relay.legacy, "legacy")] {
                let ApiSnapshot { used_this_hour, breaker_open, .. } = api;
                let open = format!("data_{name}_breaker_open");
                gauge(&open, "1 while calls to this data API are held back", (*breaker_open).into())?;
                let used = format!("data_{name}_used_this_hour");
                gauge(&used, "Calls to this data API in the current clock hour", *used_this_hour as usize)?;
            }
        }
        let mut counter = |name: &str, help: &str, value: u64| {
            let value = ConstCounter::new(value);
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        let store = &self.store;
        counter("store_groups", "Groups of writes sent to the store", store.commits)?;
        counter("store_writes", "Writes sent to the store", store.writes)?;
        counter("store_finds", "Sessions looked up in the store", store.finds)?;
        counter("store_errors", "Store operations that failed", store.errors)?;
        if let Some(registry) = &self.registry {
            counter("sessions_confirmed", "Codes confirmed in a browser", registry.confirmed)?;
            counter("sessions_approved", "Consents that brought a token", registry.approved)?;
            counter("sessions_denied", "Consents refused by the person", registry.denied)?;
            counter("sessions_redeemed", "Tokens delivered for the first time", registry.redeemed)?;
            counter("tokens_repeated", "Token answers repeated", registry.repeated)?;
            counter("sessions_reloaded", "Writes in doubt, read again", registry.reloaded)?;
        }
        if let Some(writer) = &self.writer {
            counter("sessions_purged", "Sessions deleted past their tombstone", writer.purged)?;
        }
        if let Some(exchanger) = &self.exchanger {
            let LaneSnapshot { attempts, retries, lost, not_done, .. } = exchanger.token;
            counter("enedis_attempts", "Token calls sent to Enedis", attempts)?;
            counter("enedis_retries", "Token calls sent again", retries)?;
            counter("enedis_lost", "Token calls whose fate is unknown", lost)?;
            counter("enedis_not_done", "Token calls given up or refused", not_done)?;
            let asked = exchanger.services.attempts;
            counter(
                "enedis_services_attempts",
                "Questions for the meter of a consent sent to Enedis",
                asked,
            )?;
        }
        if let Some(relay) = &self.relay {
            counter("data_from_memory", "Questions for metering data that took no call", relay.from_memory)?;
            counter("data_shared_calls", "Calls shared with an earlier question", relay.shared)?;
            counter("data_new_calls", "Calls to the data API of 2026", relay.new.calls)?;
            counter("data_new_failed", "Of them, those its gateway did not deal with", relay.new.failed)?;
            counter("data_legacy_calls", "Calls to the v5 data API", relay.legacy.calls)?;
            counter(
                "data_legacy_failed",
                "Of them, those its gateway did not deal with",
                relay.legacy.failed,
            )?;
        }
        Ok(())
    }
}
