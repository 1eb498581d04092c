//! Owns the consents given: which meter, under which authorisation, since when, and whether it still stands.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use crate::calendar::Day;

/// An authorisation that exists, but of another application: asking for it is answered 403.
pub const FOREIGN_AUTHORISATION: i64 = 424_242_424_242;

/// The consents of one application.
#[derive(Debug)]
pub(super) struct Grants {
    client_id: String,
    /// For how many questions after a consent its services stay unlisted.
    pub(super) empty_first: u32,
    by_point: HashMap<String, Grant>,
}

/// One consent for one meter.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) point: String,
    pub(super) authorisation: i64,
    pub(super) since: Day,
    pub(super) state: State,
    /// Times it was asked for since the consent.
    questions: u32,
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Given.
    Active,
    /// Taken back a moment ago: still listed, data is refused already.
    Fading,
    /// Taken back.
    Ended,
}

impl Grants {
    pub(super) fn new(client_id: &str, empty_first: u32) -> Self {
        Self { client_id: client_id.to_owned(), empty_first, by_point: HashMap::new() }
    }

    /// Notes a consent for `point` and returns its authorisation, which is the same each time.
    pub(super) fn give(&mut self, point: &str, since: Day, fades: bool) -> i64 {
        let authorisation = authorisation(&self.client_id, point);
        let state = if fades { State::Fading } else { State::Active };
        let grant = Grant { point: point.to_owned(), authorisation, since, state, questions: 0 };
        self.by_point.insert(point.to_owned(), grant);
        authorisation
    }

    /// Ends the consent for `point`, if there is one.
    pub(super) fn end(&mut self, point: &str) {
        if let Some(grant) = self.by_point.get_mut(point) {
            grant.state = State::Ended;
        }
    }

    /// Tells whether data of `point` may be given out.
    pub(super) fn allows(&self, point: &str) -> bool {
        self.by_point.get(point).is_some_and(|grant| grant.state == State::Active)
    }

    /// The consent under `authorisation`, and whether its services are listed yet. Each call counts as a question.
    pub(super) fn ask(&mut self, authorisation: i64) -> Option<(Grant, bool)> {
        let empty_first = self.empty_first;
        let grant = self.by_point.values_mut().find(|grant| grant.authorisation == authorisation)?;
        grant.questions += 1;
        Some((grant.clone(), grant.questions > empty_first))
    }
}

/// The number of the authorisation that `client_id` has for `point`: positive, and often too large for a double,
/// as an int64 may be.
pub(super) fn authorisation(client_id: &str, point: &str) -> i64 {
    let digest = Sha256::digest(format!("{client_id}\n{point}").as_bytes());
    let bytes: [u8; 8] = digest[..8].try_into().unwrap_or_default();
    i64::from_be_bytes(bytes) & i64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorisation_is_stable_and_listed_after_a_while() {
        let mut grants = Grants::new("app", 2);
        let today = Day::from_epoch(20_000);
        let id = grants.give("1", today, false);
        assert_ne!(id, authorisation("other", "1"));
        let listed = [(); 3].map(|()| grants.ask(id).map(|(grant, listed)| (grant.point, listed)));
        assert_eq!(listed, [false, false, true].map(|listed| Some(("1".to_owned(), listed))));
        assert!(grants.ask(id + 1).is_none());
        assert!(grants.allows("1") && !grants.allows("2"));
        grants.end("1");
        assert!(!grants.allows("1"));
        assert_eq!(grants.give("1", today, true), id);
        assert!(!grants.allows("1"), "taken back at once");
    }
}
