//! The links to all other members, found by id; started, pointed elsewhere and retired as the
//! cluster's configuration says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Addr;
use althing_api::id::MemberId;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{
    Call, Deliver, Health, Knock, LinkError, MemberUpdated, Peer, PeerLink, Pipe, Send,
    SendSnapshot, SnapshotBytes, Transport, message,
};
use crate::arbiters::Thread;
use crate::departure::Departure;
use crate::metrics::Metrics;
use crate::supervisor::{ActorRef, DeathWatch, Policy, Retire, Supervise, Supervisor};

/// What links are made of.
pub(crate) struct LinksSetup {
    pub(crate) me: u64,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) thread: Thread,
    /// The supervisor "peers".
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) metrics: Metrics,
    /// Tripped when another member says that this one was removed.
    pub(crate) departure: Departure,
}

/// All links of a node.
pub(crate) struct Links {
    setup: LinksSetup,
    links: RwLock<BTreeMap<u64, Link>>,
    /// Counts the links ever started. A member that comes back gets another link, and the end of
    /// the former one must not be taken for its death.
    started: AtomicU64,
}

/// One link, and where it leads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    actor: ActorRef<PeerLink>,
    /// The name that the supervisor knows it by.
    name: Arc<str>,
    /// Read by a new value of the actor if this one dies.
    peer: Arc<RwLock<Peer>>,
    health: Arc<Health>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.links.read().keys()).finish()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.read().fmt(f)
    }
}

impl Links {
    pub(crate) fn new(setup: LinksSetup) -> Links {
        Links {
            setup,
            links: RwLock::default(),
            started: AtomicU64::new(0),
        }
    }

    /// The link to `member`, if it is known.
    pub(crate) fn to(&self, member: u64) -> Option<Link> {
        self.links.read().get(&member).cloned()
    }

    /// All present links.
    pub(crate) fn all(&self) -> Vec<Link> {
        self.links.read().values().cloned().collect()
    }

    /// The link to `member`, which listens at `urls`.
    pub(crate) fn reach(&self, member: u64, urls: &[String]) -> Link {
        assert_ne!(member, self.setup.me, "a member needs no link to itself");
        let mut links = self.links.write();
        let link = links
            .entry(member)
            .or_insert_with(|| self.start(member, urls.to_vec()));
        let mut peer = link.peer.write();
        if peer.urls != urls {
            peer.urls = urls.to_vec();
            let urls = urls.to_vec();
            link.actor.addr().do_send(MemberUpdated { urls });
        }
        drop(peer);
        link.clone()
    }

    /// Keeps a link to each of `members` and to no other.
    pub(crate) fn follow<'a>(&self, members: impl Iterator<Item = (u64, &'a [String])>) {
        let mut known = Vec::new();
        for (member, urls) in members.filter(|(member, _)| *member != self.setup.me) {
            self.reach(member, urls);
            known.push(member);
        }
        self.links.write().retain(|member, link| {
            let stays = known.contains(member);
            if !stays {
                let child = link.name.to_string().into();
                self.setup.supervisor.do_send(Retire { child });
            }
            stays
        });
    }

    /// How many of `members` other than this one have answered since `since` or longer.
    pub(crate) fn active_since(&self, members: &[u64], since: Instant) -> usize {
        let links = self.links.read();
        let active = |member: &&u64| {
            let link = links.get(*member);
            let active = link.and_then(|link| link.health.active_since());
            active.is_some_and(|at| at <= since)
        };
        members.iter().filter(active).count()
    }

    /// The members that do not answer, and why.
    pub(crate) fn silent(&self) -> Vec<(Peer, String)> {
        let links = self.links.read();
        let silent = links.values().filter_map(|link| {
            let why = link.health.silence()?;
            Some((link.peer.read().clone(), why))
        });
        silent.collect()
    }

    fn start(&self, member: u64, urls: Vec<String>) -> Link {
        let peer = Peer {
            id: MemberId(member),
            urls,
        };
        let peer = Arc::new(RwLock::new(peer));
        let metrics = Arc::new(self.setup.metrics.peer(self.setup.me, member));
        let departure = self.setup.departure.clone();
        let health = Arc::new(Health::new(member, metrics, departure));
        let (thread, transport) = (self.setup.thread.clone(), Arc::clone(&self.setup.transport));
        let (place, condition) = (Arc::clone(&peer), Arc::clone(&health));
        let start = move |watch| {
            let peer = place.read().clone();
            let (transport, health) = (Arc::clone(&transport), Arc::clone(&condition));
            thread.start(|| PeerLink::new(peer, transport, health, watch))
        };
        let supervisor = self.setup.supervisor.clone();
        let name = name(member, self.started.fetch_add(1, Ordering::Relaxed));
        let watch = DeathWatch::new(name.clone(), supervisor.clone().recipient());
        let actor = ActorRef::new(start(watch));
        let current = actor.clone();
        supervisor.do_send(Supervise {
            child: name.clone().into(),
            policy: Policy::Restart,
            respawn: Some(Box::new(move |watch| current.replace(|| start(watch)))),
        });
        Link {
            actor,
            name: name.into(),
            peer,
            health,
        }
    }
}

fn name(member: u64, number: u64) -> String {
    format!("PeerLink {member:x}#{number}")
}

impl Link {
    /// The member that the link leads to.
    pub(crate) fn member(&self) -> u64 {
        self.peer.read().id.0
    }

    /// Asks one question and waits for the answer.
    pub(crate) async fn call(&self, call: Call, body: Bytes) -> Result<Bytes, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.actor.addr().do_send(Deliver { call, body, reply });
        answer.await.unwrap_or_else(|_| Err(died()))
    }

    /// Whether anybody listens at the member's addresses.
    pub(crate) async fn knock(&self) -> Knock {
        let (reply, answer) = oneshot::channel();
        self.actor.addr().do_send(message::Knock { reply });
        answer.await.unwrap_or(Knock::Silent)
    }

    /// Sends `body` at once, behind what was sent on `pipe` before; the future is its answer.
    pub(crate) fn send(
        &self,
        pipe: Pipe,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, LinkError>> + std::marker::Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.actor.addr().do_send(Send { pipe, body, reply });
        async move { answer.await.unwrap_or_else(|_| Err(died())) }
    }

    /// Sends a snapshot and waits until it was taken over. Dropping the future gives it up.
    pub(crate) async fn send_snapshot(
        &self,
        head: Bytes,
        body: SnapshotBytes,
    ) -> Result<Bytes, LinkError> {
        let (reply, answer) = oneshot::channel();
        self.actor
            .addr()
            .do_send(SendSnapshot { head, body, reply });
        answer.await.unwrap_or_else(|_| Err(died()))
    }
}

/// The message may have left before the link died.
fn died() -> LinkError {
    LinkError::Lost("the link ended".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix::Actor;

    use super::*;
    use crate::halt::Halt;
    use crate::testing::Loopback;

    #[actix::test]
    async fn the_end_of_a_former_link_is_not_taken_for_the_death_of_the_next() {
        tokio::time::pause();
        let links = Links::new(LinksSetup {
            me: 1,
            transport: Loopback::default().transport(1),
            thread: Thread::Callers,
            supervisor: Supervisor::new(Halt::default()).start(),
            metrics: Metrics::new(),
            departure: Departure::default(),
        });
        drop(links.reach(2, &[]));
        links.follow(std::iter::empty());
        let next = links.reach(2, &[]);
        let started = next.actor.addr();
        // Longer than the pause between a death and its successor.
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(1)).await;
        assert!(next.actor.addr() == started, "it was not started again");
        assert!(started.connected());
    }
}
