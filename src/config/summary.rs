//! What a configuration amounts to: told by `check-config`. No value that may be a secret is in it.

use super::{Config, Flow, StoreConfig};

impl Config {
    /// What will run, by subject.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let Self { server, enedis, devices, storage, .. } = self;
        let host = |url: &url::Url| url.origin().ascii_serialization();
        let (upstream, quota) = (&enedis.upstream, enedis.exchanger.quota);
        let page = if upstream.asks_v2() { "the consent page of 2026 (v2)" } else { "the consent page v1" };
        let flow = match &enedis.flow {
            Flow::Device => "boxes receive Enedis' own tokens".to_owned(),
            Flow::ClientCredentials(metering) => {
                let fetched =
                    if metering.relay.prefetch { "fetched ahead" } else { "fetched when asked for" };
                format!("boxes receive tokens of ours, and their data here; new days are {fetched}")
            }
        };
        let tls = if server.tls.is_some() { "HTTPS by itself" } else { "plain HTTP, for a reverse proxy" };
        let clients = match enedis.allowed_clients.len() {
            0 => "any client".to_owned(),
            1 => "one client".to_owned(),
            some => format!("{some} clients"),
        };
        let proxies: Vec<_> = server.trusted_proxies.iter().map(ToString::to_string).collect();
        let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        let store = match &storage.store {
            StoreConfig::Embedded => format!("SQLite in {}", storage.data_dir.display()),
            StoreConfig::Mongo { .. } => "MongoDB, which several instances may share".to_owned(),
        };
        let key = match &storage.secret_key {
            Some(_) => format!("SECRET_KEY, and {} of before", storage.old_keys.len()),
            None => format!("{}/secret.key, made at the first start", storage.data_dir.display()),
        };
        let mut told = vec![
            ("flow", flow),
            ("public address", server.base_url.clone()),
            ("listens at", format!("{} ({tls})", server.listen)),
            ("operator", server.admin_listen.map_or_else(|| "off".to_owned(), |address| address.to_string())),
        ];
        told.extend(server.redirect_listen.map(|address| ("redirects at", address.to_string())));
        told.extend([
            ("proxies", none(proxies.join(", "))),
            ("Enedis", format!("{}, tokens at {}, {page}", host(&upstream.authorize), host(&upstream.token))),
        ]);
        if let Flow::ClientCredentials(metering) = &enedis.flow {
            told.push(("data", host(&metering.data)));
        }
        told.extend([
            ("quota", format!("{} calls a second, {} an hour", quota.per_second, quota.per_hour)),
            ("clients", clients),
            (
                "codes",
                format!(
                    "live {} s, polled every {} s, at most {} at a time",
                    devices.life.code.as_secs(),
                    devices.interval.as_secs(),
                    devices.sessions_max
                ),
            ),
            ("store", store),
            ("key", key),
        ]);
        told
    }
}
