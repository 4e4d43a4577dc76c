//! gRPC service v3lockpb.Lock.

use althing_api::v3lockpb::lock_server::Lock;
use althing_api::v3lockpb::*;
use tonic::{Request, Response, Status};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Lock for Rpc {
    async fn lock(&self, _request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        Err(unsupported("Lock.Lock"))
    }
    async fn unlock(
        &self,
        _request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        Err(unsupported("Lock.Unlock"))
    }
}
