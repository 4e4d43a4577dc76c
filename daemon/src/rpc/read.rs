//! Ranges and read-only txns on a view of the store: small ones at once on the calling worker,
//! large ones so that the worker's other connections do not wait for them. Each takes from the read
//! budget what it holds as it finds it, and ends when nothing is left.

use std::sync::Arc;

use althing_api::error::Error;
use althing_api::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use althing_api::mvccpb::KeyValue;
use althing_api::order::{has_revision_filters, is_natural_order};
use althing_storage::apply;
use althing_storage::store::{ReadView, held_bytes};
use tonic::Status;

use super::read_budget::{Meter, ReadPermit};
use super::write_answer::{range_records, txn_bytes, txn_records};
use super::{Rpc, check, status};

/// Keys read between two chances for other tasks of the worker.
pub(super) const SLICE_KEYS: usize = 256;
/// Most bytes of a slice; its last record may exceed them.
const SLICE_BYTES: usize = 1 << 20;
/// Most keys that are read at once, which takes about a quarter of a millisecond.
const AT_ONCE_KEYS_MAX: usize = 1_000;

/// An answer, and what it holds of the read budget.
pub(super) type Read<T> = (T, Option<Arc<ReadPermit>>);

/// How a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// At once: one key, or the index knows the answer.
    AtOnce,
    /// In slices, in the order of the keys.
    Slices,
    /// As a whole: at once if that is little, otherwise on a thread where blocking is allowed.
    Whole,
    /// On such a thread, because even counting it may take long.
    Thread,
}

fn plan(request: &RangeRequest, current: i64) -> Plan {
    let is_historic = request.revision > 0 && request.revision != current;
    match request.range_end.is_empty() {
        true => Plan::AtOnce,
        // The count of a page of the past walks the keys behind the page too.
        false if is_historic => Plan::Thread,
        false if request.count_only => Plan::AtOnce,
        false if is_scannable(request) => Plan::Slices,
        false => Plan::Whole,
    }
}

impl Rpc {
    /// Reads a range; its header holds only the revision.
    pub(super) async fn read_range(
        &self,
        mut view: ReadView,
        request: RangeRequest,
    ) -> Result<Read<RangeResponse>, Status> {
        let plan = plan(&request, view.revision());
        if plan == Plan::Slices {
            if let Some(read) = self.read_slices(&view, &request).await? {
                return Ok(read);
            }
            // A caller that asks for the present is never told that it has been compacted.
            view = self.handles.store().read();
        }
        let at_once = match plan {
            Plan::AtOnce => true,
            Plan::Whole => self.is_little(range_records(&view, &request)),
            Plan::Slices | Plan::Thread => false,
        };
        let read = move |view: &ReadView| view.range(&request);
        let bytes = |response: &RangeResponse| bytes_of(&response.kvs);
        self.read_view(view, at_once, read, bytes).await
    }

    /// Collects a range of the present in key order, slice by slice. `None` if a compaction came
    /// between two slices.
    async fn read_slices(
        &self,
        view: &ReadView,
        request: &RangeRequest,
    ) -> Result<Option<Read<RangeResponse>>, Status> {
        let mut scan = view.scan(request).map_err(status::of)?;
        let mut permit = self.state.budget.reserve(0)?;
        let (mut kvs, mut keys_max) = (Vec::new(), AT_ONCE_KEYS_MAX);
        while !scan.is_done() {
            if !kvs.is_empty() {
                keys_max = SLICE_KEYS;
                tokio::task::yield_now().await;
            }
            let slice = match scan.next_chunk(keys_max, SLICE_BYTES) {
                Err(Error::Compacted) => return Ok(None),
                slice => slice.map_err(status::of)?,
            };
            if slice.is_empty() {
                break;
            }
            permit.take(bytes_of(&slice))?;
            if kvs.is_empty() {
                kvs = slice
            } else {
                kvs.extend(slice)
            }
        }
        let revision = view.revision();
        let bytes = bytes_of(&kvs);
        let response = RangeResponse {
            header: Some(ResponseHeader {
                revision,
                ..Default::default()
            }),
            kvs,
            more: scan.more(),
            count: scan.count(),
        };
        Ok(Some((response, permit.settle(bytes))))
    }

