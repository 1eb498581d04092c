//! The throttler: what it remembers, for how long, and what it tells other instances. How it judges is
//! `throttler/interval.rs`, with its own tests.

use std::sync::Arc;

use actix::{Actor, Addr};
use actors::base::admission::{Admission, Observe};
use actors::base::keyring::DeviceHash;
use actors::device_flow::poll::{AuthStyle, PollAnswer};
use actors::device_flow::store::Polled;
use actors::device_flow::throttler::{NotePolls, PacePoll, PollThrottler, TakePolls, ThrottlerSnapshot};

use crate::universe::{INTERVAL, START, Universe, pass, universe};

struct Throttler<'a> {
    universe: &'a Universe,
    addr: Addr<PollThrottler>,
    admission: Admission,
}

impl<'a> Throttler<'a> {
    fn start(universe: &'a Universe, is_shared: bool) -> Self {
        let addr = PollThrottler::new(Arc::clone(&universe.clock), Universe::interval(), is_shared).start();
        Self { universe, addr, admission: Admission::new(10, INTERVAL) }
    }

    async fn poll(&self, device: DeviceHash) -> PollAnswer {
        let (at, style) = (self.universe.clock.now(), AuthStyle::Body);
        let asked = self.admission.ask(|reply| self.addr.do_send(PacePoll { device, style, at, reply }));
        asked.await.unwrap()
    }

    async fn take(&self) -> Vec<Polled> {
        self.admission.ask(|reply| self.addr.do_send(TakePolls { reply })).await.unwrap()
    }

    async fn snapshot(&self) -> ThrottlerSnapshot {
        self.admission.ask(|reply| self.addr.do_send(Observe { reply })).await.unwrap()
    }
}

const ON_TIME: PollAnswer = PollAnswer::Pending { interval_secs: 5 };

#[test]
fn each_session_has_its_own_pace() {
    universe(async |universe| {
        let throttler = Throttler::start(universe, false);
        let (one, other) = (universe.device(), universe.device());
        assert_eq!(throttler.poll(one).await, ON_TIME);
        assert_eq!(throttler.poll(one).await, PollAnswer::SlowDown { interval_secs: 10 });
        assert_eq!(throttler.poll(other).await, ON_TIME);
        let snapshot = throttler.snapshot().await;
        assert_eq!((snapshot.paced, snapshot.on_time, snapshot.early), (2, 2, 1));
        assert!(throttler.take().await.is_empty(), "there is nobody to tell");
    });
}

#[test]
fn a_pace_is_remembered_for_one_to_two_minutes() {
    universe(async |universe| {
        let throttler = Throttler::start(universe, false);
        let device = universe.device();
        throttler.poll(device).await;
        for _ in 0..5 {
            throttler.poll(device).await;
        }
        pass(61).await;
        // In its second minute: the spacing of 30 s is kept, and the poll moves it back among the recent ones.
        assert_eq!(throttler.poll(device).await, PollAnswer::Pending { interval_secs: 30 });
        pass(60).await;
        assert_eq!(throttler.snapshot().await.paced, 1);
        pass(60).await;
        assert_eq!(throttler.snapshot().await.paced, 0);
        assert_eq!(throttler.poll(device).await, ON_TIME);
    });
}

#[test]
fn other_instances_are_told_once_of_the_polls_that_were_on_time() {
    universe(async |universe| {
        let throttler = Throttler::start(universe, true);
        let (one, other) = (universe.device(), universe.device());
        throttler.poll(one).await;
        throttler.poll(one).await;
        pass(1).await;
        throttler.poll(other).await;
        let (at, later) = (START, universe.clock.now());
        assert_eq!(throttler.take().await, [Polled { device: one, at }, Polled { device: other, at: later }]);
        assert!(throttler.take().await.is_empty());
    });
}

#[test]
fn a_poll_at_another_instance_counts_as_one_here() {
    universe(async |universe| {
        let throttler = Throttler::start(universe, true);
        let (known, unknown) = (universe.device(), universe.device());
        throttler.poll(known).await;
        pass(10).await;
        // The other machine's clock is ahead; nobody pays for that.
        let at = universe.clock.now() + INTERVAL * 10;
        let polled = [known, unknown].map(|device| Polled { device, at }).to_vec();
        throttler.addr.do_send(NotePolls { polled });
        for device in [known, unknown] {
            assert_eq!(throttler.poll(device).await, PollAnswer::SlowDown { interval_secs: 10 });
        }
        pass(10).await;
        assert_eq!(throttler.poll(known).await, PollAnswer::Pending { interval_secs: 10 });
        let taken = throttler.take().await;
        assert_eq!(taken.len(), 2, "what another instance told is not told on: {taken:?}");
    });
}
