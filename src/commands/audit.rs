//! `audit`: shows the audit record, the oldest line first, page by page while the server runs. It needs no key: a line holds
//! no secret.

use std::io::{self, Write};

use actors::base::audit::{AuditLine, first_key};
use actors::base::clock::Timestamp;
use actors::base::store::timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::Serialize;

use super::tokens::view::{iso, printable};
use super::{CommandError, keys_of};
use crate::config::Config;
use crate::store::open_audit;

const ABOUT: &str = "\
Shows the audit record: what was granted, claimed, refused and revoked, and by whom.

Reads this server's store (MongoDB if configured, else DATA_DIR), while the server runs. A line is
kept for a year. ID is the beginning of a grant's id, as `tokens list` shows it, or with FLOW=DEVICE
that of a device as the log shows it.";

/// Show the audit record: what was granted, claimed, refused and revoked
#[derive(Clone, clap::Args)]
#[command(long_about = ABOUT)]
pub struct Arguments {
    /// Only what was done from then on: 2026-11-30, or 2026-11-30T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
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
        if !arguments.json {
            row(out, ["TIME", "ACT", "HOW", "ID", "NETWORK", "METERS", "CLIENT"])?;
        }
        loop {
            let page = log.read(after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.key.as_slice().to_vec();
            for line in page {
                show(&line, arguments.json, out)?;
            }
        }
    };
    match write.await {
        // The reader closed the pipe: it has seen enough.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

#[derive(Serialize)]
struct Object<'a> {
    at: &'a str,
    act: &'a str,
    how: &'a str,
    id: Option<&'a str>,
    network: Option<&'a str>,
    meters: u32,
    client_id: Option<&'a str>,
}

fn show(line: &AuditLine, json: bool, out: &mut impl Write) -> io::Result<()> {
    let AuditLine { at_ms, act, how, subject, client_id, network, meters, .. } = line;
    let (at, id, network) = (iso(timestamp(*at_ms)), subject.as_deref(), network.as_deref());
    if json {
        let client_id = client_id.as_deref();
        let object = Object { at: &at, act, how, id, network, meters: *meters, client_id };
        serde_json::to_writer(&mut *out, &object)?;
        return writeln!(out);
    }
    let (client, meters) =
        (client_id.as_deref().map_or_else(|| "-".to_owned(), printable), meters.to_string());
    row(out, [&at, act, how, id.unwrap_or("-"), network.unwrap_or("-"), &meters, &client])
}

fn row(out: &mut impl Write, [at, act, how, id, network, meters, client]: [&str; 7]) -> io::Result<()> {
    writeln!(out, "{at:20}  {act:10}  {how:16}  {id:8}  {network:20}  {meters:6}  {client}")
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
