//! File descriptors: how many this process may have, and how many of them are for connections.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, StoreConfig};

/// The most that a kernel gives unless told otherwise (`fs.nr_open`), where no limit is set.
const UNLIMITED: u64 = 1 << 20;
/// For the files of SQLite, logs, listeners, and threads that wait for events.
const OWN: usize = 64;
/// Connections of the operator's listener.
pub const ADMIN_CONNECTIONS: usize = 16;
/// Connections of the listener that sends people on to `BASE_URL`.
pub const REDIRECT_CONNECTIONS: usize = 128;
/// Connections of one HTTP worker at most, whatever the limit: they take memory too.
const OF_A_WORKER: usize = 100_000;

/// Raises the limit to the highest that the system lets this process have.
pub fn raise_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum.or(Some(UNLIMITED)), maximum })?)
}

/// Connections that this process may accept from devices and people: what is left of its limit once Enedis, the store and
/// the operator have theirs.
pub fn for_connections(config: &Config) -> usize {
    places(config, getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED))
}

fn places(config: &Config, limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let workers = config.server.workers;
    let store = match config.storage.store {
        StoreConfig::Embedded => 0,
        // To each of three members, and those that watch them.
        StoreConfig::Mongo { pool_size, .. } => 3 * (pool_size as usize + 2),
    };
    // Each worker and each client waits for events; calls to four endpoints, each twice while one is replaced.
    let redirect = if config.server.redirect_listen.is_some() { REDIRECT_CONNECTIONS } else { 0 };
    let reserved =
        OWN + ADMIN_CONNECTIONS + redirect + 4 * workers + 8 * config.enedis.exchanger.in_flight + store;
    limit.saturating_sub(reserved).max(limit / 4).clamp(workers, OF_A_WORKER * workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_for_the_server_itself() {
        let config = |pairs: &[(&str, &str)]| Config::read(&pairs.iter().copied().collect()).unwrap();
        let one = config(&[("WORKERS", "1")]);
        assert_eq!(places(&one, 256), 256 - 92);
        assert_eq!(places(&one, u64::MAX), 100_000);
        // There is always some room for devices, and always some for the rest.
        assert_eq!(places(&one, 64), 16);
        let shared = config(&[("WORKERS", "2"), ("MONGODB_URI", "mongodb://127.0.0.1")]);
        assert_eq!(places(&shared, 1_024), 1_024 - 96 - 54);
    }
}
