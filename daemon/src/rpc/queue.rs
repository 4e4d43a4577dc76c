//! The queue behind a lock or an election: the keys below `name/`, each bound to its owner's lease,
//! in the order of their creation. The owner of the oldest key holds the lock, or leads. Source:
//! the recipe of etcd's client library (package `concurrency`), which every client follows, so that
//! callers of these services and programs with that recipe exclude each other.
//!
//! The services behind this call Kv and Lease as any client would: same checks, same limits. Their
//! refusals go out with code Unknown, as etcd sends them.

use std::time::Duration;

use althing_actors::node::WatchEnd;
use althing_api::error::Error;
use althing_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::*;
use althing_api::mvccpb::KeyValue;
use althing_api::mvccpb::event::EventType;
use althing_api::range::{KeyRange, prefix_end};
use bytes::{BufMut, Bytes, BytesMut};
use tonic::{Code, Request, Status};

use super::Rpc;

/// Lifetime, in seconds, of a lease that the server grants because the caller brought none. Nobody
/// keeps it alive.
const OWN_LEASE_TTL_SECONDS: i64 = 60;
/// Until a watch that was stopped is begun again: about as long as its actor is away if it died.
const WATCH_RETRY: Duration = Duration::from_millis(50);

/// The keys of one lock or election.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    rpc: Rpc,
    prefix: Bytes,
}

/// A key in the queue, and the create revision that tells it from later keys of that name.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub key: Bytes,
    pub create_revision: i64,
}

/// What the txn that queued up found.
pub(super) struct Entered {
    pub place: Place,
    /// The record that this lease had in the queue already; none was written then.
    pub former: Option<KeyValue>,
    /// Whether nobody stands before the place.
    pub is_head: bool,
    pub header: Option<ResponseHeader>,
}

impl Queue {
    /// The queue of the lock or election called `name`.
    pub fn new(rpc: &Rpc, name: &[u8]) -> Queue {
        let mut prefix = BytesMut::from(name);
        prefix.put_u8(b'/');
        Queue {
            rpc: rpc.clone(),
            prefix: prefix.freeze(),
        }
    }

    /// Queues up under `lease`, unless a key of that lease stands in the queue.
    pub async fn enter(&self, lease: i64, value: Bytes) -> Result<Entered, Status> {
        let key = key_of(&self.prefix, lease);
        let put = PutRequest {
            key: key.clone(),
            value,
            lease,
            ..PutRequest::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let head = op(Op::RequestRange(self.by_creation(SortOrder::Ascend, 0)));
        let mut txn = if_created_at(&key, 0, Op::RequestPut(put));
        txn.success.push(head.clone());
        txn.failure = vec![op(Op::RequestRange(get)), head];
        let answer = self.rpc.txn(Request::new(txn)).await;
        let answer = answer.map_err(unmapped)?.into_inner();
        let former = record(&answer, 0);
        let written = answer.header.map_or(0, |header| header.revision);
        let create_revision = former.as_ref().map_or(written, |kv| kv.create_revision);
        let is_head = record(&answer, 1).is_some_and(|head| head.key == key);
        Ok(Entered {
            place: Place {
                key,
                create_revision,
            },
            former,
            is_head,
            header: answer.header,
        })
    }

    /// The oldest record of the queue, and the header of the answer.
    pub async fn head(&self) -> Result<(Option<KeyValue>, ResponseHeader), Status> {
        let request = self.by_creation(SortOrder::Ascend, 0);
        self.rpc.first(request).await
    }

    /// Waits until nobody stands before `place`.
    pub async fn reach_the_head(&self, place: &Place) -> Result<(), Status> {
        loop {
            let elders = self.by_creation(SortOrder::Descend, place.create_revision - 1);
            let (next, header) = self.rpc.first(elders).await?;
            let Some(next) = next else {
                return Ok(());
            };
            // Only the one directly before us: its end wakes one waiter, not all.
            // It was there at the revision of the answer, so its end comes later.
            match self.rpc.deletion(next.key, header.revision + 1).await {
                Ok(()) => {}
                // Not the end of the place. If the member stops, the next read says so.
                Err(WatchEnd::Stopped) => tokio::time::sleep(WATCH_RETRY).await,
                Err(WatchEnd::Compacted(_)) => {
                    return Err(Status::unknown(Error::Compacted.text()));
                }
                Err(end @ WatchEnd::Refused) => return Err(Status::unknown(end.to_string())),
            }
        }
    }

    /// Everything below the prefix.
    pub fn range(&self) -> (Bytes, Bytes) {
        (self.prefix.clone(), prefix_end(&self.prefix))
    }

    fn by_creation(&self, order: SortOrder, max_create_revision: i64) -> RangeRequest {
        let (key, range_end) = self.range();
        RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision,
            ..RangeRequest::default()
        }
    }
}

