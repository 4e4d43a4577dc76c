//! The requests under way on one HTTP/2 connection, run by the connection's own task.
//!
//! A task for each request would cost more than most requests do: to make it, and to wake first it
//! and then the connection that sends its answer. Here all answers of a moment are one wake-up and
//! one write.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{Future, FutureExt};

type Exchange = Pin<Box<dyn Future<Output = ()>>>;

/// The requests of a connection; dropping it drops them. Their number is bounded by the streams
/// that the connection may have.
#[derive(Default)]
pub(super) struct Exchanges {
    new: Rc<RefCell<Vec<Exchange>>>,
    running: FuturesUnordered<Exchange>,
}

/// Where hyper puts requests. It is weak because every request holds one.
#[derive(Clone)]
pub(super) struct Begin(Weak<RefCell<Vec<Exchange>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Begin {
    fn execute(&self, exchange: F) {
        if let Some(new) = self.0.upgrade() {
            // A panic ends its request, not the others of the connection; nothing of it is used
            // afterwards.
            let exchange = AssertUnwindSafe(exchange).catch_unwind().map(drop);
            new.borrow_mut().push(Box::pin(exchange));
        }
    }
}

impl Exchanges {
    /// The executor that hyper is given.
    pub(super) fn begin(&self) -> Begin {
        Begin(Rc::downgrade(&self.new))
    }

    /// How many requests are under way.
    pub(super) fn count(&self) -> usize {
        self.running.len() + self.new.borrow().len()
    }

    /// Goes on with every request that can. `cx` is woken when there is more to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.running.extend(self.new.take());
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use hyper::rt::Executor;
    use tokio::sync::oneshot;

    use super::*;

    #[actix::test]
    async fn a_request_that_panics_ends_alone() {
        let mut exchanges = Exchanges::default();
        let begin = exchanges.begin();
        let (sender, receiver) = oneshot::channel();
        begin.execute(async { panic!("a bug in one request") });
        begin.execute(pending());
        begin.execute(async { sender.send(7).expect("the receiver waits") });
        poll_fn(|cx| {
            exchanges.poll(cx);
            Poll::Ready(())
        })
        .await;
        assert_eq!(receiver.await, Ok(7));
        assert_eq!(exchanges.running.len(), 1);
    }
}
