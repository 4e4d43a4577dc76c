//! A store file made from outside: the receiving end of a snapshot.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::Disk;
use super::error::DiskError;
use super::history::Rev;
use super::medium::FileMedium;
use super::pending::{Batch, PendingRecord, SideChanges};
use super::record;
use crate::entry::LogId;

/// Records per commit.
const RECORDS_PER_COMMIT: usize = 10_000;
/// Page cache while building, in bytes.
const PAGE_CACHE_BYTES: usize = 16 << 20;

/// A file under construction; usable as a store after `finish`.
#[derive(Debug)]
pub(crate) struct FileBuilder {
    disk: Disk,
    records: Vec<PendingRecord>,
}

impl FileBuilder {
    /// Starts a new file.
    pub fn create(path: &Path) -> Result<FileBuilder, DiskError> {
        let medium = Arc::new(FileMedium(path.to_path_buf()));
        let disk = Disk::new(medium, PAGE_CACHE_BYTES);
        disk.prepare()?;
        Ok(FileBuilder {
            disk,
            records: Vec::new(),
        })
    }

    /// Adds changes (main, sub, tombstone, KeyValue), in the order of revisions.
    pub fn append(&mut self, changes: Vec<(i64, u32, bool, Bytes)>) -> Result<(), DiskError> {
        for (main, sub, tombstone, record) in changes {
            let rev = Rev { main, sub };
            if record::decode(&record).is_err() {
                let path = self.disk.medium().path();
                return Err(DiskError::damaged(path, "a received record is no KeyValue"));
            }
            self.records.push(PendingRecord {
                rev,
                tombstone,
                record,
            });
        }
        if self.records.len() >= RECORDS_PER_COMMIT {
            self.commit(None, 1, SideChanges::default())?;
        }
        Ok(())
    }

    /// Writes the rest and what the state says about itself, durably.
    pub fn finish(
        mut self,
        applied: Option<LogId>,
        revision: i64,
        side: SideChanges,
    ) -> Result<(), DiskError> {
        self.commit(applied, revision, side)
    }

    fn commit(
        &mut self,
        applied: Option<LogId>,
        revision: i64,
        side: SideChanges,
    ) -> Result<(), DiskError> {
        let records = std::mem::take(&mut self.records);
        let batch = Batch::of(applied, revision, records, side);
        self.disk.append(&batch).map(|_| ())
    }
}
