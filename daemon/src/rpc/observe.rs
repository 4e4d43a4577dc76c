//! Observe: who leads an election, and what it proclaims, from now on. Leaders that follow each
//! other quickly may be reported as one, but the newest is always reported.

use std::collections::VecDeque;

use althing_actors::node::KeyWatch;
use althing_api::etcdserverpb::ResponseHeader;
use althing_api::mvccpb::event::EventType;
use althing_api::mvccpb::{Event, KeyValue};
use althing_api::range::KeyRange;
use althing_api::v3electionpb::LeaderResponse;
use futures_util::stream::{self, BoxStream, StreamExt};
use tonic::Status;

use super::Rpc;
use super::guard::LeaderLost;
use super::queue::Queue;

/// The leaders of `queue`. As in etcd, the stream ends without an error when it cannot go on, and
/// observers start again; it ends with one when the cluster's leader is lost and they asked for it.
pub(super) fn leaders(
    rpc: &Rpc,
    queue: Queue,
    leader_lost: LeaderLost,
) -> BoxStream<'static, Result<LeaderResponse, Status>> {
    let observer = Observer {
        rpc: rpc.clone(),
        queue,
        followed: None,
    };
    let step = |open: Option<(Observer, LeaderLost)>| async {
        let (mut observer, mut leader_lost) = open?;
        tokio::select! {
            told = observer.next() => Some((Ok(told?), Some((observer, leader_lost)))),
            status = &mut leader_lost => Some((Err(status), None)),
        }
    };
    stream::unfold(Some((observer, leader_lost)), step).boxed()
}

struct Observer {
    rpc: Rpc,
    queue: Queue,
    /// The leader that was reported last; `None` if it must be looked for.
    followed: Option<Followed>,
}

/// The life of one leader's key.
struct Followed {
    watch: KeyWatch,
    /// Events that were read and not reported yet.
    events: VecDeque<Event>,
    header: ResponseHeader,
}

impl Observer {
    /// The next answer; `None` ends the stream.
    async fn next(&mut self) -> Option<LeaderResponse> {
        if let Some(followed) = &mut self.followed
            && let Some(kv) = followed.proclaimed().await?
        {
            return Some(response(followed.header, kv));
        }
        let (kv, header) = self.look().await?;
        let key = KeyRange::One(kv.key.clone());
        self.followed = Some(Followed {
            watch: self.rpc.handles.watch(key, header.revision + 1),
            events: VecDeque::new(),
            header,
        });
        Some(response(header, kv))
    }

    /// Finds the leader, or waits for one.
    async fn look(&self) -> Option<(KeyValue, ResponseHeader)> {
        let (head, mut header) = self.queue.head().await.ok()?;
        if let Some(kv) = head {
            return Some((kv, header));
        }
        let (key, range_end) = self.queue.range();
        let range = KeyRange::new(key, range_end);
        let mut watch = self.rpc.handles.watch(range, header.revision);
        loop {
            let events = watch.next().await.ok()?;
            if let Some(kv) = events.into_iter().find_map(written) {
                header.revision = kv.mod_revision;
                return Some((kv, header));
            }
        }
    }
}

impl Followed {
    /// The leader's next value; inner `None` when its key has gone.
    async fn proclaimed(&mut self) -> Option<Option<KeyValue>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(written(event));
            }
            self.events = self.watch.next().await.ok()?.into();
            self.header.revision = self.watch.next_revision() - 1;
        }
    }
}

/// The record that a put wrote.
fn written(event: Event) -> Option<KeyValue> {
    match event.r#type() {
        EventType::Put => event.kv,
        EventType::Delete => None,
    }
}

fn response(header: ResponseHeader, kv: KeyValue) -> LeaderResponse {
    LeaderResponse {
        header: Some(header),
        kv: Some(kv),
    }
}
