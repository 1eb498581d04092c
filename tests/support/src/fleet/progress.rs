//! Owns the line that tells how far a run is: written over on a terminal, else written now and then.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::crowd::Tally;
use crate::calendar::{DAY_SECS, Day};

/// Time between two lines on a terminal, and elsewhere.
const ON_A_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(30);

/// The line.
pub(super) struct Progress {
    terminal: bool,
    /// `None`: silent.
    every: Option<Duration>,
    last: Option<Instant>,
}

impl Progress {
    /// Tells on standard error if `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let every = wanted.then_some(if terminal { ON_A_TERMINAL } else { ELSEWHERE });
        Self { terminal, every, last: None }
    }

    /// On the day called `name` the clock (since 1970) says so late, boxes stand there, and so many calls were made.
    pub(super) fn tell(&mut self, name: &str, now: Duration, tally: &Tally, calls: u64) {
        let Some(every) = self.every else { return };
        if self.last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.last = Some(Instant::now());
        let line = line(name, now, tally, calls);
        if self.terminal {
            eprint!("\r{line}\x1b[K");
            // A terminal that is gone is no reason to stop.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    /// Takes the line away, before anything else is written.
    pub(super) fn clear(&mut self) {
        if self.every.is_some() && self.terminal && self.last.take().is_some() {
            eprint!("\r\x1b[K");
            let _ = std::io::stderr().flush();
        }
    }
}

fn line(name: &str, now: Duration, tally: &Tally, calls: u64) -> String {
    let Tally { busy, waiting, served, disabled, stuck } = tally;
    let midnight = Day::in_france(now).at_in_france(0);
    let second = now.saturating_sub(midnight).as_secs() % DAY_SECS;
    let clock = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    let standing = [
        ("served", served, true),
        ("busy", busy, true),
        ("waiting an hour", waiting, false),
        ("stopped", disabled, false),
        ("stuck", stuck, false),
    ];
    let told = standing.into_iter().filter(|(_, count, always)| *always || **count > 0);
    let told: Vec<_> = told.map(|(what, count, _)| format!("{what} {count}")).collect();
    format!("{name}, {clock}  {}  calls to Enedis {calls}", told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_time_boxes_and_calls() {
        let now = Day::from_epoch(20_780).at_in_france(8 * 3_600 + 65);
        let tally = Tally { busy: 3, served: 7, waiting: 2, ..Tally::default() };
        let told = line("day 2", now, &tally, 15);
        assert_eq!(told, "day 2, 08:01:05  served 7, busy 3, waiting an hour 2  calls to Enedis 15");
    }
}
