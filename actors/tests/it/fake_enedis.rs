//! Enedis, which answers as the test says, else at once and well.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix::Arbiter;
use actors::base::clock::{SharedClock, Timestamp};
use actors::base::meter::Meter;
use actors::base::token_set::TokenSet;
use actors::enedis::contract::Contract;
use actors::enedis::exchanger::{ExchangerSettings, TokenExchanger, TokenExchangerHandle};
use actors::enedis::port::{
    Answer, Attempt, AuthorizationServer, Call, Grant, NoMeters, RawAnswer, TokenCall,
};
use actors::limits::quota::QuotaSettings;
use actors::metering::api_choice::Api;
use actors::metering::civil::plus;
use actors::metering::request::{DayRange, MeterRequest};
use actors::metering::resource_server::{DataError, MeterCall, Point, Reading, ResourceServer, Verdict};
use actors::testing::hourly_reading;
use async_trait::async_trait;
use jiff::civil::Date;
use zeroize::Zeroizing;

use crate::universe::{START, Universe};

/// How an exchanger in front of it behaves.
pub const EXCHANGER: ExchangerSettings = ExchangerSettings {
    in_flight: 1,
    quota: QuotaSettings { per_second: 5, per_hour: 1_000 },
    attempt: Duration::from_secs(10),
    deadline: Duration::from_secs(25),
};

/// Both of its servers; clones are handles of the same ones.
#[derive(Clone)]
pub struct FakeEnedis {
    clock: SharedClock,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    /// What the next calls of the authorization server come to, and how long that takes.
    attempts: VecDeque<(Duration, Attempt)>,
    /// The same of the questions for data.
    verdicts: VecDeque<(Duration, Verdict)>,
    /// What the authorization server was sent, and when.
    sent: Vec<(Duration, String)>,
    /// The questions for data, and when.
    asked: Vec<(Duration, MeterRequest)>,
    /// What a good answer with data takes.
    latency: Duration,
    /// What an API says to every question of a kind.
    outages: Vec<(Api, Kind, Verdict)>,
    /// Whether it has the values of a day; `None`: always.
    has: Option<Has>,
}

/// Whether there are values of a meter's day at a time.
type Has = Arc<dyn Fn(Meter, Date, Timestamp) -> bool + Send + Sync>;

/// Which questions.
pub type Kind = fn(MeterRequest) -> bool;

impl FakeEnedis {
    pub fn new(universe: &Universe) -> Self {
        Self { clock: Arc::clone(&universe.clock), book: Arc::default() }
    }

    /// An exchanger in front of it, on this thread, whose time is the test's.
    pub fn exchanger(&self) -> TokenExchangerHandle {
        self.exchanger_with(EXCHANGER, Some(("app".to_owned(), Some("secret".to_owned().into()))))
    }

