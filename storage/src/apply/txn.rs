//! Txn: compares choose a path, the path is checked whole, then its ops run in order.
//!
//! Compares of nested txns are evaluated before the first op runs, as in etcd: the path is the list
//! of their outcomes in the order in which a walk over the chosen ops meets the txns.

use std::cmp::Ordering;

use althing_api::error::Error;
use althing_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use althing_api::etcdserverpb::request_op::Request;
use althing_api::etcdserverpb::response_op::Response;
use althing_api::etcdserverpb::{
    Compare, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use althing_api::mvccpb::KeyValue;
use althing_api::range::KeyRange;

use super::{delete, header, put, readable};
use crate::store::{Keyspace, ReadView, WriteTxn, every, range};

/// The outcomes still to be used, in the order of the walk.
type Path = std::vec::IntoIter<bool>;

/// Runs a txn that may write.
pub(super) fn apply(txn: &mut WriteTxn, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let path = readable(choose(txn, request))?;
    check(txn, request, &mut path.clone().into_iter(), &check_write)?;
    // Nothing is refused from here on, so no refusal leaves half a txn.
    let mut response = readable(run(txn, request, &mut path.into_iter(), &write))?;
    response.header = header(txn.revision());
    Ok(response)
}

/// Runs a txn that only reads.
pub(super) fn read(view: &ReadView, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let mut view = view.clone();
    let path = choose(&view, request)?;
    check(&view, request, &mut path.clone().into_iter(), &|_, _| {
        Err(Error::NotCapable)
    })?;
    let refuse = |_: &mut ReadView, _: &Request| Err(Error::NotCapable);
    let mut response = run(&mut view, request, &mut path.into_iter(), &refuse)?;
    response.header = header(view.revision());
    Ok(response)
}

fn ops(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// Evaluates all compares that matter.
fn choose<K: Keyspace>(space: &K, request: &TxnRequest) -> Result<Vec<bool>, Error> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(space, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut path = vec![succeeded];
    for op in ops(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            path.extend(choose(space, nested)?);
        }
    }
    Ok(path)
}

/// Everything that can refuse the chosen path.
fn check<K: Keyspace>(
    space: &K,
    request: &TxnRequest,
    path: &mut Path,
    check_write: &impl Fn(&K, &Request) -> Result<(), Error>,
) -> Result<(), Error> {
    for op in ops(request, path.next().unwrap_or(true)) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(space, range)?,
            Some(Request::RequestTxn(nested)) => check(space, nested, path, check_write)?,
            Some(write) => check_write(space, write)?,
            None => {}
        }
    }
    Ok(())
}

/// Checks a range in a txn. Unlike a range of its own, it does not take a negative revision for the
/// current one.
fn check_range<K: Keyspace>(space: &K, request: &RangeRequest) -> Result<(), Error> {
    match request.revision {
        0 => Ok(()),
        revision if revision > space.revision() => Err(Error::FutureRevision),
        revision if revision < space.compacted() => Err(Error::Compacted),
        _ => Ok(()),
    }
}

fn check_write(txn: &WriteTxn, request: &Request) -> Result<(), Error> {
    match request {
        Request::RequestPut(request) => put::check(txn, request),
        _ => Ok(()),
    }
}

/// Runs the chosen ops. The header of a nested txn stays empty, as in etcd.
fn run<K: Keyspace>(
    space: &mut K,
    request: &TxnRequest,
    path: &mut Path,
    write: &impl Fn(&mut K, &Request) -> Result<Response, Error>,
) -> Result<TxnResponse, Error> {
    let succeeded = path.next().unwrap_or(true);
    let mut responses = Vec::new();
    for op in ops(request, succeeded) {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => {
                Some(Response::ResponseRange(range(space, request)?))
            }
            Some(Request::RequestTxn(nested)) => {
                Some(Response::ResponseTxn(run(space, nested, path, write)?))
            }
            Some(request) => Some(write(space, request)?),
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse {
        header: header(0),
        succeeded,
        responses,
    })
}

fn write(txn: &mut WriteTxn, request: &Request) -> Result<Response, Error> {
    match request {
        Request::RequestPut(request) => put::put(txn, request).map(Response::ResponsePut),
        Request::RequestDeleteRange(request) => {
            delete::delete_range(txn, request).map(Response::ResponseDeleteRange)
        }
        Request::RequestRange(_) | Request::RequestTxn(_) => {
            unreachable!("reads and nested txns are no writes")
        }
    }
}

/// Whether a compare holds for every key of its range; an empty range counts as one absent key.
fn holds<K: Keyspace>(space: &K, compare: &Compare) -> Result<bool, Error> {
    let target = CompareTarget::try_from(compare.target).ok();
    let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
    let index_only = !matches!(target, Some(CompareTarget::Value | CompareTarget::Lease));
    let outcome = every(space, &range, index_only, |kv| {
        holds_for(compare, target, kv)
    })?;
    // Absence has no value, so a compare of values cannot hold.
    let if_absent =
        || target != Some(CompareTarget::Value) && holds_for(compare, target, &KeyValue::default());
    Ok(outcome.unwrap_or_else(if_absent))
}

/// Compares the stored with the given value. As in etcd, a union of another kind than the target
/// counts as zero or empty, an unknown target as equal, and an unknown result as true.
fn holds_for(compare: &Compare, target: Option<CompareTarget>, kv: &KeyValue) -> bool {
    let given = compare.target_union.as_ref();
    let ordering = match (target, given) {
        (None, _) => Ordering::Equal,
        (Some(CompareTarget::Value), Some(TargetUnion::Value(value))) => kv.value.cmp(value),
        (Some(CompareTarget::Value), _) => kv.value.as_ref().cmp(b""),
        (Some(CompareTarget::Version), Some(TargetUnion::Version(given))) => kv.version.cmp(given),
        (Some(CompareTarget::Version), _) => kv.version.cmp(&0),
        (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(given))) => {
            kv.create_revision.cmp(given)
        }
        (Some(CompareTarget::Create), _) => kv.create_revision.cmp(&0),
        (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(given))) => {
            kv.mod_revision.cmp(given)
        }
        (Some(CompareTarget::Mod), _) => kv.mod_revision.cmp(&0),
        (Some(CompareTarget::Lease), Some(TargetUnion::Lease(given))) => kv.lease.cmp(given),
        (Some(CompareTarget::Lease), _) => kv.lease.cmp(&0),
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
