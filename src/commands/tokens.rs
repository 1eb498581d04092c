//! `tokens`: what an operator sees of the consents given to boxes, and how one is ended.
//!
//! Promises: a listing goes through the store page by page while the server runs, and shows no token and no meter's
//! number beyond its last four digits unless asked to; a revocation counts from the server's next request on, since the
//! server remembers no token. A grant is named by the beginning of its keyed hash, from which no token can be told.
//! Refuses a beginning that names more than one.

pub(super) mod view;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::pin::pin;

use actors::base::audit::{Act, Note};
use actors::base::clock::SharedClock;
use actors::base::meter::Meter;
use actors::base::store::StoreError;
use actors::metering::tokens::service::uncovered;
use actors::metering::tokens::{MeterGrant, OF_METER_MAX};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::view::View;
use super::{CommandError, Format, Installation, is_id, seen_enough};
use crate::config::Config;
use crate::secret;

const ABOUT: &str = "\
Lists the consents given to boxes, revokes them, or says that this store is the right one.

Works on this server's store (MongoDB if configured, else DATA_DIR), while the server runs.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy tokens list
  device-flow-proxy tokens list --meter 01234567890123 --json
  device-flow-proxy tokens revoke 3f9c01ab52d7e680
  device-flow-proxy tokens revoke --meter 01234567890123";

/// List the consents given to boxes, revoke them, or say that this store is the right one
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, clap::Subcommand)]
enum Action {
    /// List the live grants: who holds a token, for how many meters, until when
    List(List),
    /// Revoke a grant, or all grants that cover a meter: their refresh and access tokens end at once
    Revoke(Revoke),
    /// Say that this store is the right one: boxes whose tokens it does not know have to ask their owners again
    AcceptStore,
}

#[derive(Clone, clap::Args)]
struct List {
    /// Only those that cover this meter, of 14 digits
    #[arg(long, value_name = "PRM")]
    meter: Option<String>,
    #[command(flatten)]
    format: Format,
    /// Show meters' numbers in full
    #[arg(long)]
    show_meters: bool,
}

#[derive(Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct Revoke {
    /// A grant's id as `tokens list` shows it, or at least 8 digits of its beginning
    id: Option<String>,
    /// Every grant that covers this meter, of 14 digits, with all that a grant covers besides
    #[arg(long, value_name = "PRM")]
    meter: Option<String>,
}

/// Lists or revokes, and writes to `out`.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    // What was called wrongly fails before anything is opened.
    let action = Parsed::new(&arguments.action)?;
    let installation = Installation::of_server(config, clock).await?;
    seen_enough(installation.perform(action, out).await)
}

/// What to do, with values that cannot be wrong.
enum Parsed {
    List { meter: Option<Meter>, view: View },
    RevokeId(String),
    RevokeMeter(Meter),
    AcceptStore,
}

impl Parsed {
    fn new(action: &Action) -> Result<Self, CommandError> {
        match action {
            Action::List(List { meter, format, show_meters }) => {
                let meter = meter.as_deref().map(parse_meter).transpose()?;
                Ok(Self::List { meter, view: View { json: format.json, show_meters: *show_meters } })
            }
            Action::AcceptStore => Ok(Self::AcceptStore),
            Action::Revoke(Revoke { meter: Some(meter), .. }) => parse_meter(meter).map(Self::RevokeMeter),
            Action::Revoke(Revoke { id, .. }) => {
                let id = id.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
                if is_id(&id) {
                    Ok(Self::RevokeId(id))
                } else {
                    Err(CommandError::Usage("an id is 8 to 32 hex digits, as `tokens list` shows it"))
                }
            }
        }
    }
}

pub(super) fn parse_meter(text: &str) -> Result<Meter, CommandError> {
    Meter::parse(text.trim()).ok_or(CommandError::Usage("a meter has 14 digits"))
}

impl Installation {
    async fn perform(&self, action: Parsed, out: &mut impl Write) -> Result<(), CommandError> {
        match action {
            Parsed::List { meter, view } => self.list(meter, view, out).await,
            Parsed::AcceptStore => {
                self.accept_store().await?;
                self.record(vec![Note::of(Act::StoreAccepted)]).await?;
                Ok(writeln!(
                    out,
                    "tokens issued before now that this store does not know are refused for good"
                )?)
            }
            Parsed::RevokeId(id) => {
                let grant = self.named(&id).await?;
                if !self.store.revoke(grant.refresh).await? {
                    return Err(CommandError::NoGrant);
                }
                report_revoked(1, out)?;
                self.record(vec![revoked(&grant)]).await?;
                self.forget_uncovered(&[grant]).await
            }
            Parsed::RevokeMeter(meter) => {
                let mut done = Vec::new();
                let ended = self.revoke_meter(meter, &mut done).await;
                report_revoked(done.len(), out)?;
                self.record(done.iter().map(revoked).collect()).await.and(ended)?;
                self.forget_uncovered(&done).await
            }
        }
    }

