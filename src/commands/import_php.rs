//! `import-php`: takes the live tokens of the PHP server over, so that nobody has to consent again.
//!
//! ```text
//!   MongoDB's collection (mongo.rs) ──┐
//!   PostgreSQL's table   (table.rs) ──┴─▶ entry.rs ──▶ at most IN_FLIGHT adds at a time ──▶ TokenStore
//!                                         what it is          counted in report.rs
//! ```
//!
//! Promises: a token keeps its meters and exactly what is left of its life; doing it again does no harm, since what is
//! here already is left as it is; memory does not grow with the number of entries; nothing of an entry is ever printed.
//! A dry run adds nothing and makes no key; it opens the store, as the server does, to say what is here already.
//! Refuses what is not in the form the PHP server gives it, counted by reason.

mod entry;
mod mongo;
mod report;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::base::clock::{SharedClock, Timestamp};
use actors::base::keyring::Keyring;
use actors::base::store::{StoreError, Written};
use actors::metering::tokens::{ACCESS_LIFE, Access, MeterGrant, Origin, sealed_meters};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, Stream, StreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::entry::{Entry, Kind, Token};
use self::report::Report;
use super::{CommandError, Desk};
use crate::config::{Config, EnvSource, StoreConfig};
use crate::secret;
use crate::store::OpenError;

/// What the PHP server gives a refresh token to live: four years of 365 days.
const REFRESH_LIFE: Duration = Duration::from_secs(4 * 365 * 86_400);
/// Adds under way at a time: enough for a store that commits in groups, few enough for its queues.
const IN_FLIGHT: usize = 32;
/// The variable that `--from-mongodb` can be left to.
const VARIABLE: &str = "IMPORT_MONGODB_URI";

const ABOUT: &str = "\
Takes the live tokens of the PHP server over, so that nobody has to consent again.

Reads the collection `cache` of its MongoDB, or its PostgreSQL table `cache` as a file, and adds
every refresh and access token that has not expired to this server's store (MongoDB if configured,
else DATA_DIR), with exactly what is left of its life. Either server may be running. Doing it again
does no harm, except that it brings back what was revoked here in the meantime.
docs/migration.md tells the whole way.";
const FROM_MONGODB: &str = "\
The PHP server's MongoDB with its database

mongodb://[user:password@]host[:port]/database. If it is not given: the variable
IMPORT_MONGODB_URI, else the MongoDB configured for this server (MONGODB_URI, MONGODB_* or DB_*,
as the PHP server reads them). Other users of this machine can see a command line while it runs:
put an address with a password into the variable.";
const FILE: &str = "\
The PHP server's PostgreSQL table `cache` as a CSV file, - for standard input

To make one:
  psql \"$PHP_DATABASE\" -c \"copy (
    select key, split_part(value, chr(34), 2) as meters, extract(epoch from expire_at)::bigint as expires_at
    from cache where key like '%_token:%'
  ) to stdout with csv header\" > tokens.csv
That takes the times of the table as UTC. Delete the file afterwards: it holds tokens.";

/// Take the live tokens of the PHP server over, so that nobody has to consent again
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT)]
pub struct Arguments {
    /// The PHP server's MongoDB with its database
    #[arg(long, value_name = "URI", long_help = FROM_MONGODB)]
    from_mongodb: Option<String>,
    /// The PHP server's PostgreSQL table `cache` as a CSV file, - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "from_mongodb", long_help = FILE)]
    file: Option<PathBuf>,
    /// Say what would be done, and add nothing
    #[arg(long)]
    dry_run: bool,
}

/// Why the PHP server's entries cannot be read. Never holds an address or an entry.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Name a file that can be read.
    #[error("{}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Make it anew. Names the line at most.
    #[error("reading failed, or it is not whole")]
    Read(#[source] csv::Error),
    /// Look for the entries elsewhere.
    #[error("there is nothing in it")]
    Empty,
    /// Make it with `psql`; a dump is not read.
    #[error(
        "it is no CSV file with the columns key, meters and expires_at; `import-php --help` says how psql makes it"
    )]
    Columns,
    /// Correct the address, or start the server.
    #[error(transparent)]
    Mongo(OpenError),
    /// Name the database in the address.
    #[error(
        "the address of the PHP server's MongoDB names no database: add it behind the host, as in mongodb://host/database"
    )]
    NoDatabase,
}

/// Imports, and writes to `out` what was done, also if it fails on the way.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    environment: &EnvSource,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    if let Some(path) = &arguments.file {
        let entries = begin(stream::iter(table::entries(table::open(path)?)?)).await?;
        let importer = Importer::new(arguments.dry_run, config, clock).await?;
        return importer.import_and_report(entries, out).await;
    }
    let configured = match &config.store {
        StoreConfig::Mongo { uri, .. } => Some(uri.as_str()),
        StoreConfig::Embedded => None,
    };
    let uri = arguments.from_mongodb.as_deref().or_else(|| environment.get(VARIABLE)).or(configured);
    let uri = uri.ok_or(CommandError::Usage(
        "no MongoDB is configured: name the PHP server's with --from-mongodb, or a file of its table with --file",
    ))?;
    let found = mongo::open(uri).await?;
    writeln!(out, "reading the collection cache of database {}", found.database)?;
    let entries = begin(Box::pin(found.entries)).await?;
    let importer = Importer::new(arguments.dry_run, config, clock).await?;
    importer.import_and_report(entries, out).await
}

