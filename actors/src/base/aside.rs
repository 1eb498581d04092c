//! Work that waits for somebody else, apart from the actor that wants it.
//!
//! actix keeps what an actor has spawned in one list, and looks at all of it whenever the actor is woken: with a thousand
//! writes that wait for a store, each message looks at a thousand of them. A task of its own is looked at when what it
//! waits for is there.

use actix::prelude::*;

/// What is left to do with the actor.
type Rest<A> = Box<dyn FnOnce(&mut A, &mut <A as Actor>::Context) + Send>;

/// Do with the actor what was left to do once its work was done. Sent by [`aside`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Resume<A: Actor>(Rest<A>);

impl<A: Actor> Resume<A> {
    /// Does it; the whole of the actor's `Handler`.
    pub fn run(self, actor: &mut A, ctx: &mut A::Context) {
        (self.0)(actor, ctx);
    }
}

/// Does `work` in a task of its own on this thread, then `then` with the actor, which lives on until then, and with what
/// `work` came to.
pub fn aside<A, T>(
    ctx: &Context<A>,
    work: impl Future<Output = T> + 'static,
    then: impl FnOnce(T, &mut A, &mut Context<A>) + Send + 'static,
) where
    A: Actor<Context = Context<A>> + Handler<Resume<A>>,
    T: Send + 'static,
{
    let actor = ctx.address();
    actix_rt::spawn(async move {
        let done = work.await;
        actor.do_send(Resume(Box::new(move |actor, ctx| then(done, actor, ctx))));
    });
}
