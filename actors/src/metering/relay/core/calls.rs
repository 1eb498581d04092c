//! Calls on their way to Enedis: whose turn it is, which API is asked, what is tried a second time, and what comes back
//! to the requests that wait.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;

use super::{COME_BACK, Core, Effect, Question, Waiting};
use crate::base::clock::Timestamp;
use crate::enedis::exchanger::{Acquired, NotDone};
use crate::enedis::port::Bearer;
use crate::limits::fair_queue::{Next, Priority};
use crate::limits::quota::CLOSED_MAX;
use crate::metering::api_choice::{Api, Report};
use crate::metering::civil::today;
use crate::metering::day::{Day, days_of};
use crate::metering::queue::ADMIT;
use crate::metering::refusals::{Judgement, RefusalHistory, is_young};
use crate::metering::request::{DayRange, MeterRequest};
use crate::metering::resource_server::{Cause, DataError, MeterCall, Verdict};
use crate::metering::split::{self, Trouble};

const A_DAY: Duration = Duration::from_secs(86_400);
/// Bounds of the pause for want of a token: Enedis' token endpoint may be back before its `Retry-After`.
const NO_TOKEN_MIN: Duration = Duration::from_millis(100);
const NO_TOKEN_MAX: Duration = Duration::from_secs(60);

/// A call as it is sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: MeterRequest,
    pub api: Api,
    pub bearer: Bearer,
    /// The other API, if it may be asked in place of this one.
    second: Option<Api>,
    /// With this code the other API has said that there is no consent.
    refused: Option<String>,
}

impl Call {
    /// The question for the port.
    pub fn question(&self) -> MeterCall {
        MeterCall { api: self.api, request: self.request, bearer: self.bearer.clone() }
    }
}

/// How a call ended, for those who wait for it.
enum Outcome {
    Days(BTreeMap<Date, Day>),
    Error(DataError),
    /// An error that may be about some of its days: this is asked in its place, unless it is known.
    OfOtherDays(MeterRequest, DataError),
    /// With the history of its direction, and of the other one.
    ConsentRefused([RefusalHistory; 2]),
    Trouble(Trouble),
}

impl Core {
    /// Sends what may be sent, answers what is too late, and sets the alarm for the rest.
    pub(super) fn pump(&mut self, now: Timestamp) {
        let late = self.queue.expire(now);
        if !late.is_empty() {
            let why = if self.is_down(now) { Trouble::Down } else { Trouble::Busy(now + COME_BACK) };
            self.give_up(now, late, why);
        }
        let own = self.ask_own(now);
        let wake = if let Some(bearer) = self.token.get(now) {
            self.send_due(now, &bearer)
        } else if self.queue.waiting() == 0 {
            None
        } else if now < self.token.none_until {
            Some(self.token.none_until)
        } else {
            if self.token.acquire() {
                self.effects.push(Effect::AcquireToken { rejected: self.token.take_rejected() });
            }
            None
        };
        let wake = wake.into_iter().chain(own).chain(self.queue.next_wake());
        self.effects.push(Effect::WakeAt(wake.min()));
    }

    /// Sends in turn what the quota allows; when there is more to do.
    fn send_due(&mut self, now: Timestamp, bearer: &Bearer) -> Option<Timestamp> {
        loop {
            let api = self.chooser.preferred(now);
            match self.queue.next(now, |_| self.allowances[api as usize].take(now, 0)) {
                Next::Call(request) => {
                    let second = self.chooser.route(now).second;
                    self.send(now, Call { request, api, bearer: bearer.clone(), second, refused: None });
                }
                Next::Wait(_, wait) => {
                    // Who would wait in vain is answered at once, where waiting is of no use to the box either.
                    let down = self.allowances[api as usize].is_open(now);
                    if down || wait > ADMIT {
                        let why = if down { Trouble::Down } else { Trouble::Busy(now + wait) };
                        let shed = self.queue.shed(now + wait, Priority::High);
                        self.give_up(now, shed, why);
                    }
                    return (self.queue.waiting() > 0).then(|| now + wait);
                }
                Next::Idle => return None,
            }
        }
    }

    fn send(&mut self, now: Timestamp, call: Call) {
        let allowance = &mut self.allowances[call.api as usize];
        allowance.begin(now);
        self.stats.apis[call.api as usize].calls += 1;
        self.shares.count(call.request.meter, now);
        self.effects.push(Effect::Send(call));
    }

