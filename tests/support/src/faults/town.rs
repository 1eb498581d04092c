//! Owns the boxes and their owners, who go on whatever happens, and the record of what they were told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{sleep, timeout};

use super::history::{Act, Event, Said};
use super::locked;
use super::site::Site;
use crate::device::{Device, Tokens};
use crate::enedis::{GeneratedMeters, Resource};
use crate::http::Answer;
use crate::person::{Choice, Person};

const CLIENT_ID: &str = "simulated-client";
/// Time between two polls of a box, and between two tries of whatever failed.
const PACE: Duration = Duration::from_millis(150);
/// Longest that a session is asked about after all has healed, until there is an answer that says something. Enedis'
/// breaker, an instance that missed a change, and a store that finds itself again are within it.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Longest that an owner looks at a page that does not come.
const PAGES_WITHIN: Duration = Duration::from_secs(8);
/// Sessions asked about at a time.
const AT_ONCE: usize = 16;
/// Polls of a session that are sent again after the token, and times it is refreshed and read.
const AGAIN: u32 = 3;
/// A box of the last hours of a code gives up after so many polls.
const POLLS: u32 = 40;

/// What is to become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Its owner decides, and the box goes on with its tokens.
    Decided(Choice),
    /// As the first, and the box gives its tokens up.
    GivenUp,
    /// Nobody decides.
    Waits,
}

/// A session that was given.
#[derive(Clone, Debug)]
struct Session {
    number: u32,
    device: String,
    link: String,
}

pub(super) struct Town<'a> {
    site: &'a Site<'a>,
    started: Instant,
    events: Mutex<Vec<Event>>,
    sessions: Mutex<Vec<Session>>,
    numbers: AtomicU32,
    over: AtomicBool,
    http: reqwest::Client,
}

impl<'a> Town<'a> {
    pub(super) fn new(site: &'a Site<'a>) -> Self {
        let http = crate::http::builder().timeout(Duration::from_secs(30)).build();
        Self {
            site,
            started: Instant::now(),
            events: Mutex::default(),
            sessions: Mutex::default(),
            numbers: AtomicU32::new(0),
            over: AtomicBool::new(false),
            http: http.expect("an HTTP client"),
        }
    }

    /// Boxes that go on until [`Town::stop`]: `boxes` of which each asks for one code after the other, and `waiters`
    /// that poll one code each, which nobody decides.
    pub(super) async fn live(&self, seed: u64, boxes: usize, waiters: usize) {
        let lives = (0..boxes + waiters).map(|number| {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            self.live_as(rng, number < boxes)
        });
        join_all(lives).await;
    }

    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        let mut events = locked(&self.events).clone();
        events.sort_by_key(|event| event.ended);
        events
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    async fn live_as(&self, mut rng: StdRng, decides: bool) {
        while self.goes_on() {
            sleep(PACE.mul_f64(rng.random())).await;
            let via = self.any(&mut rng);
            let Some(session) = self.codes(via).await else { continue };
            let role = match rng.random_range(0..10) {
                _ if !decides => Role::Waits,
                0..2 => Role::Decided(Choice::Refuse),
                2 => Role::GivenUp,
                3 => Role::Waits,
                _ => Role::Decided(Choice::Allow),
            };
            locked(&self.sessions).push(session.clone());
            match role {
                Role::Waits => self.wait(&session, via, if decides { POLLS } else { u32::MAX }).await,
                Role::Decided(choice) => self.decided(&session, choice, &mut rng, role).await,
                Role::GivenUp => self.decided(&session, Choice::Allow, &mut rng, role).await,
            }
        }
    }

    fn any(&self, rng: &mut StdRng) -> usize {
        rng.random_range(0..self.site.instances.len())
    }

    /// Asks what has to be recorded.
    async fn record(&self, session: u32, act: Act, asking: impl Future<Output = Said>) -> Said {
        let began = self.started.elapsed();
        let said = asking.await;
        let event =
            Event { session, act, said: said.clone(), began, ended: self.started.elapsed(), steady: false };
        locked(&self.events).push(event);
        said
    }

    async fn codes(&self, via: usize) -> Option<Session> {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let mut device = Device::new(self.site.url(via), CLIENT_ID);
        let asking = async {
            match device.request_code(&[]).await {
                Ok(code) => Said::Codes(Duration::from_secs(code.expires_in)),
                // The kit tells an answer without codes by its words alone.
                Err(error) => match error.to_string().split_once("HTTP ") {
                    None => Said::Nothing,
                    Some((_, told)) if told.starts_with("503") || told.starts_with("408") => Said::Later(503),
                    Some((_, told)) => Said::Other(told.chars().take(200).collect()),
                },
            }
        };
        let said = self.record(number, Act::Code, asking).await;
        matches!(said, Said::Codes(_)).then(|| {
            let code = device.code();
            Session { number, device: code.device_code.clone(), link: code.link().to_owned() }
        })
    }

