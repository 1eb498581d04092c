//! Owns the levers of a running simulator.

use std::collections::VecDeque;
use std::time::Duration;

use super::book::{GrantState, authorisation};
use super::{Counts, Endpoint, Fault, Resource, Seen, Simulator};
use crate::calendar::Day;

impl Simulator {
    /// Registers the redirect URI, once the port of the proxy is known.
    pub fn set_callback(&self, url: impl Into<String>) {
        self.book().callback = Some(url.into());
    }

    /// Appends faults for `endpoint`; each request consumes one, and passes when none is left.
    pub fn script(&self, endpoint: Endpoint, faults: impl IntoIterator<Item = Fault>) {
        self.book().scripts.entry(endpoint).or_default().extend(faults);
    }

    /// Scripted faults of `endpoint` that no request has consumed yet.
    pub fn faults_left(&self, endpoint: Endpoint) -> usize {
        self.book().scripts.get(&endpoint).map_or(0, VecDeque::len)
    }

    /// Forgets the scripted faults of `endpoint` that no request has consumed yet.
    pub fn clear_script(&self, endpoint: Endpoint) {
        self.book().scripts.remove(&endpoint);
    }

    /// Commits `fault` on every request to `endpoint` that no scripted fault is left for, until told `None`.
    pub fn set_outage(&self, endpoint: Endpoint, fault: Option<Fault>) {
        let mut book = self.book();
        match fault {
            Some(fault) => book.outages.insert(endpoint, fault),
            None => book.outages.remove(&endpoint),
        };
    }

    /// [`Simulator::set_outage`] on every endpoint: Enedis is down, or closed for the night.
    pub fn set_outage_everywhere(&self, fault: Option<&Fault>) {
        for endpoint in Endpoint::ALL {
            self.set_outage(endpoint, fault.cloned());
        }
    }

    /// Answers `GET path` with this status and JSON to whoever has an application token; such requests are in
    /// [`Seen::pages`].
    pub fn set_page(&self, path: impl Into<String>, status: u16, body: &serde_json::Value) {
        self.book().pages.insert(path.into(), (status, body.to_string()));
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.book().seen.clone()
    }

    /// What it has seen since the last [`Simulator::reset_counts`], in numbers.
    pub fn counts(&self) -> Counts {
        self.book().counts()
    }

    /// Starts [`Simulator::counts`] anew; the quota stays as it is.
    pub fn reset_counts(&self) {
        self.book().reset_counts();
    }

    /// Token requests being handled at this moment, hanging ones included.
    pub fn token_requests_in_flight(&self) -> usize {
        self.book().in_flight
    }

    /// Sets today's date for Enedis; `None`: the real one.
    pub fn set_today(&self, today: Option<Day>) {
        self.book().today = today;
    }

    /// Today's date for Enedis.
    pub fn today(&self) -> Day {
        self.book().today()
    }

    /// Puts the simulator's clock so far ahead of the wall's: quota windows, the times in its answers, the age of the
    /// application's tokens, and today unless [`Simulator::set_today`] names it.
    pub fn set_clock_ahead(&self, ahead: Duration) {
        self.book().clock_ahead = ahead;
    }

    /// The simulator's clock, since 1970 (UTC).
    pub fn now(&self) -> Duration {
        self.book().now()
    }

    /// Leaves the services of every authorisation unlisted for its first `questions` questions after the consent.
    pub fn set_services_empty_first(&self, questions: u32) {
        self.book().services_empty_first = questions;
    }

    /// Notes a consent for usage point `point` as if its holder had given it today; returns the authorisation.
    pub fn grant(&self, point: &str) -> i64 {
        self.book().grant(&self.options().client_id, point, false)
    }

    /// Takes back the consent for usage point `point`: its data is refused and its services are over.
    pub fn revoke(&self, point: &str) {
        if let Some(grant) = self.book().grants.get_mut(point) {
            grant.state = GrantState::Ended;
        }
    }

    /// Refuses the direction of `resource` of usage point `point` in these APIs alone, as if the consent were not for it.
    pub fn refuse(&self, point: &str, resource: Resource, apis: &[Endpoint]) {
        let mut book = self.book();
        book.refused.retain(|(of, direction, _)| of != point || *direction != resource.direction());
        book.refused.extend(apis.iter().map(|api| (point.to_owned(), resource.direction(), *api)));
    }

    /// Says since when usage point `point` has the direction of `resource`: who asks about days before is refused.
    pub fn activate(&self, point: &str, resource: Resource, since: Day) {
        self.book().activated.insert((point.to_owned(), resource.direction()), since);
    }

    /// The authorisation that the application gets for usage point `point`, whether or not it was given.
    pub fn authorisation(&self, point: &str) -> i64 {
        authorisation(&self.options().client_id, point)
    }
}
