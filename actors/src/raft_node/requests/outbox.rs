//! Collects proposals on their way to RaftNode, so that they leave together.
//!
//! A worker that wakes up reads the requests of many connections. Sent one by one, the first of
//! them would wake RaftNode, which on a busy machine takes the processor from the worker: the log
//! would get many small appends instead of one. So each proposal first lets the tasks run that are
//! ready on its thread; then the first of them to run again sends all that were posted meanwhile. A
//! lone task goes on at once.

use std::mem;

use actix::Recipient;
use parking_lot::Mutex;

use crate::raft_node::message::{Proposal, Propose};

/// Where proposals wait for their neighbours. It holds at most what is admitted.
#[derive(Debug)]
pub(crate) struct Outbox {
    raft_node: Recipient<Propose>,
    posted: Mutex<Vec<Proposal>>,
}

impl Outbox {
    pub(crate) fn new(raft_node: Recipient<Propose>) -> Outbox {
        Outbox {
            raft_node,
            posted: Mutex::default(),
        }
    }

    /// Posts `proposal`. It is sent by the time the returned future completes or is dropped.
    pub(super) async fn post(&self, proposal: Proposal) {
        self.posted.lock().push(proposal);
        let _sent = SentWhenDropped(self);
        // Not a wake-up of our own: a connection polls its requests in a loop, and would come back
        // here before the other connections had their turn.
        tokio::task::yield_now().await;
    }

    /// Sends everything that is posted. If RaftNode is gone the replies are dropped, which answers
    /// `Stopped`.
    fn send(&self) {
        let proposals = mem::take(&mut *self.posted.lock());
        if !proposals.is_empty() {
            self.raft_node.do_send(Propose { proposals });
        }
    }
}

/// Sends however the wait for the neighbours ends.
struct SentWhenDropped<'a>(&'a Outbox);

impl Drop for SentWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.send();
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};
    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::sync::mpsc;

    use super::*;
    use crate::reply::{Admission, Reply};

    /// Passes on what it got in each message.
    struct Listener(mpsc::UnboundedSender<Vec<Bytes>>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<Propose> for Listener {
        type Result = ();

        fn handle(&mut self, propose: Propose, _: &mut Context<Self>) {
            let commands = propose.proposals.into_iter().map(|one| one.command);
            self.0.send(commands.collect()).unwrap();
        }
    }

    fn listen() -> (Outbox, mpsc::UnboundedReceiver<Vec<Bytes>>) {
        let (sender, heard) = mpsc::unbounded_channel();
        (Outbox::new(Listener(sender).start().recipient()), heard)
    }

    fn proposal(command: &'static str) -> Proposal {
        let (reply, _) = Reply::new(Admission::new(1).admit().unwrap());
        let command = Bytes::from(command);
        Proposal { command, reply }
    }

    #[actix::test]
    async fn proposals_of_one_burst_travel_in_one_message_and_keep_their_order() {
        let (outbox, mut heard) = listen();
        let burst = ["a", "b", "c"].map(|command| async {
            outbox.post(proposal(command)).await;
        });
        join_all(burst).await;
        assert_eq!(heard.recv().await.unwrap(), ["a", "b", "c"]);
        outbox.post(proposal("d")).await;
        assert_eq!(heard.recv().await.unwrap(), ["d"]);
    }

    #[actix::test]
    async fn a_proposal_goes_its_way_even_if_its_caller_stops_waiting() {
        let (outbox, mut heard) = listen();
        let mut caller = Box::pin(outbox.post(proposal("a")));
        assert!(caller.as_mut().now_or_never().is_none());
        drop(caller);
        assert_eq!(heard.recv().await.unwrap(), ["a"]);
    }
}
