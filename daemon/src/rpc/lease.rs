//! gRPC service etcdserverpb.Lease.

use althing_api::etcdserverpb::lease_server::Lease;
use althing_api::etcdserverpb::*;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Lease for Rpc {
    async fn lease_grant(
        &self,
        _request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        Err(unsupported("Lease.LeaseGrant"))
    }
    async fn lease_revoke(
        &self,
        _request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        Err(unsupported("Lease.LeaseRevoke"))
    }
    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;
    async fn lease_keep_alive(
        &self,
        _request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        Err(unsupported("Lease.LeaseKeepAlive"))
    }
    async fn lease_time_to_live(
        &self,
        _request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        Err(unsupported("Lease.LeaseTimeToLive"))
    }
    async fn lease_leases(
        &self,
        _request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        Err(unsupported("Lease.LeaseLeases"))
    }
}