    /// Polls at the instance that gave the code.
    async fn wait(&self, session: &Session, via: usize, polls: u32) {
        let device = Device::new(self.site.url(via), CLIENT_ID);
        let mut known = self.site.undisturbed(via);
        for _ in 0..polls {
            sleep(PACE).await;
            let began = self.started.elapsed();
            let said = Said::of_tokens(device.poll_code(&session.device).await);
            let now = self.site.undisturbed(via);
            let steady = now.is_some() && now == known;
            if said == Said::Pending {
                known = now;
            }
            let (act, ended) = (Act::Poll, self.started.elapsed());
            let over = !self.goes_on() || said == Said::Expired;
            locked(&self.events).push(Event { session: session.number, act, said, began, ended, steady });
            if over {
                return;
            }
        }
    }

    /// The owner decides while the box polls, anywhere; with its tokens, it goes on.
    async fn decided(&self, session: &Session, choice: Choice, rng: &mut StdRng, role: Role) {
        let mut rngs = [(); 2].map(|()| StdRng::seed_from_u64(rng.random()));
        let [owners, boxs] = &mut rngs;
        let ((), tokens) = tokio::join!(self.decide(session, choice, owners), self.poll(session, boxs));
        let Some(mut tokens) = tokens else { return };
        for _ in 0..AGAIN {
            if !self.goes_on() {
                return;
            }
            sleep(PACE).await;
            self.poll_at(session, self.any(rng)).await;
            self.read(session.number, &tokens, self.any(rng)).await;
            if let (_, Some(fresh)) = self.refresh(session.number, &tokens, self.any(rng)).await {
                tokens = fresh;
            }
        }
        while role == Role::GivenUp && self.goes_on() {
            if self.revoke(session.number, &tokens, self.any(rng)).await == Said::Done {
                return;
            }
            sleep(PACE).await;
        }
    }

    /// The owner tries until a page says that it is done, or that the code is of no use any more.
    async fn decide(&self, session: &Session, choice: Choice, rng: &mut StdRng) {
        let act = if choice == Choice::Allow { Act::Allow } else { Act::Refuse };
        let enedis = self.site.world.enedis.address().port();
        while self.goes_on() {
            sleep(PACE.mul_f64(rng.random())).await;
            let (base, via) = (self.site.world.builder.base_url(), self.site.url(self.any(rng)));
            // The end of `state` tells the simulator who sits at the consent page.
            let link = format!("{}&state=m{}", session.link.replacen(&base, &via, 1), session.number);
            let asking = async {
                let Ok(Ok(page)) = timeout(PAGES_WITHIN, Person::new().link(&link, choice)).await else {
                    return Said::Nothing;
                };
                match page.status {
                    // A page of Enedis' own, which is out of order.
                    _ if page.url.port() == Some(enedis) => Said::Later(503),
                    200 if page.url.path() == "/auth/redirect" => Said::Done,
                    400 => {
                        let heading = page.html.split("<h1>").nth(1).and_then(|rest| rest.split('<').next());
                        Said::Gone(format!("{} {}", page.url.path(), heading.unwrap_or_default()))
                    }
                    status @ (408 | 409 | 429 | 502..=504) => Said::Later(status),
                    status => Said::other(status, &page.html),
                }
            };
            if matches!(self.record(session.number, act, asking).await, Said::Done | Said::Gone(_)) {
                return;
            }
        }
    }

    /// Polls until there is a final answer; now and then twice at once.
    async fn poll(&self, session: &Session, rng: &mut StdRng) -> Option<Tokens> {
        for _ in 0..POLLS {
            if !self.goes_on() {
                return None;
            }
            sleep(PACE).await;
            let (first, second) = (self.any(rng), self.any(rng));
            let said = if rng.random_bool(0.3) {
                let both = tokio::join!(self.poll_at(session, first), self.poll_at(session, second));
                if matches!(both.0, Said::Tokens(..)) { both.0 } else { both.1 }
            } else {
                self.poll_at(session, first).await
            };
            match said {
                Said::Tokens(body, _) => return tokens(&body),
                Said::Denied | Said::Expired | Said::Invalid => return None,
                _ => {}
            }
        }
        None
    }

    async fn poll_at(&self, session: &Session, via: usize) -> Said {
        let device = Device::new(self.site.url(via), CLIENT_ID);
        let asking = async { Said::of_tokens(device.poll_code(&session.device).await) };
        self.record(session.number, Act::Poll, asking).await
    }