    async fn accept_store(&self) -> Result<(), CommandError> {
        let mut rng = StdRng::from_seed(secret::random()?);
        // It was made when the store was opened; a server may seal it anew meanwhile.
        while let Some(record) = self.store.installation().await? {
            if record.accept(self.store.as_ref(), &self.keys, self.clock.wall(), &mut rng).await? {
                break;
            }
        }
        Ok(())
    }

    async fn list(&self, meter: Option<Meter>, view: View, out: &mut impl Write) -> Result<(), CommandError> {
        let out = &mut view.begin(out)?;
        let mut grants = match meter {
            Some(meter) => {
                let of_meter = self.store.of_meter(self.keys.meter(meter), self.clock.wall()).await?;
                stream::iter(of_meter.into_iter().map(Ok)).boxed()
            }
            None => self.live().boxed(),
        };
        let mut sum = view::Sum::default();
        while let Some(grant) = grants.try_next().await? {
            view.grant(&grant, &self.keys, self.clock.wall(), &mut sum, out)?;
        }
        sum.is_cut = meter.is_some() && sum.grants >= OF_METER_MAX.into();
        Ok(View::end(&sum, out)?)
    }

    /// All live grants, read page by page.
    fn live(&self) -> impl Stream<Item = Result<MeterGrant, StoreError>> + Send {
        let now = self.clock.wall();
        let pages = stream::try_unfold(Some(None), move |after| async move {
            let Some(after) = after else { return Ok::<_, StoreError>(None) };
            let page = self.store.grants(after, now).await?;
            Ok(Some((stream::iter(page.grants.into_iter().map(Ok)), page.next.map(Some))))
        });
        pages.try_flatten()
    }

    /// The one live grant whose id begins with `id`.
    async fn named(&self, id: &str) -> Result<MeterGrant, CommandError> {
        let (mut grants, mut found) = (pin!(self.live()), None::<MeterGrant>);
        while let Some(grant) = grants.try_next().await? {
            let refresh = grant.refresh;
            if hex::encode(refresh.as_bytes()).starts_with(id)
                && found.replace(grant).is_some_and(|other| other.refresh != refresh)
            {
                return Err(CommandError::Ambiguous);
            }
        }
        found.ok_or(CommandError::NoGrant)
    }

    /// Deletes what is remembered of meters that only these grants covered.
    async fn forget_uncovered(&self, ended: &[MeterGrant]) -> Result<(), CommandError> {
        let covered = ended.iter().filter_map(|grant| grant.covered(&self.keys));
        let meters: BTreeSet<Meter> = covered.flat_map(|covered| covered.meters).collect();
        let now = self.clock.wall();
        for meter in uncovered(self.store.as_ref(), &self.keys, meters.into_iter().collect(), now).await? {
            self.forget(meter).await?;
        }
        Ok(())
    }

    /// Notes each grant that it ends. The store answers a bounded number at a time: asks until none is left.
    async fn revoke_meter(&self, meter: Meter, done: &mut Vec<MeterGrant>) -> Result<(), CommandError> {
        let owner = self.keys.meter(meter);
        loop {
            let grants = self.store.of_meter(owner, self.clock.wall()).await?;
            let before = done.len();
            for grant in grants {
                if self.store.revoke(grant.refresh).await? {
                    done.push(grant);
                }
            }
            if done.len() == before {
                return Ok(());
            }
        }
    }
}

fn revoked(grant: &MeterGrant) -> Note {
    let note = Note::of(Act::RevokedByOperator).about(grant.refresh);
    note.client(grant.client_id.as_deref()).count(grant.owners.len())
}

fn report_revoked(count: usize, out: &mut impl Write) -> io::Result<()> {
    let grants = if count == 1 { "grant" } else { "grants" };
    writeln!(out, "revoked {count} {grants}, with every token of theirs")
}

#[cfg(test)]
mod tests;
