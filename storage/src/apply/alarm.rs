//! Alarms: raising and clearing them, and what an active one keeps from being written.
//!
//! The refusals are part of the state machine, so that all members refuse the same entries, even if
//! these came into the log before the alarm was known everywhere.

use althing_api::commandpb::SetAlarm;
use althing_api::commandpb::command::Request;
use althing_api::error::Error;
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::{AlarmResponse, AlarmType, TxnRequest};

use super::header;
use crate::store::{AlarmRecord, Keyspace, Store, WriteTxn};

/// Why an active alarm keeps `request` from being applied.
pub(super) fn check(txn: &WriteTxn, request: &Request) -> Option<Error> {
    refused(|alarm| txn.has_alarm(alarm), request)
}

/// Why an alarm that is active in `store` would keep `request` from being applied.
pub fn refusal(store: &Store, request: &Request) -> Option<Error> {
    refused(|alarm| store.has_alarm(alarm), request)
}

fn refused(is_active: impl Fn(AlarmType) -> bool, request: &Request) -> Option<Error> {
    if is_frozen(request) && is_active(AlarmType::Corrupt) {
        return Some(Error::Corrupt);
    }
    if adds(request) && is_active(AlarmType::Nospace) {
        return Some(Error::NoSpace);
    }
    None
}

/// Whether a command may add to the store. A txn counts by the worst of its branches.
pub fn adds(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::PutWithTtl(_) | Request::LeaseGrant(_) => true,
        Request::Txn(txn) => puts(txn),
        _ => false,
    }
}

fn puts(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|operation| match &operation.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(nested)) => puts(nested),
        _ => false,
    })
}

/// Whether a command changes keys or leases: a cluster whose members were found to differ takes
/// none.
fn is_frozen(request: &Request) -> bool {
    matches!(
        request,
        Request::Put(_)
            | Request::PutWithTtl(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compaction(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
    )
}

/// Raises or clears an alarm. As in etcd the answer names it, unless there was none to clear; an
/// alarm that is already active stays as it is.
pub(super) fn set(txn: &mut WriteTxn, request: &SetAlarm) -> AlarmResponse {
    let (alarm, member_id) = (request.alarm(), request.member_id);
    let active = txn.alarm(alarm, member_id);
    let affected = match (request.raised, active) {
        // `None` is not an alarm that can be raised.
        (true, None) if alarm == AlarmType::None => None,
        // The member that would clear it is gone.
        (true, None) if request.clears_itself && txn.is_removed(member_id) => None,
        (true, None) => {
            let record = AlarmRecord {
                alarm,
                member_id,
                clears_itself: request.clears_itself,
            };
            txn.raise_alarm(record);
            Some(record)
        }
        (true, Some(active)) => Some(active),
        (false, Some(active)) => {
            txn.end_alarm(alarm, member_id);
            Some(active)
        }
        (false, None) => None,
    };
    AlarmResponse {
        header: header(txn.revision()),
        alarms: affected.into_iter().map(Into::into).collect(),
    }
}