    /// Reads what is known only as a whole. The read holds what it took of the budget until it
    /// ends, even if its caller does not wait for it.
    async fn read_view<T: Send + 'static>(
        &self,
        view: ReadView,
        at_once: bool,
        read: impl FnOnce(&ReadView) -> Result<T, Error> + Send + 'static,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<Read<T>, Status> {
        let meter = Arc::new(Meter::new(self.state.budget.reserve(0)?));
        let view = view.metered(meter.clone());
        let read = move || {
            let answer = read(&view);
            drop(view);
            (answer, meter)
        };
        let (answer, meter) = if at_once {
            read()
        } else {
            self.state.long_reads.run(read).await?
        };
        let meter = Arc::into_inner(meter).expect("the view that shared it is dropped");
        let permit = meter.end()?;
        let answer = answer.map_err(status::of)?;
        let bytes = bytes(&answer);
        Ok((answer, permit.settle(bytes)))
    }

    /// Whether about this many records may be read on the worker.
    fn is_little(&self, records: u64) -> bool {
        records <= AT_ONCE_KEYS_MAX as u64 && self.estimate(records) <= SLICE_BYTES
    }

    /// Evaluates a txn that only reads.
    pub(super) async fn read_txn(
        &self,
        view: ReadView,
        request: TxnRequest,
    ) -> Result<Read<TxnResponse>, Status> {
        let current = view.revision();
        let is_short = |range: Option<&RangeRequest>| {
            range.is_none_or(|range| plan(range, current) != Plan::Thread)
        };
        // A compare may span a range as well.
        let spans = request.compare.iter().any(|one| !one.range_end.is_empty());
        let at_once = !spans
            && check::ranges(&request).all(is_short)
            && self.is_little(txn_records(&view, &request));
        let read = move |view: &ReadView| apply::read_txn(view, &request);
        self.read_view(view, at_once, read, txn_bytes).await
    }
}

/// Keys in key order, nothing sorted and nothing filtered: a scan gives the same answer.
fn is_scannable(request: &RangeRequest) -> bool {
    let by_key = request.sort_target == 0;
    by_key && is_natural_order(request) && !has_revision_filters(request)
}

pub(super) fn count(view: &ReadView, request: &RangeRequest) -> Result<i64, Status> {
    let count = RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        revision: request.revision,
        count_only: true,
        ..Default::default()
    };
    let answer = view.range(&count).map_err(status::of)?;
    Ok(answer.count)
}

/// The bytes of records, with what each costs beside its key and value.
pub(super) fn bytes_of(kvs: &[KeyValue]) -> usize {
    kvs.iter().map(held_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(limit: i64, revision: i64, sort_order: i32, max_mod: i64) -> RangeRequest {
        RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit,
            revision,
            sort_order,
            max_mod_revision: max_mod,
            ..Default::default()
        }
    }

    #[test]
    fn only_reads_that_look_at_few_keys_are_made_at_once() {
        let table = [
            ("a page", request(1_000, 0, 0, 0), Plan::Slices),
            ("the current revision", request(1, 9, 0, 0), Plan::Slices),
            ("a page of the past", request(1, 8, 0, 0), Plan::Thread),
            ("a range without limit", request(0, 0, 0, 0), Plan::Slices),
            ("a sorted page", request(1, 0, 2, 0), Plan::Whole),
            ("a filtered page", request(1, 0, 0, 5), Plan::Whole),
        ];
        for (name, request, expected) in table {
            assert_eq!(plan(&request, 9), expected, "{name}");
        }
        let one = RangeRequest {
            range_end: Default::default(),
            ..request(0, 3, 2, 1)
        };
        assert_eq!(plan(&one, 9), Plan::AtOnce, "one key of the past");
        let count = |revision| RangeRequest {
            count_only: true,
            ..request(0, revision, 0, 0)
        };
        assert_eq!(plan(&count(0), 9), Plan::AtOnce, "a count");
        assert_eq!(plan(&count(8), 9), Plan::Thread, "a count of the past");
    }

    #[test]
    fn a_sort_target_without_order_is_not_the_natural_order() {
        let by_version = RangeRequest {
            sort_target: 1,
            ..request(0, 0, 0, 0)
        };
        assert!(is_natural_order(&by_version) && !is_scannable(&by_version));
        assert!(is_scannable(&request(0, 0, 1, 0)));
    }
}
