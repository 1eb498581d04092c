//! Owns the levers of a running simulator that concern data, consents and the quota.

use std::time::Duration;

use super::consents;
use super::{AUTHORIZE_V2_PATH, Api, Counts, Endpoint, Fault, SERVICES_PATH, Simulator};
use crate::calendar::Day;

impl Simulator {
    /// URL of the consent page of version 2, which returns an authorisation and no meter.
    pub fn authorize_v2_url(&self) -> String {
        format!("{}{AUTHORIZE_V2_PATH}", self.base_url())
    }

    /// URL of the service that tells which meter an authorisation is for.
    pub fn services_url(&self) -> String {
        format!("{}{SERVICES_PATH}", self.base_url())
    }

    /// Commits `fault` on every request to `endpoint` that no scripted fault is left for, until told `None`.
    pub fn set_outage(&self, endpoint: Endpoint, fault: Option<Fault>) {
        let mut book = self.shared.book();
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

    /// Sets today's date for Enedis; `None`: the real one.
    pub fn set_today(&self, today: Option<Day>) {
        self.shared.book().today = today;
    }

    /// Today's date for Enedis.
    pub fn today(&self) -> Day {
        self.shared.book().today()
    }

    /// Puts the simulator's clock so far ahead of the wall's: quota windows, the times in its answers, the age of the
    /// application's tokens, and today unless [`Simulator::set_today`] names it.
    pub fn set_clock_ahead(&self, ahead: Duration) {
        self.shared.book().clock_ahead = ahead;
    }

    /// The simulator's clock, since 1970 (UTC).
    pub fn now(&self) -> Duration {
        self.shared.book().now()
    }

    /// Sets the first day whose data is not out yet; `None`: today, so that yesterday's data is.
    pub fn set_published_until(&self, day: Option<Day>) {
        self.shared.book().published_until = day;
    }

    /// Gives or takes the application's subscription to `api`; without it, the gateway answers 403 900908.
    pub fn set_subscribed(&self, api: Api, subscribed: bool) {
        let mut book = self.shared.book();
        if subscribed {
            book.unsubscribed.remove(&api);
        } else {
            book.unsubscribed.insert(api);
        }
    }

    /// Leaves the services of every authorisation unlisted for its first `questions` questions after the consent.
    pub fn set_services_empty_first(&self, questions: u32) {
        self.shared.book().grants.empty_first = questions;
    }

    /// Notes a consent for usage point `point` as if its holder had given it today; returns the authorisation.
    pub fn grant(&self, point: &str) -> i64 {
        let mut book = self.shared.book();
        let today = book.today();
        book.grants.give(point, today, false)
    }

    /// Takes back the consent for usage point `point`: its data is refused and its services are over.
    pub fn revoke(&self, point: &str) {
        self.shared.book().grants.end(point);
    }

    /// The authorisation that the application gets for usage point `point`, whether or not it was given.
    pub fn authorisation(&self, point: &str) -> i64 {
        consents::authorisation(&self.options().client_id, point)
    }

    /// Ends the life of every token of the application.
    pub fn expire_application_tokens(&self) {
        self.shared.book().expire_application_tokens();
    }

    /// What reached the gateway, in numbers.
    pub fn counts(&self) -> Counts {
        self.shared.book().counts.clone()
    }

    /// Starts [`Simulator::counts`] anew; quota windows stay as they are.
    pub fn reset_counts(&self) {
        self.shared.book().counts = Counts::default();
    }
}
