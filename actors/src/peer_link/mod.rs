//! PeerLink: the way to one other member. It carries bytes there and their answers back, each kind
//! on connections of its own, so that a heartbeat never waits behind entries or a snapshot.
//!
//! ```text
//!                 Send (a pipe)                  the connection fails
//!  no connection ---------------> opening, open ----------------------> no connection
//!        '---- cannot be reached: what waits is refused; raft decides when to try again
//! ```
//! Owns: the pipes to the member, and the counts of calls under way.
//! Waits for: nobody; what it starts runs in tasks, and answers go straight to the caller.
//! Fails: it is started again; what was under way counts as lost, which raft expects of a network.
//!
//! Raft decides what is carried and `wire` encodes it; how it travels is the business of the
//! [`Transport`].

mod backoff;
pub(crate) mod change;
pub(crate) mod hash;
mod health;
mod lane;
pub(crate) mod lease;
mod links;
mod message;
pub(crate) mod proposal;
mod transport;
pub(crate) mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler};

pub(crate) use self::backoff::waits;
use self::health::Health;
use self::lane::{Lane, Way};
pub(crate) use self::links::{Link, Links, LinksSetup};
use self::message::{Deliver, MemberUpdated, Send, SendSnapshot};
pub use self::transport::{Call, Knock, LinkError, OpenPipe, Peer, Pipe, SnapshotBytes, Transport};
use crate::supervisor::DeathWatch;

/// Raft's own calls under way to one member at once.
const RAFT_CALLS_MAX: usize = 32;
/// Calls on behalf of clients at once, counted apart so that they cannot delay raft's. Calls per
/// second are at most this divided by the round trip: enough for the renewals of a whole data
/// centre at a follower.
const CLIENT_CALLS_MAX: usize = 512;

/// After this time a call counts as lost. Raft gives its own calls up sooner, and their places too.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The actor.
#[derive(Debug)]
pub(crate) struct PeerLink {
    way: Way,
    appends: Lane,
    proposals: Lane,
    raft_calls: Arc<AtomicUsize>,
    client_calls: Arc<AtomicUsize>,
    _death_watch: DeathWatch,
}

impl PeerLink {
    pub(crate) fn new(
        peer: Peer,
        transport: Arc<dyn Transport>,
        health: Arc<Health>,
        watch: DeathWatch,
    ) -> PeerLink {
        PeerLink {
            way: Way {
                peer,
                transport,
                health,
            },
            appends: Lane::new(Pipe::Append),
            proposals: Lane::new(Pipe::Propose),
            raft_calls: Arc::default(),
            client_calls: Arc::default(),
            _death_watch: watch,
        }
    }
}

/// A place among the calls under way, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(calls: &Arc<AtomicUsize>, calls_max: usize) -> Option<Place> {
        let place = Place(Arc::clone(calls));
        (calls.fetch_add(1, Ordering::Relaxed) < calls_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks, and notes the outcome in the link's health, even if nobody waits for it any more.
async fn deliver(way: Way, deliver: Deliver, place: Place) {
    let Deliver {
        call,
        body,
        mut reply,
    } = deliver;
    let (sent, start) = (body.len(), Instant::now());
    let calling = way.transport.call(&way.peer, call, body);
    let mut calling = pin!(tokio::time::timeout(CALL_TIMEOUT, calling));
    let mut place = Some(place);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut calling => break answer,
            () = reply.closed(), if place.is_some() => place = None,
        }
    };
    let is_late = answer.is_err();
    let answer = answer.unwrap_or_else(|_| {
        let text = "no answer in time".to_owned();
        Err(LinkError::Lost(text))
    });
    match &answer {
        Ok(bytes) => {
            let metrics = way.health.metrics();
            metrics.sent(sent);
            metrics.received(bytes.len());
            if call == Call::Heartbeat {
                metrics.round_trip(start.elapsed());
            }
            way.health.succeeded();
        }
        // The member may be there, and have to wait itself for what a client asks.
        Err(_) if is_late && !call.is_of_raft() => way.health.metrics().send_failed(),
        Err(error) => way.health.failed(error),
    }
    // A caller that no longer waits needs no answer.
    let _ = reply.send(answer);
}

/// A snapshot transfer, in the metrics; one that is dropped has failed.
struct Transfer {
    health: Arc<Health>,
    took: Option<Duration>,
}

impl Transfer {
    fn begin(way: &Way) -> Transfer {
        way.health.metrics().snapshot_begins();
        Transfer {
            health: Arc::clone(&way.health),
            took: None,
        }
    }

    fn succeeded(mut self, took: Duration) {
        self.took = Some(took);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.health.metrics().snapshot_ended(self.took);
    }
}

impl Actor for PeerLink {
    type Context = Context<Self>;
}

impl Handler<Deliver> for PeerLink {
    type Result = ();

