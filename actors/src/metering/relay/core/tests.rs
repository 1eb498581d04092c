use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::limits::quota::QuotaSettings;
use crate::metering::api_choice::ApiMode;
use crate::metering::cache::owner_text;
use crate::metering::civil::plus;
use crate::metering::request::{DayRange, Resource};
use crate::metering::resource_server::Cause;
use crate::testing::{hourly_reading, meter};

const DAY: Duration = Duration::from_secs(86_400);
/// A morning in autumn.
const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);
/// A consent that is not fresh.
const LONG_AGO: Timestamp = Timestamp::from_millis(1_780_000_000_000);

const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// The core, and what is around it: the store answers at once, calls wait to be ended by the test. What the actor shows
/// as well is in `tests/it/relay.rs`.
struct World {
    core: Core,
    now: Timestamp,
    asked: u64,
    store: HashMap<CacheKey, CacheEntry>,
    sent: VecDeque<Call>,
    /// What was sent, and when.
    log: Vec<(Api, Timestamp)>,
    answers: Vec<(u64, Relayed)>,
    wake: Option<Timestamp>,
    /// Calls that other instances have left of the hour.
    left: u32,
    /// Meters with a consent.
    held: Vec<Held>,
}

fn core(mode: ApiMode, per_hour: u32, now: Timestamp) -> Core {
    let settings = RelaySettings {
        mode,
        quota: QuotaSettings { per_second: 5, per_hour },
        attempt: Duration::from_secs(10),
        cache_max_bytes: 1 << 20,
        memory_max_bytes: 1 << 20,
        prefetch: false,
    };
    Core::new(settings, Arc::new(Keyring::new(&[7; 32])), [1; 32], now)
}

impl World {
    fn new(mode: ApiMode, per_hour: u32) -> Self {
        Self {
            core: core(mode, per_hour, START),
            now: START,
            asked: 0,
            store: HashMap::new(),
            sent: VecDeque::new(),
            log: Vec::new(),
            answers: Vec::new(),
            wake: None,
            left: 0,
            held: Vec::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        for effect in self.core.handle(self.now, self.now, event) {
            match effect {
                Effect::Answer { id, relayed } => self.answers.push((id, relayed)),
                Effect::Look { id, keys } => {
                    let entries = keys.iter().filter_map(|key| self.store.get(key).cloned()).collect();
                    self.tell(Event::Found { id, entries: Some(entries) });
                }
                Effect::Send(call) => {
                    self.log.push((call.api, self.now));
                    self.sent.push_back(call);
                }
                Effect::AcquireToken { .. } => {
                    self.tell(Event::Token(Acquired::Bearer(Bearer::from("token"))));
                }
                Effect::Write(entries) => self.store.extend(entries.into_iter().map(|e| (e.key, e))),
                Effect::Forget { owner, then } => {
                    self.store.retain(|_, entry| entry.owner != owner);
                    self.store.extend(then.into_iter().map(|e| (e.key, e)));
                }
                Effect::Lease { api, wish } => {
                    let granted = wish.calls.min(self.left);
                    self.left -= granted;
                    let lease = Some(Lease { granted, used: wish.most - self.left });
                    self.tell(Event::Leased { api, wish, lease });
                }
                Effect::Claim(turn) => self.tell(Event::Claimed { turn, is_ours: Some(true) }),
                Effect::ReadHeld => self.tell(Event::Held(Some(self.held.clone()))),
                Effect::WakeAt(at) => self.wake = at,
            }
        }
    }

    fn ask(&mut self, request: MeterRequest, consented: Timestamp) -> u64 {
        self.put(Question { request, consented, ends: FOREVER, is_proven: true, changed_since: None })
    }

    fn put(&mut self, question: Question) -> u64 {
        self.asked += 1;
        self.tell(Event::Asked { id: self.asked, question });
        self.asked
    }

    /// Ends the call that was sent first.
    fn end(&mut self, verdict: Verdict) -> MeterRequest {
        let call = self.sent.pop_front().expect("a call was sent");
        let request = call.request;
        self.tell(Event::Ended { call, verdict });
        request
    }

    /// Ends the call that was sent first with a value for each of its days.
    fn end_with_values(&mut self) -> MeterRequest {
        let request = self.sent.front().expect("a call was sent").request;
        self.end(values(request))
    }

    /// Time passes, and the alarms on the way ring.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wake.filter(|at| *at <= end) {
            self.now = self.now.max(at) + Duration::from_millis(1);
            self.wake = None;
            self.tell(Event::Woken);
        }
        self.now = self.now.max(end);
    }

    /// The answer to a request; each has at most one.
    fn answer(&mut self, id: u64) -> Option<Relayed> {
        let found = self.answers.iter().position(|(of, _)| *of == id)?;
        Some(self.answers.swap_remove(found).1)
    }
}

