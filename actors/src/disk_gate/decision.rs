//! Whether a command may use the room that is left. Pure.

use althing_api::TXN_DEPTH_MAX;
use althing_api::commandpb::{Command, command};
use althing_api::etcdserverpb::{RequestOp, TxnRequest, request_op};
use althing_storage::wal::Space;

/// Log bytes that no command may use: what the member itself writes (votes, blank entries, marks)
/// must find room on a full disk too, through many restarts.
const OWN_BYTES: u64 = 64 * 1024;

/// Log bytes that only deletions and compactions may use: at most this, and a part of a segment.
const WAY_OUT_BYTES_MAX: u64 = 2 * 1024 * 1024;
const WAY_OUT_PART: u64 = 8;

/// What is known when a command asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Whether the disk is nearly full, or the store met a full disk.
    pub(super) closed: bool,
    /// The room of the log.
    pub(super) space: Space,
    /// Bytes of the log that admitted commands may still use, or have used lately.
    pub(super) reserved_bytes: u64,
    /// The largest command so far, which may be under way.
    pub(super) largest_bytes: u64,
}

/// What happens to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Admit,
    /// There is no room yet, but there may be.
    Wait,
    Refuse,
}

impl Situation {
    /// Decides about a command that takes `bytes` in the log and makes room or not (`frees`).
    ///
    /// Whatever is admitted certainly fits into the log as it is on the disk now, together with
    /// everything admitted before.
    pub(super) fn decide(&self, bytes: u64, frees: bool) -> Decision {
        if self.space.failed {
            // The log's next flush halts the node; waiting would only hide it.
            return Decision::Admit;
        }
        let closed = self.closed || self.space.exhausted;
        if closed && !frees {
            return Decision::Refuse;
        }
        let way_out = WAY_OUT_BYTES_MAX.min(self.space.segment_bytes / WAY_OUT_PART);
        let kept = OWN_BYTES + if frees { 0 } else { way_out };
        let certain = self.space.certain_bytes(bytes.max(self.largest_bytes));
        if self.reserved_bytes.saturating_add(bytes) <= certain.saturating_sub(kept) {
            Decision::Admit
        } else if closed {
            Decision::Refuse
        } else if self.reserved_bytes == 0 && self.space.ready_segments > 0 {
            // This large, it would wait forever; alone it fits into a segment.
            Decision::Admit
        } else {
            Decision::Wait
        }
    }
}

/// Whether the command may pass on a full disk: it can only make the store smaller in the end, or
/// leaves its size about as it is. A full disk must not end leases that are renewed, nor stop
/// members from telling where they are.
pub(super) fn passes_when_full(command: &Command) -> bool {
    match &command.request {
        Some(
            command::Request::DeleteRange(_)
            | command::Request::Compaction(_)
            | command::Request::LeaseRevoke(_)
            | command::Request::SetAlarm(_)
            | command::Request::LeaseCheckpoint(_)
            | command::Request::PublishMember(_)
            | command::Request::SetClusterVersion(_),
        ) => true,
        Some(command::Request::Txn(txn)) => txn_only_frees(txn, TXN_DEPTH_MAX),
        _ => false,
    }
}

/// A deeper txn than the wire admits counts as one that writes.
fn txn_only_frees(txn: &TxnRequest, depth: usize) -> bool {
    depth > 0
        && txn
            .success
            .iter()
            .chain(&txn.failure)
            .all(|op| op_only_frees(op, depth))
}

