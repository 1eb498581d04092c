//! Calls on their way to Enedis: whose turn it is, which API is asked, what is tried a second time, and what comes back
//! to the requests that wait.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::{ADMIT, Asked, COME_BACK, MeterRelay};
use crate::clock::Timestamp;
use crate::exchanger::{Acquired, NotDone};
use crate::meter::belief::Belief;
use crate::meter::civil::today;
use crate::meter::day::{Day, days_of};
use crate::meter::errors::{Cause, DataError, Gateway, Verdict, judge};
use crate::meter::mode::Api;
use crate::meter::queue::{Budget, Next};
use crate::meter::request::MeterRequest;
use crate::meter::translate::upstream_query;
use crate::upstream::{Answer, Bearer, CallError, MeterCall};

/// One attempt of one call.
struct Attempt {
    call: MeterRequest,
    api: Api,
    /// The other API, if it may be asked in place of the first.
    second: Option<Api>,
    /// The token that was not accepted a moment ago.
    rejected: Option<Bearer>,
}

/// How an attempt ended.
enum Tried {
    Sent(Result<Answer, CallError>, Bearer),
    NoToken(NotDone, Duration),
}

/// How a call ended, for those who wait for it.
enum Ended {
    Days(BTreeMap<jiff::civil::Date, Day>),
    Error(DataError),
    NoConsent,
    Trouble(Gateway),
}

