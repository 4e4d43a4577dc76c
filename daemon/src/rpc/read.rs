//! Ranges and read-only txns on a view of the store: small ones at once on the calling worker,
//! large ones so that the worker's other connections do not wait for them.

use std::sync::Arc;

use althing_api::error::Error;
use althing_api::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use althing_api::mvccpb::KeyValue;
use althing_storage::apply;
use althing_storage::store::ReadView;
use tonic::Status;

use super::read_budget::{ReadPermit, UNCOUNTED_BYTES};
use super::write_answer::txn_bytes;
use super::{Rpc, check, status};

/// Keys read between two chances for other tasks of the worker.
pub(super) const SLICE_KEYS: usize = 256;
/// A range of at most so many keys is read at once, about a quarter of a millisecond.
const INLINE_KEYS_MAX: i64 = 1_000;

/// An answer, and what it holds of the read budget.
pub(super) type Read<T> = (T, Option<Arc<ReadPermit>>);

/// How a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// At once: few keys are looked at.
    Inline,
    /// At once if the range holds few keys, which the index tells cheaply.
    Counted,
    /// On a thread where blocking is allowed: even counting it may take long.
    Blocking,
}

fn plan(request: &RangeRequest, current: i64) -> Plan {
    let one = request.range_end.is_empty();
    let is_page = (1..=INLINE_KEYS_MAX).contains(&request.limit)
        && check::is_unsorted(request)
        && !check::is_filtered(request);
    let is_historic = request.revision > 0 && request.revision != current;
    match (one, is_historic) {
        (true, _) => Plan::Inline,
        // The count of a page of the past walks the keys behind the page too.
        (false, true) => Plan::Blocking,
        (false, false) if is_page || request.count_only => Plan::Inline,
        (false, false) => Plan::Counted,
    }
}

impl Rpc {
    /// Reads a range; its header holds only the revision.
    pub(super) async fn read_range(
        &self,
        view: ReadView,
        request: RangeRequest,
    ) -> Result<Read<RangeResponse>, Status> {
        let plan = plan(&request, view.revision());
        if plan == Plan::Inline {
            let response = view.range(&request).map_err(status::of)?;
            return self.counted(response);
        }
        if plan == Plan::Counted {
            let count = count(&view, &request)?;
            if count <= INLINE_KEYS_MAX {
                let response = view.range(&request).map_err(status::of)?;
                return self.counted(response);
            }
            if is_natural(&request) {
                if let Some(read) = self.read_slices(&view, &request).await? {
                    return Ok(read);
                }
                // Who asks for the present is never told that it has been compacted.
                return self
                    .read_blocking(self.handles.store().read(), request)
                    .await;
            }
        }
        self.read_blocking(view, request).await
    }

    /// Collects a long range of the present in key order, slice by slice. `None`: a compaction
    /// came between two slices.
    async fn read_slices(
        &self,
        view: &ReadView,
        request: &RangeRequest,
    ) -> Result<Option<Read<RangeResponse>>, Status> {
        let mut scan = view.scan(request).map_err(status::of)?;
        let mut permit = self.state.budget.reserve(0)?;
        let mut kvs = Vec::new();
        loop {
            let slice = match scan.next_chunk(SLICE_KEYS) {
                Err(Error::Compacted) => return Ok(None),
                slice => slice.map_err(status::of)?,
            };
            if slice.is_empty() {
                break;
            }
            permit.grow(bytes_of(&slice))?;
            kvs.extend(slice);
            tokio::task::yield_now().await;
        }
        let revision = view.revision();
        let response = RangeResponse {
            header: Some(ResponseHeader {
                revision,
                ..Default::default()
            }),
            kvs,
            more: scan.more(),
            count: scan.count(),
        };
        Ok(Some((response, Some(Arc::new(permit)))))
    }

    /// Reads a range that must be seen whole before its first key is known.
    async fn read_blocking(
        &self,
        view: ReadView,
        request: RangeRequest,
    ) -> Result<Read<RangeResponse>, Status> {
        let mut permit = self.state.budget.reserve(self.estimate(&view, &request))?;
        let read = tokio::task::spawn_blocking(move || view.range(&request));
        let response = finished(read).await?.map_err(status::of)?;
        permit.settle(bytes_of(&response.kvs));
        Ok((response, Some(Arc::new(permit))))
    }

