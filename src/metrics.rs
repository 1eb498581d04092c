//! Counters and gauges for `/metrics`, in the `OpenMetrics` text format.
//!
//! Requests count themselves in [`Metrics`]; everything else is [`Observed`] of the actors when somebody scrapes. Each
//! metric is a line of `rows`, with its name and help. Knows nothing of HTTP: the HTTP side says by the enums below how
//! something ended.

use std::time::Duration;

use actors::base::clock::machine::ClockSnapshot;
use actors::base::grant_issuer::NotIssued;
use actors::device_flow::consent::ConsentOutcome;
use actors::device_flow::registry::RegistrySnapshot;
use actors::device_flow::writer::WriterSnapshot;
use actors::enedis::exchanger::{EndpointSnapshot, ExchangerSnapshot};
use actors::metering::relay::{ApiSnapshot, RelaySnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::store::StoreCounts;

/// Before every name.
const PREFIX: &str = "dfp";

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

            const fn value(self) -> &'static str {
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
    /// Connections.
    pub connections: ConnectionCounts,
    /// Polls since the start.
    pub polls: PollCounts,
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

/// One metric.
#[derive(Debug)]
struct Row {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    /// `None`: the actor that knows it does not answer.
    One(Option<u64>),
    /// Told apart by a label of this name.
    By(&'static str, Vec<(&'static str, u64)>),
}

fn gauge(name: &'static str, help: &'static str, samples: Samples) -> Row {
    Row { name, help, kind: MetricType::Gauge, samples }
}

fn counter(name: &'static str, help: &'static str, samples: Samples) -> Row {
    Row { name, help, kind: MetricType::Counter, samples }
}