impl MeterRelay {
    /// Sends what may be sent, answers what is too late, and sets the alarm for the rest.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let late = self.queue.expire(now);
        if !late.is_empty() {
            let down = self.governors[self.chooser.preferred(now) as usize].is_open(now);
            let why = if down { Gateway::Unavailable } else { Gateway::Busy { until: now + COME_BACK } };
            for id in late {
                self.give_up(id, why);
            }
        }
        let mut wake = None;
        loop {
            let api = self.chooser.preferred(now);
            match self.queue.next(now, &mut self.governors[api as usize]) {
                Next::Call(call) => {
                    let route = self.chooser.route(now);
                    self.attempt(Attempt { call, api, second: route.second, rejected: None }, ctx);
                }
                Next::Wait(wait) => {
                    self.shed(now, api, wait);
                    wake = (self.queue.waiting() > 0).then(|| now + wait);
                    break;
                }
                Next::Idle => break,
            }
        }
        if let Some(alarm) = self.wake.take() {
            ctx.cancel_future(alarm);
        }
        if let Some(at) = wake.into_iter().chain(self.queue.next_deadline()).min() {
            let wait = at.since(now).max(Duration::from_millis(1));
            self.wake = Some(ctx.run_later(wait, Self::pump));
        }
    }

    /// Answers at once those who would wait in vain, where waiting is of no use to the box either.
    fn shed(&mut self, now: Timestamp, api: Api, wait: Duration) {
        let down = self.governors[api as usize].is_open(now);
        if down || wait > ADMIT {
            let why = if down { Gateway::Unavailable } else { Gateway::Busy { until: now + wait } };
            for id in self.queue.shed(now + wait) {
                self.give_up(id, why);
            }
        }
    }

    fn give_up(&mut self, id: u64, why: Gateway) {
        // All calls of a request have one deadline, so that the others are given up as well.
        if let Some(mut asked) = self.asked.remove(&id) {
            asked.troubles.push(why);
            self.settle(asked, false);
        }
    }

    fn attempt(&mut self, attempt: Attempt, ctx: &mut Context<Self>) {
        self.governors[attempt.api as usize].begin();
        match attempt.api {
            Api::New => self.stats.new.calls += 1,
            Api::Legacy => self.stats.legacy.calls += 1,
        }
        let (exchanger, server, limit) =
            (self.exchanger.clone(), Rc::clone(&self.server), self.settings.attempt);
        let (api, rejected, query) =
            (attempt.api, attempt.rejected.clone(), upstream_query(attempt.api, attempt.call));
        let work = async move {
            let bearer = match exchanger.acquire(rejected).await {
                Acquired::Bearer(bearer) => bearer,
                Acquired::NotDone { why, retry_after } => return Tried::NoToken(why, retry_after),
            };
            let answer = server.get(MeterCall { api, query, bearer: bearer.clone() }, limit).await;
            Tried::Sent(answer, bearer)
        };
        ctx.spawn(work.into_actor(self).map(move |tried, act, ctx| {
            act.tried(attempt, tried, ctx);
            act.pump(ctx);
        }));
    }

    fn tried(&mut self, attempt: Attempt, tried: Tried, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Attempt { call, api, second, rejected } = attempt;
        let (answer, bearer) = match tried {
            Tried::Sent(answer, bearer) => (answer, bearer),
            Tried::NoToken(why, retry_after) => {
                // It says nothing of either API, and neither can be asked.
                self.governors[api as usize].withdrawn();
                for governor in &mut self.governors {
                    governor.no_token(now, retry_after);
                }
                let gateway = match why {
                    NotDone::Busy => Gateway::Busy { until: now + retry_after },
                    NotDone::Down => Gateway::Unavailable,
                };
                return self.finish(now, call, Verdict::Gateway(gateway), ctx);
            }
        };
        let verdict = judge(api, call, &answer, now);
        if let Some(report) = verdict.report() {
            self.chooser.report(now, api, report);
        }
        let governor = &mut self.governors[api as usize];
        if let Verdict::Gateway(gateway) = verdict {
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            tracing::warn!(
                ?api,
                status,
                ?gateway,
                resource = call.resource.name(),
                "a data call failed at the gateway"
            );
            match api {
                Api::New => self.stats.new.failed += 1,
                Api::Legacy => self.stats.legacy.failed += 1,
            }
            match gateway {
                Gateway::Unavailable => governor.failed(now),
                Gateway::Busy { until } => {
                    governor.answered();
                    governor.close_until(until);
                }
                Gateway::RenewToken | Gateway::NotThere => governor.answered(),
            }
            if gateway == Gateway::RenewToken && rejected.is_none() && governor.take(now).is_ok() {
                return self.attempt(Attempt { call, api, second, rejected: Some(bearer) }, ctx);
            }
            if let Some(other) = second.filter(|_| gateway.other_api_may_do())
                && self.governors[other as usize].take(now).is_ok()
            {
                return self.attempt(Attempt { call, api: other, second: None, rejected: None }, ctx);
            }
        } else {
            governor.answered();
        }
        self.finish(now, call, verdict, ctx);
    }

    /// Remembers what a call brought, and hands it to those who wait.
    fn finish(&mut self, now: Timestamp, call: MeterRequest, verdict: Verdict, ctx: &mut Context<Self>) {
        let today = today(now);
        let mut doubt = self.memory.doubt(call.meter, now);
        let ended = match verdict {
            Verdict::Data(answer) => {
                self.memory.set_doubt(call.meter, None, now);
                let days = days_of(call.resource, call.range, &answer.meter_reading);
                self.memory.keep_days(call, &days, today, now);
                Ended::Days(days)
            }
            Verdict::DataError(error) => {
                self.memory.set_doubt(call.meter, None, now);
                if error.cause() == Cause::NoData {
                    let empty = call.range.days().map(|day| (day, Day::default())).collect();
                    self.memory.keep_days(call, &empty, today, now);
                }
                self.memory.keep_refusal(call, &error, today, now);
                Ended::Error(error)
            }
            Verdict::NoConsent(error) => {
                tracing::warn!(code = error.code, meter = ?call.meter, "Enedis says that a consent is gone");
                // Whether it is believed depends on the age of each box's consent.
                doubt.refused(now, Timestamp::EPOCH);
                self.memory.set_doubt(call.meter, Some(doubt), now);
                Ended::NoConsent
            }
            // Renewed once, and in vain.
            Verdict::Gateway(Gateway::RenewToken) => Ended::Trouble(Gateway::Unavailable),
            Verdict::Gateway(gateway) => Ended::Trouble(gateway),
        };
        self.memory.flush(ctx);
        for id in self.queue.finish(now, &call) {
            let Some(asked) = self.asked.get_mut(&id) else { continue };
            asked.outstanding -= 1;
            match &ended {
                Ended::Days(days) => asked.days.extend(days.clone()),
                Ended::Error(error) => asked.errors.push(error.clone()),
                Ended::NoConsent if doubt.judge(now, asked.consented) == Belief::Gone => {
                    asked.errors.push(DataError::no_consent());
                }
                Ended::NoConsent => asked.troubles.push(Gateway::Unavailable),
                Ended::Trouble(gateway) => asked.troubles.push(*gateway),
            }
            if asked.outstanding == 0
                && let Some(asked) = self.asked.remove(&id)
            {
                let asked: Asked = asked;
                self.settle(asked, false);
            }
        }
    }
}
