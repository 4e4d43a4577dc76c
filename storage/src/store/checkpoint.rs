//! Write-behind: whole entries go from pending into redb, in order, one transaction at a time.

use std::sync::atomic::Ordering;

use super::{CheckpointError, CheckpointOutcome, Store};
use crate::entry::LogId;

impl Store {
    /// Commits pending changes to redb, of entries up to `flushed`, the last that is durable in the
    /// log: an entry of a later term that took an earlier index is not. At most about `max_records`
    /// (whole entries, at least one). Only the StoreWriter calls this; readers and the Applier go
    /// on meanwhile. Errors: `NoSpace` loses nothing and may be tried again; `Failed` is final,
    /// also for damage that a reader found.
    pub fn checkpoint(
        &self,
        flushed: LogId,
        max_records: usize,
    ) -> Result<CheckpointOutcome, CheckpointError> {
        let shared = self.shared();
        let mut writer = shared.writer.lock();
        shared.refuse_after_fault()?;
        let batch = shared.pending.read().front(flushed, max_records);
        if let Some(batch) = batch {
            let used = shared.disk().append(&batch)?;
            if let Some(revision) = batch.side.compact {
                writer.schedule(revision);
            }
            let mut durable = shared.durable.write();
            durable.log_id = batch.applied;
            if let Some(membership) = &batch.side.membership {
                durable.membership = Some(membership.clone());
            }
            drop(durable);
            // Only now: a reader that misses a record in pending looks into redb, and must find it
            // there.
            let mut pending = shared.pending.write();
            pending.drop_front(&batch);
            shared.used_bytes.fetch_add(used, Ordering::Relaxed);
        }
        Ok(CheckpointOutcome {
            durable: self.durable(),
            remaining: shared.pending.read().len(),
        })
    }
}
