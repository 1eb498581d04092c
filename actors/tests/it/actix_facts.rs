//! What the design relies on in actix 0.13, pinned down: if an upgrade changes any of it, the design has to follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::prelude::*;
use actix_rt::System;
use tokio::sync::oneshot;

/// An actor that counts, and handles messages in the ways the project uses.
#[derive(Default)]
struct Counter {
    begun: Arc<AtomicUsize>,
    done: usize,
}

impl Actor for Counter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4);
    }
}

/// Waits for `release`, then answers how many were done before.
#[derive(Message)]
#[rtype(result = "usize")]
struct Wait {
    release: oneshot::Receiver<()>,
}

impl Handler<Wait> for Counter {
    type Result = ResponseActFuture<Self, usize>;

    fn handle(&mut self, msg: Wait, _: &mut Self::Context) -> Self::Result {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let wait = async move { msg.release.await.unwrap_or_default() };
        Box::pin(wait.into_actor(self).map(|(), act, _| {
            act.done += 1;
            act.done
        }))
    }
}

/// Counts at once.
#[derive(Message)]
#[rtype(result = "usize")]
struct Count;

impl Handler<Count> for Counter {
    type Result = usize;

    fn handle(&mut self, _: Count, _: &mut Self::Context) -> usize {
        self.done += 1;
        self.done
    }
}

/// Panics.
#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for Counter {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("on purpose");
    }
}

#[actix::test]
async fn a_full_mailbox_is_no_back_pressure_for_do_send() {
    let begun = Arc::new(AtomicUsize::new(0));
    let addr = Counter { begun: Arc::clone(&begun), done: 0 }.start();
    // Far more than the capacity of 4: every one is queued, none refused. Hence the permits of `base::admission`.
    for _ in 0..1_000 {
        addr.do_send(Count);
    }
    // `try_send` is what refuses, and only after one shared address has gone past the capacity.
    let accepted = (0..64).filter(|_| addr.try_send(Count).is_ok()).count();
    assert!(accepted < 64, "{accepted}");
    tokio::task::yield_now().await;
    assert_eq!(addr.send(Count).await.unwrap(), 1_001 + accepted);
}

#[actix::test]
async fn futures_of_one_actor_interleave() {
    let begun = Arc::new(AtomicUsize::new(0));
    let addr = Counter { begun: Arc::clone(&begun), done: 0 }.start();
    let (release_first, first) = oneshot::channel();
    let (release_second, second) = oneshot::channel();
    let first = actix_rt::spawn(addr.send(Wait { release: first }));
    let second = actix_rt::spawn(addr.send(Wait { release: second }));
    // A message is handled while two earlier ones are still being worked on...
    while begun.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(addr.send(Count).await.unwrap(), 1);
    // ...and the later of the two may end first. Hence the queue for each session in the registry.
    release_second.send(()).unwrap();
    assert_eq!(second.await.unwrap().unwrap(), 2);
    release_first.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 3);
}

#[test]
fn an_actor_that_panicked_is_closed_for_good() {
    // On a thread of its own, whose panic is the point.
    let outcome = std::thread::spawn(|| {
        System::new().block_on(async {
            let arbiter = Arbiter::new();
            let addr = Counter::start_in_arbiter(&arbiter.handle(), |_| Counter::default());
            assert_eq!(addr.send(Count).await.unwrap(), 1);
            let panicked = addr.send(Panic).await;
            let after = addr.send(Count).await;
            arbiter.stop();
            (panicked, after)
        })
    });
    let (panicked, after) = outcome.join().unwrap();
    // No answer ever again, and no restart. Hence a panic ends the process.
    assert!(matches!(panicked, Err(MailboxError::Closed)));
    assert!(matches!(after, Err(MailboxError::Closed)));
}

#[actix::test]
async fn a_dropped_caller_leaves_its_message_handled_to_the_end() {
    let begun = Arc::new(AtomicUsize::new(0));
    let addr = Counter { begun: Arc::clone(&begun), done: 0 }.start();
    let (release, wait) = oneshot::channel();
    let caller = actix_rt::spawn(addr.send(Wait { release: wait }));
    while begun.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    release.send(()).unwrap();
    // The work of the caller that has gone was finished: this is the second.
    while addr.send(Count).await.unwrap() < 2 {}
}

#[test]
fn an_actor_can_live_on_a_thread_that_has_no_arbiter() {
    // As the HTTP server's workers have none, but a runtime and a local task set.
    let (started, address) = std::sync::mpsc::channel();
    let (end, ended) = oneshot::channel::<()>();
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let addr = Counter::default().start();
            assert_eq!(addr.send(Count).await.unwrap(), 1);
            started.send(addr).unwrap();
            ended.await.unwrap();
        });
    });
    // And it answers from other threads.
    let addr: Addr<Counter> = address.recv().unwrap();
    assert_eq!(System::new().block_on(addr.send(Count)).unwrap(), 2);
    end.send(()).unwrap();
    worker.join().unwrap();
}