/// Every metric.
#[rustfmt::skip]
fn rows(counted: &Metrics, observed: &Observed) -> Vec<Row> {
    let store = |count: fn(&StoreCounts) -> u64| Samples::One(Some(count(&observed.store)));
    let registry = |count: fn(&RegistrySnapshot) -> u64| Samples::One(observed.registry.as_ref().map(count));
    let writer = |count: fn(&WriterSnapshot) -> u64| Samples::One(observed.writer.as_ref().map(count));
    let relay = |count: fn(&RelaySnapshot) -> u64| Samples::One(observed.relay.as_ref().map(count));
    // Each API has a quota, a queue and a circuit breaker of its own.
    let enedis = |count: fn(&EndpointSnapshot) -> u64| {
        let apis = observed.exchanger.iter().flat_map(|it| [("token", &it.token), ("services", &it.services), ("contracts", &it.contracts)]);
        Samples::By("api", apis.map(|(api, snapshot)| (api, count(snapshot))).collect())
    };
    let data = |count: fn(&ApiSnapshot) -> u64| {
        let apis = observed.relay.iter().flat_map(|it| ["new", "legacy"].into_iter().zip(&it.apis));
        Samples::By("api", apis.map(|(api, snapshot)| (api, count(snapshot))).collect())
    };
    let days = observed.relay.iter().flat_map(|it| ["memory", "call", "refusal"].into_iter().zip(it.days)).collect();
    let plain = |counter: &Counter| Samples::One(Some(counter.get()));
    let polls = observed.polls.map(|(end, count)| (end.value(), count)).to_vec();
    let consents = ConsentEnd::ALL.map(|end| (end.value(), counted.consents[end as usize].get())).to_vec();
    let data_answers = DataEnd::ALL.map(|end| (end.value(), counted.data[end as usize].get())).to_vec();
    vec![
        gauge("requests_in_flight", "Requests being handled", Samples::One(Some(observed.in_flight as u64))),
        gauge("connections", "Connections of devices and people", Samples::One(Some(observed.connections.open as u64))),
        gauge("connections_max", "Of so many that there is room for", Samples::One(Some(observed.connections.max as u64))),
        counter("connections_refused", "Connections refused to one address", Samples::One(Some(observed.connections.refused))),
        counter("polls", "Polls by answer", Samples::By("answer", polls)),
        gauge("poll_interval_seconds", "The interval that devices are told, by the load", Samples::One(Some(observed.interval.as_secs()))),
        counter("device_codes_issued", "Device codes issued", plain(&counted.codes_issued)),
        counter("device_codes_refused", "Device codes refused for want of room or store", plain(&counted.codes_refused)),
        counter("device_codes_limited", "Device codes refused to one address", plain(&counted.codes_limited)),
        counter("wrong_user_codes", "User codes that led nowhere", plain(&counted.wrong_codes)),
        counter("refreshes", "Refreshes answered with a token, or by Enedis", plain(&counted.refreshes)),
        counter("consents", "Returns from Enedis by end", Samples::By("end", consents)),
        counter("second_claims", "Claims by the v1 page of meters that a box holds", Samples::One(observed.second_claims)),
        counter("doubled_grants", "Grants found to be used from two networks in turn", Samples::One(observed.doubled_grants)),
        counter("data_answers", "Questions for metering data by answer", Samples::By("answer", data_answers)),

        counter("store_groups", "Groups of writes sent to the store", store(|it| it.commits)),
        counter("store_writes", "Writes sent to the store", store(|it| it.writes)),
        counter("store_finds", "Sessions looked up in the store", store(|it| it.finds)),
        counter("store_errors", "Store operations that failed", store(|it| it.errors)),

        counter("clock_jumps", "Jumps of the machine's clock", Samples::One(Some(observed.clock.jumps))),
        gauge("clock_reliable", "1 if the machine's clock has kept pace for two days", Samples::One(Some(observed.clock.is_reliable.into()))),
        gauge("clock_skew_ms", "Between the machine's clock and MongoDB's, either way; 0 with SQLite", Samples::One(Some(observed.clock.skew_ms.map_or(0, i64::unsigned_abs)))),

        gauge("sessions", "Sessions in memory, tombstones included", registry(|it| it.sessions as u64)),
        gauge("paced_sessions", "Sessions whose pacing is remembered", registry(|it| it.throttler.paced as u64)),
        counter("sessions_confirmed", "Codes confirmed in a browser", registry(|it| it.confirmed)),
        counter("sessions_approved", "Consents that brought a token", registry(|it| it.approved)),
        counter("sessions_denied", "Consents refused by the person", registry(|it| it.denied)),
        counter("sessions_redeemed", "Tokens delivered for the first time", registry(|it| it.redeemed)),
        counter("tokens_repeated", "Token answers repeated", registry(|it| it.repeated)),
        counter("sessions_reloaded", "Writes in doubt, read again", registry(|it| it.reloaded)),

        gauge("audit_unwritten", "Lines of the audit record that the store has not taken", Samples::One(Some(observed.audit_unwritten as u64))),
        gauge("writer_queue", "Writes waiting for a group", writer(|it| it.queued as u64)),
        counter("sessions_purged", "Sessions deleted past their tombstone", writer(|it| it.purged)),

        gauge("enedis_queue", "Calls for tokens and meters waiting", enedis(|it| it.queued as u64)),
        gauge("enedis_in_flight", "Calls for tokens and meters under way", enedis(|it| it.in_flight as u64)),
        gauge("enedis_breaker_open", "1 while calls to this API are held back", enedis(|it| it.allowance.breaker_open.into())),
        gauge("enedis_used_this_hour", "Calls to this API in the current clock hour", enedis(|it| it.allowance.used_this_hour.into())),
        counter("enedis_attempts", "Calls sent to this API", enedis(|it| it.attempts)),
        counter("enedis_retries", "Calls sent again", enedis(|it| it.retries)),
        counter("enedis_lost", "Calls whose fate is unknown", enedis(|it| it.lost)),
        counter("enedis_unwanted", "Calls not sent because nobody waited any more", enedis(|it| it.unwanted)),
        counter("enedis_client_rejected", "Calls in which Enedis did not accept our client", enedis(|it| it.client_rejected)),
        counter("enedis_not_done", "Calls given up or refused", enedis(|it| it.not_done)),

        gauge("prefetch_active", "Resources of meters that boxes ask for, which the server asks for by itself", relay(|it| it.active as u64)),
        gauge("prefetch_lacking", "Of them, those that lack the day that is wanted", relay(|it| it.lacking as u64)),
        counter("prefetch_calls", "Questions to Enedis that the server asked by itself", relay(|it| it.prefetches)),
        counter("prefetch_days", "Days of them, by how their boxes first heard of each", Samples::By("by", days)),
        gauge("data_waiting", "Questions for metering data that wait for Enedis", relay(|it| it.waiting as u64)),
        gauge("data_queue", "Data calls waiting for their turn", relay(|it| it.queued as u64)),
        gauge("data_in_flight", "Data calls under way", relay(|it| it.in_flight as u64)),
        gauge("data_memory_entries", "Values of the meter cache in memory", relay(|it| it.remembered as u64)),
        gauge("data_memory_bytes", "Bytes they take", relay(|it| it.memory_bytes as u64)),
        counter("data_from_memory", "Questions for metering data that took no call", relay(|it| it.from_memory)),
        counter("data_shared_calls", "Calls shared with an earlier question", relay(|it| it.shared)),
        gauge("data_breaker_open", "1 while calls to this data API are held back", data(|it| it.allowance.breaker_open.into())),
        gauge("data_used_this_hour", "Calls to this data API in the current clock hour", data(|it| it.allowance.used_this_hour.into())),
        counter("data_calls", "Calls to this data API", data(|it| it.calls)),
        counter("data_failed", "Of them, those its gateway did not deal with", data(|it| it.failed)),
    ]
}

/// What is written of a scrape.
#[derive(Debug)]
struct Scrape(Vec<Row>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for &Row { name, help, kind, ref samples } in &self.0 {
            let put = |mut encoder: MetricEncoder<'_>, value: u64| match kind {
                MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
                _ => encoder.encode_gauge(&value),
            };
            match samples {
                Samples::One(None) => {}
                Samples::By(_, samples) if samples.is_empty() => {}
                Samples::One(Some(value)) => put(encoder.encode_descriptor(name, help, None, kind)?, *value)?,
                Samples::By(label, samples) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
                    for (key, value) in samples {
                        put(metric.encode_family(&[(*label, *key)])?, *value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Everything, as text.
pub fn render(counted: &Metrics, observed: &Observed) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(rows(counted, observed))));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
