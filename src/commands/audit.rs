//! `audit`: shows the audit record, the oldest line first, page by page while the server runs. It needs no key: a line holds
//! no secret.

use std::borrow::Cow;
use std::io::Write;

use actors::base::audit::{AuditLine, first_key};
use actors::base::clock::Timestamp;
use actors::base::store::timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::Serialize;

use super::listing::{Listing, Row, iso, printable};
use super::{CommandError, Format, keys_of, seen_enough};
use crate::config::Config;
use crate::store::open_audit;

const ABOUT: &str = "\
Shows the audit record: what was granted, claimed, refused and revoked, and by whom.

Reads this server's store (MongoDB if configured, else DATA_DIR), while the server runs. A line is
kept for a year. ID is the beginning of a grant's id, as `tokens list` shows it, or with FLOW=DEVICE
that of a device as the log shows it.";

const EXAMPLES: &str = "\
Examples:
  device-flow-proxy audit
  device-flow-proxy audit --since 2026-11-30 --json";

/// Show the audit record: what was granted, claimed, refused and revoked
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    /// Only what was done from then on: 2026-11-30, or 2026-11-30T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    #[command(flatten)]
    format: Format,
}

/// A day begins at midnight, UTC.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let day = || Offset::UTC.to_timestamp(Date::strptime("%Y-%m-%d", text)?.at(0, 0, 0, 0));
    let at = text.parse::<jiff::Timestamp>().or_else(|_| day());
    at.map(|at| timestamp(at.as_millisecond()))
        .map_err(|_| "expected a day or a time with its zone".to_owned())
}

/// Shows the record on `out`.
pub async fn run(arguments: &Arguments, config: &Config, out: &mut impl Write) -> Result<(), CommandError> {
    // A `DATA_DIR` mistyped would otherwise read as an empty record.
    keys_of(config)?;
    let log = open_audit(&config.storage.store, &config.storage.data_dir).await?;
    let mut after = first_key(arguments.since.unwrap_or_default());
    let write = async {
        let mut listing = Listing::begin::<Object>(arguments.format.json, out)?;
        loop {
            let page = log.read(after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.key.as_slice().to_vec();
            for line in page {
                listing.row(&Object::from(line))?;
            }
        }
    };
    seen_enough(write.await)
}

/// A line as it is shown.
#[derive(Serialize)]
pub(super) struct Object {
    at: String,
    act: String,
    how: String,
    pub(super) id: Option<String>,
    network: Option<String>,
    meters: u32,
    client_id: Option<String>,
}

impl From<AuditLine> for Object {
    fn from(line: AuditLine) -> Self {
        let AuditLine { at_ms, act, how, subject, client_id, network, meters, .. } = line;
        Self { at: iso(timestamp(at_ms)), act, how, id: subject, network, meters, client_id }
    }
}

impl Row for Object {
    const COLUMNS: &'static [(&'static str, usize)] =
        &[("TIME", 20), ("ACT", 10), ("HOW", 16), ("ID", 8), ("NETWORK", 20), ("METERS", 6), ("CLIENT", 0)];

    fn cells(&self) -> Vec<Cow<'_, str>> {
        let client = self.client_id.as_deref().map_or_else(|| "-".to_owned(), printable);
        let (id, network) = (self.id.as_deref().unwrap_or("-"), self.network.as_deref().unwrap_or("-"));
        let [at, act, how] = [&self.at, &self.act, &self.how].map(|text| Cow::Borrowed(text.as_str()));
        vec![at, act, how, id.into(), network.into(), self.meters.to_string().into(), client.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_a_moment() {
        let at = |text| parse_time(text).map(Timestamp::as_secs);
        assert_eq!(at("2026-11-30"), Ok(1_795_996_800));
        assert_eq!(at("2026-11-30T01:00:00+01:00"), Ok(1_795_996_800));
        assert!(at("yesterday").is_err() && at("2026-11-30T01:00:00").is_err());
    }
}
