//! `import-php`: takes the live tokens of the PHP server over, so that nobody has to consent again.
//!
//! ```text
//!   MongoDB's collection (store/mongo/php.rs) ──┐
//!   PostgreSQL's table   (table.rs) ────────────┴─▶ php/entry.rs ──▶ at most IN_FLIGHT adds at a time ──▶ TokenStore
//!                                                   what it is            counted in report.rs
//! ```
//!
//! Promises: a token keeps its meters and exactly what is left of its life; doing it again does no harm, since what is
//! here already is left as it is; memory does not grow with the number of entries; nothing of an entry is ever printed.
//! A dry run adds nothing and makes no key; it opens the store, as the server does, to say what is here already.
//! Refuses what is not in the form the PHP server gives it, counted by reason.

mod report;
pub(crate) mod table;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use actors::base::audit::{Act, Note};
use actors::base::clock::{Clock, SharedClock, Timestamp};
use actors::base::store::{StoreError, Written};
use actors::metering::tokens::earlier::{EarlierToken, Kind};
use futures_util::stream::{self, FuturesUnordered, LocalBoxStream};
use futures_util::{StreamExt, TryStreamExt};
use jiff::tz::TimeZone;
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::report::Report;
use super::{CommandError, Installation, SourceError, at_work};
use crate::config::Config;
use crate::php::entry::Entry;
use crate::secret;
use crate::store::mongo::php;

/// Adds under way at a time: enough for a store that commits in groups, few enough for its queues.
const IN_FLIGHT: usize = 32;

const ABOUT: &str = "\
Takes the live tokens of the PHP server over, so that nobody has to consent again.

Reads the collection `cache` of its MongoDB, or its PostgreSQL table `cache` as a file, and adds
every refresh and access token that has not expired to this server's store (MongoDB if configured,
else DATA_DIR), with exactly what is left of its life. Either server may be running. Doing it again
does no harm, except that it brings back what was revoked here in the meantime.
docs/migration.md tells the whole way.";
const NO_SOURCE: &str =
    "no MongoDB is configured: name the PHP server's with --from-mongodb, or a file of its table with --file";
const FROM_MONGODB: &str = "\
The PHP server's MongoDB with its database

mongodb://[user:password@]host[:port]/database. If it is not given: the setting
IMPORT_MONGODB_URI, else the MongoDB configured for this server (MONGODB_URI, MONGODB_* or DB_*,
as the PHP server reads them). Other users of this machine can see a command line while it runs:
put an address with a password into the setting.";
const FILE: &str = "\
The PHP server's PostgreSQL table `cache` as a CSV file, - for standard input

To make one:
  psql \"$PHP_DATABASE\" -c \"copy (
    select key, split_part(value, chr(34), 2) as meters, extract(epoch from expire_at)::bigint as expires_at
    from cache where key like '%_token:%'
  ) to stdout with csv header\" > tokens.csv
Delete the file afterwards: it holds tokens.";
const TIME_ZONE: &str = "\
Zone of the times in the table, which say none: UTC, Europe/Paris, or a rule as POSIX writes it

PHP writes them by its setting date.timezone, which is UTC unless it was changed.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy import-php --dry-run
  device-flow-proxy import-php --file tokens.csv
  device-flow-proxy import-php --file tokens.csv --time-zone Europe/Paris";

/// Take the live tokens of the PHP server over, so that nobody has to consent again
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    /// The PHP server's MongoDB with its database
    #[arg(long, value_name = "URI", long_help = FROM_MONGODB)]
    from_mongodb: Option<String>,
    /// The PHP server's PostgreSQL table `cache` as a CSV file, - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "from_mongodb", long_help = FILE)]
    file: Option<PathBuf>,
    /// Zone of the times in the table: UTC, Europe/Paris, or a rule as POSIX writes it
    #[arg(long, value_name = "ZONE", requires = "file", default_value = "UTC", value_parser = table::zone, long_help = TIME_ZONE)]
    time_zone: TimeZone,
    /// Say what would be done, and add nothing
    #[arg(long)]
    dry_run: bool,
}

