//! Calls on their way to Enedis: whose turn it is, which API is asked, what is tried a second time, and what comes back
//! to the requests that wait.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use jiff::civil::Date;

use super::memory::Moment;
use super::{COME_BACK, MeterRelay};
use crate::base::clock::Timestamp;
use crate::enedis::exchanger::{Acquired, NotDone};
use crate::enedis::port::Bearer;
use crate::limits::fair_queue::{Next, Priority};
use crate::limits::quota::CLOSED_MAX;
use crate::metering::api_choice::{Api, Report};
use crate::metering::civil::today;
use crate::metering::day::{Day, days_of};
use crate::metering::queue::{self, ADMIT};
use crate::metering::refusals::{Belief, ConsentDoubt, is_young};
use crate::metering::request::{DayRange, MeterRequest};
use crate::metering::resource_server::{Cause, DataError, MeterCall, Verdict};
use crate::metering::split::Trouble;

/// How long a token is used before the exchanger is asked for it again.
const BEARER_HELD: Duration = Duration::from_secs(5);
/// How often callers that have hung up are looked for.
const LOOK_FOR_GONE: Duration = Duration::from_millis(500);
/// Bounds of the pause for want of a token: Enedis' token endpoint may be back before its `Retry-After`.
const NO_TOKEN_MIN: Duration = Duration::from_millis(100);
const NO_TOKEN_MAX: Duration = Duration::from_secs(60);

/// One attempt of one call.
#[derive(Clone, Copy)]
struct Attempt {
    call: MeterRequest,
    api: Api,
    /// The other API, if it may be asked in place of the first.
    second: Option<Api>,
}

/// How a call ended, for those who wait for it.
enum Ended {
    Days(BTreeMap<Date, Day>),
    Error(DataError),
    /// An error that may be about days nobody asked for: this is asked in its place.
    OfOtherDays(MeterRequest),
    NoConsent(ConsentDoubt),
    Trouble(Trouble),
}