/// `days` days of the load curve of a meter, until yesterday.
fn until_yesterday(n: u64, days: i64, now: Timestamp) -> MeterRequest {
    let today = today(now);
    let range = DayRange::new(plus(today, -days), today).unwrap();
    MeterRequest { resource: Resource::ConsumptionCurve, meter: meter(n), range }
}

fn values(request: MeterRequest) -> Verdict {
    Verdict::Values(hourly_reading(request.range))
}

fn data_error(cause: Cause) -> Verdict {
    Verdict::DataError(DataError { cause, ..DataError::no_data() })
}

fn refused() -> Verdict {
    Verdict::ConsentRefused { code: "ADAM-DC-0008".to_owned() }
}

const DOWN: Verdict = Verdict::Down { retry_at: None };

#[test]
fn a_call_about_yesterday_brings_the_week_but_nothing_of_before_the_first_value() {
    let mut world = World::new(ApiMode::Auto, 1_000);
    let first = until_yesterday(1, 3, START);
    world.ask(first, LONG_AGO);
    assert_eq!(world.end_with_values(), first, "nothing is known: nothing is added");
    world.now = START + DAY;
    world.ask(until_yesterday(1, 1, world.now), LONG_AGO);
    assert_eq!(world.end_with_values(), until_yesterday(1, 4, world.now), "since the first value");
}

#[test]
fn days_that_came_after_an_instant_are_told_apart() {
    let mut world = World::new(ApiMode::Auto, 1_000);
    let three = until_yesterday(1, 3, START);
    let late = DayRange::new(plus(three.range.end(), -1), three.range.end()).unwrap();
    world.ask(three, LONG_AGO);
    let early = DayRange::new(three.range.start(), late.start()).unwrap();
    world.end(Verdict::Values(hourly_reading(early)));
    // An hour later the last day is there; the days before it are told again, and are no news.
    world.now = START + Duration::from_secs(3_600);
    world.ask(three, LONG_AGO);
    world.end_with_values();
    for (since, told) in [(START, 24), (world.now, 0), (LONG_AGO, 72)] {
        let id = world.put(Question {
            request: three,
            consented: LONG_AGO,
            ends: FOREVER,
            is_proven: true,
            changed_since: Some(since),
        });
        let Some(Relayed::Answer(body)) = world.answer(id) else { panic!("not answered from memory") };
        assert_eq!(body.matches("\"value\"").count(), told, "since {since}");
        assert_eq!(
            told == 24,
            body.contains(&format!("[{{\"value\":\"540\",\"date\":\"{}", late.start())),
            "{body}"
        );
    }
}

#[test]
fn calls_that_other_instances_made_are_not_made_again() {
    let mut world = World::new(ApiMode::New, 10);
    world.core.share(1);
    world.left = 7;
    for n in 0..9 {
        world.ask(until_yesterday(n, 1, START), LONG_AGO);
        world.pass(Duration::from_secs(1));
        if !world.sent.is_empty() {
            world.end_with_values();
        }
    }
    assert_eq!((world.log.len(), world.left), (7, 0));
    let busy = world.answers.iter().filter(|(_, told)| matches!(told, Relayed::Busy { .. })).count();
    assert_eq!(busy, 2, "told when the next hour begins");
    // The other API is asked at once where the first fails, and its call leased afterwards.
    let mut world = World::new(ApiMode::Auto, 10);
    world.core.share(1);
    world.left = 4;
    world.ask(until_yesterday(1, 1, START), LONG_AGO);
    world.end(DOWN);
    assert_eq!(world.end_with_values(), until_yesterday(1, 1, START));
    assert_eq!(world.log.iter().map(|(api, _)| *api).collect::<Vec<_>>(), [Api::New, Api::Legacy]);
    assert_eq!(world.left, 1, "one for each, and one more for the other");
}

