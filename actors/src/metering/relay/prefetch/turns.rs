//! Whose turn it is to ask, where several instances run: a turn lasts ten minutes, and whoever takes it first in the record
//! that all share has it. Who has one takes the next before it ends; others try some time after its beginning, when what
//! was under way has ended. A lone instance asks whatever the record says: a process that was killed may have the turn.

use std::time::Duration;

use crate::base::clock::Timestamp;

/// Length of a turn, and how long before its end the next is taken, in seconds.
const TURN: u64 = 600;
const AHEAD: u64 = 60;
/// How long into a turn others try, in seconds: longer than a call takes.
const GRACE: u64 = 15;
/// How long to wait before another try while the store is away.
const AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Turns {
    has_others: bool,
    /// The last turn that is ours, and the last that was tried.
    ours: u64,
    tried: u64,
    not_before: Timestamp,
    /// The clock hour in which the meters with a consent were last read, and when that may be tried.
    restored: Option<u64>,
    restore_at: Timestamp,
}

impl Turns {
    pub const fn share(&mut self, instances: u32) {
        self.has_others = instances > 1;
    }

    /// Whether the meters with a consent are to be read now: at the start, and each hour where boxes ask other instances.
    pub fn restore(&mut self, now: Timestamp) -> bool {
        let is_due = self.restored.is_none_or(|hour| self.has_others && hour != now.hour());
        let is_due = is_due && now >= self.restore_at;
        if is_due {
            self.restored = Some(now.hour());
        }
        is_due
    }

    /// They could not be read.
    pub fn not_restored(&mut self, now: Timestamp) {
        (self.restored, self.restore_at) = (None, now + AGAIN);
    }

    pub const fn is_ours(&self, now: Timestamp) -> bool {
        !self.has_others || self.ours == turn(now)
    }

    /// A turn to be taken now.
    pub fn claim(&mut self, now: Timestamp) -> Option<u64> {
        let (turn, into) = (turn(now), now.as_secs() % TURN);
        let wanted = if self.ours >= turn {
            (into >= TURN - AHEAD).then_some(turn + 1)
        } else {
            (into >= GRACE).then_some(turn)
        };
        let wanted = wanted.filter(|turn| *turn > self.tried && now >= self.not_before)?;
        self.tried = wanted;
        Some(wanted)
    }

    pub fn claimed(&mut self, now: Timestamp, turn: u64, is_ours: Option<bool>) {
        match is_ours {
            Some(true) => self.ours = self.ours.max(turn),
            Some(false) => {}
            None => (self.tried, self.not_before) = (turn - 1, now + AGAIN),
        }
    }

    /// When to look again, if there is something to ask.
    pub fn next_wake(&self, now: Timestamp, is_lacking: bool) -> Option<Timestamp> {
        let (begun, into) = (turn(now) * TURN, now.as_secs() % TURN);
        let at = |secs: u64| Timestamp::from_millis((begun + secs) * 1_000);
        let next = match () {
            () if self.ours >= turn(now) && into < TURN - AHEAD => at(TURN - AHEAD),
            () if into < GRACE => at(GRACE),
            () => at(TURN + GRACE),
        };
        let turn = (is_lacking && self.has_others).then(|| next.max(self.not_before));
        let restore = self.restored.is_none().then_some(self.restore_at);
        turn.into_iter().chain(restore).min()
    }
}

const fn turn(now: Timestamp) -> u64 {
    now.as_secs() / TURN
}
