//! What devices and people may do, and how long.

use std::time::Duration;

use actors::device_flow::session::Lifetimes;

use super::enedis::Flow;
use super::parse::Reader;
use super::version::Version;

/// Devices and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicesConfig {
    /// 60 / `LIMIT_REQUESTS_PER_MINUTE` seconds, rounded up.
    pub interval: Duration,
    /// `CODE_LIFETIME_SECS`, `CONSENT_WINDOW_SECS`, `TOKEN_REDELIVERY_SECS`.
    pub life: Lifetimes,
    /// `VERSION_MIN`; `None`: any plugin.
    pub version_min: Option<Version>,
    /// `DEVICE_CODES_PER_MINUTE_PER_IP`; 0: no limit.
    pub codes_per_minute: u32,
    /// `MAX_PENDING_SESSIONS`.
    pub sessions_max: usize,
}

impl DevicesConfig {
    pub(super) fn read(r: &mut Reader<'_>, flow: &Flow) -> Self {
        let per_minute: u64 = r.number("LIMIT_REQUESTS_PER_MINUTE", 12, 1..=60_000);
        let redelivery_secs = match flow {
            Flow::Device => 60,
            Flow::ClientCredentials(_) => 180,
        };
        Self {
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
            codes_per_minute: r.number("DEVICE_CODES_PER_MINUTE_PER_IP", 30, 0..=1_000_000),
            sessions_max: r.number("MAX_PENDING_SESSIONS", 1_000_000, 1..=100_000_000),
        }
    }
}
