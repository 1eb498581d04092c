//! What an import has met and done, counted. Holds numbers only, so that nothing of a token can be shown.

use std::collections::BTreeMap;
use std::io::{self, Write};

use actors::base::clock::Timestamp;

use super::entry::{Entry, Fault, Kind, Other, Row, Token, classify};

/// Counts of one kind of token.
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

/// Counts of everything.
#[derive(Debug, Default)]
pub struct Report {
    /// Refresh tokens.
    pub refresh: Counts,
    /// Access tokens.
    pub access: Counts,
    faults: BTreeMap<Fault, u64>,
    others: BTreeMap<Other, u64>,
}

impl Report {
    /// The counts of a kind.
    pub fn of(&mut self, kind: Kind) -> &mut Counts {
        match kind {
            Kind::Refresh => &mut self.refresh,
            Kind::Access => &mut self.access,
        }
    }

    /// Counts one row, and hands out the token if it is to be taken over.
    pub fn count(&mut self, row: &Row, now: Timestamp) -> Option<Token> {
        let Row::Entry(raw) = row else {
            *self.faults.entry(Fault::Row).or_default() += 1;
            return None;
        };
        match classify(raw, now) {
            Entry::Live(token) => {
                self.of(token.kind).found += 1;
                return Some(token);
            }
            Entry::Expired(kind) => {
                self.of(kind).found += 1;
                self.of(kind).expired += 1;
            }
            Entry::Faulty(kind, fault) => {
                self.of(kind).found += 1;
                self.of(kind).not_understood += 1;
                *self.faults.entry(fault).or_default() += 1;
            }
            Entry::Other(other) => *self.others.entry(other).or_default() += 1,
        }
        None
    }

    /// Writes the table.
    pub fn write(&self, out: &mut impl Write, dry_run: bool) -> io::Result<()> {
        let taken = if dry_run { "to take over" } else { "taken over" };
        let head = ["found", taken, "already here", "expired", "not understood"];
        writeln!(out, "{:14}{}", "", head.map(|title| format!("  {title:>14}")).concat())?;
        for (name, counts) in [("refresh tokens", self.refresh), ("access tokens", self.access)] {
            let Counts { found, taken, already, expired, not_understood } = counts;
            let numbers = [found, taken, already, expired, not_understood];
            writeln!(out, "{name:14}{}", numbers.map(|n| format!("  {n:>14}")).concat())?;
        }
        for (fault, n) in &self.faults {
            writeln!(out, "not understood: {n} × {}", fault.reason())?;
        }
        for (other, n) in &self.others {
            writeln!(out, "left out: {n} {}", other.name())?;
        }
        Ok(())
    }
}