impl MeterRelay {
    /// Sends what may be sent, answers what is too late, and sets the alarm for the rest.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        self.leave_out_the_gone(now);
        let late = self.queue.expire(now);
        if !late.is_empty() {
            let down = self.allowances[self.chooser.preferred(now) as usize].is_open(now);
            let why = if down { Trouble::Down } else { Trouble::Busy { until: now + COME_BACK } };
            for id in late {
                self.give_up(id, why);
            }
        }
        let wake = if let Some(bearer) = self.bearer(now) {
            self.send_what_is_due(now, &bearer, ctx)
        } else if now < self.no_token_until {
            (self.queue.waiting() > 0).then_some(self.no_token_until)
        } else {
            self.acquire(ctx);
            None
        };
        if let Some(alarm) = self.wake.take() {
            ctx.cancel_future(alarm);
        }
        if let Some(at) = wake.into_iter().chain(self.queue.next_wake()).min() {
            let wait = at.since(now).max(Duration::from_millis(1));
            self.wake = Some(ctx.run_later(wait, Self::pump));
        }
    }

    /// Sends in turn what the quota allows; when there is more to do.
    fn send_what_is_due(
        &mut self,
        now: Timestamp,
        bearer: &Bearer,
        ctx: &mut Context<Self>,
    ) -> Option<Timestamp> {
        loop {
            let api = self.chooser.preferred(now);
            match self.queue.next(now, |_| self.allowances[api as usize].take(now, 0)) {
                Next::Call(call) => {
                    let route = self.chooser.route(now);
                    self.attempt(Attempt { call, api, second: route.second }, bearer.clone(), ctx);
                }
                Next::Wait(_, wait) => {
                    self.shed(now, api, wait);
                    return (self.queue.waiting() > 0).then(|| now + wait);
                }
                Next::Idle => return None,
            }
        }
    }

    /// Calls for which nobody waits any more are not sent. Looked at now and then: callers that hang up say nothing.
    fn leave_out_the_gone(&mut self, now: Timestamp) {
        if now.since(self.looked_for_gone) < LOOK_FOR_GONE {
            return;
        }
        self.looked_for_gone = now;
        self.asked.retain(|_, asked| !asked.reply.is_abandoned());
        let asked = &self.asked;
        self.queue.retain_waiters(|id| asked.contains_key(id));
    }

    /// The application's token, if it was acquired a moment ago: a call that has its turn is sent at once, so that the
    /// second it is counted in is the second it is sent in.
    fn bearer(&self, now: Timestamp) -> Option<Bearer> {
        let held = self.bearer.as_ref().filter(|(_, at)| now.since(*at) < BEARER_HELD);
        held.map(|(bearer, _)| bearer.clone())
    }

    /// Asks for the token, once at a time, if there is anything to send.
    fn acquire(&mut self, ctx: &mut Context<Self>) {
        if self.acquiring || self.queue.waiting() == 0 {
            return;
        }
        self.acquiring = true;
        let (exchanger, rejected) = (self.exchanger.clone(), self.rejected.take());
        let work = async move { exchanger.acquire(rejected).await };
        ctx.spawn(work.into_actor(self).map(move |acquired, act, ctx| {
            let now = act.clock.now();
            act.acquiring = false;
            match acquired {
                Acquired::Bearer(bearer) => act.bearer = Some((bearer, now)),
                Acquired::NotDone { why, retry_after } => act.no_token(now, why, retry_after),
            }
            act.pump(ctx);
        }));
    }

    /// There is no token: it says nothing of either API, and neither can be asked before there may be one.
    fn no_token(&mut self, now: Timestamp, why: NotDone, retry_after: Duration) {
        let retry_after = retry_after.clamp(NO_TOKEN_MIN, NO_TOKEN_MAX);
        self.no_token_until = now + retry_after;
        for allowance in &mut self.allowances {
            allowance.no_token(now, retry_after);
        }
        let trouble = match why {
            NotDone::Busy => Trouble::Busy { until: now + retry_after },
            NotDone::Down => Trouble::Down,
        };
        for id in self.queue.shed(now + retry_after, Priority::High) {
            self.give_up(id, trouble);
        }
    }

    /// Answers at once those who would wait in vain, where waiting is of no use to the box either.
    fn shed(&mut self, now: Timestamp, api: Api, wait: Duration) {
        let down = self.allowances[api as usize].is_open(now);
        if down || wait > ADMIT {
            let why = if down { Trouble::Down } else { Trouble::Busy { until: now + wait } };
            for id in self.queue.shed(now + wait, Priority::High) {
                self.give_up(id, why);
            }
        }
    }

    fn give_up(&mut self, id: u64, why: Trouble) {
        // All calls of a request have one deadline, so that the others are given up as well.
        if let Some(mut asked) = self.asked.remove(&id) {
            asked.troubles.push(why);
            self.settle(asked, false);
        }
    }

    fn attempt(&mut self, attempt: Attempt, bearer: Bearer, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Attempt { call, api, .. } = attempt;
        let allowance = &mut self.allowances[api as usize];
        allowance.begin(now);
        let usage = allowance.usage();
        match api {
            Api::New => self.stats.new.calls += 1,
            Api::Legacy => self.stats.legacy.calls += 1,
        }
        self.caps.count(call.meter, now);
        self.memory.keep_usage(api, usage, now);
        self.memory.flush(ctx);
        let call = MeterCall { api, request: call, bearer: bearer.clone() };
        let (server, limit) = (Rc::clone(&self.server), self.settings.attempt);
        let read = async move { server.read(call, limit).await };
        ctx.spawn(read.into_actor(self).map(move |verdict, act, ctx| {
            act.answered(attempt, verdict, bearer, ctx);
            act.pump(ctx);
        }));
    }

    fn answered(&mut self, attempt: Attempt, verdict: Verdict, bearer: Bearer, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Attempt { call, api, second } = attempt;
        if verdict == Verdict::TokenRejected {
            tracing::warn!(?api, "the application's token is not accepted");
            if self.bearer.as_ref().is_some_and(|(held, _)| *held == bearer) {
                self.bearer = None;
            }
            self.rejected = Some(bearer.clone());
            // The token is replaced, if it is not quite new, and the call sent again ahead of all others, once.
            if self.queue.attempts(&call) == 1 {
                self.queue.put_back(&call, now);
                return self.allowances[api as usize].withdrawn();
            }
        }
        let (report, trouble) = match &verdict {
            Verdict::Values(_) | Verdict::DataError(_) | Verdict::ConsentRefused { .. } => {
                (Report::Works, None)
            }
            Verdict::Busy { until } => (Report::Works, Some(Trouble::Busy { until: *until })),
            Verdict::Closed => (Report::NotThere, Some(Trouble::Closed)),
            Verdict::TokenRejected | Verdict::Down { .. } => (Report::Trouble, Some(Trouble::Down)),
        };
        self.chooser.report(now, api, report);
        let Some(trouble) = trouble else {
            self.allowances[api as usize].answered();
            return self.finish(now, call, verdict, ctx);
        };
        match api {
            Api::New => self.stats.new.failed += 1,
            Api::Legacy => self.stats.legacy.failed += 1,
        }
        // Never because of the quota: that is one reason to leave Enedis alone, not two to ask it twice.
        let other = second.filter(|_| matches!(trouble, Trouble::Closed | Trouble::Down));
        let other = other.filter(|other| self.allowances[*other as usize].take(now, 0).is_ok());
        let allowance = &mut self.allowances[api as usize];
        match verdict {
            // Closed, and known to be so where another serves: no trouble.
            Verdict::Closed if other.is_some() => allowance.withdrawn(),
            Verdict::Busy { until } => {
                allowance.answered();
                allowance.close_until(until);
            }
            Verdict::Down { retry_at: Some(at) } => {
                allowance.failed(now);
                allowance.close_until(at.min(now + CLOSED_MAX));
            }
            _ => allowance.failed(now),
        }
        match other {
            Some(other) => self.attempt(Attempt { call, api: other, second: None }, bearer, ctx),
            None => self.finish(now, call, verdict, ctx),
        }
    }

    /// Remembers what a call brought, and hands it to those who wait.
    fn finish(&mut self, now: Timestamp, call: MeterRequest, verdict: Verdict, ctx: &mut Context<Self>) {
        let mut waiters = self.queue.finish(now, &call);
        // A call that was begun earlier than anybody asked for: its error may be about the days before.
        let begins = |id: &u64| self.asked.get(id).map(|asked| asked.request.range.start());
        let narrow = waiters.iter().filter_map(begins).min().filter(|start| *start > call.range.start());
        let consented = |id: &u64| self.asked.get(id).map(|asked| asked.consented);
        let consented = waiters.iter().filter_map(consented).max().unwrap_or(Timestamp::EPOCH);
        let at = Moment { now, today: today(now), consented };
        let ended = self.remember(at, call, narrow, verdict);
        self.memory.flush(ctx);
        if matches!(ended, Ended::NoConsent(_)) {
            if is_young(now, consented) && !self.census.has_answered(call.meter, now) {
                self.caps.refused(now);
            }
            // Its other calls would end like this one.
            waiters.extend(self.queue.cancel(&call.meter));
        }
        for id in waiters {
            let Some(asked) = self.asked.get_mut(&id) else { continue };
            asked.outstanding -= 1;
            match &ended {
                Ended::Days(days) => asked.days.extend(days.clone()),
                Ended::Error(error) => asked.errors.push(error.clone()),
                Ended::OfOtherDays(narrow) => self.ask_again(now, id, *narrow),
                Ended::NoConsent(doubt) => {
                    let gone = doubt.judge(now, asked.consented) == Belief::Gone;
                    if gone && !self.census.is_mass(now) {
                        asked.errors.push(DataError::no_consent());
                    } else {
                        asked.troubles.push(Trouble::Down);
                    }
                }
                Ended::Trouble(trouble) => asked.troubles.push(*trouble),
            }
            if self.asked.get(&id).is_some_and(|asked| asked.outstanding == 0)
                && let Some(asked) = self.asked.remove(&id)
            {
                self.settle(asked, false);
            }
        }
    }

    fn remember(&mut self, at: Moment, call: MeterRequest, narrow: Option<Date>, verdict: Verdict) -> Ended {
        let now = at.now;
        match verdict {
            Verdict::Values(reading) => {
                self.consent_stands(call, now);
                let days = days_of(call.resource, call.range, &reading);
                self.memory.keep_days(call, &days, at);
                Ended::Days(days)
            }
            Verdict::DataError(error) => {
                self.consent_stands(call, now);
                let of_days = !matches!(error.cause, Cause::NoData | Cause::NoDirection);
                let narrowed = narrow.and_then(|start| DayRange::new(start, call.range.end()));
                if let Some(range) = narrowed.filter(|_| of_days) {
                    self.memory.set_since(call, range.start(), now);
                    return Ended::OfOtherDays(call.with_range(range));
                }
                if error.cause == Cause::NoData {
                    let empty = call.range.days().map(|day| (day, Day::default())).collect();
                    self.memory.keep_days(call, &empty, at);
                }
                self.memory.keep_refusal(call, &error, at);
                Ended::Error(error)
            }
            Verdict::ConsentRefused { code } => {
                let meter = call.meter;
                self.census.refused(meter, now);
                let mass = self.census.is_mass(now);
                tracing::warn!(code, ?meter, mass, "Enedis says that a consent is gone");
                let mut doubt = self.memory.doubt(meter, at);
                if mass {
                    doubt.put_off(now);
                } else {
                    // Whether it is believed depends on the age of each box's consent.
                    doubt.refused(now, Timestamp::EPOCH);
                }
                self.memory.set_doubt(meter, Some(doubt), now);
                Ended::NoConsent(doubt)
            }
            Verdict::Busy { until } => Ended::Trouble(Trouble::Busy { until }),
            Verdict::Closed => Ended::Trouble(Trouble::Closed),
            Verdict::TokenRejected | Verdict::Down { .. } => Ended::Trouble(Trouble::Down),
        }
    }

    fn consent_stands(&mut self, call: MeterRequest, now: Timestamp) {
        self.census.answered(call.meter, now);
        self.memory.set_doubt(call.meter, None, now);
    }

    /// Puts the narrower call in line for the request `id`.
    fn ask_again(&mut self, now: Timestamp, id: u64, call: MeterRequest) {
        let priority = queue::priority(call, today(now));
        let allowance = &self.allowances[self.chooser.preferred(now) as usize];
        let offered = self.queue.offer(now, &call.meter, &call, priority, id, |ahead, limit| {
            allowance.look_ahead(now, ahead, limit)
        });
        let Some(asked) = self.asked.get_mut(&id) else { return };
        match offered {
            Ok(_) => asked.outstanding += 1,
            Err(retry_after) => asked.troubles.push(Trouble::Busy { until: now + retry_after }),
        }
    }
}
