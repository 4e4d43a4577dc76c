//! A network inside one process, with cuts: what is sent over a cut is lost, connections end.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Members whose every connection is cut.
    isolated: watch::Sender<BTreeSet<u64>>,
    knocks: AtomicU64,
}

impl Default for Net {
    fn default() -> Net {
        Net {
            members: RwLock::default(),
            isolated: watch::Sender::new(BTreeSet::new()),
            knocks: AtomicU64::new(0),
        }
    }
}

impl Loopback {
    /// What member `me` sends through.
    pub fn transport(&self, me: u64) -> Arc<dyn Transport> {
        Arc::new(Sender {
            me,
            net: Arc::clone(&self.0),
        })
    }

    /// Member `id` can be reached from now on.
    pub fn join(&self, id: u64, inbound: Inbound) {
        self.0.members.write().insert(id, Arc::new(inbound));
        self.heal(id);
    }

    /// The process of member `id` is gone: its connections end and its door is shut. Returns when
    /// nobody is connected to it any more.
    pub async fn leave(&self, id: u64) {
        let left = self.0.members.write().remove(&id);
        self.isolate(id);
        if let Some(inbound) = left {
            let is_last = || Arc::strong_count(&inbound) == 1;
            super::until("the connections to a member end", is_last).await;
        }
    }

    /// Cuts all connections of member `id`.
    pub fn isolate(&self, id: u64) {
        self.0.isolated.send_modify(|isolated| {
            isolated.insert(id);
        });
    }

    /// How often anybody knocked at a door.
    pub fn knocks(&self) -> u64 {
        self.0.knocks.load(Ordering::Relaxed)
    }

    /// Member `id` can be reached again.
    pub fn heal(&self, id: u64) {
        self.0.isolated.send_modify(|isolated| {
            isolated.remove(&id);
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
        let isolated = self.net.isolated.borrow();
        isolated.contains(&self.me) || isolated.contains(&peer.id.0)
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

    /// Resolves when the way to `peer` is cut.
    fn cut(&self, peer: &Peer) -> impl Future<Output = ()> + Send + use<> {
        let mut isolated = self.net.isolated.subscribe();
        let (me, peer) = (self.me, peer.id.0);
        async move {
            let cut = isolated.wait_for(|all| all.contains(&me) || all.contains(&peer));
            let _ = cut.await;
        }
    }

    /// Answers unless the way is cut before.
    fn exchange(
        &self,
        peer: &Peer,
        ask: impl FnOnce(Arc<Inbound>) -> BoxFuture<'static, Result<Bytes, Refusal>>,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let asked = self.reach(peer).map(ask);
        let cut = self.cut(peer);
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
        let inbound = self.reach(peer);
        let cut = self.cut(peer);
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

/// Its end is seen by who is reached, also when the process of who opened it is gone at once.
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

/// Requests in, answers out, both in order.
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
