//! gRPC service etcdserverpb.KV.

use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::*;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{Rpc, unsupported};

#[tonic::async_trait]
impl Kv for Rpc {
    async fn range(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        Err(unsupported("KV.Range"))
    }
    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;
    async fn range_stream(
        &self,
        _request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(unsupported("KV.RangeStream"))
    }
    async fn put(&self, _request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Err(unsupported("KV.Put"))
    }
    async fn delete_range(
        &self,
        _request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(unsupported("KV.DeleteRange"))
    }
    async fn txn(&self, _request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Err(unsupported("KV.Txn"))
    }
    async fn compact(
        &self,
        _request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(unsupported("KV.Compact"))
    }
}
