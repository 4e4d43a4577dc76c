//! One pipe to a member: opened when there is something to send, and for as long as it works.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::health::Health;
use super::message::PeerReply;
use super::transport::{LinkError, OpenPipe, Peer, Pipe, Transport};

/// How long opening a connection may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// What is sent through a lane, and who waits for its answer.
type Item = (Bytes, PeerReply);

/// The sending end. What waits here is bounded by those who send: raft keeps a window of appends,
/// and proposals are admitted.
#[derive(Debug)]
pub(super) struct Lane {
    pipe: Pipe,
    queue: Option<UnboundedSender<Item>>,
}

impl Lane {
    pub(super) fn new(pipe: Pipe) -> Lane {
        Lane { pipe, queue: None }
    }

    /// Sends `item` behind all that was pushed before; opens a connection if there is none.
    pub(super) fn push(&mut self, item: Item, way: &Way) {
        let item = match &self.queue {
            None => item,
            Some(queue) => match queue.send(item) {
                Ok(()) => return,
                // Its connection ended.
                Err(mpsc::error::SendError(item)) => item,
            },
        };
        let (queue, items) = mpsc::unbounded_channel();
        // The receiver is alive: it is here.
        let _ = queue.send(item);
        actix_rt::spawn(run(way.clone(), self.pipe, items));
        self.queue = Some(queue);
    }

    /// The next item opens a new connection; those under way go on on the old one.
    pub(super) fn renew(&mut self) {
        self.queue = None;
    }
}

/// How the member is reached.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) peer: Peer,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) health: Arc<Health>,
}

async fn run(way: Way, pipe: Pipe, mut items: UnboundedReceiver<Item>) {
    let opening = tokio::time::timeout(OPEN_TIMEOUT, way.transport.open(&way.peer, pipe));
    let opened = opening.await.unwrap_or_else(|_| {
        let text = "it did not answer in time".to_owned();
        Err(LinkError::NotSent(text))
    });
    match opened {
        Ok(open) => {
            way.health.succeeded();
            pump(&way, pipe, open, &mut items).await;
        }
        Err(error) => {
            way.health.failed(&error);
            refuse(&mut items, &error);
        }
    }
}

/// Carries items out and answers back until the connection or the link ends.
async fn pump(way: &Way, pipe: Pipe, mut open: OpenPipe, items: &mut UnboundedReceiver<Item>) {
    let mut waiting: VecDeque<PeerReply> = VecDeque::new();
    let error = loop {
        tokio::select! {
            biased;
            answer = open.answers.recv() => match answer {
                Some(answer @ (Ok(_) | Err(LinkError::Refused(_)))) => {
                    let Some(reply) = waiting.pop_front() else {
                        break LinkError::Lost("an answer to nothing".to_owned());
                    };
                    if let Ok(bytes) = &answer {
                        way.health.metrics().received(bytes.len());
                    }
                    // Who no longer waits needs no answer.
                    let _ = reply.send(answer);
                }
                Some(Err(error)) => break error,
                None => break LinkError::Lost("the connection ended".to_owned()),
            },
            item = items.recv(), if waiting.len() < pipe.window() => {
                // The actor is gone, and with it everybody who sends.
                let Some((body, reply)) = item else { return };
                way.health.metrics().sent(body.len());
                waiting.push_back(reply);
                if open.requests.try_send(body).is_err() {
                    break LinkError::Lost("the connection ended".to_owned());
                }
            }
        }
    };
    way.health.failed(&error);
    for reply in waiting {
        let _ = reply.send(Err(LinkError::Lost(error.to_string())));
    }
    refuse(items, &LinkError::NotSent(error.to_string()));
}

/// Answers what was never sent, and takes nothing more.
fn refuse(items: &mut UnboundedReceiver<Item>, error: &LinkError) {
    items.close();
    while let Ok((_, reply)) = items.try_recv() {
        let _ = reply.send(Err(error.clone()));
    }
}