    pub fn exchanger_with(
        &self,
        settings: ExchangerSettings,
        own: Option<(String, Option<Zeroizing<String>>)>,
    ) -> TokenExchangerHandle {
        let (server, clock) = (self.clone(), Arc::clone(&self.clock));
        TokenExchanger::launch(&Arbiter::current(), || Rc::new(server), clock, settings, None, own, [1; 32])
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// The next attempts at the authorization server take `took` and come to this.
    pub fn will(&self, took: Duration, attempts: impl IntoIterator<Item = Attempt>) {
        self.book().attempts.extend(attempts.into_iter().map(|attempt| (took, attempt)));
    }

    /// The next questions for data take `took` and come to this.
    pub fn will_say(&self, took: Duration, verdicts: impl IntoIterator<Item = Verdict>) {
        self.book().verdicts.extend(verdicts.into_iter().map(|verdict| (took, verdict)));
    }

    /// Every question that these APIs are asked comes to this.
    pub fn always(&self, apis: &[Api], verdict: &Verdict) {
        self.book().outages.clear();
        self.to(apis, |_| true, verdict);
    }

    /// Every question of this kind comes to this, unless another kind was named before.
    pub fn to(&self, apis: &[Api], kind: Kind, verdict: &Verdict) {
        self.book().outages.extend(apis.iter().map(|api| (*api, kind, verdict.clone())));
    }

    /// From now on it answers at once and well.
    pub fn recover(&self) {
        let mut book = self.book();
        book.attempts.clear();
        book.verdicts.clear();
        book.outages.clear();
    }

    /// What the authorization server was sent, and when: the code, the refresh token, `own` or `meters`.
    pub fn sent(&self) -> Vec<(Duration, String)> {
        self.book().sent.clone()
    }

    pub fn names(&self) -> Vec<String> {
        self.sent().into_iter().map(|(_, name)| name).collect()
    }

    /// The questions for data.
    pub fn asked(&self) -> Vec<MeterRequest> {
        self.book().asked.iter().map(|(_, request)| *request).collect()
    }

    pub fn asked_at(&self) -> Vec<Duration> {
        self.book().asked.iter().map(|(at, _)| *at).collect()
    }

    /// From now on good answers have the days of which `has` says so.
    pub fn has(&self, has: impl Fn(Meter, Date, Timestamp) -> bool + Send + Sync + 'static) {
        self.book().has = Some(Arc::new(has));
    }

    /// From now on good answers with data take so long.
    pub fn set_latency(&self, latency: Duration) {
        self.book().latency = latency;
    }
}

#[async_trait(?Send)]
impl AuthorizationServer for FakeEnedis {
    async fn call(&self, call: Call, limit: Duration) -> Attempt {
        assert_eq!(limit, EXCHANGER.attempt);
        let (name, answer) = match call {
            Call::Token(TokenCall { grant: Grant::AuthorizationCode { code, .. }, .. }) => (code, token("t")),
            Call::Token(_) => ("own".to_owned(), token(&format!("own {}", self.sent().len()))),
            Call::Refresh(TokenCall { grant: Grant::RefreshToken { refresh_token, .. }, .. }) => {
                let raw = RawAnswer { status: 200, content_type: None, body: Vec::new() };
                (refresh_token.to_string(), Answer::Refresh(raw))
            }
            Call::Refresh(_) => panic!("not a refresh token"),
            Call::Meters(_) => ("meters".to_owned(), Answer::Meters(Err(NoMeters::NotYet))),
            Call::Contract(_) => ("contract".to_owned(), Answer::Contract(Ok(Contract::default()))),
        };
        let next = {
            let mut book = self.book();
            book.sent.push((self.clock.now().since(START), name));
            book.attempts.pop_front()
        };
        let (took, attempt) = next.unwrap_or((Duration::ZERO, Attempt::Answered(answer)));
        tokio::time::sleep(took).await;
        attempt
    }
}

#[async_trait(?Send)]
impl ResourceServer for FakeEnedis {
    async fn read(&self, call: MeterCall, _: Duration) -> Verdict {
        let (took, verdict) = {
            let mut book = self.book();
            book.asked.push((self.clock.now().since(START), call.request));
            let outage = book.outages.iter().find(|(api, kind, _)| *api == call.api && kind(call.request));
            let outage = outage.map(|(.., verdict)| (Duration::ZERO, verdict.clone()));
            let latency = book.latency;
            let (has, now) = (book.has.clone(), self.clock.now());
            let well = || {
                (
                    latency,
                    values(call.request, |day| {
                        has.as_ref().is_none_or(|has| has(call.request.meter, day, now))
                    }),
                )
            };
            let scripted = book.verdicts.pop_front();
            scripted.or(outage).unwrap_or_else(well)
        };
        tokio::time::sleep(took).await;
        verdict
    }
}

/// The values of those days that are there.
fn values(request: MeterRequest, has: impl Fn(Date) -> bool) -> Verdict {
    let mut reading = Reading::default();
    for date in request.range.days().filter(|day| has(*day)) {
        let day = DayRange::new(date, plus(date, 1)).map(hourly_reading).unwrap_or_default();
        // A curve's last value bears the next midnight; what is of a moment bears the day itself.
        let is_of = |point: &Point| request.resource.is_curve() || point.date.starts_with(&date.to_string());
        reading.quality = day.quality;
        reading.points.extend(day.points.into_iter().filter(is_of));
    }
    if reading.points.is_empty() {
        return Verdict::DataError(DataError::no_data());
    }
    Verdict::Values(reading)
}

/// An answer with this token.
pub fn token(access_token: &str) -> Answer {
    let members = [("access_token", access_token.into()), ("expires_in", 12_600.into())];
    Answer::Token(Ok(TokenSet::own(members)))
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