    /// About how many bytes a range holds, from the index and the average size of a record.
    fn estimate(&self, view: &ReadView, request: &RangeRequest) -> usize {
        if request.count_only {
            return 0;
        }
        let store = self.handles.store();
        let average = store.used_bytes() / store.key_count().max(1);
        let present = RangeRequest {
            revision: 0,
            ..request.clone()
        };
        let keys = count(view, &present).unwrap_or(0);
        usize::try_from(average.saturating_mul(keys as u64)).unwrap_or(usize::MAX)
    }

    /// Counts an answer against the budget when it is large.
    fn counted(&self, response: RangeResponse) -> Result<Read<RangeResponse>, Status> {
        let bytes = bytes_of(&response.kvs);
        if bytes <= UNCOUNTED_BYTES {
            return Ok((response, None));
        }
        let permit = self.state.budget.reserve(bytes)?;
        Ok((response, Some(Arc::new(permit))))
    }

    /// Evaluates a txn that only reads.
    pub(super) async fn read_txn(
        &self,
        view: ReadView,
        request: TxnRequest,
    ) -> Result<Read<TxnResponse>, Status> {
        let current = view.revision();
        let is_small = |range: Option<&RangeRequest>| {
            range.is_none_or(|range| plan(range, current) == Plan::Inline)
        };
        // A compare may span a range as well.
        let spans = request.compare.iter().any(|one| !one.range_end.is_empty());
        let response = if !spans && check::ranges(&request).all(is_small) {
            apply::read_txn(&view, &request)
        } else {
            let read = tokio::task::spawn_blocking(move || apply::read_txn(&view, &request));
            finished(read).await?
        };
        let response = response.map_err(status::of)?;
        let bytes = txn_bytes(&response);
        if bytes <= UNCOUNTED_BYTES {
            return Ok((response, None));
        }
        let permit = self.state.budget.reserve(bytes)?;
        Ok((response, Some(Arc::new(permit))))
    }
}

/// Keys in key order, nothing sorted and nothing filtered: a scan gives the same answer.
fn is_natural(request: &RangeRequest) -> bool {
    let by_key = request.sort_target == 0;
    by_key && check::is_unsorted(request) && !check::is_filtered(request)
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

/// The bytes of keys and values, with what a record costs beside them.
pub(super) fn bytes_of(kvs: &[KeyValue]) -> usize {
    let record = size_of::<KeyValue>();
    let bytes = kvs.iter().map(|kv| kv.key.len() + kv.value.len() + record);
    bytes.sum()
}

/// The value of a blocking task; it is missing only when the process stops or the task panicked.
pub(super) async fn finished<T>(task: tokio::task::JoinHandle<T>) -> Result<T, Status> {
    let outcome = task.await;
    outcome.map_err(|error| match error.is_panic() {
        true => Status::internal("etcdserver: the read failed"),
        false => status::of(Error::Stopped),
    })
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
            ("a page", request(1_000, 0, 0, 0), Plan::Inline),
            (
                "a page at the current revision",
                request(1, 9, 0, 0),
                Plan::Inline,
            ),
            ("a page of the past", request(1, 8, 0, 0), Plan::Blocking),
            ("a long page", request(1_001, 0, 0, 0), Plan::Counted),
            ("a range without limit", request(0, 0, 0, 0), Plan::Counted),
            ("a sorted page", request(1, 0, 2, 0), Plan::Counted),
            ("a filtered page", request(1, 0, 0, 5), Plan::Counted),
        ];
        for (name, request, expected) in table {
            assert_eq!(plan(&request, 9), expected, "{name}");
        }
        let one = RangeRequest {
            range_end: Default::default(),
            ..request(0, 3, 2, 1)
        };
        assert_eq!(plan(&one, 9), Plan::Inline, "one key of the past");
        let count = RangeRequest {
            count_only: true,
            ..request(0, 0, 0, 0)
        };
        assert_eq!(plan(&count, 9), Plan::Inline, "a count");
    }

    #[test]
    fn a_sort_target_without_order_is_not_the_natural_order() {
        let by_version = RangeRequest {
            sort_target: 1,
            ..request(0, 0, 0, 0)
        };
        assert!(check::is_unsorted(&by_version) && !is_natural(&by_version));
        assert!(is_natural(&request(0, 0, 1, 0)));
    }
}