    /// With `FLOW=DEVICE` the tokens are Enedis', which takes each once: a restart between would be our fault alone.
    fn ours(&self) -> bool {
        self.site.page != 0
    }

    async fn refresh(&self, number: u32, tokens: &Tokens, via: usize) -> (Said, Option<Tokens>) {
        if !self.ours() {
            return (Said::Done, None);
        }
        let form =
            [("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", &tokens.refresh)];
        let device = Device::new(self.site.url(via), CLIENT_ID);
        let asking = async { Said::of_tokens(device.post_form("/device/token", &form).await) };
        let said = self.record(number, Act::Refresh, asking).await;
        let fresh = if let Said::Tokens(body, _) = &said { self::tokens(body) } else { None };
        (said, fresh)
    }

    async fn revoke(&self, number: u32, tokens: &Tokens, via: usize) -> Said {
        if !self.ours() {
            return Said::Done;
        }
        let form = [("token", tokens.refresh.as_str()), ("client_id", CLIENT_ID)];
        let device = Device::new(self.site.url(via), CLIENT_ID);
        let asking = async {
            match device.post_form("/device/revoke", &form).await {
                Ok(answer) if answer.status == 200 => Said::Done,
                answer => Said::of_tokens(answer),
            }
        };
        self.record(number, Act::Revoke, asking).await
    }

    async fn read(&self, number: u32, tokens: &Tokens, via: usize) -> Said {
        if !self.ours() {
            return Said::Done;
        }
        let (end, point) = (self.site.world.enedis.today(), GeneratedMeters::point(number));
        let path = Resource::DailyConsumption.v5_path();
        let query = format!("start={}&end={end}&usage_point_id={point}", end.plus(-1));
        let url = format!("{}/data/proxy{path}?{query}", self.site.url(via));
        let asking = async {
            let Ok(response) = self.http.get(url).bearer_auth(&tokens.access).send().await else {
                return Said::Nothing;
            };
            match Answer::read(response).await {
                Err(_) => Said::Nothing,
                Ok(answer) => match answer.status {
                    200 => Said::Done,
                    401 => Said::Unauthorized,
                    // No data yet, which is asked for again as well.
                    status @ (404 | 408 | 429 | 503) => Said::Later(status),
                    status => Said::other(status, &answer.body),
                },
            }
        };
        self.record(number, Act::Read, asking).await
    }

    /// Asks once more about every session, until there is an answer that says something.
    pub(super) async fn settle(&self) {
        let sessions = locked(&self.sessions).clone();
        let settled = sessions.iter().map(|session| self.settle_one(session));
        stream::iter(settled).for_each_concurrent(AT_ONCE, |settling| settling).await;
    }

    async fn settle_one(&self, session: &Session) {
        let told = |act: Act, said: fn(&Said) -> bool| {
            let events = locked(&self.events);
            events
                .iter()
                .any(|event| event.session == session.number && event.act == act && said(&event.said))
        };
        let done = |said: &Said| *said == Said::Done;
        let decided = told(Act::Allow, done) || told(Act::Refuse, done);
        let given_up = told(Act::Revoke, |_| true);
        let deadline = Instant::now() + SETTLED_WITHIN;
        let via = session.number as usize % self.site.instances.len();
        let tokens = loop {
            // What was given up may still be told to who polls, or not.
            if given_up {
                break self.last_tokens(session.number);
            }
            match self.poll_at(session, via).await {
                Said::Tokens(body, _) => break tokens(&body),
                Said::Denied | Said::Expired | Said::Invalid => return,
                Said::Pending if !decided => return,
                _ if Instant::now() > deadline => return,
                _ => sleep(PACE).await,
            }
        };
        let Some(tokens) = tokens else { return };
        let fresh = loop {
            let (said, fresh) = self.refresh(session.number, &tokens, via).await;
            if !matches!(said, Said::Later(_) | Said::Nothing) || Instant::now() > deadline {
                break fresh;
            }
            sleep(PACE).await;
        };
        if !given_up {
            self.read(session.number, &fresh.unwrap_or(tokens), via).await;
        }
    }

    fn last_tokens(&self, number: u32) -> Option<Tokens> {
        let events = locked(&self.events);
        events.iter().rev().filter(|event| event.session == number).find_map(|event| match &event.said {
            Said::Tokens(body, _) => tokens(body),
            _ => None,
        })
    }
}

fn tokens(body: &str) -> Option<Tokens> {
    Tokens::read(&serde_json::from_str(body).ok()?)
}
