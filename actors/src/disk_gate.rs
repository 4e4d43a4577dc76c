//! Whether commands may still use disk space. A full disk must never meet the WAL's fsync, whose
//! failure would end the process: writes are refused while there is still room for the way out,
//! which is to delete and to compact.
//!
//! ```text
//!        free < reserve, or store or WAL met a full disk            WAL headroom low
//!  open ------------------------------------------------> closed -------------------> shut
//!  all commands                           deletes and compactions only           nothing
//! ```
//! StoreWriter measures the disk and WalWriter the headroom; the gate opens again by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use althing_api::commandpb::{Command, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::{RequestOp, TxnRequest, request_op};

/// WAL bytes that must remain writable without new disk space for a deletion to be admitted.
const WAL_HEADROOM_MIN_BYTES: u64 = 4 * 1024 * 1024;

/// How deep a txn may nest before it counts as one that writes; the wire layer refuses deeper ones.
const TXN_DEPTH_MAX: usize = 64;

/// The gate. Shared by the proposing side and the two writers.
#[derive(Debug)]
pub struct DiskGate {
    reserve_bytes: u64,
    low: AtomicBool,
    store_full: AtomicBool,
    wal_full: AtomicBool,
    wal_headroom_bytes: AtomicU64,
}

impl DiskGate {
    /// A gate that closes when fewer than `reserve_bytes` are free; open at first.
    pub fn new(reserve_bytes: u64) -> DiskGate {
        DiskGate {
            reserve_bytes,
            low: AtomicBool::new(false),
            store_full: AtomicBool::new(false),
            wal_full: AtomicBool::new(false),
            wal_headroom_bytes: AtomicU64::new(u64::MAX),
        }
    }

    /// Notes how many bytes the file system has free.
    pub fn free_bytes_measured(&self, free_bytes: u64) {
        let low = free_bytes < self.reserve_bytes;
        if self.low.swap(low, Ordering::Relaxed) != low {
            if low {
                tracing::warn!(
                    free_bytes,
                    reserve_bytes = self.reserve_bytes,
                    "disk is nearly full, writes are refused"
                );
            } else {
                tracing::info!(free_bytes, "disk has space again, writes are admitted");
            }
        }
    }

    /// Notes whether the last checkpoint met a full disk.
    pub fn checkpoint_ended(&self, disk_full: bool) {
        if self.store_full.swap(disk_full, Ordering::Relaxed) != disk_full {
            if disk_full {
                tracing::warn!("checkpoint met a full disk, writes are refused until it succeeds");
            } else {
                tracing::info!("checkpoint succeeds again");
            }
        }
    }

    /// Notes how many bytes the WAL can write without new disk space, and whether it tried in vain
    /// to get more.
    pub fn wal_measured(&self, headroom_bytes: u64, full: bool) {
        self.wal_headroom_bytes
            .store(headroom_bytes, Ordering::Relaxed);
        if self.wal_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!(
                    headroom_bytes,
                    "no disk space for the log, writes are refused"
                );
            } else {
                tracing::info!("disk has space for the log again");
            }
        }
    }

    /// Whether `command` may be proposed now. Errors: `NoSpace`.
    pub fn admit(&self, command: &Command) -> Result<(), Error> {
        let closed = [&self.low, &self.store_full, &self.wal_full];
        if !closed.iter().any(|reason| reason.load(Ordering::Relaxed)) {
            return Ok(());
        }
        // With disk space to spare, low headroom only means that the next segment is being made.
        if self.wal_headroom_bytes.load(Ordering::Relaxed) < WAL_HEADROOM_MIN_BYTES {
            return Err(Error::NoSpace);
        }
        if only_frees(command) {
            Ok(())
        } else {
            Err(Error::NoSpace)
        }
    }
}

/// Whether the command can only make the store smaller in the end.
fn only_frees(command: &Command) -> bool {
    match &command.request {
        Some(
            command::Request::DeleteRange(_)
            | command::Request::Compaction(_)
            | command::Request::LeaseRevoke(_),
        ) => true,
        Some(command::Request::Txn(txn)) => txn_only_frees(txn, TXN_DEPTH_MAX),
        _ => false,
    }
}

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
    use althing_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};

    use super::*;

    fn put() -> Command {
        Command {
            request: Some(command::Request::Put(PutRequest::default())),
        }
    }

    fn delete() -> Command {
        Command {
            request: Some(command::Request::DeleteRange(DeleteRangeRequest::default())),
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
    fn a_low_disk_admits_only_what_frees_space() {
        let gate = DiskGate::new(100);
        gate.admit(&put()).unwrap();
        gate.free_bytes_measured(99);
        assert_eq!(gate.admit(&put()), Err(Error::NoSpace));
        gate.admit(&delete()).unwrap();
        let compaction = command::Request::Compaction(CompactionRequest::default());
        gate.admit(&Command {
            request: Some(compaction),
        })
        .unwrap();
        let delete_op = request_op::Request::RequestDeleteRange(DeleteRangeRequest::default());
        let put_op = request_op::Request::RequestPut(PutRequest::default());
        gate.admit(&txn(vec![delete_op.clone()])).unwrap();
        assert_eq!(
            gate.admit(&txn(vec![delete_op, put_op])),
            Err(Error::NoSpace)
        );
        gate.free_bytes_measured(100);
        gate.admit(&put()).unwrap();
    }

    #[test]
    fn without_wal_headroom_not_even_deletions_pass() {
        let gate = DiskGate::new(100);
        gate.wal_measured(0, false);
        gate.admit(&put()).unwrap();
        gate.free_bytes_measured(0);
        assert_eq!(gate.admit(&delete()), Err(Error::NoSpace));
    }

    #[test]
    fn a_failed_checkpoint_closes_the_gate_and_the_next_good_one_opens_it() {
        let gate = DiskGate::new(0);
        gate.checkpoint_ended(true);
        assert_eq!(gate.admit(&put()), Err(Error::NoSpace));
        gate.checkpoint_ended(false);
        gate.admit(&put()).unwrap();
    }
}
