//! What the client port asks of the member behind it: every gRPC service, and a few facts for the
//! health end-points. Generic, so that the port is tested against a member without raft or disk.

use althing_api::etcdserverpb::auth_server::Auth;
use althing_api::etcdserverpb::cluster_server::Cluster;
use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::etcdserverpb::maintenance_server::Maintenance;
use althing_api::etcdserverpb::watch_server::Watch;
use althing_api::etcdserverpb::{AlarmType, WatchRequest};
use althing_api::v3electionpb::election_server::Election;
use althing_api::v3lockpb::lock_server::Lock;
use tonic::{Request, Response, Status, Streaming};

use crate::rpc::{Replies, Rpc};

/// Facts about the member that no RPC answers without permission checks.
#[tonic::async_trait]
pub trait Member: Send + Sync + 'static {
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;
    /// The cluster version, once decided.
    fn cluster_version(&self) -> Option<String>;
    /// Active alarms of any member.
    fn alarms(&self) -> Vec<AlarmType>;
    /// Reads one key that need not exist. As in etcd, a learner does this too, and it does not
    /// count as a client's request.
    async fn trial_read(&self, is_serializable: bool) -> Result<(), Status>;
}

/// Watch with replies that share their encoded events.
#[tonic::async_trait]
pub trait WatchReplies: Watch {
    /// As [`Watch::watch`].
    async fn watch_replies(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Replies>, Status>;
}

#[tonic::async_trait]
impl WatchReplies for Rpc {
    async fn watch_replies(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Replies>, Status> {
        Rpc::watch_replies(self, request)
    }
}

/// Everything that the client port serves.
pub trait Api:
    Kv + WatchReplies + Lease + Cluster + Maintenance + Auth + Lock + Election + Member
{
}

impl<T> Api for T where
    T: Kv + WatchReplies + Lease + Cluster + Maintenance + Auth + Lock + Election + Member
{
}

#[tonic::async_trait]
impl Member for Rpc {
    fn has_leader(&self) -> bool {
        self.handles.status().leader.0 != 0
    }

    fn is_learner(&self) -> bool {
        self.handles.is_learner()
    }

    fn cluster_version(&self) -> Option<String> {
        self.handles.store().cluster_version()
    }

    fn alarms(&self) -> Vec<AlarmType> {
        let alarms = self.handles.store().alarms().into_iter();
        alarms.map(|record| record.alarm).collect()
    }

    async fn trial_read(&self, is_serializable: bool) -> Result<(), Status> {
        Rpc::trial_read(self, is_serializable).await
    }
}
