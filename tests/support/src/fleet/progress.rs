//! Owns what is told of a fleet that is under way.

use std::time::Duration;

use super::crowd::Tally;
use crate::calendar::Day;

/// Of the day called `name`, when the clock (since 1970) says so late, boxes stand there, and so many calls were made.
pub(super) fn line(name: &str, now: Duration, tally: &Tally, calls: u64) -> String {
    let Tally { busy, waiting, served, disabled, stuck } = tally;
    let second = now.saturating_sub(Day::in_france(now).at_in_france(0)).as_secs();
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
