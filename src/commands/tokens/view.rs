//! How a grant is shown: a line of a table, or a JSON object. Never a token; of a meter, what was asked for.

use std::io::{self, Write};

use actors::base::clock::Timestamp;
use actors::base::keyring::Keyring;
use actors::base::meter::Meter;
use actors::base::network::Network;
use actors::metering::tokens::{MeterGrant, OF_METER_MAX, Origin};
use serde::Serialize;

/// Digits of an id that are shown: enough to name one of billions.
const ID_SHOWN: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// JSON lines, not a table.
    pub json: bool,
    /// Meters in full; else their last four digits.
    pub show_meters: bool,
}

#[derive(Debug, Default)]
pub struct Sum {
    pub grants: u64,
    /// Those whose meters could not be read.
    pub unreadable: u64,
    /// Those that seem to be held by two boxes.
    pub double: u64,
    /// Whether there may be more.
    pub is_cut: bool,
}

#[derive(Serialize)]
struct Object<'a> {
    id: &'a str,
    client_id: Option<&'a str>,
    origin: &'static str,
    consented_at: String,
    expires_at: String,
    used_at: Option<String>,
    used_from: Option<String>,
    /// Whether two boxes seem to hold it.
    two_places: bool,
    meter_count: usize,
    /// Last digits or whole numbers; null if they cannot be read.
    meters: Option<Vec<String>>,
}

impl View {
    /// What stands above the grants.
    pub fn begin(self, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        line(out, ["ID", "ORIGIN", "CONSENTED", "EXPIRES", "CLIENT", "METERS"])
    }

    /// One grant.
    pub fn grant(
        self,
        grant: &MeterGrant,
        keys: &Keyring,
        now: Timestamp,
        sum: &mut Sum,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let id = hex::encode(&grant.refresh.as_bytes()[..ID_SHOWN / 2]);
        let covered = grant.covered(keys);
        let meters =
            covered.map(|covered| covered.meters.iter().map(|meter| self.meter(*meter)).collect::<Vec<_>>());
        let two_places = grant.places.is_double(now);
        sum.grants += 1;
        sum.unreadable += u64::from(meters.is_none());
        sum.double += u64::from(two_places);
        let shown = Object {
            id: &id,
            client_id: grant.client_id.as_deref(),
            origin: origin(grant.origin),
            consented_at: iso(grant.consented_at),
            expires_at: iso(grant.expires_at),
            used_at: grant.used_at.map(iso),
            used_from: grant.places.last().map(Network::shown),
            two_places,
            meter_count: grant.owners.len(),
            meters,
        };
        if self.json {
            serde_json::to_writer(&mut *out, &shown)?;
            writeln!(out)?;
        } else {
            let client = shown.client_id.map_or_else(|| "any".to_owned(), printable);
            let numbers = shown.meters.map_or_else(|| "unreadable".to_owned(), |meters| meters.join(" "));
            let mark = if two_places { "  (two places)" } else { "" };
            let meters = format!("{}: {numbers}{mark}", shown.meter_count);
            line(out, [&id, shown.origin, &shown.consented_at, &shown.expires_at, &client, &meters])?;
        }
        Ok(())
    }

    /// What stands below the grants.
    pub fn end(self, sum: &Sum, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(out, "{} live {}", sum.grants, if sum.grants == 1 { "grant" } else { "grants" })?;
        if sum.is_cut {
            writeln!(
                out,
                "only the newest {OF_METER_MAX} of this meter are listed; revoke --meter ends all"
            )?;
        }
        if sum.double > 0 {
            let n = sum.double;
            writeln!(out, "{n} used from two networks in turn: two boxes may hold them (docs/security.md)")?;
        }
        let n = sum.unreadable;
        if n > 0 {
            writeln!(
                out,
                "the meters of {n} cannot be read: they are sealed under another SECRET_KEY, or not as they were made"
            )?;
        }
        Ok(())
    }

    fn meter(self, meter: Meter) -> String {
        let digits = meter.to_string();
        if self.show_meters { digits } else { format!("…{}", &digits[digits.len() - 4..]) }
    }
}

fn line(out: &mut impl Write, [id, origin, consented, expires, client, meters]: [&str; 6]) -> io::Result<()> {
    writeln!(out, "{id:16}  {origin:10}  {consented:20}  {expires:20}  {client:36}  {meters}")
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::ConsentV1 => "consent-v1",
        Origin::ConsentV2 => "consent-v2",
        Origin::Import => "imported",
    }
}

/// `2026-11-24T07:08:09Z`; the last second of the calendar for what lies beyond it.
pub fn iso(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A stranger may have chosen the text: what would steer a terminal is written out.
pub fn printable(text: &str) -> String {
    let plain = |c: char| c == '"' || c == '\'' || c == '\\';
    text.chars().flat_map(|c| if plain(c) { vec![c] } else { c.escape_debug().collect() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_dates() {
        assert_eq!(iso(Timestamp::from_millis(1_835_440_496_789)), "2028-02-29T12:34:56Z");
        assert_eq!(iso(Timestamp::EPOCH), "1970-01-01T00:00:00Z");
        assert!(iso(Timestamp::from_millis(u64::MAX)).starts_with("9999-12-30T"));
    }

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(printable("d198fd52-é \"x\""), "d198fd52-é \"x\"");
        assert_eq!(printable("a\u{1b}[2J\r\n\u{9b}\u{202e}"), "a\\u{1b}[2J\\r\\n\\u{9b}\\u{202e}");
    }
}
