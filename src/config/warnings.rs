//! Settings that work and are dangerous: told at the start and by `check-config`, and never a reason not to start.

use actors::base::clock::Timestamp;

use super::parse::is_this_machine;
use super::{Config, Flow, StoreConfig};
use crate::tls;

/// One dangerous setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The variable.
    pub name: &'static str,
    /// What can happen.
    pub danger: &'static str,
}

impl Config {
    /// Every setting that strangers may make use of, or that keeps everybody away, in the order of `.env.example`.
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        let base = url::Url::parse(&self.server.base_url).ok();
        let host = base.as_ref().and_then(url::Url::host_str).unwrap_or_default();
        let shown = self.server.tls.as_ref().and_then(|files| files.load().ok());
        let certificate = shown.and_then(|shown| tls::danger(&shown, host, now));
        let is_open_http = base
            .as_ref()
            .is_some_and(|url| url.scheme() == "http" && !url.host_str().is_some_and(is_this_machine));
        let admin_is_open = self.server.admin_listen.is_some_and(|address| !address.ip().is_loopback());
        let mongodb_is_open = match &self.storage.store {
            StoreConfig::Mongo { uri, .. } => super::store::is_open(uri),
            StoreConfig::Embedded => false,
        };
        let (v1, without_token) = match &self.enedis.flow {
            Flow::ClientCredentials(metering) => (!self.enedis.upstream.asks_v2(), metering.open_to_all),
            Flow::Device => (false, false),
        };
        let no_limit = self.devices.codes_per_minute == 0;
        let warning = |applies: bool, name, danger| applies.then_some(Warning { name, danger });
        [
            warning(
                is_open_http,
                "BASE_URL",
                "plain http: codes and tokens can be read on the way; use https",
            ),
            certificate.map(|danger| Warning { name: "TLS_CERT", danger }),
            warning(
                admin_is_open,
                "ADMIN_LISTEN",
                "reached from other machines, in plain http: the password can be read on the way; put TLS in front",
            ),
            warning(
                v1,
                "AUTHORIZATION_ENDPOINT",
                "the v1 consent page: whoever knows a meter's number can claim it; use /dataconnect/v2/",
            ),
            warning(no_limit, "DEVICE_CODES_PER_MINUTE_PER_IP", "no limit: one stranger can fill the server"),
            warning(
                mongodb_is_open,
                "MONGODB_URI",
                "MongoDB on another machine without tls=true: what is stored can be read on the way",
            ),
            warning(without_token, "DISABLE_DATA_ENDPOINT_AUTH", "metering data is given to whoever asks"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
