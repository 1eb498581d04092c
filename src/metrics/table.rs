//! Every metric: a line each. Names are written whole, so that they are found; a unit stands at their end, and `_total` is
//! added to counters.

use actors::base::histogram::Bounds;
use actors::device_flow::registry::RegistrySnapshot;
use actors::device_flow::writer::WriterSnapshot;
use actors::enedis::exchanger::EndpointSnapshot;
use actors::metering::relay::{ApiSnapshot, RelaySnapshot};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;

use super::row::{By, Row, Sample, Value, counter, gauge, histogram};
use super::{ConsentEnd, DataEnd, Metrics, Observed, Route, StatusClass, process};

/// Reads a figure.
type Count<T> = fn(&T) -> u64;

/// Every metric.
pub(super) fn rows(counted: &Metrics, observed: &Observed) -> Vec<Row> {
    [
        of_server(observed),
        of_devices(counted, observed),
        of_store(observed),
        of_enedis(observed),
        of_data(counted, observed),
        process::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[rustfmt::skip]
fn of_server(observed: &Observed) -> Vec<Row> {
    let build = Row {
        name: "dfp_build",
        help: "The program that runs",
        kind: MetricType::Info,
        samples: vec![(vec![("version", env!("CARGO_PKG_VERSION"))], Value::Whole(1))],
    };
    let requests = Route::ALL.iter().flat_map(|route| StatusClass::ALL.map(|class| (*route, class)));
    // Those that have not been seen are left out, but for polls that went well.
    let requests = requests.map(|(route, class)| (route, class, observed.requests[route as usize][class as usize]));
    let requests = requests.filter(|(route, class, times)| times.count() > 0 || (*route as usize, *class as usize) == (0, 0));
    let labels = |route: Route, class: StatusClass| vec![("route", route.value()), ("code", class.value())];
    let requests: Vec<Sample> =
        requests.map(|(route, class, times)| (labels(route, class), Value::Lengths(&Bounds::OF_MACHINES, times))).collect();
    let skew = observed.clock.skew_ms.map_or(0, i64::unsigned_abs) as f64 / 1_000.0;
    vec![
        build,
        histogram("dfp_http_request_duration_seconds", "From a request's head to its answer's, by route and class of status", requests),
        gauge("dfp_instances", "Instances that share the store, this one included", u64::from(observed.instances)),
        gauge("dfp_draining", "1 while this instance says that it takes no work", u64::from(observed.draining)),
        gauge("dfp_requests_in_flight", "Requests being handled", observed.in_flight as u64),
        gauge("dfp_connections", "Connections of devices and people", observed.connections.open as u64),
        gauge("dfp_connections_max", "Of so many that there is room for", observed.connections.max as u64),
        counter("dfp_connections_refused", "Connections refused to one address", observed.connections.refused),
        counter("dfp_clock_jumps", "Jumps of the machine's clock", observed.clock.jumps),
        gauge("dfp_clock_reliable", "1 if the machine's clock has kept pace for two days", u64::from(observed.clock.is_reliable)),
        gauge("dfp_clock_skew_seconds", "Between the machine's clock and MongoDB's, either way; 0 with SQLite", [Value::Float(skew)]),
        gauge("dfp_audit_unwritten", "Lines of the audit record that the store has not taken", observed.audit_unwritten as u64),
    ]
}

#[rustfmt::skip]
fn of_devices(counted: &Metrics, observed: &Observed) -> Vec<Row> {
    let registry = |count: Count<RegistrySnapshot>| observed.registry.as_ref().map(count);
    let events: [(&str, Count<RegistrySnapshot>); 6] = [
        ("opened", |it| it.opened),
        ("confirmed", |it| it.confirmed),
        ("approved", |it| it.approved),
        ("denied", |it| it.denied),
        ("redeemed", |it| it.redeemed),
        ("repeated", |it| it.repeated),
    ];
    let events = observed.registry.iter().flat_map(|it| events.map(|(event, count)| (event, count(it)))).collect();
    let codes = [("issued", &counted.codes_issued), ("refused", &counted.codes_refused), ("limited", &counted.codes_limited)];
    let codes = codes.map(|(result, counter)| (result, counter.get())).to_vec();
    let polls = observed.polls.map(|(end, count)| (end.value(), count)).to_vec();
    let consents = ConsentEnd::ALL.map(|end| (end.value(), counted.consents[end as usize].get())).to_vec();
    let plain = |counter: &Counter| counter.get();
    vec![
        counter("dfp_device_codes", "Device codes issued, refused for want of room or store, and refused to one address", By("result", codes)),
        counter("dfp_polls", "Polls by answer", By("answer", polls)),
        gauge("dfp_poll_interval_seconds", "The interval that devices are told, by the load", observed.interval.as_secs()),
        counter("dfp_wrong_user_codes", "User codes that led nowhere", plain(&counted.wrong_codes)),
        counter("dfp_session_events", "Pages shown on which a code may be confirmed, codes confirmed in a browser, consents approved and denied, tokens delivered, and repeated", By("event", events)),
        histogram("dfp_time_to_consent_seconds", "From a device's question for a code to its owner's consent",
            observed.registry.as_ref().map(|it| Value::Lengths(&Bounds::OF_PEOPLE, it.time_to_consent))),
        counter("dfp_consents", "Returns from Enedis by end", By("end", consents)),
        counter("dfp_refreshes", "Refreshes answered with a token, or by Enedis", plain(&counted.refreshes)),
        counter("dfp_second_claims", "Claims by the v1 page of meters that a box holds", observed.second_claims),
        counter("dfp_doubled_grants", "Grants found to be used from two networks in turn", observed.doubled_grants),
        gauge("dfp_sessions", "Sessions in memory, tombstones included", registry(|it| it.sessions as u64)),
        gauge("dfp_paced_sessions", "Sessions whose pacing is remembered", registry(|it| it.throttler.paced as u64)),
        counter("dfp_sessions_reloaded", "Writes in doubt, read again", registry(|it| it.reloaded)),
    ]
}

#[rustfmt::skip]
fn of_store(observed: &Observed) -> Vec<Row> {
    let writer = |count: Count<WriterSnapshot>| observed.writer.as_ref().map(count);
    let operations = observed.store.operations.map(|(name, times)| (name, Value::Lengths(&Bounds::OF_MACHINES, times)));
    vec![
        histogram("dfp_store_operation_duration_seconds", "Operations of the store of sessions; a commit is a group of writes", By("operation", operations.to_vec())),
        counter("dfp_store_writes", "Writes sent to the store", observed.store.writes),
        counter("dfp_store_errors", "Store operations that failed", observed.store.errors),
        gauge("dfp_writer_queue", "Writes waiting for a group", writer(|it| it.queued as u64)),
        counter("dfp_sessions_purged", "Sessions deleted past their tombstone", writer(|it| it.purged)),
    ]
}

#[rustfmt::skip]
fn of_enedis(observed: &Observed) -> Vec<Row> {
    // Each API has a quota, a queue and a circuit breaker of its own; the data APIs have one queue.
    let endpoints = |count: Count<EndpointSnapshot>| {
        let apis = observed.exchanger.iter().flat_map(|it| [("token", &it.token), ("services", &it.services), ("contracts", &it.contracts)]);
        apis.map(|(api, snapshot)| (api, count(snapshot))).collect::<Vec<_>>()
    };
    let with_data = |count: Count<EndpointSnapshot>, data: Count<ApiSnapshot>| {
        let apis = observed.relay.iter().flat_map(|it| ["data_new", "data_legacy"].into_iter().zip(&it.apis));
        let data = apis.map(|(api, snapshot)| (api, data(snapshot)));
        By("api", endpoints(count).into_iter().chain(data).collect())
    };
    let with_relay = |count: Count<EndpointSnapshot>, data: Count<RelaySnapshot>| {
        By("api", endpoints(count).into_iter().chain(observed.relay.iter().map(|it| ("data", data(it)))).collect())
    };
    let only = |count| By("api", endpoints(count));
    let calls = observed.calls.iter().map(|([api, result], times)| (vec![("api", *api), ("result", *result)], Value::Lengths(&Bounds::OF_MACHINES, *times)));
    vec![
        histogram("dfp_enedis_call_duration_seconds", "Calls sent to Enedis, by what came of them", calls.collect::<Vec<Sample>>()),
        gauge("dfp_enedis_queue", "Calls waiting for their turn", with_relay(|it| it.queued as u64, |it| it.queued as u64)),
        gauge("dfp_enedis_in_flight", "Calls under way", with_relay(|it| it.in_flight as u64, |it| it.in_flight as u64)),
        gauge("dfp_enedis_breaker_open", "1 while calls to this API are held back", with_data(|it| it.allowance.breaker_open.into(), |it| it.allowance.breaker_open.into())),
        gauge("dfp_enedis_used_this_hour", "Calls to this API in the current clock hour", with_data(|it| it.allowance.used_this_hour.into(), |it| it.allowance.used_this_hour.into())),
        gauge("dfp_enedis_calls_per_hour", "Of so many that each takes (ENEDIS_CALLS_PER_HOUR)", u64::from(observed.calls_per_hour)),
        counter("dfp_enedis_retries", "Calls sent again", only(|it| it.retries)),
        counter("dfp_enedis_unwanted", "Calls not sent because nobody waited any more", only(|it| it.unwanted)),
        counter("dfp_enedis_client_rejected", "Calls in which Enedis did not accept our client", only(|it| it.client_rejected)),
        counter("dfp_enedis_not_done", "Calls given up or refused", only(|it| it.not_done)),
    ]
}

#[rustfmt::skip]
fn of_data(counted: &Metrics, observed: &Observed) -> Vec<Row> {
    let relay = |count: Count<RelaySnapshot>| observed.relay.as_ref().map(count);
    let days = observed.relay.iter().flat_map(|it| ["memory", "call", "refusal"].into_iter().zip(it.days)).collect();
    let spared = observed.relay.iter().flat_map(|it| [("memory", it.from_memory), ("earlier_call", it.shared)]).collect();
    let answers = DataEnd::ALL.map(|end| (end.value(), counted.data[end as usize].get())).to_vec();
    vec![
        counter("dfp_data_answers", "Questions for metering data by answer", By("answer", answers)),
        counter("dfp_data_calls_spared", "Questions answered out of memory, and calls shared with an earlier question", By("by", spared)),
        gauge("dfp_data_waiting", "Questions for metering data that wait for Enedis", relay(|it| it.waiting as u64)),
        gauge("dfp_data_memory_entries", "Values of the meter cache in memory", relay(|it| it.remembered as u64)),
        gauge("dfp_data_memory_bytes", "Bytes they take", relay(|it| it.memory_bytes as u64)),
        gauge("dfp_prefetch_active", "Resources of meters that boxes ask for, which the server asks for by itself", relay(|it| it.active as u64)),
        gauge("dfp_prefetch_lacking", "Of them, those that lack the day that is wanted", relay(|it| it.lacking as u64)),
        counter("dfp_prefetch_calls", "Questions to Enedis that the server asked by itself", relay(|it| it.prefetches)),
        counter("dfp_prefetch_days", "Days of them, by how their boxes first heard of each", By("by", days)),
    ]
}
