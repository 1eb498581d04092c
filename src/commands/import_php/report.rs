//! What an import has met and done, counted. Holds numbers only, so that nothing of a token can be shown.

use std::collections::BTreeMap;
use std::io::{self, Write};

use actors::base::clock::Timestamp;
use actors::metering::tokens::earlier::{EarlierToken, Kind};

use crate::php::entry::{Class, Entry};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that were met.
    pub found: u64,
    /// Live, and stored now; in a dry run: would be.
    pub taken: u64,
    /// Live, and stored before.
    pub already: u64,
    /// Ended.
    pub expired: u64,
    /// Not in the form the PHP server gives them.
    pub not_understood: u64,
}

#[derive(Debug, Default)]
pub struct Report {
    pub refresh: Counts,
    pub access: Counts,
    faults: BTreeMap<&'static str, u64>,
    others: BTreeMap<&'static str, u64>,
}

impl Report {
    pub fn of(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::Refresh => &mut self.refresh,
            Kind::Access => &mut self.access,
        }
    }

    /// Counts one entry, and hands out the token if it is to be taken over.
    pub fn count(&mut self, entry: &Entry, now: Timestamp) -> Option<EarlierToken> {
        let class = entry.classify(now);
        if let Class::Live(EarlierToken { kind, .. }) | Class::Expired(kind) | Class::Faulty(kind, _) = class
        {
            self.of(kind).found += 1;
        }
        match class {
            Class::Live(token) => return Some(token),
            Class::Expired(kind) => self.of(kind).expired += 1,
            Class::Faulty(kind, reason) => {
                self.of(kind).not_understood += 1;
                *self.faults.entry(reason).or_default() += 1;
            }
            Class::Other(name) => *self.others.entry(name).or_default() += 1,
        }
        None
    }

    pub fn write(&self, out: &mut impl Write, dry_run: bool) -> io::Result<()> {
        let taken = if dry_run { "to take over" } else { "taken over" };
        let head = ["found", taken, "already here", "expired", "not understood"];
        writeln!(out, "{:14}{}", "", head.map(|title| format!("  {title:>14}")).concat())?;
        for (name, counts) in [("refresh tokens", self.refresh), ("access tokens", self.access)] {
            let Counts { found, taken, already, expired, not_understood } = counts;
            let numbers = [found, taken, already, expired, not_understood];
            writeln!(out, "{name:14}{}", numbers.map(|n| format!("  {n:>14}")).concat())?;
        }
        for (reason, n) in &self.faults {
            writeln!(out, "not understood: {n} × {reason}")?;
        }
        for (name, n) in &self.others {
            writeln!(out, "left out: {n} {name}")?;
        }
        Ok(())
    }
}