/// Imports, and writes to `out` what was done, also if it fails on the way.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let entries = begin(source(arguments, config, out).await?).await?;
    let dry_run = arguments.dry_run;
    let installation = if dry_run {
        Installation::find(config, SharedClock::clone(&clock)).await?
    } else {
        Some(Installation::make(config, SharedClock::clone(&clock)).await?)
    };
    let mut importer = Importer { installation, rng: StdRng::from_seed(secret::random()?), dry_run };
    let mut report = Report::default();
    let bar = at_work("reading");
    let entries = entries.inspect(move |_| {
        bar.inc(1);
        bar.set_message(format!("{} entries read", bar.position()));
    });
    let entries = entries.boxed_local();
    let done = import(entries, &*clock, &mut report, |token| importer.step(token, clock.wall())).await;
    report.write(out, dry_run)?;
    let taken = report.refresh.taken + report.access.taken;
    if let Some(installation) = importer.installation.filter(|_| !dry_run && taken > 0) {
        let taken = usize::try_from(taken).unwrap_or(usize::MAX);
        installation.record(vec![Note::of(Act::Imported).count(taken)]).await?;
    }
    done
}

/// Entries of the PHP server, up to the first error.
type Entries = LocalBoxStream<'static, Result<Entry, SourceError>>;

async fn source(
    arguments: &Arguments,
    config: &Config,
    out: &mut impl Write,
) -> Result<Entries, CommandError> {
    if let Some(path) = &arguments.file {
        return Ok(
            stream::iter(table::entries(table::open(path)?, arguments.time_zone.clone())?).boxed_local()
        );
    }
    let uri = arguments.from_mongodb.as_deref().or(config.storage.php.as_deref());
    let (database, entries) =
        php::open(uri.ok_or(CommandError::Usage(NO_SOURCE))?).await.map_err(SourceError::from)?;
    writeln!(out, "reading the collection cache of database {database}")?;
    Ok(entries.err_into().boxed_local())
}

/// Waits for the first entry, so that a source that has none fails before a key or a store is made. It is far likelier
/// the wrong database than a server that nobody used.
async fn begin(mut entries: Entries) -> Result<Entries, SourceError> {
    let first = entries.next().await.ok_or(SourceError::Empty)??;
    Ok(stream::iter([Ok(first)]).chain(entries).boxed_local())
}

/// What became of a token.
type Added = (Kind, Result<Written, StoreError>);

/// Lets `step` add every live token. After a failure nothing more is begun, but what is under way is waited for, so that
/// the counts are right.
async fn import<F: Future<Output = Added>>(
    mut entries: Entries,
    clock: &dyn Clock,
    report: &mut Report,
    mut step: impl FnMut(&EarlierToken) -> F,
) -> Result<(), CommandError> {
    let mut under_way = FuturesUnordered::new();
    let mut failure = None;
    let mut is_read = false;
    loop {
        while !is_read && failure.is_none() && under_way.len() < IN_FLIGHT {
            match entries.next().await {
                None => is_read = true,
                Some(Err(error)) => failure = Some(CommandError::from(error)),
                // Each entry at its own time: an access token may end while many others are imported.
                Some(Ok(entry)) => {
                    under_way.extend(report.count(&entry, clock.wall()).map(|token| step(&token)));
                }
            }
        }
        match under_way.next().await {
            None => return failure.map_or(Ok(()), Err),
            Some((kind, Ok(Written::Applied))) => report.of(kind).taken += 1,
            Some((kind, Ok(Written::Conflict))) => report.of(kind).already += 1,
            Some((_, Err(error))) => failure = failure.or(Some(error.into())),
        }
    }
}

/// Turns tokens into grants and adds them.
struct Importer {
    /// `None`: a dry run before the first start of the server, when there is no store yet.
    installation: Option<Installation>,
    rng: StdRng,
    dry_run: bool,
}

impl Importer {
    /// Adds a token; in a dry run only looks whether it is there.
    fn step(&mut self, token: &EarlierToken, now: Timestamp) -> impl Future<Output = Added> + use<> {
        let (kind, dry_run) = (token.kind, self.dry_run);
        let step = self.installation.as_ref().map(|Installation { store, keys, .. }| {
            let (grant, access) = token.grant(keys, &mut self.rng);
            (Arc::clone(store), grant, access)
        });
        async move {
            let Some((store, grant, access)) = step else { return (kind, Ok(Written::Applied)) };
            let is_here = match access {
                access if !dry_run => return (kind, store.add(grant, access).await),
                None => store.find_refresh(grant.refresh, now).await.map(|found| found.is_some()),
                Some(access) => store.find_access(access.token, now).await.map(|found| found.is_some()),
            };
            (kind, is_here.map(|is_here| if is_here { Written::Conflict } else { Written::Applied }))
        }
    }
}

#[cfg(test)]
mod tests;
