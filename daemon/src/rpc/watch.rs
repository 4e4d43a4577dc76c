//! gRPC service etcdserverpb.Watch.

use althing_api::etcdserverpb::watch_server::Watch;
use althing_api::etcdserverpb::*;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Watch for Rpc {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;
    async fn watch(
        &self,
        _request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(unsupported("Watch.Watch"))
    }
}
