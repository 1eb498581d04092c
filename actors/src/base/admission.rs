//! Admission: a bounded permit before an actor is sent anything, and a deadline around the wait for its reply.
//!
//! An actix mailbox gives no back-pressure, so the bound stands here. The permit travels inside the message's
//! [`Reply`] and is given back when the actor has answered, or dropped the message: work whose caller has gone
//! still counts. What is refused was not begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::Message;
use tokio::sync::oneshot;

use crate::base::timer::within;

/// Looks at a reply on the same thread before a timer is set for it: the actor has answered by the second, one that it
/// hands the reply on to by the third.
const LOOKS_NEAR: u32 = 3;

/// Why an actor did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Too much work is waiting; nothing was begun.
    #[error("too many requests are waiting")]
    Overloaded,
    /// No answer in time. The work goes on and its effect may still become durable.
    #[error("no answer in time")]
    Timeout,
    /// The actor has stopped, or was not started yet.
    #[error("the actor is not running")]
    Stopped,
}

/// The bound and the deadline of one actor.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    limit: usize,
    deadline: Duration,
    looks: u32,
    refused: AtomicU64,
    permits: Permit,
}

/// One request's place, given back when it is dropped. The owners of this value, all but the admission itself, are the
/// requests under way: taking a place and giving it back is one atomic step each, with every poll. A
/// `tokio::sync::Semaphore` locks its list of waiters whenever a permit comes back, and nobody ever waits for one here.
#[derive(Clone, Debug, Default)]
struct Permit(Arc<()>);

impl Permit {
    fn taken(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

impl Admission {
    /// At most `limit` requests at a time, each waited for at most `deadline`. Of those that ask
    /// for the last place in the same instant, all may be refused.
    pub fn new(limit: usize, deadline: Duration) -> Self {
        Self::looking(limit, deadline, 1)
    }

    /// The same for an actor that mostly runs on its callers' thread.
    pub fn near(limit: usize, deadline: Duration) -> Self {
        Self::looking(limit, deadline, LOOKS_NEAR)
    }

    fn looking(limit: usize, deadline: Duration, looks: u32) -> Self {
        let (refused, permits) = (AtomicU64::new(0), Permit::default());
        Self(Arc::new(Bounds { limit, deadline, looks, refused, permits }))
    }

    /// Sends one request with `send`, which must pass the reply on or drop it, and waits for the answer.
    pub async fn ask<R>(&self, send: impl FnOnce(Reply<R>)) -> Result<R, AskError> {
        let Self(bounds) = self;
        let permit = bounds.permits.clone();
        if bounds.permits.taken() > bounds.limit {
            bounds.refused.fetch_add(1, Ordering::Relaxed);
            return Err(AskError::Overloaded);
        }
        let (sender, receiver) = oneshot::channel();
        send(Reply { sender, _permit: permit });
        match within(bounds.deadline, bounds.looks, receiver).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) => Err(AskError::Stopped),
            None => Err(AskError::Timeout),
        }
    }

    /// Requests under way.
    pub fn waiting(&self) -> usize {
        self.0.permits.taken()
    }

    /// Requests refused since the start.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

/// The way back to one caller. It may be handed from actor to actor; whoever holds it answers.
#[derive(Debug)]
pub struct Reply<R> {
    sender: oneshot::Sender<R>,
    _permit: Permit,
}

impl<R> Reply<R> {
    /// Whether nobody waits any more: the caller has gone, or its deadline is over.
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Answers. A caller that has gone is no error: its work was done all the same.
    pub fn send(self, answer: R) {
        drop(self.sender.send(answer));
    }
}

/// Read an actor's counters. Sent by its handle, for the metrics; answered at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Observe<S> {
    /// Whoever asks.
    pub reply: Reply<S>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_at_the_bound_and_recovers() {
        let admission = Admission::new(2, Duration::from_secs(5));
        let held = std::cell::RefCell::new(Vec::new());
        let mut first = Box::pin(admission.ask::<u8>(|reply| held.borrow_mut().push(reply)));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(admission.ask::<u8>(std::mem::forget));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(admission.ask::<u8>(|_| ()).await, Err(AskError::Overloaded));
        assert_eq!((admission.refused(), admission.waiting()), (1, 2));
        held.borrow_mut().pop().expect("the first reply").send(7);
        assert_eq!(first.await, Ok(7));
        assert_eq!(admission.ask(|reply| reply.send(8)).await, Ok(8));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_a_timeout_and_keeps_its_permit() {
        let admission = Admission::new(1, Duration::from_secs(5));
        let mut held = None;
        assert_eq!(admission.ask::<u8>(|reply| held = Some(reply)).await, Err(AskError::Timeout));
        assert_eq!(admission.ask::<u8>(|_| ()).await, Err(AskError::Overloaded));
        drop(held);
        assert_eq!(admission.ask(|reply| reply.send(7)).await, Ok(7));
        assert_eq!(admission.ask::<u8>(drop).await, Err(AskError::Stopped));
    }
}
