//! Two instances on one store, and every order in which their work on one session can interleave: polls, confirmations,
//! returns from Enedis, the ends of exchanges, lost answers of the store, late writes, crashes and the passing of time.
//!
//! The transitions are the real ones of [`Session`]; what a shard does around them is written down here once more, as
//! short as it can be: memory, one write at a time, what it makes of a store that does not answer. Assumed of the store:
//! a write lands within a [`TICK`] of being sent or never, only on the revision it was made for; reads see what has landed.
//! Assumed of time: when a device is told that its code has expired, no write of another instance is under way that was made
//! before. (For as long as one write takes, that can happen; a shard waits for its own.)
//!
//! `INTERLEAVINGS_DEPTH=9 cargo test -p actors --test it interleavings -- --nocapture` looks deeper than the usual run.

use std::time::Duration;

use actors::base::clock::Timestamp;
use actors::base::keyring::{BrowserHash, DeviceHash, GrantHash, StateHash, UserHash};
use actors::base::sealed::Sealed;
use actors::device_flow::session::{Consent, Lifetimes, Phase, PollFinding, Presentation, Request, Session};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// What passes of time at once.
const TICK: Duration = Duration::from_secs(10);
/// How long anything is looked at.
const TICKS: u64 = 6;
/// An exchange under way: it ends a tick before its lease does, as the consent workflow sees to.
const LEASE: u32 = 3;
/// States in a row, the first one counted.
const DEPTH: usize = 8;

const LIFE: Lifetimes = Lifetimes {
    code: TICK,
    consent: TICK.saturating_mul(2),
    redelivery: TICK,
    redemption: TICK.saturating_mul(2),
    tombstone: TICK.saturating_mul(3),
    browser_lease: TICK,
    retry: TICK,
};

/// What is left out, to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A final negative is said from memory.
    BelievesItsMemory,
    /// A write lands on whatever is there.
    OverwritesRevisions,
    /// The authorization code is presented before it is known as presented.
    PresentsFirst,
    /// What two instances make of one return is the same, so that each takes the other's for its own.
    MarksAlike,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    tick: u64,
    stored: Session,
    instances: [Instance; 2],
    /// Writes whose end no instance waits for any more, and the tick they were sent in.
    late: Vec<(Session, u64)>,
    crashes: u8,
    /// What the device has been told for good.
    told: Vec<Told>,
    /// Ends of exchanges, and refusals, that were acknowledged.
    approved: bool,
    denied: bool,
    /// Codes that Enedis may have taken, each as often as it did.
    presented: Vec<GrantHash>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Instance {
    memory: Option<Session>,
    /// The change it waits for, and the tick it was sent in.
    writing: Option<(Asked, Session, u64)>,
    in_doubt: bool,
    /// An exchange with Enedis that it runs, and how that ended.
    exchange: Option<GrantHash>,
    outcome: Option<Asked>,
}

/// A final answer to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    /// The body of this revision.
    Token(u32),
    Denied,
    Expired,
    /// A decision stood and could still be had.
    ExpiredInSpite,
    Spent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Poll,
    Confirm,
    /// A browser is back with a code of the consent that it was sent out with.
    Return,
    Deny,
    /// The exchange ends.
    Finish {
        token: bool,
        consumed: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// An instance is asked, and its write is under way.
    Ask(usize, Asked),
    /// As nearly always: the write lands at once.
    Do(usize, Asked),
    /// The store takes the write and says so.
    Land(usize),
    /// The store's answer is lost; whether the write has landed is the flag. The instance reads the session again.
    LoseAnswer(usize, bool),
    /// As before, and the store cannot be read either.
    LoseStore(usize, bool),
    /// A write that nobody waits for lands.
    LandLate(usize),
    /// An instance hears of what the store holds.
    Follow(usize),
    Crash(usize),
    Wait,
}

/// What a request comes to.
enum Step {
    Write(Session),
    Tell(Told),
    Nothing,
}