#[test]
fn an_error_about_days_nobody_asked_for_is_nobodys_answer() {
    let mut world = World::new(ApiMode::Auto, 1_000);
    world.ask(until_yesterday(1, 3, START), LONG_AGO);
    world.end_with_values();
    world.now = START + DAY;
    let yesterday = until_yesterday(1, 1, world.now);
    let id = world.ask(yesterday, LONG_AGO);
    world.end(data_error(Cause::TooEarly));
    assert_eq!(world.answer(id), None, "the narrower call is put in its place");
    assert_eq!(world.end_with_values(), yesterday);
    assert!(matches!(world.answer(id), Some(Relayed::Answer(_))));
    // The error to the day that was asked for is its answer.
    world.now = START + DAY + DAY;
    let yesterday = until_yesterday(1, 1, world.now);
    let id = world.ask(yesterday, LONG_AGO);
    world.end(data_error(Cause::NotRecorded));
    world.end(data_error(Cause::NotRecorded));
    assert!(matches!(world.answer(id), Some(Relayed::Error(_))));
    let id = world.ask(yesterday, LONG_AGO);
    assert!(matches!(world.answer(id), Some(Relayed::Error(_))), "from memory");
    assert!(world.sent.is_empty());
}

#[test]
fn a_refused_consent_is_believed_after_days_and_voided_by_an_answer() {
    let mut world = World::new(ApiMode::New, 1_000);
    let no_consent = Relayed::Error(DataError::no_consent());
    // Others are answered, so that it is no outage.
    for n in 10..20 {
        world.ask(until_yesterday(n, 1, START), LONG_AGO);
        world.end_with_values();
        world.pass(Duration::from_secs(1));
    }
    world.ask(until_yesterday(1, 7, START), LONG_AGO);
    world.end_with_values();
    let owner = Keyring::new(&[7; 32]).cache(&owner_text(meter(1)));
    let rows = |world: &World| world.store.values().filter(|entry| entry.owner == owner).count();
    for day in 0..4 {
        world.now = START + DAY * (day + 1);
        let id = world.ask(until_yesterday(1, 1, world.now), LONG_AGO);
        world.end(refused());
        assert_eq!(
            rows(&world) <= 2,
            day == 3,
            "what is remembered goes when it is believed: {}",
            rows(&world)
        );
        assert_eq!(world.answer(id) == Some(no_consent.clone()), day == 3, "day {day}");
        let soon = world.ask(until_yesterday(1, 1, world.now), LONG_AGO);
        assert!(world.sent.is_empty(), "not asked again at once");
        assert_eq!(world.answer(soon) == Some(no_consent.clone()), day == 3, "day {day}");
    }
    world.now = START + DAY * 5;
    let id = world.ask(until_yesterday(1, 1, world.now), LONG_AGO);
    world.end_with_values();
    assert!(matches!(world.answer(id), Some(Relayed::Answer(_))));
    let id = world.ask(until_yesterday(1, 2, world.now), LONG_AGO);
    world.end(refused());
    assert_ne!(world.answer(id), Some(no_consent), "counted from the beginning");
}

#[test]
fn refusals_of_many_are_an_outage_and_nobody_is_believed() {
    let mut world = World::new(ApiMode::New, 1_000);
    for day in 0..6 {
        world.now = START + DAY * day;
        for n in 1..=3 {
            let id = world.ask(until_yesterday(n, 1, world.now), LONG_AGO);
            world.end(refused());
            let told = world.answer(id);
            let withdrawn = Some(Relayed::Error(DataError::no_consent()));
            assert!(told.is_some() && told != withdrawn, "meter {n} on day {day}: {told:?}");
        }
    }
}

#[test]
fn meters_that_a_stranger_invents_are_no_outage() {
    let mut world = World::new(ApiMode::New, 1_000);
    let mut told = None;
    for day in 0..4 {
        world.now = START + DAY * day;
        for n in 10..30 {
            let request = until_yesterday(n, 1, world.now);
            world.put(Question {
                request,
                consented: LONG_AGO,
                ends: FOREVER,
                is_proven: false,
                changed_since: None,
            });
            world.end(refused());
            world.pass(Duration::from_secs(1));
        }
        let id = world.ask(until_yesterday(1, 1, world.now), LONG_AGO);
        world.end(refused());
        told = world.answer(id);
    }
    assert_eq!(told, Some(Relayed::Error(DataError::no_consent())), "an owner's withdrawal is believed");
}

