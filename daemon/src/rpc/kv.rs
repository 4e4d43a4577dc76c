//! gRPC service etcdserverpb.KV.

use std::sync::Arc;
use std::time::Instant;

use althing_api::commandpb::command;
use althing_api::etcdserverpb::kv_server::Kv;
use althing_api::etcdserverpb::*;
use althing_storage::apply;
use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::guard::{Call, Learner};
use super::range_stream::{self, Chunks};
use super::read_budget::ReadPermit;
use super::slow::Asked;
use super::write_answer::{delete_bytes, range_records, txn_bytes};
use super::{Rpc, check, status, ttl};
use crate::metrics::RequestKind;

/// A learner answers only ranges that accept old data.
fn learner(serializable: bool) -> Learner {
    if serializable {
        Learner::Answers
    } else {
        Learner::Refuses
    }
}

/// The answer, with its part of the read budget for the code that sends it.
fn respond<T>(answer: T, permit: Option<Arc<ReadPermit>>) -> Response<T> {
    let mut response = Response::new(answer);
    if let Some(permit) = permit {
        response.extensions_mut().insert(permit);
    }
    response
}

#[tonic::async_trait]
impl Kv for Rpc {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let learner = learner(request.get_ref().serializable);
        self.admit(request.metadata(), Call::Unary, learner)?;
        let request = request.into_inner();
        check::range(&request).map_err(status::of)?;
        let (start, asked) = (Instant::now(), Asked::of_range(&request));
        let outcome = self.serve_range(request).await;
        self.finish(RequestKind::Range, &asked, start, outcome.is_ok());
        outcome
    }

    type RangeStreamStream = Chunks;
    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.admit(request.metadata(), Call::Stream, Learner::Refuses)?;
        let request = request.into_inner();
        check::range_stream(&request).map_err(status::of)?;
        if !request.serializable {
            self.read_index().await?;
        }
        let view = self.handles.store().read();
        let (term, revision) = (self.handles.term(), view.revision());
        let header = self.state.identity.header(term, revision);
        let limits = self.limits();
        let fair_bytes = limits.read_bytes_max / range_stream::IN_BUDGET_MIN;
        let target_bytes = limits.request_bytes_max.min(fair_bytes);
        drop(limits);
        let held_bytes = self.estimate(range_records(&view, &request));
        let permit = self.state.budget.reserve(held_bytes.min(target_bytes))?;
        let chunks = range_stream::chunks(&view, &request, header, target_bytes, permit)?;
        Ok(Response::new(chunks))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let ttl = ttl::asked(request.metadata(), request.get_ref());
        let request = request.into_inner();
        check::put(&request).map_err(status::of)?;
        if let Some(ttl) = ttl? {
            return self.put_with_ttl(request, ttl).await;
        }
        let request = command::Request::Put(request);
        let (answer, revision) = self.propose(RequestKind::Put, request).await?;
        let apply::Response::Put(mut answer) = answer else {
            unreachable!("the state machine answers a put with a put's answer");
        };
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        check::delete_range(&request).map_err(status::of)?;
        let request = command::Request::DeleteRange(request);
        let permit = self.reserve_answer(&request)?;
        let (answer, revision) = self.propose(RequestKind::DeleteRange, request).await?;
        let apply::Response::DeleteRange(mut answer) = answer else {
            unreachable!("the state machine answers a deletion with a deletion's answer");
        };
        self.complete(&mut answer.header, revision);
        let permit = permit.settle(delete_bytes(&answer));
        Ok(respond(answer, permit))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        ttl::refuse(request.metadata())?;
        let request = request.into_inner();
        check::txn(&request, self.limits().txn_ops_max).map_err(status::of)?;
        if check::is_read_only(&request) {
            let (start, asked) = (Instant::now(), Asked::of_txn(&request, true));
            let outcome = self.serve_read_txn(request).await;
            self.finish(RequestKind::ReadonlyTxn, &asked, start, outcome.is_ok());
            return outcome;
        }
        let request = command::Request::Txn(request);
        let permit = self.reserve_answer(&request)?;
        let (answer, revision) = self.propose(RequestKind::Txn, request).await?;
        let apply::Response::Txn(mut answer) = answer else {
            unreachable!("the state machine answers a txn with a txn's answer");
        };
        self.complete(&mut answer.header, revision);
        self.state.metrics.count_ranges(&answer);
        let permit = permit.settle(txn_bytes(&answer));
        Ok(respond(answer, permit))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.admit(request.metadata(), Call::Unary, Learner::Refuses)?;
        let request = request.into_inner();
        let command = command::Request::Compaction(request);
        let (answer, revision) = self.propose(RequestKind::Compaction, command).await?;
        let apply::Response::Compaction(mut answer) = answer else {
            unreachable!("the state machine answers a compaction with a compaction's answer");
        };
        if request.physical {
            // As long as it takes: the caller's own deadline is the only bound, as in etcd.
            let finished = self.handles.compaction_finished(request.revision).await;
            finished.map_err(status::of)?;
        }
        self.complete(&mut answer.header, revision);
        Ok(Response::new(answer))
    }
}

impl Rpc {
    /// Reads one key that need not exist, for a probe.
    pub(crate) async fn trial_read(&self, is_serializable: bool) -> Result<(), Status> {
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            limit: 1,
            keys_only: true,
            serializable: is_serializable,
            ..RangeRequest::default()
        };
        self.serve_range(request).await.map(drop)
    }

    async fn serve_range(&self, request: RangeRequest) -> Result<Response<RangeResponse>, Status> {
        if !request.serializable {
            self.read_index().await?;
        }
        let start = Instant::now();
        let view = self.handles.store().read();
        let revision = view.revision();
        let outcome = self.read_range(view, request).await;
        let metrics = &self.state.metrics;
        metrics.observe_range(start.elapsed(), outcome.is_ok());
        let (mut answer, permit) = outcome?;
        self.complete(&mut answer.header, revision);
        Ok(respond(answer, permit))
    }

    async fn serve_read_txn(&self, request: TxnRequest) -> Result<Response<TxnResponse>, Status> {
        if !check::is_serializable(&request) {
            self.read_index().await?;
        }
        let view = self.handles.store().read();
        let revision = view.revision();
        let (mut answer, permit) = self.read_txn(view, request).await?;
        self.complete(&mut answer.header, revision);
        self.state.metrics.count_ranges(&answer);
        Ok(respond(answer, permit))
    }
}