fn op_only_frees(op: &RequestOp, depth: usize) -> bool {
    match &op.request {
        Some(request_op::Request::RequestDeleteRange(_) | request_op::Request::RequestRange(_)) => {
            true
        }
        Some(request_op::Request::RequestTxn(txn)) => txn_only_frees(txn, depth - 1),
        Some(request_op::Request::RequestPut(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use althing_api::commandpb::{
        LeaseCheckpoint, LeaseGrant, LeaseRevoke, PublishMember, SetClusterVersion,
    };
    use althing_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};

    use super::*;

    const MIB: u64 = 1024 * 1024;
    /// What puts must leave free in a log with segments of 16 MiB.
    const KEPT: u64 = OWN_BYTES + 2 * MIB;

    fn situation(room_bytes: u64, ready_segments: u64) -> Situation {
        Situation {
            closed: false,
            space: Space {
                room_bytes,
                ready_segments,
                segment_bytes: 16 * MIB,
                exhausted: false,
                failed: false,
            },
            reserved_bytes: 0,
            largest_bytes: 0,
        }
    }

    fn txn(ops: Vec<request_op::Request>) -> Command {
        let success = ops
            .into_iter()
            .map(|op| RequestOp { request: Some(op) })
            .collect();
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        Command {
            request: Some(command::Request::Txn(txn)),
        }
    }

    #[test]
    fn what_is_admitted_fits_beside_all_that_was_admitted_before() {
        let mut now = situation(KEPT + 1000, 0);
        assert_eq!(now.decide(1000, false), Decision::Admit);
        assert_eq!(now.decide(1001, false), Decision::Wait);
        now.reserved_bytes = 900;
        assert_eq!(now.decide(100, false), Decision::Admit);
        assert_eq!(now.decide(101, false), Decision::Wait);
        assert_eq!(now.decide(101, true), Decision::Admit, "the way out");
    }

    #[test]
    fn without_space_for_the_log_nobody_waits_and_only_the_way_out_is_open() {
        let mut now = situation(KEPT + 1000, 0);
        now.space.exhausted = true;
        assert_eq!(now.decide(1, false), Decision::Refuse);
        assert_eq!(now.decide(1, true), Decision::Admit);
        now.space.room_bytes = OWN_BYTES + 100;
        assert_eq!(now.decide(100, true), Decision::Admit);
        assert_eq!(now.decide(101, true), Decision::Refuse);
    }

    #[test]
    fn a_closed_gate_refuses_what_adds_however_much_room_the_log_has() {
        let mut now = situation(8 * MIB, 1);
        now.closed = true;
        assert_eq!(now.decide(1, false), Decision::Refuse);
        assert_eq!(now.decide(1, true), Decision::Admit);
    }

    #[test]
    fn the_largest_command_under_way_may_leave_a_segment_unused() {
        let mut now = situation(3 * MIB, 1);
        let certain = now.space.certain_bytes(MIB) - KEPT;
        now.largest_bytes = MIB;
        now.reserved_bytes = certain - 10;
        assert_eq!(now.decide(10, false), Decision::Admit);
        assert_eq!(now.decide(11, false), Decision::Wait);
    }

    #[test]
    fn a_command_as_large_as_a_segment_waits_for_one_and_goes_alone() {
        let mut now = situation(MIB, 0);
        assert_eq!(now.decide(15 * MIB, false), Decision::Wait);
        now.space.ready_segments = 1;
        assert_eq!(now.decide(15 * MIB, false), Decision::Admit);
        now.reserved_bytes = 1;
        assert_eq!(now.decide(15 * MIB, false), Decision::Wait);
    }

    #[test]
    fn a_failed_log_is_left_to_say_so_itself() {
        let mut now = situation(0, 0);
        now.space.failed = true;
        assert_eq!(now.decide(1, false), Decision::Admit);
    }

    #[test]
    fn deletions_compactions_txns_of_nothing_else_and_news_of_members_pass_when_full() {
        let delete = request_op::Request::RequestDeleteRange(DeleteRangeRequest::default());
        let put = request_op::Request::RequestPut(PutRequest::default());
        assert!(passes_when_full(&txn(vec![delete.clone()])));
        assert!(!passes_when_full(&txn(vec![delete, put])));
        let compaction = command::Request::Compaction(CompactionRequest::default());
        assert!(passes_when_full(&Command {
            request: Some(compaction),
        }));
        let put = command::Request::Put(PutRequest::default());
        assert!(!passes_when_full(&Command { request: Some(put) }));
        let renewal = command::Request::LeaseCheckpoint(LeaseCheckpoint::default());
        let expiry = command::Request::LeaseRevoke(LeaseRevoke::default());
        let news = command::Request::PublishMember(PublishMember::default());
        let version = command::Request::SetClusterVersion(SetClusterVersion::default());
        for request in [renewal, expiry, news, version].map(Some) {
            assert!(passes_when_full(&Command { request }));
        }
        let request = Some(command::Request::LeaseGrant(LeaseGrant::default()));
        assert!(!passes_when_full(&Command { request }));
    }
}