    fn handle(&mut self, message: Deliver, _: &mut Context<Self>) {
        let (calls, calls_max) = if message.call.is_of_raft() {
            (&self.raft_calls, RAFT_CALLS_MAX)
        } else {
            (&self.client_calls, CLIENT_CALLS_MAX)
        };
        match Place::take(calls, calls_max) {
            Some(place) => {
                actix_rt::spawn(deliver(self.way.clone(), message, place));
            }
            None => {
                let text = "too many calls wait for its answer".to_owned();
                let _ = message.reply.send(Err(LinkError::NotSent(text)));
            }
        }
    }
}

impl Handler<Send> for PeerLink {
    type Result = ();

    fn handle(&mut self, Send { pipe, body, reply }: Send, _: &mut Context<Self>) {
        let lane = match pipe {
            Pipe::Append => &mut self.appends,
            Pipe::Propose => &mut self.proposals,
        };
        lane.push((body, reply), &self.way);
    }
}

impl Handler<SendSnapshot> for PeerLink {
    type Result = ();

    fn handle(&mut self, message: SendSnapshot, _: &mut Context<Self>) {
        let SendSnapshot {
            head,
            body,
            mut reply,
        } = message;
        let way = self.way.clone();
        actix_rt::spawn(async move {
            let (transfer, start) = (Transfer::begin(&way), Instant::now());
            let sending = way.transport.send_snapshot(&way.peer, head, body);
            let answer = tokio::select! {
                biased;
                answer = sending => answer,
                // Raft gave the transfer up, and dropping it closes the connection.
                () = reply.closed() => return,
            };
            match &answer {
                Ok(_) => {
                    transfer.succeeded(start.elapsed());
                    way.health.succeeded();
                }
                Err(error) => way.health.failed(error),
            }
            let _ = reply.send(answer);
        });
    }
}

impl Handler<message::Knock> for PeerLink {
    type Result = ();

    fn handle(&mut self, message::Knock { reply }: message::Knock, _: &mut Context<Self>) {
        let knocking = self.way.transport.knock(&self.way.peer);
        actix_rt::spawn(async move {
            // A caller that no longer waits needs no answer.
            let _ = reply.send(knocking.await);
        });
    }
}

impl Handler<MemberUpdated> for PeerLink {
    type Result = ();

    fn handle(&mut self, MemberUpdated { urls }: MemberUpdated, _: &mut Context<Self>) {
        // Connections that work go on: a member may announce its new address before it listens
        // there.
        self.way.peer.urls = urls;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use tokio::sync::oneshot;

    use super::*;
    use crate::departure::Departure;
    use crate::metrics::Metrics;

    /// Takes everything and answers nothing.
    #[derive(Debug)]
    struct Silent;

    impl Transport for Silent {
        fn call(
            &self,
            _: &Peer,
            _: Call,
            _: Bytes,
        ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
            pending().boxed()
        }

        fn knock(&self, _: &Peer) -> BoxFuture<'static, Knock> {
            pending().boxed()
        }

        fn open(&self, _: &Peer, _: Pipe) -> BoxFuture<'static, Result<OpenPipe, LinkError>> {
            pending().boxed()
        }

        fn send_snapshot(
            &self,
            _: &Peer,
            _: Bytes,
            _: SnapshotBytes,
        ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
            pending().boxed()
        }
    }

    fn way_to_silence() -> Way {
        let metrics = Arc::new(Metrics::new().peer(1, 2));
        Way {
            peer: Peer {
                id: althing_api::id::MemberId(2),
                urls: Vec::new(),
            },
            transport: Arc::new(Silent),
            health: Arc::new(Health::new(2, metrics, Departure::default())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_is_silent_if_it_answers_raft_too_late_and_not_if_a_client_has_to_wait() {
        for (call, is_silent) in [(Call::KeepLease, false), (Call::Heartbeat, true)] {
            let way = way_to_silence();
            way.health.succeeded();
            let place = Place::take(&Arc::default(), 1).unwrap();
            let (reply, answer) = oneshot::channel();
            let body = Bytes::new();
            deliver(way.clone(), Deliver { call, body, reply }, place).await;
            assert!(matches!(answer.await, Ok(Err(LinkError::Lost(_)))));
            assert_eq!(way.health.silence().is_some(), is_silent, "{call:?}");
        }
    }

    #[actix::test]
    async fn a_call_that_is_given_up_takes_no_place_from_the_next_one() {
        let way = way_to_silence();
        let calls = Arc::default();
        let place = Place::take(&calls, 1).unwrap();
        assert!(Place::take(&calls, 1).is_none(), "the only one is taken");
        let (reply, answer) = oneshot::channel();
        let (call, body) = (Call::Heartbeat, Bytes::new());
        let mut delivering = Box::pin(deliver(way, Deliver { call, body, reply }, place));
        assert!(delivering.as_mut().now_or_never().is_none());
        assert!(Place::take(&calls, 1).is_none(), "somebody waits for it");
        drop(answer);
        assert!(delivering.as_mut().now_or_never().is_none());
        assert!(Place::take(&calls, 1).is_some());
    }
}
