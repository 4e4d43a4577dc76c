//! gRPC service etcdserverpb.Maintenance.

use althing_api::etcdserverpb::maintenance_server::Maintenance;
use althing_api::etcdserverpb::*;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Maintenance for Rpc {
    async fn alarm(
        &self,
        _request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        Err(unsupported("Maintenance.Alarm"))
    }
    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        Err(unsupported("Maintenance.Status"))
    }
    async fn defragment(
        &self,
        _request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Err(unsupported("Maintenance.Defragment"))
    }
    async fn hash(&self, _request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        Err(unsupported("Maintenance.Hash"))
    }
    async fn hash_kv(
        &self,
        _request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        Err(unsupported("Maintenance.HashKV"))
    }
    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;
    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(unsupported("Maintenance.Snapshot"))
    }
    async fn move_leader(
        &self,
        _request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(unsupported("Maintenance.MoveLeader"))
    }
    async fn downgrade(
        &self,
        _request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(unsupported("Maintenance.Downgrade"))
    }
}