struct Interleavings {
    flaw: Flaw,
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000) + TICK * u32::try_from(self.tick).unwrap()
    }

    /// What an instance takes for the session's state. One that does not know it, or is in doubt, reads it.
    fn seen_by(&mut self, at: usize) -> Session {
        let instance = &mut self.instances[at];
        if std::mem::take(&mut instance.in_doubt) {
            instance.memory = None;
        }
        instance.memory.get_or_insert_with(|| self.stored.clone()).clone()
    }

    fn ask(&mut self, at: usize, asked: Asked, flaw: Flaw) {
        if let Asked::Finish { token, consumed } = asked {
            self.instances[at].outcome = Some(asked);
            if !token && !consumed {
                // Enedis has certainly not taken it.
                let code = self.instances[at].exchange;
                self.presented.retain(|presented| Some(*presented) != code);
            }
        }
        let session = self.seen_by(at);
        match self.step(at, asked, &session, flaw) {
            Step::Write(next) => {
                if let (Asked::Return, Flaw::PresentsFirst, Phase::Exchanging { grant, .. }) =
                    (asked, flaw, &next.phase)
                {
                    self.presented.push(*grant);
                }
                self.instances[at].writing = Some((asked, next, self.tick));
            }
            Step::Tell(Told::Denied | Told::Expired | Told::Spent) if flaw != Flaw::BelievesItsMemory => {
                // Said only of what the store holds.
                self.instances[at].memory = Some(self.stored.clone());
                match self.step(at, asked, &self.stored, flaw) {
                    Step::Tell(told) => self.tell(told),
                    Step::Write(next) => self.instances[at].writing = Some((asked, next, self.tick)),
                    Step::Nothing => {}
                }
            }
            Step::Tell(told) => self.tell(told),
            Step::Nothing => {}
        }
    }

    fn tell(&mut self, told: Told) {
        let is_quiet =
            self.late.is_empty() && self.instances.iter().all(|instance| instance.writing.is_none());
        if told == Told::Expired && !is_quiet {
            return;
        }
        let could_be_had =
            matches!(self.stored.poll(self.now()), PollFinding::Claim { .. } | PollFinding::Repeat(_));
        let told = if told == Told::Expired && could_be_had { Told::ExpiredInSpite } else { told };
        if !self.told.contains(&told) {
            self.told.push(told);
        }
    }

    fn step(&self, at: usize, asked: Asked, session: &Session, flaw: Flaw) -> Step {
        let (now, life) = (self.now(), &LIFE);
        let write = |next: Option<Session>| next.map_or(Step::Nothing, Step::Write);
        let (who, rev, tick) = (byte(at), byte(session.rev), byte(self.tick));
        let consent = session.consent.as_deref();
        match asked {
            Asked::Poll => match session.poll(now) {
                PollFinding::Pending => Step::Nothing,
                PollFinding::Claim { .. } => {
                    write(session.claim(Sealed::from_bytes(vec![who, rev, tick]), now, life))
                }
                PollFinding::Repeat(_) => Step::Tell(Told::Token(session.rev)),
                PollFinding::Denied => Step::Tell(Told::Denied),
                PollFinding::Expired => Step::Tell(Told::Expired),
                PollFinding::Spent => Step::Tell(Told::Spent),
            },
            Asked::Confirm => {
                let browser = BrowserHash::from([who; 16]);
                let state = StateHash::from([(who + 1) * 16 + rev; 16]);
                write(
                    session
                        .confirm(Consent { browser, state, verifier: None, confirmed_at: now }, now, life)
                        .ok(),
                )
            }
            Asked::Return => write(consent.and_then(|consent| {
                let grant = GrantHash::from(*consent.state.as_bytes());
                // As the shard does: no two marks are the same.
                let drawn = Duration::from_millis(if flaw == Flaw::MarksAlike { 0 } else { at as u64 });
                let presentation =
                    Presentation { grant, until: now + TICK * LEASE + drawn, repeatable: false };
                session.begin(&consent.browser, &consent.state, presentation, now, life).ok()
            })),
            Asked::Deny => write(
                consent.and_then(|consent| session.deny(&consent.browser, &consent.state, now, life).ok()),
            ),
            Asked::Finish { token, consumed } => {
                let Some(grant) = &self.instances[at].exchange else { return Step::Nothing };
                let next = if token {
                    session.approve(grant, Sealed::from_bytes(grant.as_bytes().to_vec()), now, life)
                } else {
                    session.fail(grant, consumed, now, life)
                };
                write(next.ok())
            }
        }
    }

    /// The store applies a write, if it is of the revision that is there.
    fn apply(&mut self, next: &Session, flaw: Flaw) -> bool {
        let fits = next.rev == self.stored.rev + 1 || flaw == Flaw::OverwritesRevisions;
        if fits {
            self.stored = next.clone();
        }
        fits
    }

    /// An instance learns how its write ended: what the store holds now.
    fn settle(&mut self, at: usize, flaw: Flaw) {
        let Some((asked, next, _)) = self.instances[at].writing.take() else { return };
        self.instances[at].memory = Some(self.stored.clone());
        if self.stored != next {
            // Another was faster, or it has not landed: begun anew on what is there.
            return self.ask(at, asked, flaw);
        }
        match (asked, &next.phase) {
            (Asked::Poll, _) => self.tell(Told::Token(next.rev)),
            (Asked::Return, Phase::Exchanging { grant, .. }) => {
                if flaw != Flaw::PresentsFirst {
                    self.presented.push(*grant);
                }
                self.instances[at].exchange = Some(*grant);
            }
            (Asked::Deny, _) => self.denied = true,
            (Asked::Finish { token, .. }, _) => {
                self.approved |= token;
                let instance = &mut self.instances[at];
                (instance.exchange, instance.outcome) = (None, None);
            }
            _ => {}
        }
    }
}

