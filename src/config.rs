//! Configuration: every setting from the environment or an `.env` file, checked all at once.
//!
//! A section of `.env.example` is a struct with a `read` here. To add a setting: a field and the line that reads it, and an
//! entry in `.env.example` and in the table of README.md, which tests compare.
//!
//! Owns the names, defaults and bounds of the settings. Promises: a faulty configuration is reported whole, by
//! variable name and expected form, and no value is ever echoed. Refuses: nothing is guessed; a value that cannot
//! be used stops the start (exit status 64).

mod devices;
mod enedis;
mod log;
mod parse;
mod server;
mod site;
mod source;
mod store;
mod summary;
mod version;
mod warnings;

use std::time::Duration;

use actors::device_flow::consent::RECORD_PATIENCE;

pub use devices::DevicesConfig;
pub use enedis::{AuthMethod, EnedisConfig, Flow, MeteringConfig, Upstream};
pub use log::LogConfig;
pub use parse::{ConfigErrors, Fault};
pub use server::{AdminPassword, ServerConfig};
pub use site::SiteConfig;
pub use source::{DotenvError, EnvSource};
pub use store::{StorageConfig, StoreConfig};
pub use version::{NoVersion, Version};
pub use warnings::Warning;

use parse::Reader;
pub(crate) use parse::is_this_machine;

/// Longest `CLOCK_OFFSET_SECS`: ten years.
const CLOCK_OFFSET_MAX: u64 = 10 * 366 * 86_400;

/// A checked configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the server is, and its threads.
    pub server: ServerConfig,
    /// The application at Enedis, and the calls there.
    pub enedis: EnedisConfig,
    /// Devices and people.
    pub devices: DevicesConfig,
    /// The operator's texts on the pages.
    pub site: SiteConfig,
    /// Storage.
    pub storage: StorageConfig,
    /// Logs.
    pub log: LogConfig,
    /// `CLOCK_OFFSET_SECS`: how far this server's clock is ahead of the machine's.
    pub clock_offset: Duration,
}

impl Config {
    /// Reads and checks every setting.
    pub fn read(source: &EnvSource) -> Result<Self, ConfigErrors> {
        let mut r = Reader::new(source);
        let enedis = EnedisConfig::read(&mut r);
        let clock_offset = r.seconds("CLOCK_OFFSET_SECS", 0, 0..=CLOCK_OFFSET_MAX);
        if !clock_offset.is_zero() && !enedis.is_simulated {
            r.fault(
                "CLOCK_OFFSET_SECS",
                "0, unless every endpoint of Enedis is a simulated one on this machine",
            );
        }
        let config = Self {
            server: ServerConfig::read(&mut r, enedis.exchanger.deadline + RECORD_PATIENCE),
            devices: DevicesConfig::read(&mut r, &enedis.flow),
            site: SiteConfig::read(&mut r),
            storage: StorageConfig::read(&mut r),
            log: LogConfig::read(&mut r),
            enedis,
            clock_offset,
        };
        r.finish()?;
        Ok(config)
    }

    /// The settings that have to be the same for all instances on one store, by name.
    pub fn shared(&self) -> [(&'static str, String); 5] {
        let (enedis, quota) = (&self.enedis, self.enedis.exchanger.quota);
        let flow = if enedis.flow == Flow::Device { "DEVICE" } else { "CLIENT_CREDENTIALS" };
        [
            ("FLOW", flow.to_owned()),
            ("BASE_URL", self.server.base_url.clone()),
            ("CLIENT_ID", enedis.client.client_id.as_deref().unwrap_or_default().to_owned()),
            ("ENEDIS_CALLS_PER_SECOND", quota.per_second.to_string()),
            ("ENEDIS_CALLS_PER_HOUR", quota.per_hour.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests;