/// Waits for the first entry, so that a source that has none fails before a key or a store is made. It is far likelier
/// the wrong database than a server that nobody used.
async fn begin<S>(
    mut entries: S,
) -> Result<impl Stream<Item = Result<Entry, SourceError>> + Unpin, SourceError>
where
    S: Stream<Item = Result<Entry, SourceError>> + Unpin,
{
    let first = entries.next().await.ok_or(SourceError::Empty)??;
    Ok(stream::iter([Ok(first)]).chain(entries))
}

/// An add, or the look that a dry run takes instead.
type Step = BoxFuture<'static, (Kind, Result<Written, StoreError>)>;

/// Turns tokens into grants and adds them.
struct Importer {
    /// `None`: a dry run before the first start of the server, when there is no store yet.
    desk: Option<Desk>,
    clock: SharedClock,
    rng: StdRng,
    dry_run: bool,
}

impl Importer {
    async fn new(dry_run: bool, config: &Config, clock: SharedClock) -> Result<Self, CommandError> {
        let rng = StdRng::from_seed(secret::random()?);
        let desk = if dry_run {
            Desk::find(config, SharedClock::clone(&clock)).await?
        } else {
            Some(Desk::make(config, SharedClock::clone(&clock)).await?)
        };
        Ok(Self { desk, clock, rng, dry_run })
    }

    /// Imports, then writes the table, also of an import that failed half-way.
    async fn import_and_report(
        mut self,
        entries: impl Stream<Item = Result<Entry, SourceError>> + Unpin,
        out: &mut impl Write,
    ) -> Result<(), CommandError> {
        let mut report = Report::default();
        let done = self.import(entries, &mut report).await;
        report.write(out, self.dry_run)?;
        done
    }

    /// After a failure nothing more is begun, but what is under way is waited for, so that the counts are right.
    async fn import(
        &mut self,
        mut entries: impl Stream<Item = Result<Entry, SourceError>> + Unpin,
        report: &mut Report,
    ) -> Result<(), CommandError> {
        let mut under_way: FuturesUnordered<Step> = FuturesUnordered::new();
        let mut failure = None;
        let mut is_read = false;
        loop {
            while !is_read && failure.is_none() && under_way.len() < IN_FLIGHT {
                match entries.next().await {
                    None => is_read = true,
                    Some(Err(error)) => failure = Some(CommandError::from(error)),
                    // Each entry at its own time: an access token may end while many others are imported.
                    Some(Ok(entry)) => {
                        let token = report.count(&entry, self.clock.now());
                        under_way.extend(token.map(|token| self.step(&token)));
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

    fn step(&mut self, token: &Token) -> Step {
        let (kind, now) = (token.kind, self.clock.now());
        let Some(Desk { store, keys, .. }) = &self.desk else {
            return futures_util::future::ready((kind, Ok(Written::Applied))).boxed();
        };
        let store = Arc::clone(store);
        if !self.dry_run {
            let (grant, access) = grant(keys, &mut self.rng, token);
            return async move { (kind, store.add(grant, access).await) }.boxed();
        }
        let hash = match kind {
            Kind::Refresh => keys.refresh(&token.bearer),
            Kind::Access => keys.access(&token.bearer),
        };
        async move {
            let found = match kind {
                Kind::Refresh => store.find_refresh(hash, now).await,
                Kind::Access => store.find_access(hash, now).await,
            };
            (kind, found.map(|grant| grant.map_or(Written::Applied, |_| Written::Conflict)))
        }
        .boxed()
    }
}

/// The grant of a refresh token; or an access token with a grant in which it stands alone, as the PHP server does not say
/// which refresh token it came with.
fn grant(keys: &Keyring, rng: &mut StdRng, token: &Token) -> (MeterGrant, Option<Access>) {
    let expires_at = token.expires_at;
    let (refresh, life) = match token.kind {
        Kind::Refresh => (keys.refresh(&token.bearer), REFRESH_LIFE),
        Kind::Access => (keys.stand_in(&token.bearer), ACCESS_LIFE),
    };
    let began = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let began = Timestamp::from_millis(expires_at.as_millis().saturating_sub(began));
    let (meters, owners) = sealed_meters(keys, rng, &refresh, &token.meters);
    let grant = MeterGrant {
        refresh,
        client_id: None,
        meters,
        owners,
        consented_at: began,
        expires_at,
        origin: Origin::Import,
    };
    let access = (token.kind == Kind::Access).then(|| Access {
        token: keys.access(&token.bearer),
        refresh,
        issued_at: began,
        expires_at,
    });
    (grant, access)
}

#[cfg(test)]
mod tests;
