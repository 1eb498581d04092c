//! How long calls to Enedis take, by where they go and what came of them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actors::base::histogram::{Bounds, Distribution, Histogram};
use actors::enedis::port::{Attempt, AuthorizationServer, Call};
use actors::metering::api_choice::Api;
use actors::metering::resource_server::{MeterCall, ResourceServer, Verdict};
use async_trait::async_trait;
use tokio::time::Instant;

/// Where calls go: the token endpoint, the services of subscriptions, those of contracts, and the data APIs of 2026 and of
/// before.
const APIS: [&str; 5] = ["token", "services", "contracts", "data_new", "data_legacy"];
/// What comes of them.
const RESULTS: [&str; 6] = ["answered", "refused", "client_rejected", "busy", "down", "lost"];

/// The times of all calls since the start, by [`Bounds::OF_MACHINES`].
#[derive(Debug, Default)]
pub struct CallTimes([[Histogram; RESULTS.len()]; APIS.len()]);

impl CallTimes {
    /// By API and result. Those that have not been seen are left out, but for calls that were answered.
    pub fn read(&self) -> Vec<([&'static str; 2], Distribution)> {
        let of_api = |(api, results): (&'static str, &[Histogram; RESULTS.len()])| {
            let times: Vec<_> =
                RESULTS.iter().zip(results).map(|(result, it)| ([api, *result], it.read())).collect();
            times.into_iter().enumerate().filter(|(at, (_, it))| *at == 0 || it.count() > 0).map(|(_, it)| it)
        };
        APIS.into_iter().zip(&self.0).flat_map(of_api).collect()
    }

    async fn time<T>(
        &self,
        api: usize,
        call: impl Future<Output = T>,
        result: impl FnOnce(&T) -> usize,
    ) -> T {
        let began = Instant::now();
        let answer = call.await;
        self.0[api][result(&answer)].observe(&Bounds::OF_MACHINES, began.elapsed());
        answer
    }
}

/// A client of Enedis that is timed and otherwise behaves as the one it wraps.
pub struct Timed<S: ?Sized> {
    times: Arc<CallTimes>,
    server: Rc<S>,
}

impl<S: ?Sized> Timed<S> {
    /// Times what `server` is asked.
    pub fn new(times: Arc<CallTimes>, server: Rc<S>) -> Rc<Self> {
        Rc::new(Self { times, server })
    }
}

#[async_trait(?Send)]
impl<S: AuthorizationServer> AuthorizationServer for Timed<S> {
    async fn call(&self, call: Call, limit: Duration) -> Attempt {
        let api = match call {
            Call::Token(_) | Call::Refresh(_) => 0,
            Call::Meters(_) => 1,
            Call::Contract(_) => 2,
        };
        let result = |attempt: &Attempt| match attempt {
            Attempt::Answered(_) => 0,
            Attempt::ClientRejected => 2,
            Attempt::Busy(_) => 3,
            Attempt::Failed(_) | Attempt::Down(_) => 4,
            Attempt::Lost => 5,
        };
        self.times.time(api, self.server.call(call, limit), result).await
    }
}

#[async_trait(?Send)]
impl<S: ResourceServer> ResourceServer for Timed<S> {
    async fn read(&self, call: MeterCall, limit: Duration) -> Verdict {
        let api = match call.api {
            Api::New => 3,
            Api::Legacy => 4,
        };
        let result = |verdict: &Verdict| match verdict {
            Verdict::Values(_) | Verdict::DataError(_) => 0,
            Verdict::ConsentRefused { .. } => 1,
            Verdict::TokenRejected => 2,
            Verdict::Busy { .. } => 3,
            Verdict::Closed | Verdict::Down { .. } => 4,
        };
        self.times.time(api, self.server.read(call, limit), result).await
    }
}
