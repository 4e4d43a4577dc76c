//! gRPC service v3electionpb.Election.

use althing_api::v3electionpb::election_server::Election;
use althing_api::v3electionpb::*;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Election for Rpc {
    async fn campaign(
        &self,
        _request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        Err(unsupported("Election.Campaign"))
    }
    async fn proclaim(
        &self,
        _request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        Err(unsupported("Election.Proclaim"))
    }
    async fn leader(
        &self,
        _request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        Err(unsupported("Election.Leader"))
    }
    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;
    async fn observe(
        &self,
        _request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        Err(unsupported("Election.Observe"))
    }
    async fn resign(
        &self,
        _request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        Err(unsupported("Election.Resign"))
    }
}
