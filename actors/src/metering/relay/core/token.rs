//! The application's token as the relay holds it.

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::enedis::port::Bearer;

/// How long a token is used before it is asked for again.
const HELD: Duration = Duration::from_secs(5);

/// A token that was acquired a moment ago is used without another question: a call that has its turn is sent at once, so
/// that the second it is counted in is the second it is sent in.
#[derive(Default)]
pub(super) struct HeldToken {
    held: Option<(Bearer, Timestamp)>,
    /// One that has just not been accepted.
    rejected: Option<Bearer>,
    acquiring: bool,
    /// Until then there is none, and it is not asked for.
    pub none_until: Timestamp,
}

impl HeldToken {
    /// The token, if it was acquired a moment ago.
    pub fn get(&self, now: Timestamp) -> Option<Bearer> {
        let held = self.held.as_ref().filter(|(_, at)| now.since(*at) < HELD);
        held.map(|(bearer, _)| bearer.clone())
    }

    /// It has to be asked for. Whether that is to be done now: it may be under way.
    pub const fn acquire(&mut self) -> bool {
        !std::mem::replace(&mut self.acquiring, true)
    }

    /// The one that has just not been accepted, for the question for another.
    pub const fn take_rejected(&mut self) -> Option<Bearer> {
        self.rejected.take()
    }

    /// The question has been answered: with it, or with a time before which there is none.
    pub fn came(&mut self, now: Timestamp, answer: Result<Bearer, Timestamp>) {
        self.acquiring = false;
        match answer {
            Ok(bearer) => self.held = Some((bearer, now)),
            Err(none_until) => self.none_until = none_until,
        }
    }

    /// `bearer` was not accepted.
    pub fn reject(&mut self, bearer: &Bearer) {
        self.held.take_if(|(held, _)| held == bearer);
        self.rejected = Some(bearer.clone());
    }
}
