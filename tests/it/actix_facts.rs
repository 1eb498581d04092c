//! What the design relies on in actix 0.13, pinned down: if an upgrade changes any of it, the design has to follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use actix_rt::System;
use actix_web::{App, HttpServer, web};
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

#[actix_rt::test]
async fn a_full_mailbox_is_no_back_pressure_for_do_send() {
    let begun = Arc::new(AtomicUsize::new(0));
    let addr = Counter { begun: Arc::clone(&begun), done: 0 }.start();
    // Far more than the capacity of 4: every one is queued, none refused. Hence the permits of `actors::base::admission`.
    for _ in 0..1_000 {
        addr.do_send(Count);
    }
    // `try_send` is what refuses, and only after one shared address has gone past the capacity.
    let accepted = (0..64).filter(|_| addr.try_send(Count).is_ok()).count();
    assert!(accepted < 64, "{accepted}");
    tokio::task::yield_now().await;
    assert_eq!(addr.send(Count).await.unwrap(), 1_001 + accepted);
}

#[actix_rt::test]
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

#[actix_rt::test]
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

#[actix_rt::test]
async fn an_actor_can_live_on_an_http_workers_thread() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = HttpServer::new(move || {
        // Runs on the worker's own thread, which has no arbiter but a local task set.
        let addr = Counter::default().start();
        let here = std::thread::current().id();
        sender.send((here, addr.clone())).unwrap();
        App::new().app_data(web::Data::new(addr)).route(
            "/",
            web::get().to(async |addr: web::Data<Addr<Counter>>| {
                format!("{} {:?}", addr.send(Count).await.unwrap(), std::thread::current().id())
            }),
        )
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}/", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    let client = awc::Client::builder().timeout(Duration::from_secs(30)).finish();
    let body = client.get(&url).send().await.unwrap().body().await.unwrap();
    let (thread, addr) = receiver.recv().unwrap();
    assert_eq!(body, format!("1 {thread:?}"));
    assert_ne!(thread, std::thread::current().id());
    // And it answers from other threads.
    assert_eq!(addr.send(Count).await.unwrap(), 2);
    handle.stop(false).await;
}
