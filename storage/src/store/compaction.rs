//! Physical compaction: what the compacted revision made unreadable leaves the index and then redb,
//! window by window.
//!
//! ```text
//!  applied (reads below refused) -> checkpointed -> older views gone -> windows -> finished
//! ```
//!
//! It starts only when the compaction's own entry is durable: then so is every revision it deletes,
//! and a crash between two windows finds the scheduled mark, rebuilds the index with what is left
//! and starts over. Views opened before the compaction may still need what it deletes, so it waits
//! until they are gone. Of each key the oldest revision is deleted first: if a tombstone went
//! earlier, a crash would bring back what it deleted.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::history::Rev;
use super::index::Trimmed;
use super::rebuild::Rebuild;
use super::{CheckpointError, CompactStep, Store};

/// Windows of keys visited per step.
const WINDOWS_PER_STEP: usize = 64;

/// What the one writer of redb knows. `finished <= scheduled`; -1 stands for never.
#[derive(Debug)]
pub(super) struct Writer {
    /// The newest durable compaction.
    scheduled: i64,
    /// The newest compaction that is physically done.
    finished: i64,
    job: Option<Job>,
    /// Pins of views that were opened before a compaction.
    older_views: Vec<Weak<()>>,
    /// The copy of the file under way.
    pub(super) rebuild: Option<Rebuild>,
}

#[derive(Debug)]
struct Job {
    target: i64,
    /// How far histories are trimmed.
    after: Option<Trimmed>,
    all_trimmed: bool,
    /// Revisions trimmed from the index and not yet deleted from redb, newest first.
    dead: Vec<Rev>,
}

impl Writer {
    pub fn new(scheduled: i64, finished: i64) -> Writer {
        Writer {
            scheduled,
            finished,
            job: None,
            older_views: Vec::new(),
            rebuild: None,
        }
    }

    /// Notes that a compaction's entry became durable.
    pub fn schedule(&mut self, revision: i64) {
        self.scheduled = revision;
    }

    fn has_older_views(&mut self) -> bool {
        self.older_views.retain(|pin| pin.strong_count() > 0);
        !self.older_views.is_empty()
    }
}

impl Store {
    /// Does one window of physical compaction: deletes at most `max_revisions` revisions in one
    /// redb transaction. Only the StoreWriter calls this. Errors: as for `checkpoint`.
    pub fn compact_step(&self, max_revisions: usize) -> Result<CompactStep, CheckpointError> {
        let max_revisions = max_revisions.max(1);
        let shared = self.shared();
        let mut writer = shared.writer.lock();
        shared.refuse_after_fault()?;
        let compacted = {
            let mut published = shared.published.write();
            writer.older_views.append(&mut published.older_views);
            published.compacted
        };
        if writer.job.is_none() && writer.scheduled <= writer.finished {
            let waits = compacted > writer.finished;
            let finished = CompactStep::Finished(writer.finished.max(0));
            return Ok(if waits { CompactStep::Waits } else { finished });
        }
        if writer.has_older_views() {
            return Ok(CompactStep::Waits);
        }
        let target = writer.scheduled;
        let job = writer.job.get_or_insert(Job {
            target,
            after: None,
            all_trimmed: false,
            dead: Vec::new(),
        });
        shared.trim_windows(job, max_revisions);
        let kept = job.dead.len().saturating_sub(max_revisions);
        let mut window = job.dead.split_off(kept);
        let finished = (job.all_trimmed && kept == 0).then_some(job.target);
        if !window.is_empty() || finished.is_some() {
            // In the order of the file.
            window.reverse();
            let freed = shared.disk().delete(&window, finished);
            if freed.is_err() {
                job.dead.extend(window.into_iter().rev());
            } else {
                shared
                    .deleted
                    .fetch_add(window.len() as u64, Ordering::Relaxed);
                if let Some(rebuild) = &mut writer.rebuild {
                    rebuild.deleted(window);
                }
            }
            shared.used_bytes.fetch_sub(freed?, Ordering::Relaxed);
        }
        if let Some(target) = finished {
            writer.finished = target;
            writer.job = None;
            if writer.scheduled == target && compacted == target {
                return Ok(CompactStep::Finished(target));
            }
        }
        Ok(CompactStep::More)
    }
}

impl super::Shared {
    fn trim_windows(&self, job: &mut Job, max_revisions: usize) {
        let mut windows = 0;
        while !job.all_trimmed && job.dead.len() < max_revisions && windows < WINDOWS_PER_STEP {
            let after = job.after.take();
            job.after = (self.index).trim(after, job.target, max_revisions, &mut job.dead);
            job.all_trimmed = job.after.is_none();
            windows += 1;
        }
        if windows > 0 {
            job.dead.sort_unstable_by(|one, other| other.cmp(one));
        }
    }
}

impl super::Published {
    /// Makes everything below `revision` unreadable.
    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = revision;
        let older = std::mem::replace(&mut self.pin, Arc::new(()));
        self.older_views.push(Arc::downgrade(&older));
    }
}
