//! The quota of the store: what a command costs, when to warn, when the alarm may end. Pure.

use althing_api::commandpb::command::Request;
use althing_api::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request as Op};

/// What etcd counts for a key besides its bytes, and for a lease.
const KEY_OVERHEAD_BYTES: u64 = 256;
const LEASE_BYTES: u64 = 64;

/// Percentages of the quota: where the operator is warned, where that is forgotten, and where there
/// is space again after the alarm. They differ, so that one byte never causes the same message
/// twice.
const LOW_PERCENT: u64 = 80;
const AMPLE_PERCENT: u64 = 75;
const CLEAR_PERCENT: u64 = 90;

/// What a command may add to the store, as etcd estimates it.
pub fn cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::PutWithTtl(request) => LEASE_BYTES + request.put.as_ref().map_or(0, put_cost),
        Request::LeaseGrant(_) => LEASE_BYTES,
        Request::Txn(txn) => txn_cost(txn),
        _ => 0,
    }
}

fn put_cost(put: &PutRequest) -> u64 {
    KEY_OVERHEAD_BYTES + (put.key.len() + put.value.len()) as u64
}

/// The cost of the dearer branch.
fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        let one = |op: &RequestOp| match &op.request {
            Some(Op::RequestPut(put)) => put_cost(put),
            Some(Op::RequestTxn(nested)) => txn_cost(nested),
            _ => 0,
        };
        ops.iter().map(one).sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

/// Whether a command that would add `cost` bytes to `used` ones has no room.
pub fn exceeds(quota: Option<u64>, used: u64, cost: u64) -> bool {
    quota.is_some_and(|quota| used.saturating_add(cost) >= quota)
}

/// Whether an alarm of the quota has no cause, or no longer one. One large command may exceed what
/// is left while there is room for all others: it is refused without an alarm, which would end at
/// once.
pub fn has_room(quota: Option<u64>, used: u64) -> bool {
    quota.is_none_or(|quota| used <= part(quota, CLEAR_PERCENT))
}

fn part(quota: u64, percent: u64) -> u64 {
    quota / 100 * percent + quota % 100 * percent / 100
}

/// Remembers whether the operator was warned.
#[derive(Debug, Default)]
pub(super) struct Warning {
    given: bool,
}

impl Warning {
    /// Whether to warn now.
    pub(super) fn is_due(&mut self, quota: Option<u64>, used: u64) -> bool {
        let Some(quota) = quota else {
            self.given = false;
            return false;
        };
        if used < part(quota, AMPLE_PERCENT) {
            self.given = false;
        }
        let is_low = used >= part(quota, LOW_PERCENT);
        let is_due = is_low && !self.given;
        self.given |= is_low;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use althing_api::commandpb::{LeaseGrant, PutWithTtl};
    use althing_api::etcdserverpb::DeleteRangeRequest;

    use super::*;

    fn put(value_bytes: usize) -> PutRequest {
        PutRequest {
            key: "key".into(),
            value: vec![0; value_bytes].into(),
            ..PutRequest::default()
        }
    }

    #[test]
    fn commands_cost_what_they_cost_in_etcd() {
        assert_eq!(cost(&Request::Put(put(100))), 256 + 3 + 100);
        assert_eq!(cost(&Request::LeaseGrant(LeaseGrant::default())), 64);
        let with_ttl = PutWithTtl {
            put: Some(put(1)),
            lease: None,
        };
        assert_eq!(cost(&Request::PutWithTtl(with_ttl)), 64 + 256 + 4);
        let delete = Request::DeleteRange(DeleteRangeRequest::default());
        assert_eq!(cost(&delete), 0);
        let op = |request| RequestOp {
            request: Some(request),
        };
        let nested = TxnRequest {
            success: vec![op(Op::RequestPut(put(10))), op(Op::RequestPut(put(20)))],
            ..TxnRequest::default()
        };
        let txn = TxnRequest {
            success: vec![op(Op::RequestPut(put(500)))],
            failure: vec![op(Op::RequestTxn(nested)), op(Op::RequestPut(put(30)))],
            ..TxnRequest::default()
        };
        assert_eq!(cost(&Request::Txn(txn)), 3 * 259 + 60);
    }

    #[test]
    fn a_command_needs_room_and_without_a_quota_there_always_is() {
        assert!(!exceeds(Some(1000), 900, 99));
        assert!(exceeds(Some(1000), 900, 100));
        assert!(!exceeds(None, u64::MAX, u64::MAX));
    }

    #[test]
    fn the_warning_comes_once_until_there_is_ample_space_again() {
        let mut warning = Warning::default();
        let mut told = |used| warning.is_due(Some(1000), used);
        let looks = [799, 800, 900, 790, 850, 749, 800];
        let expected = [false, true, false, false, false, false, true];
        assert_eq!(looks.map(&mut told), expected);
        assert!(!warning.is_due(None, u64::MAX));
    }

    #[test]
    fn the_alarm_ends_well_below_the_quota() {
        assert!(!has_room(Some(1000), 901));
        assert!(has_room(Some(1000), 900));
        assert!(has_room(None, u64::MAX));
    }
}