    /// There is a token; or there is none, which says nothing of either API, but neither can be asked meanwhile.
    pub(super) fn token_came(&mut self, now: Timestamp, acquired: Acquired) {
        let (why, retry_after) = match acquired {
            Acquired::Bearer(bearer) => return self.token.came(now, Ok(bearer)),
            Acquired::NotDone { why, retry_after } => (why, retry_after.clamp(NO_TOKEN_MIN, NO_TOKEN_MAX)),
        };
        let until = now + retry_after;
        self.token.came(now, Err(until));
        for allowance in &mut self.allowances {
            allowance.no_token(now, retry_after);
        }
        let why = match why {
            NotDone::Busy => Trouble::Busy(until),
            NotDone::Down | NotDone::NotAccepted => Trouble::Down,
        };
        let shed = self.queue.shed(until, Priority::High);
        self.give_up(now, shed, why);
    }

    /// All calls of a request have one deadline, so that with one of them the others are given up as well.
    fn give_up(&mut self, now: Timestamp, ids: Vec<u64>, why: Trouble) {
        for id in ids {
            if let Some(mut waiting) = self.waiting.remove(&id) {
                waiting.troubles.push(why);
                self.settle(now, id, &waiting);
            }
        }
    }

    /// A call has ended: it is sent anew with another token, put to the other API, or finished.
    pub(super) fn ended(&mut self, now: Timestamp, call: Call, verdict: Verdict) {
        let Call { request, api, bearer, second, refused } = call;
        let allowance = &mut self.allowances[api as usize];
        if verdict == Verdict::TokenRejected {
            tracing::warn!(?api, "the application's token is not accepted");
            self.token.reject(&bearer);
            // The token is replaced, if it is not quite new, and the call sent again ahead of all others, once.
            if self.queue.attempts(&request) == 1 {
                self.queue.put_back(&request, now);
                return allowance.withdrawn(now);
            }
        }
        let (report, trouble) = match verdict {
            Verdict::Values(_) | Verdict::DataError(_) | Verdict::ConsentRefused { .. } => {
                self.works(now, api);
                self.troubles.ended(request);
                // A consent that is missing in one API only is none that was withdrawn: the other one is asked.
                let (Verdict::ConsentRefused { code }, Some(other)) = (&verdict, second) else {
                    return self.finish(now, request, verdict);
                };
                return match self.allowances[other as usize].take_on_credit(now) {
                    Ok(()) => {
                        let refused = Some(code.clone());
                        self.send(now, Call { request, api: other, bearer, second: None, refused });
                    }
                    Err(wait) => self.finish(now, request, Verdict::Busy { until: now + wait }),
                };
            }
            Verdict::Busy { until } => (Report::Works, Trouble::Busy(until)),
            Verdict::Closed => (Report::NotThere, Trouble::Closed),
            Verdict::TokenRejected | Verdict::Down { .. } => (Report::Trouble, Trouble::Down),
        };
        let is_news = verdict == Verdict::TokenRejected || self.troubles.is_news(api, request.meter);
        self.chooser.report(now, api, report, is_news);
        self.stats.apis[api as usize].failed += 1;
        // The other API, but never because of the quota: that is one reason to leave Enedis alone, not two to ask twice.
        let other = second.filter(|other| {
            matches!(trouble, Trouble::Closed | Trouble::Down)
                && self.allowances[*other as usize].take_on_credit(now).is_ok()
        });
        let allowance = &mut self.allowances[api as usize];
        match (&verdict, trouble) {
            (_, Trouble::Busy(until)) => {
                allowance.close_until(until);
                self.works(now, api);
            }
            // Closed, and known to be so where another serves: no trouble.
            (_, Trouble::Closed) if other.is_some() => allowance.withdrawn(now),
            (Verdict::Down { retry_at: Some(at) }, _) => {
                allowance.failed(now, is_news);
                allowance.close_until((*at).min(now + CLOSED_MAX));
            }
            _ => allowance.failed(now, is_news),
        }
        match (other, refused) {
            (Some(api), _) => self.send(now, Call { request, api, bearer, second: None, refused: None }),
            // There is only one to ask.
            (None, Some(code)) if matches!(trouble, Trouble::Closed) => {
                self.finish(now, request, Verdict::ConsentRefused { code });
            }
            (None, _) => {
                if matches!(verdict, Verdict::Down { .. }) {
                    self.troubles.failed(request, now);
                }
                self.finish(now, request, verdict);
            }
        }
    }

    /// An API has answered, whatever it said.
    fn works(&mut self, now: Timestamp, api: Api) {
        let allowance = &mut self.allowances[api as usize];
        self.troubles.answered(api, allowance.is_tripped());
        allowance.answered(now);
        self.chooser.report(now, api, Report::Works, true);
    }

