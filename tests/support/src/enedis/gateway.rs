//! Owns the gateway in front of the data and subscription services: it records and counts every request, then asks,
//! in this order, for a live token of the application, a subscription to the API, room in the quota, and the right
//! content type.

use std::collections::hash_map::Entry;
use std::time::Instant;

use serde_json::Value;

use super::counts::{Api, Resource};
use super::quota::Meter;
use super::seen::ApiRequest;
use super::wire::{Page, respond, scripted};
use super::{Endpoint, Fault, SERVICES_PATH, Shared, mesure, services, v5};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Data(Api, Resource),
    Services,
}

impl Target {
    /// The service behind `method` and `path`; the list of services is answered with and without a slash at the end.
    pub(super) fn at(method: &str, path: &str) -> Option<Self> {
        if method == "POST" && path.trim_end_matches('/') == SERVICES_PATH.trim_end_matches('/') {
            return Some(Self::Services);
        }
        let (api, resource) = Resource::at(path).filter(|_| method == "GET")?;
        Some(Self::Data(api, resource))
    }

    pub(super) fn api(self) -> Api {
        match self {
            Self::Data(api, _) => api,
            Self::Services => Api::SubscribedServices,
        }
    }

    pub(super) fn endpoint(self) -> Endpoint {
        match self.api() {
            Api::DataV5 => Endpoint::DataV5,
            Api::Data2026 => Endpoint::Data2026,
            Api::SubscribedServices => Endpoint::SubscribedServices,
            Api::Token => Endpoint::Token,
        }
    }
}

/// Records and counts `request`; the number is for [`answer`].
pub(super) fn arrive(shared: &Shared, target: Target, request: ApiRequest) -> usize {
    let mut book = shared.book();
    *book.counts.requests.entry(target.api()).or_default() += 1;
    let now = book.now();
    let (second, hour) = book.busy.entry(target.api()).or_default().count(&shared.options.quota, now);
    book.counts.note_rate(target.api(), second, hour);
    if let Target::Data(api, resource) = target {
        let name = if api == Api::DataV5 { "usage_point_id" } else { "pointId" };
        let point = request.param(name).unwrap_or_default().to_owned();
        *book.counts.per_meter.entry((api, point, resource)).or_default() += 1;
    }
    book.seen.api_requests.push(request);
    book.seen.api_requests.len() - 1
}

/// Answers the recorded request number `index`.
pub(super) fn answer(shared: &Shared, target: Target, index: usize) -> Page {
    let page = match pass(shared, target, index) {
        Ok((status, body)) => {
            let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
            respond(status, &headers, body.to_string())
        }
        Err(Fault::Status { code, headers, body }) => scripted(code, &headers, body),
        Err(_) => unreachable!("the gateway refuses with a status"),
    };
    let mut book = shared.book();
    let status = page.status().as_u16();
    if status == 200 {
        *book.counts.served.entry(target.api()).or_default() += 1;
    }
    book.seen.api_requests[index].status = Some(status);
    page
}

fn pass(shared: &Shared, target: Target, index: usize) -> Result<(u16, Value), Fault> {
    let (options, mut book) = (&shared.options, shared.book());
    let book = &mut *book;
    let request = book.seen.api_requests[index].clone();
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if !token.is_some_and(|token| book.is_application_token(token, options.token_lifetime)) {
        return Err(Fault::invalid_credentials());
    }
    if book.unsubscribed.contains(&target.api()) {
        return Err(Fault::not_subscribed());
    }
    let now = book.now();
    let meter: &mut Meter = match book.quotas.entry(target.api()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Meter::default()),
    };
    if let Err(until) = meter.take(&options.quota, now) {
        *book.counts.throttled.entry(target.api()).or_default() += 1;
        return Err(options.quota.refusal(until));
    }
    let json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    Ok(match target {
        Target::Services => services::answer(options, book, &request),
        Target::Data(Api::DataV5, _) if options.json_content_type && !json => v5::technical_error(),
        Target::Data(_, _) if options.json_content_type && !json => mesure::technical_error(),
        Target::Data(Api::DataV5, resource) => v5::answer(options, book, resource, &request),
        Target::Data(_, resource) => mesure::answer(options, book, resource, &request),
    })
}

/// A request as it came in.
pub(super) fn request(
    at: Instant,
    target: Target,
    path: &str,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: &[u8],
) -> ApiRequest {
    let (path, body) = (path.to_owned(), String::from_utf8_lossy(body).into_owned());
    ApiRequest { at, api: target.api(), path, query, headers, body, status: None }
}