impl Model for Interleavings {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let request =
            Request { client_id: "box".into(), client_secret: None, scope: None, agent: None, network: None };
        let start = Timestamp::from_millis(1_000_000);
        let (device, user) = (DeviceHash::from([0; 16]), UserHash::from([0; 16]));
        let stored = Session::open(device, user, request, start, &LIFE);
        vec![World {
            tick: 0,
            stored,
            instances: Default::default(),
            late: Vec::new(),
            crashes: 0,
            told: Vec::new(),
            approved: false,
            denied: false,
            presented: Vec::new(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, instance) in world.instances.iter().enumerate() {
            if instance.writing.is_some() {
                actions.extend([
                    Action::Land(at),
                    Action::LoseAnswer(at, true),
                    Action::LoseAnswer(at, false),
                ]);
                actions.extend([Action::LoseStore(at, true), Action::LoseStore(at, false)]);
            } else {
                let mut all = vec![Asked::Poll, Asked::Confirm, Asked::Return, Asked::Deny];
                if let Some(grant) = &instance.exchange
                    && is_in_time(world, grant)
                {
                    let any = [(true, true), (false, true), (false, false)]
                        .map(|(token, consumed)| Asked::Finish { token, consumed });
                    all.extend(instance.outcome.map_or(any.to_vec(), |outcome| vec![outcome]));
                }
                actions.extend(all.into_iter().flat_map(|it| [Action::Ask(at, it), Action::Do(at, it)]));
                if instance.memory.as_ref().is_some_and(|known| known.rev < world.stored.rev) {
                    actions.push(Action::Follow(at));
                }
            }
            if world.crashes < 1 {
                actions.push(Action::Crash(at));
            }
        }
        actions.extend((0..world.late.len()).map(Action::LandLate));
        if world.tick < TICKS {
            actions.push(Action::Wait);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let (mut world, flaw) = (last.clone(), self.flaw);
        match action {
            Action::Ask(at, asked) => world.ask(at, asked, flaw),
            Action::Do(at, asked) => {
                world.ask(at, asked, flaw);
                let (_, next, _) = world.instances[at].writing.clone()?;
                world.apply(&next, flaw);
                world.settle(at, flaw);
            }
            Action::Land(at) => {
                let (_, next, _) = world.instances[at].writing.clone()?;
                world.apply(&next, flaw);
                world.settle(at, flaw);
            }
            Action::LoseAnswer(at, landed) | Action::LoseStore(at, landed) => {
                let (_, next, sent) = world.instances[at].writing.clone()?;
                if landed {
                    world.apply(&next, flaw);
                } else {
                    world.late.push((next, sent));
                }
                if matches!(action, Action::LoseAnswer(..)) {
                    world.settle(at, flaw);
                } else {
                    let instance = &mut world.instances[at];
                    (instance.writing, instance.in_doubt) = (None, true);
                }
            }
            Action::LandLate(which) => {
                let (next, _) = world.late.remove(which);
                world.apply(&next, flaw);
            }
            Action::Follow(at) => world.instances[at].memory = Some(world.stored.clone()),
            Action::Crash(at) => {
                world.crashes += 1;
                let gone = std::mem::take(&mut world.instances[at]);
                world.late.extend(gone.writing.map(|(_, next, sent)| (next, sent)));
            }
            Action::Wait => {
                world.tick += 1;
                let tick = world.tick;
                world.late.retain(|(_, sent)| tick <= sent + 1);
                // Whoever waits gives up no later than its write does.
                if world
                    .instances
                    .iter()
                    .any(|it| it.writing.as_ref().is_some_and(|(_, _, sent)| tick > sent + 1))
                {
                    return None;
                }
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one redemption", |_, world: &World| {
                world.told.iter().filter(|told| matches!(told, Told::Token(_))).count() <= 1
            }),
            Property::always("no decision is lost", |_, world: &World| {
                let phase = &world.stored.phase;
                let stands = matches!(phase, Phase::Approved { .. } | Phase::Redeemed { .. });
                (!world.approved || stands)
                    && (!world.denied || *phase == Phase::Denied)
                    && !world.told.contains(&Told::ExpiredInSpite)
            }),
            Property::always("no final answer is contradicted", |_, world: &World| {
                // A token whose answer was lost, and whose window is over, is spent.
                let others = world.told.iter().filter(|told| **told != Told::Spent).count();
                others <= 1
            }),
            Property::always("a code is presented once", |_, world: &World| {
                let seen = &world.presented;
                (1..seen.len()).all(|n| !seen[n..].contains(&seen[n - 1]))
            }),
            Property::sometimes("a token is delivered", |_, world: &World| {
                world.told.iter().any(|told| matches!(told, Told::Token(_)))
            }),
            Property::sometimes("a refusal is heard", |_, world: &World| world.told.contains(&Told::Denied)),
            Property::sometimes("a code expires", |_, world: &World| world.told.contains(&Told::Expired)),
        ]
    }
}

fn byte(number: impl TryInto<u8, Error: std::fmt::Debug>) -> u8 {
    number.try_into().unwrap()
}

/// Whether the end of an exchange may still be recorded.
fn is_in_time(world: &World, grant: &GrantHash) -> bool {
    match &world.stored.phase {
        Phase::Exchanging { grant: begun, until } => begun != grant || world.now() + TICK * 2 <= *until,
        _ => true,
    }
}

fn check(flaw: Flaw, depth: usize) -> impl Checker<Interleavings> {
    let checker = Interleavings { flaw }.checker().threads(2).target_max_depth(depth);
    checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "says how far to look, and nothing else")]
fn no_order_of_events_breaks_a_promise() {
    let depth = std::env::var("INTERLEAVINGS_DEPTH").map_or(DEPTH, |text| text.parse().unwrap());
    let checked = check(Flaw::None, depth);
    println!("depth {}, {} states", checked.max_depth(), checked.unique_state_count());
    checked.assert_properties();
}

#[test]
fn what_is_left_out_is_missed() {
    for (flaw, broken) in [
        (Flaw::BelievesItsMemory, "no decision is lost"),
        (Flaw::OverwritesRevisions, "no decision is lost"),
        (Flaw::PresentsFirst, "a code is presented once"),
        (Flaw::MarksAlike, "a code is presented once"),
    ] {
        let found = check(flaw, DEPTH).discovery(broken);
        assert!(found.is_some(), "{flaw:?} does not break: {broken}");
    }
}
