//! gRPC service grpc.health.v1.Health: the member as a whole, under the empty name.

use althing_api::healthpb::health_check_response::ServingStatus;
use althing_api::healthpb::health_server::Health;
use althing_api::healthpb::{HealthCheckRequest, HealthCheckResponse};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

/// Says that the member serves; a listener exists only while it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrpcHealth;

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for GrpcHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "" => Ok(Response::new(answer(ServingStatus::Serving))),
            _ => Err(Status::not_found("unknown service")),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Tells the state once and then waits: it changes only with the end of the stream.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let status = match request.get_ref().service.as_str() {
            "" => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        };
        let first = stream::iter([Ok(answer(status))]);
        Ok(Response::new(first.chain(stream::pending()).boxed()))
    }
}
