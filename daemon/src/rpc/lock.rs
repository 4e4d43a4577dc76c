//! gRPC service v3lockpb.Lock. A lock is held by the oldest key below `name/`; the answer's key is
//! that key, and its create revision is the fencing token: it grows with every holder, so a
//! resource that remembers the highest one it saw can refuse a holder whose lease has ended.

use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::{DeleteRangeRequest, RangeRequest, ResponseHeader};
use althing_api::v3lockpb::lock_server::Lock;
use althing_api::v3lockpb::*;
use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::guard::{Call, Learner};
use super::queue::{Place, Queue, Waiting, unmapped};

#[tonic::async_trait]
impl Lock for Rpc {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let lease = self.lease_or_own(request.lease).await?;
        let queue = Queue::new(self, &request.name);
        let entered = queue.enter(lease, Bytes::new()).await?;
        let place = entered.place;
        let header = if entered.is_head {
            // It may have been ours before: it stays ours, whatever becomes of this call.
            entered.header
        } else {
            let waiting = Waiting::new(self, place.clone());
            let held = self.hold_from(&queue, &place).await;
            Some(waiting.settled(held).await?)
        };
        Ok(Response::new(LockResponse {
            header,
            key: place.key,
        }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let delete = DeleteRangeRequest {
            key: request.into_inner().key,
            ..DeleteRangeRequest::default()
        };
        let answer = self.delete_range(Request::new(delete)).await;
        let header = answer.map_err(unmapped)?.into_inner().header;
        Ok(Response::new(UnlockResponse { header }))
    }
}

impl Rpc {
    /// Waits for the lock; returns the header of the last read of it.
    async fn hold_from(&self, queue: &Queue, place: &Place) -> Result<ResponseHeader, Status> {
        queue.reach_the_head(place).await?;
        // The lease may have ended meanwhile, and our key with it.
        let own = RangeRequest {
            key: place.key.clone(),
            ..RangeRequest::default()
        };
        let (kv, header) = self.first(own).await?;
        match kv {
            Some(_) => Ok(header),
            None => Err(Status::unknown("mutex: session is expired")),
        }
    }
}

#[cfg(test)]
#[path = "lock_test.rs"]
mod tests;
