//! What the answer of a write may hold of the store: ranges inside a txn, and former records. It
//! counts against the budget of large reads like any other read, and is reserved beforehand,
//! because the state machine cannot refuse what the log has decided.

use althing_api::commandpb::command;
use althing_api::etcdserverpb::request_op::Request as AskOp;
use althing_api::etcdserverpb::response_op::Response as AnswerOp;
use althing_api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest, RequestOp, TxnRequest,
    TxnResponse,
};
use althing_storage::store::ReadView;
use tonic::Status;

use super::read::{bytes_of, count};
use super::read_budget::ReadPermit;
use super::{Rpc, check};

impl Rpc {
    /// Reserves about what the answer to `request` will hold. Error: `RESOURCE_EXHAUSTED`, and then
    /// nothing was written.
    pub(super) fn reserve_answer(&self, request: &command::Request) -> Result<ReadPermit, Status> {
        let view = self.handles.store().read();
        let records = match request {
            command::Request::Txn(txn) => txn_records(&view, txn),
            command::Request::DeleteRange(delete) => delete_records(&view, delete),
            _ => 0,
        };
        self.state.budget.reserve(self.estimate(records))
    }

    /// About how many bytes so many records hold: the average of what is stored. Each revision
    /// since the last compaction left at least one record.
    pub(super) fn estimate(&self, records: u64) -> usize {
        if records == 0 {
            return 0;
        }
        let store = self.handles.store();
        let revisions = store.revisions();
        let past = u64::try_from(revisions.current - revisions.compacted).unwrap_or(0);
        let average = store.used_bytes() / store.key_count().max(past).max(1);
        usize::try_from(average.saturating_mul(records)).unwrap_or(usize::MAX)
    }
}

/// The bytes of records in a txn's answer.
pub(super) fn txn_bytes(answer: &TxnResponse) -> usize {
    let bytes = answer.responses.iter().map(|op| match &op.response {
        Some(AnswerOp::ResponseRange(range)) => bytes_of(&range.kvs),
        Some(AnswerOp::ResponseDeleteRange(delete)) => delete_bytes(delete),
        Some(AnswerOp::ResponsePut(put)) => bytes_of(put.prev_kv.as_slice()),
        Some(AnswerOp::ResponseTxn(txn)) => txn_bytes(txn),
        None => 0,
    });
    bytes.sum()
}

/// The bytes of records in a deletion's answer.
pub(super) fn delete_bytes(answer: &DeleteRangeResponse) -> usize {
    bytes_of(&answer.prev_kvs)
}

/// Records in the answer of the branch that answers with more. How deep txns nest was checked.
pub(super) fn txn_records(view: &ReadView, txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 { ops.iter().map(|op| op_records(view, op)).sum() };
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_records(view: &ReadView, op: &RequestOp) -> u64 {
    match &op.request {
        Some(AskOp::RequestRange(range)) => range_records(view, range),
        Some(AskOp::RequestDeleteRange(delete)) => delete_records(view, delete),
        Some(AskOp::RequestPut(PutRequest { prev_kv, .. })) => u64::from(*prev_kv),
        Some(AskOp::RequestTxn(txn)) => txn_records(view, txn),
        None => 0,
    }
}

fn delete_records(view: &ReadView, delete: &DeleteRangeRequest) -> u64 {
    if !delete.prev_kv {
        return 0;
    }
    range_records(
        view,
        &RangeRequest {
            key: delete.key.clone(),
            range_end: delete.range_end.clone(),
            ..RangeRequest::default()
        },
    )
}

/// The index knows how many keys a range holds now; a range of the past holds about as many.
pub(super) fn range_records(view: &ReadView, range: &RangeRequest) -> u64 {
    if range.count_only {
        return 0;
    }
    if range.range_end.is_empty() {
        return 1;
    }
    let present = RangeRequest {
        revision: 0,
        ..range.clone()
    };
    let held = count(view, &present).unwrap_or(0);
    // A sorted or filtered range is held whole before its first record is known.
    let is_page = range.limit > 0 && check::is_unsorted(range) && !check::is_filtered(range);
    let answered = if is_page { held.min(range.limit) } else { held };
    u64::try_from(answered).unwrap_or(0)
}