    /// Remembers what a call brought, and hands it to those who wait.
    fn finish(&mut self, now: Timestamp, call: MeterRequest, verdict: Verdict) {
        let mut waiters = self.queue.finish(now, &call);
        let asked = || waiters.iter().filter_map(|id| self.waiting.get(id));
        // A call that was begun earlier than anybody asked for: its error may be about the days before.
        let narrow = asked().map(|waiting| waiting.question.request.range.start()).min();
        let narrow = narrow.filter(|start| *start > call.range.start());
        let consented = asked().map(|waiting| waiting.question.consented).max().unwrap_or_default();
        let mut known: BTreeMap<Date, Day> = BTreeMap::new();
        for (date, day) in
            asked().flat_map(|waiting| waiting.days.range(call.range.start()..call.range.end()))
        {
            let better = known.remove(date).unwrap_or_default().or_better(day.clone());
            known.insert(*date, better);
        }
        // Of nobody's question it is kept for a day.
        let ends = asked().map(|waiting| waiting.question.ends).max().unwrap_or(self.wall + A_DAY);
        // Anybody can invent a meter that Enedis refuses.
        let is_proven = asked().any(|waiting| waiting.question.is_proven);
        let question = Question { request: call, consented, ends, is_proven, changed_since: None };
        let outcome = self.remember(question, narrow, &known, verdict);
        self.write();
        if matches!(outcome, Outcome::ConsentRefused(_)) {
            if is_young(self.wall, consented) && !self.outages.has_answered(call.meter, self.wall) {
                self.shares.refused(now);
            }
            // Its other calls would end like this one.
            let direction = call.resource.direction();
            waiters.extend(self.queue.cancel(&call.meter, |call| call.resource.direction() == direction));
        }
        if matches!(outcome, Outcome::Trouble(_)) && self.troubles.pause(call, now).is_some() {
            waiters.extend(self.queue.cancel(&call.meter, |other| other.resource == call.resource));
        }
        let mut is_over = false;
        for id in waiters {
            let Some(mut waiting) = self.waiting.remove(&id) else { continue };
            waiting.outstanding -= 1;
            match &outcome {
                Outcome::Days(days) => {
                    waiting.days.extend(days.clone());
                    if let Some(earlier) = self.earlier(call, &waiting) {
                        self.probe(now, id, &mut waiting, earlier);
                    }
                }
                Outcome::Error(error) => waiting.errors.push(error.clone()),
                Outcome::OfOtherDays(later, error) => {
                    if later.range.days().all(|day| waiting.days.contains_key(&day)) {
                        waiting.errors.push(error.clone());
                    } else {
                        self.probe(now, id, &mut waiting, *later);
                    }
                }
                Outcome::ConsentRefused([own, other]) => {
                    match own.judge(other, self.wall, waiting.question.consented) {
                        Judgement::OneSided => waiting.errors.push(DataError::no_data()),
                        Judgement::Withdrawn if !self.outages.is_outage(self.wall) => {
                            waiting.errors.push(DataError::no_consent());
                            is_over = true;
                        }
                        _ => waiting.troubles.push(Trouble::Down),
                    }
                }
                Outcome::Trouble(trouble) => waiting.troubles.push(*trouble),
            }
            if waiting.outstanding == 0 {
                self.settle(now, id, &waiting);
            } else {
                self.waiting.insert(id, waiting);
            }
        }
        if let Outcome::ConsentRefused([own, other]) = &outcome
            && is_over
        {
            self.end_data(question, own, other);
        }
    }

    /// A consent is over: what is remembered of its meter goes, but for what Enedis said of it.
    fn end_data(&mut self, asked: Question, own: &RefusalHistory, other: &RefusalHistory) {
        let (owner, direction) = (self.forget(asked.request.meter), asked.request.resource.direction());
        self.cache.set_history(asked, direction, own, self.wall);
        self.cache.set_history(asked, direction.other(), other, self.wall);
        let then = self.cache.take_fresh();
        self.effects.push(Effect::Forget { owner, then });
    }

    /// Puts a call in line that looks for the day of activation.
    fn probe(&mut self, now: Timestamp, id: u64, waiting: &mut Waiting, call: MeterRequest) {
        match self.offer(now, id, call) {
            Ok(_) => {
                waiting.outstanding += 1;
                waiting.probing = Some(call.range.start());
            }
            Err(busy) => waiting.troubles.push(busy),
        }
    }

