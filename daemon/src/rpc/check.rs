//! Validation of key-value requests: pure, and in etcd's order of checks, because a request with
//! two mistakes must be refused with the same text by both.

use althing_api::TXN_DEPTH_MAX;
use althing_api::error::Error;
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use althing_api::order::{has_revision_filters, is_natural_order};

/// Refuses a range without a key, then one whose sort order or target is outside its enum.
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

/// Refuses what `range` refuses, and what a stream in key order cannot give.
pub fn range_stream(request: &RangeRequest) -> Result<(), Error> {
    range(request)?;
    if !is_natural_order(request) {
        return Err(Error::StreamSortOrder);
    }
    if has_revision_filters(request) {
        return Err(Error::StreamRevisionFilter);
    }
    Ok(())
}

/// Refuses a put without a key, or with both a value (lease) and the wish to keep the old one.
pub fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Refuses a deletion without a key.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a txn and everything nested in it, then that no execution path writes a key twice.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    shape(request, ops_max, TXN_DEPTH_MAX)?;
    super::overlap::check(&request.success)?;
    super::overlap::check(&request.failure)
}

/// Counts, compares, then the ops of both branches. The ops of a level count against the levels
/// below it as well, so that nesting alone is too many operations in the end; `depth` bounds it
/// where the limit was set high.
fn shape(request: &TxnRequest, ops_max: usize, depth: usize) -> Result<(), Error> {
    let count = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let (Some(remaining), Some(depth)) = (ops_max.checked_sub(count), depth.checked_sub(1)) else {
        return Err(Error::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    let mut ops = request.success.iter().chain(&request.failure);
    ops.try_for_each(|operation| op(operation, remaining, depth))
}

fn op(operation: &RequestOp, remaining: usize, depth: usize) -> Result<(), Error> {
    match &operation.request {
        Some(Op::RequestRange(request)) => range(request),
        Some(Op::RequestPut(request)) => put(request),
        Some(Op::RequestDeleteRange(request)) => delete_range(request),
        Some(Op::RequestTxn(request)) => shape(request, remaining, depth),
        None => Err(Error::KeyNotFound),
    }
}

/// Whether a txn has only ranges: it is then served like a read. A nested txn counts as a write
/// even when it only reads, as in etcd.
pub fn is_read_only(request: &TxnRequest) -> bool {
    ranges(request).all(|range| range.is_some())
}

/// Whether every range of a read-only txn is content with local data.
pub fn is_serializable(request: &TxnRequest) -> bool {
    ranges(request).all(|range| range.is_some_and(|range| range.serializable))
}

/// The ranges among the ops of both branches; `None` for every other op.
pub fn ranges(request: &TxnRequest) -> impl Iterator<Item = Option<&RangeRequest>> {
    let ops = request.success.iter().chain(&request.failure);
    ops.map(|operation| match &operation.request {
        Some(Op::RequestRange(range)) => Some(range),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use althing_api::commandpb::{Command, command};
    use althing_api::etcdserverpb::Compare;
    use prost::Message as _;

    use super::*;

    fn range_of(key: &'static str) -> RangeRequest {
        RangeRequest {
            key: key.into(),
            ..Default::default()
        }
    }

    fn put_of(key: &'static str) -> PutRequest {
        PutRequest {
            key: key.into(),
            ..Default::default()
        }
    }

    fn ops(list: impl IntoIterator<Item = Op>) -> Vec<RequestOp> {
        let wrap = |op| RequestOp { request: Some(op) };
        list.into_iter().map(wrap).collect()
    }

    fn nested(depth: usize) -> TxnRequest {
        let success = match depth {
            0 => ops([Op::RequestRange(range_of("a"))]),
            _ => ops([Op::RequestTxn(nested(depth - 1))]),
        };
        TxnRequest {
            success,
            ..Default::default()
        }
    }

    #[test]
    fn a_range_is_refused_for_its_key_before_its_sort_option() {
        let table = [
            (("", 0, 0), Err(Error::EmptyKey)),
            (("", 9, 9), Err(Error::EmptyKey)),
            (("a", 9, 0), Err(Error::InvalidSortOption)),
            (("a", 0, -1), Err(Error::InvalidSortOption)),
            (("a", 2, 4), Ok(())),
        ];
        for ((key, sort_order, sort_target), expected) in table {
            let request = RangeRequest {
                sort_order,
                sort_target,
                ..range_of(key)
            };
            assert_eq!(range(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn a_stream_takes_the_natural_order_without_filters_only() {
        let table = [
            ((0, 4, 0), Ok(())),
            ((1, 0, 0), Ok(())),
            ((1, 1, 0), Err(Error::StreamSortOrder)),
            ((2, 0, 7), Err(Error::StreamSortOrder)),
            ((0, 0, 7), Err(Error::StreamRevisionFilter)),
            ((5, 0, 7), Err(Error::InvalidSortOption)),
        ];
        for ((sort_order, sort_target, max_create_revision), expected) in table {
            let request = RangeRequest {
                sort_order,
                sort_target,
                max_create_revision,
                ..range_of("a")
            };
            assert_eq!(range_stream(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn a_put_is_refused_for_key_then_value_then_lease() {
        let both = PutRequest {
            value: "v".into(),
            lease: 1,
            ignore_value: true,
            ignore_lease: true,
            ..Default::default()
        };
        let keyed = PutRequest {
            key: "a".into(),
            ..both.clone()
        };
        let kept = PutRequest {
            value: Default::default(),
            ..keyed.clone()
        };
        assert_eq!(put(&both), Err(Error::EmptyKey));
        assert_eq!(put(&keyed), Err(Error::ValueProvided));
        assert_eq!(put(&kept), Err(Error::LeaseProvided));
        assert_eq!(put(&PutRequest { lease: 0, ..kept }), Ok(()));
        assert_eq!(delete_range(&Default::default()), Err(Error::EmptyKey));
    }

    #[test]
    fn a_txn_is_refused_for_counts_then_compares_then_ops_in_order() {
        let mut request = TxnRequest {
            compare: vec![Compare::default()],
            success: vec![RequestOp::default()],
            failure: ops([Op::RequestPut(put_of(""))]),
        };
        assert_eq!(txn(&request, 0), Err(Error::TooManyOps));
        assert_eq!(txn(&request, 1), Err(Error::EmptyKey));
        request.compare[0].key = "a".into();
        assert_eq!(txn(&request, 1), Err(Error::KeyNotFound));
        request.success.clear();
        assert_eq!(txn(&request, 1), Err(Error::EmptyKey));
        request.failure = ops([Op::RequestPut(put_of("a")), Op::RequestPut(put_of("a"))]);
        assert_eq!(txn(&request, 1), Err(Error::TooManyOps));
        assert_eq!(txn(&request, 2), Err(Error::DuplicateKey));
    }

    #[test]
    fn each_level_of_a_txn_leaves_less_of_the_limit_to_the_next() {
        assert_eq!(txn(&nested(3), 4), Ok(()));
        assert_eq!(txn(&nested(3), 3), Err(Error::TooManyOps));
    }

    #[test]
    fn the_deepest_txn_that_is_admitted_reads_back_from_the_log() {
        let deepest = nested(TXN_DEPTH_MAX - 1);
        assert_eq!(txn(&deepest, 128), Ok(()));
        let logged = |txn| {
            let request = Some(command::Request::Txn(txn));
            Command::decode(&*Command { request }.encode_to_vec())
        };
        assert!(logged(deepest).is_ok());
        let deeper = nested(TXN_DEPTH_MAX);
        assert_eq!(txn(&deeper, 128), Err(Error::TooManyOps));
        // What the wire lets through and the log would not give back is above the limit.
        let first_lost = (1..100).find(|depth| logged(nested(*depth)).is_err());
        assert!(first_lost.is_some_and(|depth| depth >= TXN_DEPTH_MAX));
    }

    #[test]
    fn a_txn_of_ranges_is_read_only_and_a_nested_one_is_not() {
        let mut request = nested(0);
        assert!(is_read_only(&request) && !is_serializable(&request));
        let local = RangeRequest {
            serializable: true,
            ..range_of("a")
        };
        request.success = ops([Op::RequestRange(local)]);
        assert!(is_serializable(&request));
        assert!(is_read_only(&TxnRequest::default()));
        assert!(!is_read_only(&nested(1)));
    }
}
