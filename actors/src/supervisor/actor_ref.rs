//! The address of an actor that may be replaced: neighbours keep the reference, and the
//! supervisor's factory changes what it points to.

use std::fmt;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message};
use parking_lot::RwLock;

/// Points to the current value of a restartable actor.
pub struct ActorRef<A: Actor>(Arc<RwLock<Addr<A>>>);

impl<A: Actor> ActorRef<A> {
    /// Points to `addr`.
    pub fn new(addr: Addr<A>) -> ActorRef<A> {
        ActorRef(Arc::new(RwLock::new(addr)))
    }

    /// Points every holder of the reference to a new value. A sender that calls while the new value
    /// starts waits and reaches it: news from after its first look at the state never goes to the
    /// old value.
    pub fn replace(&self, start: impl FnOnce() -> Addr<A>) {
        let mut addr = self.0.write();
        *addr = start();
    }

    /// The current value's address.
    pub fn addr(&self) -> Addr<A> {
        self.0.read().clone()
    }

    /// Tells the current value something. Returns false if its mailbox is full or it is gone.
    pub fn try_send<M>(&self, message: M) -> bool
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        self.0.read().try_send(message).is_ok()
    }

    /// Asks the current value, and waits for its answer.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        // The lock is not held while waiting.
        let addr = self.0.read().clone();
        addr.send(message).await
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        ActorRef(Arc::clone(&self.0))
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActorRef")
    }
}

#[cfg(test)]
mod tests {
    use actix::Context;

    use super::*;

    struct Child;

    impl Actor for Child {
        type Context = Context<Self>;
    }

    #[actix::test]
    async fn nobody_is_given_the_former_value_once_a_new_one_starts() {
        let (former, new) = (Child.start(), Child.start());
        let reference = ActorRef::new(former);
        let neighbour = reference.clone();
        reference.replace(|| {
            assert!(neighbour.0.try_read().is_none(), "who asks now waits");
            new.clone()
        });
        assert!(neighbour.addr() == new);
    }
}
