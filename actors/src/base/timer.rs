//! A steady pace for actors that are sent very many messages.
//!
//! A timer inside an actor (`run_interval`) is polled again with every message the actor gets; for the shards and their
//! throttlers that is with every poll of every device. Here the timer is a task of its own and sends a message.

use std::time::Duration;

use actix::WeakAddr;
use actix::prelude::*;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Sends `message()` to the actor every `period`, first after one, until the actor has stopped.
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
