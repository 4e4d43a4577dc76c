//! gRPC service etcdserverpb.Maintenance: the state of this member, and hashes of its data.

use althing_actors::node::NodeStatus;
use althing_api::error::Error;
use althing_api::etcdserverpb::alarm_request::AlarmAction;
use althing_api::etcdserverpb::maintenance_server::Maintenance;
use althing_api::etcdserverpb::*;
use althing_api::id::MemberId;
use althing_api::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use althing_storage::store::Sizes;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::guard::{Call, Learner};
use super::read::finished;
use super::{Rpc, backup, status, unsupported};

#[tonic::async_trait]
impl Maintenance for Rpc {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        if request.get_ref().action != AlarmAction::Get as i32 {
            return Err(unsupported(
                "Maintenance.Alarm with another action than GET",
            ));
        }
        // etcd sends even the list through its log, so that it proves a quorum. Nothing can raise
        // an alarm yet: the list is empty.
        self.read_index().await?;
        let mut answer = AlarmResponse::default();
        let revision = self.handles.store().revisions().current;
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Answers)?;
        let store = self.handles.store();
        let mut answer = status_of(self.handles.status(), store.sizes());
        answer.db_size_quota = self.limits().quota_bytes;
        self.complete(&mut answer.header, store.revisions().current);
        Ok(Response::new(answer))
    }
    async fn defragment(
        &self,
        _request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Err(unsupported("Maintenance.Defragment"))
    }
    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let store = self.handles.store().clone();
        let revision = store.revisions().current;
        let hash = finished(tokio::task::spawn_blocking(move || store.hash())).await?;
        let mut answer = HashResponse {
            hash: hash.map_err(status::unmapped)?,
            ..Default::default()
        };
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let store = self.handles.store().clone();
        let (current, asked) = (store.revisions().current, request.into_inner().revision);
        let hash = finished(tokio::task::spawn_blocking(move || store.hash_kv(asked))).await?;
        let hash = hash.map_err(status::of)?;
        let mut answer = HashKvResponse {
            header: None,
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        };
        self.complete(&mut answer.header, current);
        Ok(Response::new(answer))
    }
    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;
    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.admit(request.metadata(), Call::Stream, Learner::Answers)?;
        let backup = self.handles.backup().await.map_err(status::of)?;
        Ok(Response::new(backup::messages(backup)))
    }
    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let to = MemberId(request.into_inner().target_id);
        self.handles.move_leader(to).await.map_err(status::of)?;
        let mut answer = MoveLeaderResponse::default();
        let revision = self.handles.store().revisions().current;
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
    async fn downgrade(
        &self,
        _request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(unsupported("Maintenance.Downgrade"))
    }
}

/// The state of a member, without its header and its quota.
fn status_of(node: NodeStatus, sizes: Sizes) -> StatusResponse {
    let mut errors = Vec::new();
    if node.leader == MemberId::default() {
        errors.push(Error::NoLeader.text().to_owned());
    }
    StatusResponse {
        header: None,
        version: ETCD_VERSION.to_owned(),
        db_size: sizes.allocated as i64,
        leader: node.leader.0,
        raft_index: node.committed_index,
        raft_term: node.term,
        raft_applied_index: node.applied_index,
        errors,
        db_size_in_use: sizes.in_use as i64,
        is_learner: node.is_learner,
        // The layout of the store that clients may rely on is that of the cluster version.
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: 0,
        downgrade_info: Some(DowngradeInfo::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_without_leader_says_so_in_its_status() {
        let sizes = Sizes {
            allocated: 9,
            in_use: 4,
        };
        let mut node = NodeStatus {
            term: 2,
            committed_index: 7,
            applied_index: 6,
            ..Default::default()
        };
        let lost = status_of(node.clone(), sizes);
        assert_eq!(lost.errors, ["etcdserver: no leader"]);
        node.leader = MemberId(3);
        let led = status_of(node, sizes);
        assert!(led.errors.is_empty());
        assert_eq!((led.version.as_str(), led.leader), ("3.7.0", 3));
        assert_eq!(
            (led.raft_index, led.raft_applied_index, led.raft_term),
            (7, 6, 2)
        );
        assert_eq!((led.db_size, led.db_size_in_use), (9, 4));
        assert_eq!(led.downgrade_info, Some(DowngradeInfo::default()));
    }
}
