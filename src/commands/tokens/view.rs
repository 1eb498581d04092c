//! How a grant is shown: a line of a table, or a JSON object. Never a token; of a meter, what was asked for.

use std::borrow::Cow;
use std::io::{self, Write};

use actors::base::clock::Timestamp;
use actors::base::keyring::Keyring;
use actors::base::meter::Meter;
use actors::base::network::Network;
use actors::metering::tokens::{MeterGrant, OF_METER_MAX, Origin};
use serde::Serialize;

use crate::commands::listing::{Listing, Row, iso, printable};

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

impl Row for Object<'_> {
    const COLUMNS: &'static [(&'static str, usize)] =
        &[("ID", 16), ("ORIGIN", 10), ("CONSENTED", 20), ("EXPIRES", 20), ("CLIENT", 36), ("METERS", 0)];

    fn cells(&self) -> Vec<Cow<'_, str>> {
        let client = self.client_id.map_or_else(|| "any".to_owned(), printable);
        let numbers = self.meters.as_ref().map_or_else(|| "unreadable".to_owned(), |meters| meters.join(" "));
        let mark = if self.two_places { "  (two places)" } else { "" };
        let meters = format!("{}: {numbers}{mark}", self.meter_count);
        let (consented, expires) = (self.consented_at.as_str(), self.expires_at.as_str());
        vec![
            self.id.into(),
            self.origin.into(),
            consented.into(),
            expires.into(),
            client.into(),
            meters.into(),
        ]
    }
}

impl View {
    /// What stands above the grants.
    pub fn begin<W: Write>(self, out: &mut W) -> io::Result<Listing<'_, W>> {
        Listing::begin::<Object<'_>>(self.json, out)
    }

    /// One grant.
    pub fn grant(
        self,
        grant: &MeterGrant,
        keys: &Keyring,
        now: Timestamp,
        sum: &mut Sum,
        out: &mut Listing<'_, impl Write>,
    ) -> io::Result<()> {
        let id = hex::encode(&grant.refresh.as_bytes()[..ID_SHOWN / 2]);
        let covered = grant.covered(keys);
        let meters =
            covered.map(|covered| covered.meters.iter().map(|meter| self.meter(*meter)).collect::<Vec<_>>());
        let two_places = grant.places.is_double(now);
        sum.grants += 1;
        sum.unreadable += u64::from(meters.is_none());
        sum.double += u64::from(two_places);
        out.row(&Object {
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
        })
    }

    /// What stands below the grants.
    pub fn end(sum: &Sum, out: &mut Listing<'_, impl Write>) -> io::Result<()> {
        out.remark(&format!("{} live {}", sum.grants, if sum.grants == 1 { "grant" } else { "grants" }))?;
        if sum.is_cut {
            out.remark(&format!(
                "only the newest {OF_METER_MAX} of this meter are listed; revoke --meter ends all"
            ))?;
        }
        let n = sum.double;
        if n > 0 {
            out.remark(&format!(
                "{n} used from two networks in turn: two boxes may hold them (docs/security.md)"
            ))?;
        }
        let n = sum.unreadable;
        if n > 0 {
            out.remark(&format!(
                "the meters of {n} cannot be read: they are sealed under another SECRET_KEY, or not as they were made"
            ))?;
        }
        Ok(())
    }

    fn meter(self, meter: Meter) -> String {
        let digits = meter.to_string();
        if self.show_meters { digits } else { format!("…{}", &digits[digits.len() - 4..]) }
    }
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::ConsentV1 => "consent-v1",
        Origin::ConsentV2 => "consent-v2",
        Origin::Import => "imported",
    }
}
