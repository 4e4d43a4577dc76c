//! gRPC service etcdserverpb.Cluster.

use althing_api::etcdserverpb::cluster_server::Cluster;
use althing_api::etcdserverpb::*;
use tonic::{Request, Response, Status};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Cluster for Rpc {
    async fn member_add(
        &self,
        _request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Err(unsupported("Cluster.MemberAdd"))
    }
    async fn member_remove(
        &self,
        _request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(unsupported("Cluster.MemberRemove"))
    }
    async fn member_update(
        &self,
        _request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(unsupported("Cluster.MemberUpdate"))
    }
    async fn member_list(
        &self,
        _request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        Err(unsupported("Cluster.MemberList"))
    }
    async fn member_promote(
        &self,
        _request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(unsupported("Cluster.MemberPromote"))
    }
}
