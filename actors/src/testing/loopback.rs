//! A network inside one process, with cuts: what is sent over a cut is lost, and connections end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use althing_api::id::MemberId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use crate::node::{Inbound, Refusal};
use crate::peer_link::{Call, Knock, LinkError, OpenPipe, Peer, Pipe, SnapshotBytes, Transport};

/// A network of nodes. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Loopback(Arc<Net>);

#[derive(Debug)]
struct Net {
    members: RwLock<BTreeMap<u64, Arc<Inbound>>>,
    isolations: watch::Sender<Isolations>,
    knocks: AtomicU64,
}

/// Isolations by member; a member without an entry was never isolated.
type Isolations = BTreeMap<u64, Isolation>;

/// Whether every connection of a member is cut, and how often they were: a connection that looks
/// after a cut has healed learns of it from the count.
#[derive(Clone, Copy, Debug, Default)]
struct Isolation {
    is_cut: bool,
    cuts: u64,
}

fn isolation(all: &Isolations, id: u64) -> Isolation {
    all.get(&id).copied().unwrap_or_default()
}

impl Default for Net {
    fn default() -> Net {
        Net {
            members: RwLock::default(),
            isolations: watch::Sender::new(Isolations::new()),
            knocks: AtomicU64::new(0),
        }
    }
}

impl Loopback {
    /// The transport that member `me` sends through.
    pub fn transport(&self, me: u64) -> Arc<dyn Transport> {
        Arc::new(Sender {
            me,
            net: Arc::clone(&self.0),
        })
    }

    /// Makes member `id` reachable from now on.
    pub fn join(&self, id: u64, inbound: Inbound) {
        self.0.members.write().insert(id, Arc::new(inbound));
        self.heal(id);
    }

    /// Ends the process of member `id`: its connections end and its door is shut. Returns when
    /// nobody is connected to it any more.
    pub async fn leave(&self, id: u64) {
        let left = self.0.members.write().remove(&id);
        self.isolate(id);
        if let Some(inbound) = left {
            let is_last = || Arc::strong_count(&inbound) == 1;
            super::until("the connections to a member end", is_last).await;
        }
    }

    /// Cuts all connections of member `id`. They end, even if it is healed at once.
    pub fn isolate(&self, id: u64) {
        self.0.isolations.send_modify(|all| {
            let isolation = all.entry(id).or_default();
            isolation.is_cut = true;
            isolation.cuts += 1;
        });
    }

    /// How often any member knocked at a door.
    pub fn knocks(&self) -> u64 {
        self.0.knocks.load(Ordering::Relaxed)
    }

    /// Makes member `id` reachable again.
    pub fn heal(&self, id: u64) {
        self.0.isolations.send_modify(|all| {
            all.entry(id).or_default().is_cut = false;
        });
    }
}

#[derive(Debug)]
struct Sender {
    me: u64,
    net: Arc<Net>,
}

impl Sender {
    fn is_cut(&self, peer: &Peer) -> bool {
        let all = self.net.isolations.borrow();
        let ends = [self.me, peer.id.0];
        ends.iter().any(|id| isolation(&all, *id).is_cut)
    }

    fn reach(&self, peer: &Peer) -> Result<Arc<Inbound>, LinkError> {
        if self.is_cut(peer) {
            return Err(LinkError::NotSent("cut".into()));
        }
        let members = self.net.members.read();
        let member = members.get(&peer.id.0).cloned();
        let member = member.ok_or_else(|| LinkError::NotSent("down".into()))?;
        let admitted = member.admit(member.cluster_id, MemberId(self.me), peer.id);
        admitted.map_err(refused)?;
        Ok(member)
    }

    /// Resolves when the way to `peer` is cut, or was since this was called. So it is called before
    /// the peer is reached: no cut falls between.
    fn cut(&self, peer: &Peer) -> impl Future<Output = ()> + Send + use<> {
        let mut isolations = self.net.isolations.subscribe();
        let ends = [self.me, peer.id.0];
        let before = ends.map(|id| isolation(&isolations.borrow(), id).cuts);
        async move {
            let is_cut = move |all: &Isolations| {
                let now = ends.map(|id| isolation(all, id));
                now.iter().any(|end| end.is_cut) || now.map(|end| end.cuts) != before
            };
            let cut = isolations.wait_for(is_cut);
            let _ = cut.await;
        }
    }

    /// Answers unless the way is cut first.
    fn exchange(
        &self,
        peer: &Peer,
        ask: impl FnOnce(Arc<Inbound>) -> BoxFuture<'static, Result<Bytes, Refusal>>,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let cut = self.cut(peer);
        let asked = self.reach(peer).map(ask);
        async move {
            tokio::select! {
                answer = asked? => answer.map_err(refused),
                () = cut => Err(LinkError::Lost("cut".into())),
            }
        }
        .boxed()
    }
}

impl Transport for Sender {
    fn call(
        &self,
        peer: &Peer,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        self.exchange(peer, |inbound| {
            async move { inbound.call(call, body).await }.boxed()
        })
    }

    fn knock(&self, peer: &Peer) -> BoxFuture<'static, Knock> {
        self.net.knocks.fetch_add(1, Ordering::Relaxed);
        let knock = match self.net.members.read().contains_key(&peer.id.0) {
            false => Knock::Refused,
            true if self.is_cut(peer) => Knock::Silent,
            true => Knock::Open,
        };
        std::future::ready(knock).boxed()
    }

    fn open(&self, peer: &Peer, pipe: Pipe) -> BoxFuture<'static, Result<OpenPipe, LinkError>> {
        let cut = self.cut(peer);
        let inbound = self.reach(peer);
        let me = MemberId(self.me);
        async move {
            let inbound = inbound?;
            let (requests, from) = mpsc::channel(pipe.window());
            let (to, answers) = mpsc::channel(pipe.window());
            let connection = Connection { inbound, pipe, me };
            tokio::spawn(async move {
                tokio::select! {
                    () = carry(&connection.inbound, pipe, from, to) => {}
                    () = cut => {}
                }
            });
            Ok(OpenPipe { requests, answers })
        }
        .boxed()
    }

    fn send_snapshot(
        &self,
        peer: &Peer,
        head: Bytes,
        body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        self.exchange(peer, |inbound| {
            async move { inbound.snapshot(head, body).await }.boxed()
        })
    }
}

fn refused(refusal: Refusal) -> LinkError {
    match refusal {
        Refusal::Removed => LinkError::Removed,
        refusal => LinkError::Refused(refusal.to_string()),
    }
}

/// The reached member sees its end, even when the process that opened it is gone at once.
struct Connection {
    inbound: Arc<Inbound>,
    pipe: Pipe,
    me: MemberId,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inbound.pipe_ended(self.pipe, self.me);
    }
}

/// Carries requests in and answers out, both in order.
async fn carry(
    inbound: &Inbound,
    pipe: Pipe,
    mut from: mpsc::Receiver<Bytes>,
    to: mpsc::Sender<Result<Bytes, LinkError>>,
) {
    let mut under_way = FuturesOrdered::new();
    loop {
        tokio::select! {
            request = from.recv() => match request {
                Some(request) => under_way.push_back(inbound.send(pipe, request)),
                None => return,
            },
            Some(answer) = under_way.next() => {
                let answer = answer.map_err(refused);
                if to.send(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}
