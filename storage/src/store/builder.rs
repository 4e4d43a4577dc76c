//! A store file that is built beside its place and then renamed: a new one, or the receiving end of
//! a snapshot. redb cannot open a file whose creation was cut short, so none may appear at its
//! place.

use std::ffi::OsString;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;

use super::carried::CarriedRow;
use super::disk::{Disk, remove_revision};
use super::error::DiskError;
use super::history::Rev;
use super::lease::{LeaseChanges, LeaseRecord};
use super::medium::sync_parent;
use super::pending::{Batch, PendingRecord, SideChanges};
use super::schema::{PieceKey, REVISION, RevKey, VALUE, piece_key};
use super::unfinished::UnfinishedFile;
use super::{record, schema};
use crate::entry::LogId;

/// Records per commit.
const RECORDS_PER_COMMIT: usize = 10_000;
/// Bytes of records per commit, roughly: what is collected is in memory.
const BYTES_PER_COMMIT: usize = 8 << 20;
/// Page cache while building, in bytes. All that a commit writes fits into half of it; otherwise
/// the commit would read it again for its checksums.
const PAGE_CACHE_BYTES: usize = 32 << 20;

/// A file under construction; usable as a store after `finish`, and removed if it never is.
#[derive(Debug)]
pub(crate) struct FileBuilder {
    // Dropped in this order: the file is closed, then removed.
    disk: Disk,
    file: Arc<UnfinishedFile>,
    building: Building,
    dest: PathBuf,
    records: Vec<PendingRecord>,
    record_bytes: usize,
    leases: LeaseChanges,
}

/// The place of a file until it moves to its own.
#[derive(Debug)]
struct Building(PathBuf);

impl Drop for Building {
    fn drop(&mut self) {
        // Either it has moved, or the next attempt removes what cannot be removed now.
        let _ = fs::remove_file(&self.0);
    }
}

impl FileBuilder {
    /// Starts a file that will be `dest`; removes an unfinished one of an earlier attempt.
    pub fn create(dest: &Path) -> Result<FileBuilder, DiskError> {
        let mut building = OsString::from(dest);
        building.push(".tmp");
        let building = PathBuf::from(building);
        let failed = |error| DiskError::from_redb(&building, redb::Error::Io(error));
        match fs::remove_file(&building) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = Arc::new(UnfinishedFile::create(building.clone()).map_err(failed)?);
        let building = Building(building);
        let disk = Disk::new(Arc::clone(&file) as _, PAGE_CACHE_BYTES);
        disk.prepare()?;
        Ok(FileBuilder {
            disk,
            file,
            building,
            dest: dest.to_path_buf(),
            records: Vec::new(),
            record_bytes: 0,
            leases: LeaseChanges::new(),
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
            self.record_bytes += record.len();
            self.records.push(PendingRecord {
                rev,
                tombstone,
                record,
            });
        }
        self.commit_if_full()
    }

    /// Adds pieces of carried rows, in the order of revisions, as long as `next` gives one that it
    /// has checked.
    pub fn append_carried(
        &mut self,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> Result<(), DiskError> {
        let mut at_end = false;
        while !at_end {
            self.disk.commit_part(|txn| {
                let mut revisions = txn.open_table(REVISION)?;
                let mut values = txn.open_table(VALUE)?;
                let mut revisions = revisions.upper_bound_mut(Bound::<RevKey>::Unbounded)?;
                let mut values = values.upper_bound_mut(Bound::<PieceKey>::Unbounded)?;
                let mut bytes = 0;
                while bytes < BYTES_PER_COMMIT && !at_end {
                    let piece = next();
                    at_end = piece.is_none();
                    let piece = piece.unwrap_or_default();
                    bytes += piece.len();
                    let mut rows = &piece[..];
                    while let Ok(Some(row)) = CarriedRow::take(&mut rows) {
                        revisions.insert_before(row.rev.key(), row.revision)?;
                        for (number, piece) in row.pieces() {
                            values.insert_before(piece_key(row.rev, number), piece)?;
                        }
                    }
                }
                revisions.close()?;
                values.close()?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Puts other records in the place of some that were appended: main, sub, KeyValue. None may be
    /// a tombstone.
    pub fn amend(&mut self, records: Vec<(i64, u32, Bytes)>) -> Result<(), DiskError> {
        self.commit(None, schema::EMPTY_REVISION, SideChanges::default())?;
        self.disk.commit_part(|txn| {
            let mut revisions = txn.open_table(REVISION)?;
            let mut values = txn.open_table(VALUE)?;
            for (main, sub, record) in records {
                let rev = Rev { main, sub };
                remove_revision(&mut revisions, &mut values, rev)?;
                let tombstone = false;
                let rows = schema::rows(&PendingRecord {
                    rev,
                    tombstone,
                    record,
                });
                revisions.insert(rev.key(), rows.revision.as_slice())?;
                for (key, piece) in schema::piece_rows(rev, &rows.value.unwrap_or_default()) {
                    values.insert(key, piece.as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// Adds leases.
    pub fn append_leases(&mut self, leases: Vec<LeaseRecord>) -> Result<(), DiskError> {
        let leases = leases.into_iter().map(|lease| (lease.id, Some(lease)));
        self.leases.extend(leases);
        self.commit_if_full()
    }

    fn commit_if_full(&mut self) -> Result<(), DiskError> {
        let is_full = self.records.len() + self.leases.len() >= RECORDS_PER_COMMIT
            || self.record_bytes >= BYTES_PER_COMMIT;
        if is_full {
            self.commit(None, schema::EMPTY_REVISION, SideChanges::default())?;
        }
        Ok(())
    }

    /// Writes the rest and what the state says about itself, and moves the file to its place,
    /// durably.
    pub fn finish(
        mut self,
        applied: Option<LogId>,
        revision: i64,
        side: SideChanges,
    ) -> Result<(), DiskError> {
        self.commit(applied, revision, side)?;
        let FileBuilder {
            disk,
            file,
            building,
            dest,
            ..
        } = self;
        // redb closes the file, and writes what it has held back.
        drop(disk);
        let moved = (file.seal())
            .and_then(|()| fs::rename(&building.0, &dest))
            .and_then(|()| {
                sync_parent(&dest).inspect_err(|_| {
                    // A caller that is told of a failure must not find the file at the next start.
                    let _ = fs::remove_file(&dest);
                })
            });
        moved.map_err(|error| DiskError::from_redb(&dest, redb::Error::Io(error)))
    }

    fn commit(
        &mut self,
        applied: Option<LogId>,
        revision: i64,
        mut side: SideChanges,
    ) -> Result<(), DiskError> {
        side.leases.append(&mut self.leases);
        let records = std::mem::take(&mut self.records);
        self.record_bytes = 0;
        let batch = Batch::of(applied, revision, records, side);
        self.disk.append(&batch).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_move_to_its_place_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let dest = directory.path().join("taken");
        fs::create_dir(&dest).unwrap();
        let builder = FileBuilder::create(&dest).unwrap();
        let finished = builder.finish(None, schema::EMPTY_REVISION, SideChanges::default());
        finished.unwrap_err();
        let left = fs::read_dir(directory.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["taken"]);
    }
}
