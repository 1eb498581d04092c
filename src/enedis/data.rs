//! The data APIs, v5 and 2026 (Enedis' swagger `mesure_synchrone_auto_v2`).

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actors::base::clock::SharedClock;
use actors::enedis::port::{Answer, CallError, MeterCall, ResourceServer};
use awc::Client;
use futures_util::future::LocalBoxFuture;
use url::Url;

use super::{address, client, receive};

/// Largest answer read. A week of a load curve in steps of five minutes has some 250 KB.
const BODY_MAX: usize = 2 * 1024 * 1024;

/// The resource server.
pub struct EnedisData {
    client: Client,
    endpoint: Url,
    clock: SharedClock,
}

impl EnedisData {
    /// Made on the thread where it stays.
    pub fn new(endpoint: Url, clock: SharedClock, attempt: Duration) -> Rc<Self> {
        Rc::new(Self { client: client(attempt), endpoint, clock })
    }
}

impl ResourceServer for EnedisData {
    fn get(&self, call: MeterCall, limit: Duration) -> LocalBoxFuture<'static, Result<Answer, CallError>> {
        // Names and values are plain ASCII, so that nothing needs escaping.
        let query: Vec<String> =
            call.query.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self
            .client
            .get(format!("{}?{}", address(&self.endpoint, call.query.path), query.join("&")))
            .force_close()
            .timeout(limit)
            .bearer_auth(call.bearer.expose())
            // There is no body, but without it Enedis answers 500 (since January 2026).
            .insert_header((CONTENT_TYPE, "application/json"));
        receive(request.send(), SharedClock::clone(&self.clock), limit, BODY_MAX)
    }
}
