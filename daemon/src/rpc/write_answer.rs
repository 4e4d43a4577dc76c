//! What the answer of a txn or a deletion may hold of the store: ranges and former records. It
//! counts against the budget of large reads. Other reads take from it what they find as they find
//! it; this is reserved beforehand, by an estimate, because the state machine cannot refuse what
//! the log has decided. The one record of a lone put is not counted.

use std::sync::atomic::Ordering;

use althing_api::commandpb::command;
use althing_api::etcdserverpb::request_op::Request as AskOp;
use althing_api::etcdserverpb::response_op::Response as AnswerOp;
use althing_api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest, RequestOp, TxnRequest,
    TxnResponse,
};
use althing_api::order::{has_revision_filters, is_natural_order};
use althing_storage::store::ReadView;
use futures_util::FutureExt;
use tonic::Status;

use super::Rpc;
use super::read::{bytes_of, count};
use super::read_budget::ReadPermit;

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

    /// About how many bytes this many records hold, by the average of what is stored.
    pub(super) fn estimate(&self, records: u64) -> usize {
        if records == 0 {
            return 0;
        }
        let record_bytes_max = self.limits().request_bytes_max;
        estimate(self.record_bytes(), records, record_bytes_max)
    }

    /// The bytes of an average record. While a compaction deletes, what it has not deleted yet
    /// still counts in what is stored, and nothing tells how many records that is: until it ends,
    /// the former average holds, unless the current one is smaller.
    fn record_bytes(&self) -> u64 {
        let store = self.handles.store();
        let revisions = store.revisions();
        let past = u64::try_from(revisions.current - revisions.compacted).unwrap_or(0);
        let found = average(store.used_bytes(), store.key_count(), past);
        let finished = self.handles.compaction_finished(revisions.compacted);
        let last = &self.state.record_bytes;
        if revisions.compacted == 0 || finished.now_or_never().is_some() {
            last.store(found, Ordering::Relaxed);
            return found;
        }
        found.min(last.load(Ordering::Relaxed))
    }
}

/// The bytes of an average record: each key has one, and each revision since the last compaction
/// left one, a deletion too.
fn average(used_bytes: u64, keys: u64, revisions: u64) -> u64 {
    used_bytes / keys.max(revisions).max(1)
}

/// The bytes of this many records; none of them is larger than a request.
fn estimate(record_bytes: u64, records: u64, record_bytes_max: usize) -> usize {
    let record_bytes = usize::try_from(record_bytes).unwrap_or(usize::MAX);
    let records = usize::try_from(records).unwrap_or(usize::MAX);
    record_bytes.min(record_bytes_max).saturating_mul(records)
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

/// Records in the answer of the branch that answers with more. The nesting depth was checked
/// before.
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
    let is_page = range.limit > 0 && is_natural_order(range) && !has_revision_filters(range);
    let answered = if is_page { held.min(range.limit) } else { held };
    u64::try_from(answered).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn no_record_is_taken_for_larger_than_a_request() {
        let unfinished = average(840 << 20, 2, 1);
        assert_eq!(unfinished, 420 << 20);
        assert_eq!(estimate(unfinished, 1, MIB), MIB);
        assert_eq!(estimate(unfinished, 128, MIB), 128 * MIB);
        assert_eq!(estimate(100, 1000, MIB), 100_000);
        assert_eq!(estimate(u64::MAX, u64::MAX, MIB), usize::MAX);
    }

    #[test]
    fn the_average_is_over_the_keys_or_the_revisions_whichever_are_more() {
        assert_eq!(average(1000, 10, 0), 100);
        assert_eq!(average(1000, 1, 20), 50);
        assert_eq!(average(1000, 0, 0), 1000);
    }
}
