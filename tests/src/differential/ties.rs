//! Ranges sorted by anything but the key may hold equal sort values, and etcd promises no order
//! among those (its sort is not stable). Two answers are the same if they differ only there: the
//! sequence of sort values is equal, no key comes twice, and each record is one that the range
//! holds. If a limit cuts through equal values, any choice among them is right.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::KeyValue;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use pb::response_op::Response;
use serde_json::Value;

use super::normal::message;

/// Whether the order of the answer to `request` may hold ties.
pub fn may_tie(request: &pb::RangeRequest) -> bool {
    request.sort_target != SortTarget::Key as i32 && !request.count_only
}

/// The request for every record from which the answer to a sorted range is chosen: those of the
/// same revision and filters. etcd sorts a whole range, except that with no sort order and no
/// filter it cuts in key order, one record beyond the limit, before it sorts.
pub fn candidates(request: &pb::RangeRequest, revision: i64) -> pb::RangeRequest {
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    let cut_first = request.sort_order == SortOrder::None as i32 && !filtered;
    pb::RangeRequest {
        sort_order: SortOrder::None as i32,
        sort_target: SortTarget::Key as i32,
        limit: if cut_first && request.limit > 0 {
            request.limit.saturating_add(1)
        } else {
            0
        },
        revision: if request.revision > 0 {
            request.revision
        } else {
            revision
        },
        keys_only: false,
        ..request.clone()
    }
}

/// Whether two lists of records differ only in the order of equal sort values.
pub fn equal_but_ties(
    request: &pb::RangeRequest,
    left: &[KeyValue],
    right: &[KeyValue],
    candidates: &[KeyValue],
) -> bool {
    let known: BTreeMap<_, _> = candidates
        .iter()
        .map(|record| (&record.key, record))
        .collect();
    let chosen = |records: &[KeyValue]| -> Option<Vec<KeyValue>> {
        let mut keys = BTreeMap::new();
        for record in records {
            let full = known.get(&record.key)?;
            let (mut shown, mut record) = ((*full).clone(), record.clone());
            if request.keys_only {
                shown.value.clear();
                // Releases before 3.7 show it.
                (shown.lease, record.lease) = (0, 0);
            }
            if shown != record || keys.insert(full.key.clone(), ()).is_some() {
                return None;
            }
        }
        Some(
            records
                .iter()
                .map(|record| known[&record.key].clone())
                .collect(),
        )
    };
    let (Some(left), Some(right)) = (chosen(left), chosen(right)) else {
        return false;
    };
    left.len() == right.len()
        && left
            .iter()
            .zip(&right)
            .all(|(one, other)| by_target(request, one, other) == Ordering::Equal)
}

/// Puts equal sort values of every sorted range in a transaction's answer into key order, and
/// blanks the records of a group that a limit cut. `None` if the answer is not a message of the
/// request.
pub fn canonical_txn(request: &pb::TxnRequest, answer: &Value) -> Option<pb::TxnResponse> {
    let mut response = serde_json::from_value(message(answer)?.clone()).ok()?;
    canonical(request, &mut response)?;
    Some(response)
}

fn canonical(request: &pb::TxnRequest, response: &mut pb::TxnResponse) -> Option<()> {
    let ops = if response.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (op, answer) in ops.iter().zip(&mut response.responses) {
        match (op.request.as_ref()?, answer.response.as_mut()?) {
            (Request::RequestRange(range), Response::ResponseRange(answer)) if may_tie(range) => {
                canonical_range(range, answer);
            }
            (Request::RequestTxn(txn), Response::ResponseTxn(answer)) => canonical(txn, answer)?,
            _ => (),
        }
    }
    Some(())
}

fn canonical_range(request: &pb::RangeRequest, response: &mut pb::RangeResponse) {
    let cut = response.more;
    let mut groups: Vec<&mut [KeyValue]> = response
        .kvs
        .chunk_by_mut(|one, other| by_target(request, one, other) == Ordering::Equal)
        .collect();
    for group in &mut groups {
        group.sort_by(|one, other| one.key.cmp(&other.key));
    }
    if cut && let Some(last) = groups.last_mut() {
        last.fill(KeyValue::default());
    }
}

fn by_target(request: &pb::RangeRequest, one: &KeyValue, other: &KeyValue) -> Ordering {
    match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => one.version.cmp(&other.version),
        Ok(SortTarget::Create) => one.create_revision.cmp(&other.create_revision),
        Ok(SortTarget::Mod) => one.mod_revision.cmp(&other.mod_revision),
        Ok(SortTarget::Value) => one.value.cmp(&other.value),
        Ok(SortTarget::Key) | Err(_) => one.key.cmp(&other.key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static str, version: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            version,
            ..KeyValue::default()
        }
    }

    fn by_version() -> pb::RangeRequest {
        pb::RangeRequest {
            sort_target: SortTarget::Version as i32,
            ..pb::RangeRequest::default()
        }
    }

    #[test]
    fn equal_sort_values_may_come_in_either_order() {
        let all = [record("a", 1), record("b", 1), record("c", 2)];
        let left = [record("a", 1), record("b", 1)];
        let right = [record("b", 1), record("a", 1)];
        assert!(equal_but_ties(&by_version(), &left, &right, &all));
    }

    #[test]
    fn different_sort_values_may_not_change_places() {
        let all = [record("a", 1), record("c", 2)];
        let left = [record("a", 1), record("c", 2)];
        let right = [record("c", 2), record("a", 1)];
        assert!(!equal_but_ties(&by_version(), &left, &right, &all));
    }

    #[test]
    fn a_record_that_the_range_does_not_hold_or_holds_once_is_no_tie() {
        let all = [record("a", 1), record("b", 1)];
        let twice = [record("a", 1), record("a", 1)];
        let foreign = [record("a", 1), record("x", 1)];
        assert!(!equal_but_ties(&by_version(), &all, &twice, &all));
        assert!(!equal_but_ties(&by_version(), &all, &foreign, &all));
    }
}
