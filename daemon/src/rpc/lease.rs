//! gRPC service etcdserverpb.Lease: keys that live as long as their owner keeps them alive.

use althing_api::commandpb::{LeaseGrant, LeaseRevoke, PutWithTtl, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::etcdserverpb::*;
use althing_api::id::MemberId;
use althing_storage::apply;
use futures_util::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::guard::{Call, Learner};
use super::{Rpc, status, ttl};
use crate::metrics::RequestKind;

/// A lease with an id and a generation of its own.
fn new_lease(ttl: i64) -> LeaseGrant {
    LeaseGrant {
        id: rand::random_range(1..=i64::MAX),
        ttl,
        generation: rand::random_range(1..=u64::MAX),
    }
}

#[tonic::async_trait]
impl Lease for Rpc {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let mut lease = new_lease(request.ttl.max(self.handles.lease_ttl_min()));
        if request.id != 0 {
            lease.id = request.id;
        }
        let request = command::Request::LeaseGrant(lease);
        let (answer, revision) = self.propose(RequestKind::LeaseGrant, request).await?;
        let apply::Response::LeaseGrant(mut answer) = answer else {
            unreachable!("the state machine answers a grant with a grant's answer");
        };
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = command::Request::LeaseRevoke(LeaseRevoke {
            id: request.into_inner().id,
            generation: 0,
            counted_in_term: 0,
        });
        let (answer, revision) = self.propose(RequestKind::LeaseRevoke, request).await?;
        let apply::Response::LeaseRevoke(mut answer) = answer else {
            unreachable!("the state machine answers a revocation with a revocation's answer");
        };
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.admit(request.metadata(), Call::Stream, Learner::Refuses)?;
        let lost = self.leader_lost(request.metadata());
        let rpc = self.clone();
        // One request at a time, so that answers come in the order of requests and a client that
        // does not read its answers is not read from either.
        let open = Some((request.into_inner(), lost));
        let answers = stream::unfold(open, move |open| {
            let rpc = rpc.clone();
            async move {
                let (mut requests, mut lost) = open?;
                let answering = async {
                    let request = requests.message().await.transpose()?;
                    Some(rpc.keep_alive(request).await)
                };
                let answer = tokio::select! {
                    biased;
                    status = &mut lost => Err(status),
                    answer = answering => answer?,
                };
                let open = answer.is_ok().then_some((requests, lost));
                Some((answer, open))
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let time = self.within_timeout(self.handles.lease_time(request.id));
        let time = time.await?;
        let store = self.handles.store();
        let mut answer = LeaseTimeToLiveResponse {
            id: request.id,
            ttl: time.map_or(-1, |time| time.remaining),
            granted_ttl: time.map_or(0, |time| time.granted),
            ..LeaseTimeToLiveResponse::default()
        };
        if request.keys && time.is_some() {
            // The time is the leader's; the keys must not be older than it.
            self.read_index().await?;
            answer.keys = store.lease_keys(request.id);
        }
        self.complete(&mut answer.header, store.revisions().current);
        Ok(Response::new(answer))
    }

    /// As in etcd, this is what the member knows, without asking whether it knows everything.
    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let ids = self.handles.leases().into_iter();
        // Read after the list: a lease that is missing from it ended at this revision or before.
        let revision = self.handles.store().revisions().current;
        let mut answer = LeaseLeasesResponse {
            header: None,
            leases: ids.map(|id| LeaseStatus { id }).collect(),
        };
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
}

impl Rpc {
    /// A put that brings its own lease.
    pub(super) async fn put_with_ttl(
        &self,
        put: PutRequest,
        ttl: i64,
    ) -> Result<Response<PutResponse>, Status> {
        let lease = new_lease(ttl.max(self.handles.lease_ttl_min()));
        let request = command::Request::PutWithTtl(PutWithTtl {
            put: Some(put),
            lease: Some(lease),
        });
        let (answer, revision) = self.propose(RequestKind::Put, request).await?;
        let apply::Response::Put(mut answer) = answer else {
            unreachable!("the state machine answers a put with a put's answer");
        };
        self.complete(&mut answer.header, revision);
        let mut response = Response::new(answer);
        ttl::tell(response.metadata_mut(), lease.id);
        Ok(response)
    }

    /// Answers one renewal. The header is made before it, so that its revision is never newer than
    /// the renewal.
    async fn keep_alive(
        &self,
        request: Result<LeaseKeepAliveRequest, Status>,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        let id = request?.id;
        let mut header = None;
        self.complete(&mut header, self.handles.store().revisions().current);
        let renewed = self.within_timeout(self.handles.keep_lease_alive(id));
        let ttl = renewed.await?.unwrap_or(0);
        Ok(LeaseKeepAliveResponse { header, id, ttl })
    }

    async fn within_timeout<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Status> {
        let timeout = self.limits().request_timeout;
        let answer = tokio::time::timeout(timeout, answer).await;
        // As in etcd, which waits for a leader before it asks one.
        let late = || match self.handles.leader() {
            MemberId(0) => Error::NoLeader,
            _ => Error::Timeout,
        };
        answer.unwrap_or_else(|_| Err(late())).map_err(status::of)
    }
}
