//! Timers where very many messages pass: a timer costs as much as a good part of a poll.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix::WeakAddr;
use actix::prelude::*;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Waits for `future` for at most `limit`; `None` if that was too short. It is polled `looks` times, each after what else
/// is ready on this thread, before a timer is set for it: what is answered on the same thread needs none.
pub async fn within<F: Future>(limit: Duration, looks: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = looks;
    let early = poll_fn(|cx| {
        left = left.saturating_sub(1);
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    });
    match early.await {
        Some(output) => Some(output),
        None => timeout(limit, future).await.ok(),
    }
}

/// Sends `message()` to the actor every `period`, first after one, until the actor has stopped. A timer inside an actor
/// (`run_interval`) is polled again with every message the actor gets; this one is a task of its own.
pub fn every<A, M>(period: Duration, actor: WeakAddr<A>, message: fn() -> M)
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message<Result = ()> + Send + 'static,
{
    actix_rt::spawn(async move {
        let mut tick = interval_at(Instant::now() + period, period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match actor.upgrade() {
                Some(actor) => actor.do_send(message()),
                None => return,
            }
        }
    });
}
