//! gRPC service etcdserverpb.Maintenance: the state of this member, and hashes of its data.

use std::time::Instant;

use althing_actors::node::NodeStatus;
use althing_api::commandpb::{SetAlarm, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::alarm_request::AlarmAction;
use althing_api::etcdserverpb::maintenance_server::Maintenance;
use althing_api::etcdserverpb::*;
use althing_api::id::MemberId;
use althing_api::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use althing_storage::apply;
use althing_storage::store::{AlarmRecord, Sizes};
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::guard::{Call, Learner};
use super::{Rpc, backup, status};
use crate::metrics::{RequestKind, quota_as_number};

#[tonic::async_trait]
impl Maintenance for Rpc {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let (mut answer, revision) = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Activate) => self.set_alarm(&request, true).await?,
            Ok(AlarmAction::Deactivate) => self.set_alarm(&request, false).await?,
            // As in etcd, an unknown action changes nothing.
            Ok(AlarmAction::Get) | Err(_) => self.alarms(&request).await?,
        };
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
        answer
            .errors
            .extend(store.alarms().into_iter().map(alarm_text));
        answer.db_size_quota = quota_as_number(self.handles.upkeep().get().quota_bytes);
        let target = store.downgrade_target();
        answer.downgrade_info = Some(DowngradeInfo {
            enabled: target.is_some(),
            target_version: target.unwrap_or_default(),
        });
        self.complete(&mut answer.header, store.revisions().current);
        Ok(Response::new(answer))
    }
    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let done = self.handles.defragment().await;
        done.map_err(status::unmapped)?;
        Ok(Response::new(DefragmentResponse::default()))
    }
    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let store = self.handles.store().clone();
        let (revision, start) = (store.revisions().current, Instant::now());
        let hash = self.state.hashes.run(move || store.hash()).await?;
        self.state.metrics.observe_hash(start.elapsed());
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
        let start = Instant::now();
        let hash = self.state.hashes.run(move || store.hash_kv(asked)).await?;
        self.state.metrics.observe_hash_kv(start.elapsed());
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
        // As in etcd, an answer without a header.
        Ok(Response::new(MoveLeaderResponse::default()))
    }
    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let mut answer = self.serve_downgrade(request.into_inner()).await?;
        let revision = self.handles.store().revisions().current;
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
}

impl Rpc {
    /// The active alarms. etcd sends even this list through its log, so that it proves a quorum; a
    /// read index does so too. Only the kind in the request selects, its member does not.
    async fn alarms(&self, request: &AlarmRequest) -> Result<(AlarmResponse, i64), Status> {
        self.read_index().await?;
        let store = self.handles.store();
        let alarms = store.alarms().into_iter();
        let all = request.alarm == AlarmType::None as i32;
        let chosen = alarms.filter(|record| all || record.alarm as i32 == request.alarm);
        let answer = AlarmResponse {
            header: None,
            alarms: chosen.map(AlarmMember::from).collect(),
        };
        Ok((answer, store.revisions().current))
    }

    async fn set_alarm(
        &self,
        request: &AlarmRequest,
        raised: bool,
    ) -> Result<(AlarmResponse, i64), Status> {
        if AlarmType::try_from(request.alarm).is_err() {
            let text = format!(
                "{} is no kind of alarm; use NOSPACE or CORRUPT",
                request.alarm
            );
            return Err(Status::invalid_argument(text));
        }
        let request = command::Request::SetAlarm(SetAlarm {
            member_id: request.member_id,
            alarm: request.alarm,
            raised,
            clears_itself: false,
        });
        match self.propose(RequestKind::Alarm, request).await? {
            (apply::Response::Alarm(answer), revision) => Ok((answer, revision)),
            _ => unreachable!("the state machine answers an alarm with an alarm's answer"),
        }
    }
}

/// An alarm as etcd writes it among the errors of a member.
fn alarm_text(record: AlarmRecord) -> String {
    let (id, kind) = (record.member_id, record.alarm.as_str_name());
    format!("memberID:{id} alarm:{kind} ")
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