impl Rpc {
    /// The lease that a caller stands under: its own, or a new one if it brought none.
    pub(super) async fn lease_or_own(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = LeaseGrantRequest {
            ttl: OWN_LEASE_TTL_SECONDS,
            id: 0,
        };
        let granted = self.lease_grant(Request::new(request)).await;
        Ok(granted.map_err(unmapped)?.into_inner().id)
    }

    /// Runs `then` if `place` is still in its queue; otherwise changes nothing. The answer says
    /// which.
    pub(super) async fn if_held(&self, place: &Place, then: Op) -> Result<TxnResponse, Status> {
        let txn = if_created_at(&place.key, place.create_revision, then);
        let answer = self.txn(Request::new(txn)).await;
        Ok(answer.map_err(unmapped)?.into_inner())
    }

    /// Leaves the queue, if `place` is still in it.
    pub(super) async fn leave(&self, place: &Place) -> Result<TxnResponse, Status> {
        let delete = DeleteRangeRequest {
            key: place.key.clone(),
            ..DeleteRangeRequest::default()
        };
        self.if_held(place, Op::RequestDeleteRange(delete)).await
    }

    /// Waits until `key` is deleted at or after `revision`.
    async fn deletion(&self, key: Bytes, revision: i64) -> Result<(), WatchEnd> {
        let mut watch = self.handles.watch(KeyRange::One(key), revision);
        loop {
            let events = watch.next().await?;
            if events
                .iter()
                .any(|event| event.r#type() == EventType::Delete)
            {
                return Ok(());
            }
        }
    }

    /// The first record of a linearizable range.
    pub(super) async fn first(
        &self,
        request: RangeRequest,
    ) -> Result<(Option<KeyValue>, ResponseHeader), Status> {
        let answer = self.range(Request::new(request)).await;
        let mut answer = answer.map_err(unmapped)?.into_inner();
        let header = answer.header.expect("every answer has a header");
        Ok((answer.kvs.pop(), header))
    }
}

/// A place that is left when this value is dropped: the caller went away or its deadline passed
/// while it waited, and nobody would ever release what it got.
pub(super) struct Waiting {
    rpc: Rpc,
    place: Option<Place>,
}

impl Waiting {
    pub fn new(rpc: &Rpc, place: Place) -> Waiting {
        Waiting {
            rpc: rpc.clone(),
            place: Some(place),
        }
    }

    /// Passes `outcome` on; after a failure, the place is left before the caller hears of it.
    pub async fn settled<T>(mut self, outcome: Result<T, Status>) -> Result<T, Status> {
        if let (Err(_), Some(place)) = (&outcome, &self.place) {
            leave(&self.rpc, place).await;
        }
        self.place = None;
        outcome
    }

    /// Lets the place outlive this value, whatever the outcome.
    pub fn keep(mut self) {
        self.place = None;
    }
}

async fn leave(rpc: &Rpc, place: &Place) {
    if let Err(status) = rpc.leave(place).await {
        let key = String::from_utf8_lossy(&place.key);
        let error = status.message();
        tracing::warn!(%key, error, "cannot leave a queue; its lease will");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        // Without a runtime the member is ending, and the lease will free the place.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let rpc = self.rpc.clone();
            runtime.spawn(async move { leave(&rpc, &place).await });
        }
    }
}

/// The key of a lease: its id in hexadecimal, a negative one with its sign.
fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let id = format!("{sign}{:x}", lease.unsigned_abs());
    Bytes::from([prefix, id.as_bytes()].concat())
}

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// `then` only if `key` exists since `revision`; 0: only if it does not exist.
fn if_created_at(key: &Bytes, revision: i64, then: Op) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::CreateRevision(revision)),
        }],
        success: vec![op(then)],
        failure: Vec::new(),
    }
}

/// The first record that the range at `position` of a txn found.
fn record(answer: &TxnResponse, position: usize) -> Option<KeyValue> {
    match answer.responses.get(position)?.response.as_ref()? {
        response_op::Response::ResponseRange(range) => range.kvs.first().cloned(),
        _ => None,
    }
}

/// A refusal as etcd passes on one that its internal client received: the text alone.
pub(super) fn unmapped(status: Status) -> Status {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => status,
        _ => Status::unknown(status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_prefix_and_the_lease_in_hexadecimal() {
        assert_eq!(key_of(b"name/", 0x1f), "name/1f");
        assert_eq!(key_of(b"/", -5), "/-5");
        assert_eq!(key_of(b"x/", i64::MIN), "x/-8000000000000000");
    }

    #[test]
    fn a_refusal_loses_its_code_and_keeps_its_text() {
        let status = unmapped(Status::not_found("etcdserver: requested lease not found"));
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "etcdserver: requested lease not found");
        let cancelled = unmapped(Status::cancelled("context canceled"));
        assert_eq!(cancelled.code(), Code::Cancelled);
    }
}