    /// What lies between the last day known to be too early and the call that has just been answered.
    fn earlier(&mut self, call: MeterRequest, waiting: &Waiting) -> Option<MeterRequest> {
        let end = waiting.probing.filter(|start| *start == call.range.start())?;
        let question = Question { request: call, ..waiting.question };
        let early = self.cache.too_early(question, self.wall)?;
        let asked = waiting.question.request.range.start();
        let between = DayRange::new(early, end).filter(|_| asked < end)?;
        let between = split::later_half(call.with_range(between), early, None)?;
        between.range.days().any(|day| !waiting.days.contains_key(&day)).then_some(between)
    }

    fn remember(
        &mut self,
        asked: Question,
        narrow: Option<Date>,
        known: &BTreeMap<Date, Day>,
        verdict: Verdict,
    ) -> Outcome {
        let call = asked.request;
        match verdict {
            Verdict::Values(reading) => {
                let days = days_of(call.resource, call.range, &reading);
                // An empty list says the same in other words.
                if days.values().all(|day| day.points.is_empty()) {
                    return self.remember(asked, narrow, known, Verdict::DataError(DataError::no_data()));
                }
                self.consent_stands(asked);
                if let Some((day, _)) = days.iter().rfind(|(_, day)| !day.points.is_empty()) {
                    self.stats.came(*day, self.wall);
                }
                let is_late = |day| self.prefetch.is_late(day);
                Outcome::Days(self.cache.keep_days(asked, days, known, is_late, self.wall))
            }
            Verdict::DataError(error) => {
                self.consent_stands(asked);
                let of_days = !matches!(error.cause, Cause::NoData | Cause::NoDirection);
                let narrowed = narrow.and_then(|start| DayRange::new(start, call.range.end()));
                if let Some(range) = narrowed.filter(|_| of_days) {
                    self.cache.set_since(asked, range.start(), self.wall);
                    return Outcome::OfOtherDays(call.with_range(range), error);
                }
                if error.cause == Cause::TooEarly {
                    self.cache.keep_error(asked, &error, self.wall);
                    let later = self.after_activation(asked);
                    return match later {
                        Some(later) => Outcome::OfOtherDays(later, error),
                        None => Outcome::Error(error),
                    };
                }
                if error.cause == Cause::NoData {
                    let empty = call.range.days().map(|day| (day, Day::default())).collect();
                    let is_late = |day| self.prefetch.is_late(day);
                    self.cache.keep_days(asked, empty, known, is_late, self.wall);
                }
                self.cache.keep_error(asked, &error, self.wall);
                Outcome::Error(error)
            }
            Verdict::ConsentRefused { code } => {
                let (meter, direction) = (call.meter, call.resource.direction());
                let [mut own, other] = [direction, direction.other()]
                    .map(|direction| self.cache.history(asked, direction, self.wall));
                let before = own;
                own.refused(self.wall);
                let one_sided = own.is_one_sided(&other);
                if !one_sided {
                    if asked.is_proven {
                        self.outages.refused(meter, self.wall);
                    }
                    if self.outages.is_outage(self.wall) {
                        own = before;
                        own.put_off(self.wall);
                    }
                }
                tracing::warn!(
                    code,
                    ?meter,
                    ?direction,
                    one_sided,
                    "Enedis says that a consent is not there"
                );
                // Whether it is believed depends on the age of each box's consent.
                self.cache.set_history(asked, direction, &own, self.wall);
                Outcome::ConsentRefused([own, other])
            }
            Verdict::Busy { until } => Outcome::Trouble(Trouble::Busy(until)),
            Verdict::Closed => Outcome::Trouble(Trouble::Closed),
            Verdict::TokenRejected | Verdict::Down { .. } => Outcome::Trouble(Trouble::Down),
        }
    }

    fn consent_stands(&mut self, asked: Question) {
        let (meter, direction) = (asked.request.meter, asked.request.resource.direction());
        self.outages.answered(meter, self.wall);
        let mut history = self.cache.history(asked, direction, self.wall);
        if history.is_news(self.wall) {
            history.answered(self.wall);
            self.cache.set_history(asked, direction, &history, self.wall);
        }
    }

    /// The part of a call that begins too early for which there may be values: only where the day after it is known to have
    /// some, or is today, else the whole of it is.
    fn after_activation(&mut self, asked: Question) -> Option<MeterRequest> {
        let (call, since) = (asked.request, self.cache.since(asked, self.wall));
        let end = call.range.end();
        if end < today(self.wall) && since.is_none_or(|since| since > end) {
            return None;
        }
        let early = self.cache.too_early(asked, self.wall)?.max(call.range.start());
        split::later_half(call, early, since.filter(|since| *since < end))
    }

    /// Hands what is new to the store.
    pub(super) fn write(&mut self) {
        let fresh = self.cache.take_fresh();
        if !fresh.is_empty() {
            self.effects.push(Effect::Write(fresh));
        }
    }
}
