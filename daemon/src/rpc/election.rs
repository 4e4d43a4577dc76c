//! gRPC service v3electionpb.Election. The oldest key below `name/` leads, and its value is what
//! the leader proclaims.

use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::{PutRequest, ResponseHeader};
use althing_api::v3electionpb::election_server::Election;
use althing_api::v3electionpb::*;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::guard::{Call, Learner};
use super::observe;
use super::queue::{Place, Queue, Waiting};

const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
const MISSING_LEADER: &str = "\"leader\" field must be provided";

#[tonic::async_trait]
impl Election for Rpc {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let lease = self.lease_or_own(request.lease).await?;
        let queue = Queue::new(self, &request.name);
        let entered = queue.enter(lease, request.value.clone()).await?;
        let place = entered.place;
        // A caller that stood in the queue already may bring another value.
        if entered.former.is_some_and(|kv| kv.value != request.value) {
            // As in etcd, a caller that goes away meanwhile, and may lead, keeps its place.
            let proclaimed = self.proclaim_at(&place, lease, request.value).await;
            Waiting::new(self, place.clone())
                .settled(proclaimed)
                .await?;
        }
        if !entered.is_head {
            let waiting = Waiting::new(self, place.clone());
            let led = queue.reach_the_head(&place).await;
            // As in etcd, only a caller that goes away gives up its place.
            waiting.keep();
            led?;
        }
        let leader = LeaderKey {
            name: request.name,
            key: place.key,
            rev: place.create_revision,
            lease,
        };
        Ok(Response::new(CampaignResponse {
            header: entered.header,
            leader: Some(leader),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let (place, lease) = self.place_of(request.leader).await?;
        let header = self.proclaim_at(&place, lease, request.value).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let (kv, header) = Queue::new(self, &request.get_ref().name).head().await?;
        if kv.is_none() {
            return Err(Status::unknown(NO_LEADER));
        }
        let header = Some(header);
        Ok(Response::new(LeaderResponse { header, kv }))
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;
    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        self.admit(request.metadata(), Call::Stream, Learner::Refuses)?;
        let queue = Queue::new(self, &request.get_ref().name);
        let leader_lost = self.leader_lost(request.metadata());
        Ok(Response::new(observe::leaders(self, queue, leader_lost)))
    }

    /// Resigning a leadership that is already lost succeeds.
    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let (place, _) = self.place_of(request.into_inner().leader).await?;
        let header = self.leave(&place).await?.header;
        Ok(Response::new(ResignResponse { header }))
    }
}

impl Rpc {
    /// The place that a caller says it leads from, and its lease. As in etcd, a leader key without
    /// a lease gets one.
    async fn place_of(&self, leader: Option<LeaderKey>) -> Result<(Place, i64), Status> {
        let leader = leader.ok_or_else(|| Status::unknown(MISSING_LEADER))?;
        let lease = self.lease_or_own(leader.lease).await?;
        let place = Place {
            key: leader.key,
            create_revision: leader.rev,
        };
        Ok((place, lease))
    }

    /// Puts the leader's value, if it still leads.
    async fn proclaim_at(
        &self,
        place: &Place,
        lease: i64,
        value: Bytes,
    ) -> Result<Option<ResponseHeader>, Status> {
        let put = PutRequest {
            key: place.key.clone(),
            value,
            lease,
            ..PutRequest::default()
        };
        let answer = self.if_held(place, Op::RequestPut(put)).await?;
        if !answer.succeeded {
            return Err(Status::unknown(NOT_LEADER));
        }
        Ok(answer.header)
    }
}