#[test]
fn a_refused_consent_ends_the_other_calls_of_its_meter() {
    let mut world = World::new(ApiMode::New, 1_000);
    let id = world.ask(until_yesterday(1, 70, START), LONG_AGO);
    assert_eq!((world.sent.len(), world.core.snapshot(START).queued), (5, 5), "five in a second");
    world.end(refused());
    assert_eq!(world.core.snapshot(START).queued, 0);
    for _ in 0..4 {
        world.end(refused());
    }
    assert!(world.answer(id).is_some() && world.sent.is_empty());
}

#[test]
fn strangers_have_a_share_of_the_hour() {
    let mut world = World::new(ApiMode::New, 8);
    for n in 1..=2 {
        world.ask(until_yesterday(n, 1, START), START);
        world.end(refused());
    }
    let stranger = world.ask(until_yesterday(3, 1, START), START);
    assert!(world.sent.is_empty());
    assert_eq!(world.answer(stranger), Some(Relayed::Busy { retry_after: START.next_hour().since(START) }));
    world.ask(until_yesterday(4, 1, START), LONG_AGO);
    assert_eq!(world.sent.len(), 1, "a consent that is not fresh is no stranger's");
    world.now = START.next_hour();
    world.ask(until_yesterday(3, 1, world.now), START);
    assert_eq!(world.sent.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes: every caller has one answer, at its deadline at the latest; the quota is kept; nothing is left.
    #[test]
    fn every_caller_is_answered_once_and_the_quota_is_kept(
        steps in proptest::collection::vec((0_u8..10, 0_u64..6, 1_i64..40), 1..80),
    ) {
        let mut world = World::new(ApiMode::Auto, 40);
        let (mut hung_up, mut told) = (Vec::new(), Vec::new());
        for (what, n, size) in steps {
            match what {
                0..=3 => {
                    let consented = if n == 0 { START } else { LONG_AGO };
                    world.ask(until_yesterday(n, size, world.now), consented);
                }
                4 => {
                    let id = n.min(world.asked);
                    if world.answers.iter().chain(&told).all(|(of, _)| *of != id) {
                        hung_up.push(id);
                        world.tell(Event::HungUp(vec![id]));
                    }
                }
                5 => world.pass(Duration::from_secs(size.unsigned_abs() * 60)),
                _ if world.sent.is_empty() => world.pass(Duration::from_millis(200)),
                6 => drop(world.end_with_values()),
                7 => drop(world.end(refused())),
                8 => drop(world.end(data_error(if n < 3 { Cause::NoData } else { Cause::TooEarly }))),
                _ => {
                    let until = world.now + Duration::from_secs(60);
                    let verdicts = [DOWN, Verdict::Closed, Verdict::TokenRejected, Verdict::Busy { until }];
                    world.end(verdicts[usize::try_from(n % 4).unwrap()].clone());
                }
            }
            told.append(&mut world.answers);
        }
        world.pass(Duration::from_secs(21));
        while !world.sent.is_empty() {
            world.end(DOWN);
        }
        told.append(&mut world.answers);
        let mut ids: Vec<u64> = told.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let expected: Vec<u64> = (1..=world.asked).filter(|id| !hung_up.contains(id)).collect();
        prop_assert_eq!(ids, expected);
        let RelaySnapshot { waiting, queued, in_flight, .. } = world.core.snapshot(world.now);
        prop_assert_eq!((waiting, queued, in_flight), (0, 0, 0));
        for api in Api::ALL {
            for (_, at) in world.log.iter().filter(|(of, _)| *of == api) {
                let within = |length: fn(Timestamp) -> u64| {
                    world.log.iter().filter(|(of, other)| *of == api && length(*other) == length(*at)).count()
                };
                prop_assert!(within(Timestamp::hour) <= 40);
                prop_assert!(within(Timestamp::as_secs) <= 5);
            }
        }
    }
}
