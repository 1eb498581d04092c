//! `keys`: which key what is stored is sealed under, and how it comes under `SECRET_KEY`.
//!
//! Promises: the server may run meanwhile; each value is replaced on its own, unless another process has changed it; it
//! can be ended and begun again at any time. Sessions are only counted: a server brings those that are stored under its
//! key when it starts, and they end by themselves.

use std::collections::BTreeMap;
use std::io::Write;

use actors::base::audit::{Act, Note};
use actors::base::clock::SharedClock;
use actors::base::keyring::Keyring;
use actors::base::sealed::{KeyId, Sealed};
use actors::device_flow::reseal::sealed_in;
use actors::metering::tokens::installation::Installation;
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::{CommandError, Format, keys_of, record};
use crate::config::Config;
use crate::secret;
use crate::store::Stores;

const ABOUT: &str = "\
Says which key what is stored is sealed under, and seals it anew under SECRET_KEY.

To change the key: give the new one as SECRET_KEY and the one of before in SECRET_KEYS_OLD, restart the
server, and call `keys reseal`, while it runs. Once `keys status` says that nothing is left, the key of
before can go. Works on this server's store (MongoDB if configured, else DATA_DIR).";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy keys status
  device-flow-proxy keys reseal --json";

/// Say which key what is stored is sealed under, or seal it anew under today's
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, clap::Subcommand)]
enum Action {
    /// Count what is sealed under which key
    Status(Format),
    /// Seal everything that is sealed under a key of before anew, then count
    Reseal(Format),
}

/// Counts, or seals anew, and writes to `out` what is sealed under which key.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let secrets = keys_of(config)?;
    let stores = Stores::beside(&config.storage.store, &config.storage.data_dir).await?;
    let mut rng = StdRng::from_seed(secret::random()?);
    let keys = Installation::open(stores.tokens.as_ref(), &secrets, clock.wall(), &mut rng).await?;
    let mut walk = Walk { stores, keys, clock, rng, reseals: false, tally: Tally::default() };
    let (Action::Status(format) | Action::Reseal(format)) = &arguments.action;
    walk.through(&ProgressBar::new_spinner()).await?;
    if matches!(arguments.action, Action::Reseal(_)) {
        let all = walk.tally.all();
        walk.reseals = true;
        walk.through(&ProgressBar::new(all)).await?;
        record(&walk.stores.audit, &walk.clock, vec![Note::of(Act::KeyChanged)]).await?;
        walk.reseals = false;
        walk.through(&ProgressBar::new(all)).await?;
    }
    Ok(walk.tally.write(&walk.keys, format.json, out)?)
}

/// Through everything stored, page by page.
struct Walk {
    stores: Stores,
    keys: Keyring,
    clock: SharedClock,
    rng: StdRng,
    reseals: bool,
    tally: Tally,
}

impl Walk {
    /// Counts anew; a person at a terminal sees how far it is.
    async fn through(&mut self, progress: &ProgressBar) -> Result<(), CommandError> {
        self.tally = Tally::default();
        self.grants(progress).await?;
        self.values(progress).await?;
        self.sessions(progress).await?;
        progress.finish_and_clear();
        Ok(())
    }

    async fn grants(&mut self, progress: &ProgressBar) -> Result<(), CommandError> {
        let (mut after, now) = (None, self.clock.wall());
        loop {
            let page = self.stores.tokens.grants(after, now).await?;
            progress.inc(page.grants.len() as u64);
            for grant in page.grants {
                let resealed = grant.resealed(&self.keys, &mut self.rng).filter(|_| self.reseals);
                self.tally.count(&grant.meters, GRANTS);
                if let Some(meters) = resealed {
                    self.stores.tokens.reseal(grant.refresh, grant.meters, meters).await?;
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn values(&mut self, progress: &ProgressBar) -> Result<(), CommandError> {
        let Some(meters) = self.stores.meters.clone() else { return Ok(()) };
        let (mut after, now) = (None, self.clock.wall());
        loop {
            let page = meters.page(after, now).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key);
            progress.inc(page.len() as u64);
            let mut resealed = Vec::new();
            for entry in page {
                self.tally.count(&Sealed::from_bytes(entry.sealed.clone()), VALUES);
                if let Some(new) = entry.resealed(&self.keys, &mut self.rng).filter(|_| self.reseals) {
                    resealed.push((entry, new));
                }
            }
            meters.reseal(resealed).await?;
        }
    }

    async fn sessions(&mut self, progress: &ProgressBar) -> Result<(), CommandError> {
        let (mut after, now) = (None, self.clock.wall());
        loop {
            let page = self.stores.sessions.page(after, now).await?;
            progress.inc(page.sessions.len() as u64);
            for mut session in page.sessions {
                sealed_in(&mut session).for_each(|(_, sealed)| self.tally.count(sealed, SESSIONS));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

const GRANTS: usize = 0;
const VALUES: usize = 1;
const SESSIONS: usize = 2;

/// What is sealed under which key; `None`: damaged.
#[derive(Default)]
struct Tally(BTreeMap<Option<KeyId>, [u64; 3]>);

impl Tally {
    fn count(&mut self, sealed: &Sealed, kind: usize) {
        self.0.entry(sealed.key()).or_default()[kind] += 1;
    }

    fn all(&self) -> u64 {
        self.0.values().flatten().sum()
    }

    fn write(mut self, keys: &Keyring, json: bool, out: &mut impl Write) -> std::io::Result<()> {
        self.0.entry(Some(keys.key())).or_default();
        let state = |key: &Option<KeyId>| match key {
            Some(key) if *key == keys.key() => "current",
            Some(key) if keys.known().any(|known| known == *key) => "old",
            _ => "unknown",
        };
        let others = self.0.iter().filter(|(key, _)| **key != Some(keys.key()));
        let left: u64 = others.flat_map(|(_, counts)| counts).sum();
        let name = |key: &Option<KeyId>| key.map_or_else(|| "damaged".to_owned(), |key| key.to_string());
        if json {
            let of = |(key, [grants, values, sessions]): (&Option<KeyId>, &[u64; 3])| {
                json!({
                    "key": name(key), "state": state(key), "grants": grants, "values": values, "sessions": sessions,
                })
            };
            let keys: Vec<_> = self.0.iter().map(of).collect();
            return writeln!(out, "{}", json!({ "keys": keys, "left": left }));
        }
        writeln!(out, "{:8}  {:7}  {:>10}  {:>10}  {:>10}", "KEY", "STATE", "GRANTS", "VALUES", "SESSIONS")?;
        for (key, [grants, values, sessions]) in &self.0 {
            writeln!(out, "{:8}  {:7}  {grants:>10}  {values:>10}  {sessions:>10}", name(key), state(key))?;
        }
        writeln!(out, "{left} left under other keys than SECRET_KEY")
    }
}
