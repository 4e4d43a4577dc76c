//! One pipe to a member: opened when there is something to send, and kept for as long as it works.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use super::health::Health;
use super::message::PeerReply;
use super::transport::{LinkError, OpenPipe, Peer, Pipe, Transport};

/// The time allowed for opening a connection to a member with one URL, and for each further URL,
/// which is tried if those before it do not accept.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
const URL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a member may leave all entries that it was sent unanswered. Until they are answered, or
/// lost, raft keeps all of the log behind what it knows that the member has; and TCP goes on
/// acknowledging for a process that is frozen or whose disk hangs. A disk that is only slow, or
/// busy with a long fsync, answers sooner; if not, it costs a window of entries that is sent again.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is sent through a lane, and the reply that waits for its answer.
type Item = (Bytes, PeerReply);

/// The sending end. Its senders bound what waits here: raft keeps a window of appends, and
/// proposals are admitted.
#[derive(Debug)]
pub(super) struct Lane {
    pipe: Pipe,
    queue: Option<UnboundedSender<Item>>,
}

impl Lane {
    pub(super) fn new(pipe: Pipe) -> Lane {
        Lane { pipe, queue: None }
    }

    /// Sends `item` behind all that was pushed before; opens a connection if none is open.
    pub(super) fn push(&mut self, item: Item, way: &Way) {
        let item = match &self.queue {
            None => item,
            Some(queue) => match queue.send(item) {
                Ok(()) => return,
                // The lane's connection ended.
                Err(mpsc::error::SendError(item)) => item,
            },
        };
        let (queue, items) = mpsc::unbounded_channel();
        // This cannot fail: the receiver is in scope.
        let _ = queue.send(item);
        actix_rt::spawn(run(way.clone(), self.pipe, items));
        self.queue = Some(queue);
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
    let further = u32::try_from(way.peer.urls.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let patience = OPEN_TIMEOUT.saturating_add(URL_TIMEOUT.saturating_mul(further));
    let opening = tokio::time::timeout(patience, way.transport.open(&way.peer, pipe));
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
    // The time of the last answer, or of the first item sent when nothing was unanswered. Proposals
    // have no limit here: they are answered when committed, and their callers limit that.
    let (limits, mut heard) = (pipe == Pipe::Append, Instant::now());
    let mut silence = pin!(tokio::time::sleep(ANSWER_MAX));
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
                    heard = Instant::now();
                    // A caller that no longer waits needs no answer.
                    let _ = reply.send(answer);
                }
                Some(Err(error)) => break error,
                None => break LinkError::Lost("the connection ended".to_owned()),
            },
            item = items.recv(), if waiting.len() < pipe.window() => {
                // The actor is gone, and with it every sender.
                let Some((body, reply)) = item else { return };
                // Nobody waits for this item, so it is no longer admitted either.
                if reply.is_closed() {
                    continue;
                }
                way.health.metrics().sent(body.len());
                if waiting.is_empty() {
                    heard = Instant::now();
                }
                waiting.push_back(reply);
                if open.requests.try_send(body).is_err() {
                    break LinkError::Lost("the connection ended".to_owned());
                }
            }
            // Reset only when it is over, since it is polled with every item.
            () = &mut silence, if limits && !waiting.is_empty() => {
                let until = heard + ANSWER_MAX;
                if until <= Instant::now() {
                    break LinkError::Lost("no answer in time".to_owned());
                }
                silence.as_mut().reset(until);
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::departure::Departure;
    use crate::metrics::Metrics;
    use crate::testing::Loopback;

    fn way() -> Way {
        let metrics = Arc::new(Metrics::new().peer(1, 2));
        Way {
            peer: Peer {
                id: althing_api::id::MemberId(2),
                urls: Vec::new(),
            },
            transport: Loopback::default().transport(1),
            health: Arc::new(Health::new(2, metrics, Departure::default())),
        }
    }

    /// Pumps a single item through a pipe that answers nothing before `answers_after`. Returns the
    /// outcome, and how long it took.
    async fn sent(pipe: Pipe, answers_after: Duration) -> (Result<Bytes, LinkError>, Duration) {
        let (requests, mut taken) = mpsc::channel(pipe.window());
        let (to, answers) = mpsc::channel(pipe.window());
        let (queue, mut items) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        queue.send((Bytes::from_static(b"entries"), reply)).unwrap();
        let began = Instant::now();
        let way = way();
        let pumping = pump(&way, pipe, OpenPipe { requests, answers }, &mut items);
        let answering = async {
            taken.recv().await.expect("it was sent");
            tokio::time::sleep_until(began + answers_after).await;
            let _ = to.send(Ok(Bytes::new())).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(pumping, answering) } => unreachable!("it goes on"),
            answer = answer => (answer.unwrap(), began.elapsed()),
        }
    }

    #[actix::test]
    async fn a_member_that_takes_entries_and_answers_none_is_cut_off() {
        tokio::time::pause();
        let (answer, after) = sent(Pipe::Append, 10 * ANSWER_MAX).await;
        assert!(matches!(answer, Err(LinkError::Lost(_))), "{answer:?}");
        assert!(after >= ANSWER_MAX && after < 2 * ANSWER_MAX, "{after:?}");
    }

    #[actix::test]
    async fn what_nobody_waits_for_any_more_is_not_sent() {
        let (requests, mut taken) = mpsc::channel(Pipe::Propose.window());
        let (_to, answers) = mpsc::channel(1);
        let (queue, mut items) = mpsc::unbounded_channel();
        let (given_up, _) = oneshot::channel();
        queue.send((Bytes::from("given up"), given_up)).unwrap();
        let (reply, _answer) = oneshot::channel();
        queue.send((Bytes::from("wanted"), reply)).unwrap();
        let way = way();
        let open = OpenPipe { requests, answers };
        tokio::select! {
            () = pump(&way, Pipe::Propose, open, &mut items) => unreachable!("it goes on"),
            sent = taken.recv() => assert_eq!(sent.unwrap(), "wanted"),
        }
    }

    #[actix::test]
    async fn a_slow_answer_is_waited_for_and_a_proposals_for_any_time() {
        tokio::time::pause();
        let slow = ANSWER_MAX - Duration::from_secs(1);
        assert!(sent(Pipe::Append, slow).await.0.is_ok());
        assert!(sent(Pipe::Propose, 10 * ANSWER_MAX).await.0.is_ok());
    }
}
