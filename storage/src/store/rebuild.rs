//! Gives space back to the disk: the file's rows are copied into a new file beside it, which then
//! takes its place. redb's own file never shrinks, whatever is deleted from it.
//!
//! ```text
//!  begin -> window, window, ... -> the last one reaches the end: side tables, rename, swap
//! ```
//! Windows run between the commits of the one writer, so the copy is never far behind: what a
//! checkpoint appends lies behind the last copied row and is met later, and what compaction deletes
//! before it is deleted from the copy too. Memory, and views opened before, are not touched.
//!
//! The copy is durable before it is renamed; a crash before that leaves the old file, and the next
//! start removes the unfinished one. A failure of the new file ends the copy and changes nothing. A
//! failure of the file in use is as bad as in a commit; and if the rename failed it is not certain
//! which file a start would find.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{Key, ReadableTable, TableDefinition, TableError, Value, WriteTransaction};

use super::disk::{Disk, remove_revision};
use super::disk_view::{DiskView, RawRow};
use super::error::DiskError;
use super::history::Rev;
use super::replace::{Arriving, Former};
use super::schema::{
    ALARM, LEASE, MEMBER, META, PieceKey, REMOVED, REVISION, RevKey, VALUE, piece_key,
};
use super::{CheckpointError, Shared, Store};

/// The progress of a copy.
#[derive(Debug)]
pub enum RebuildStep {
    /// More windows follow.
    More,
    /// The new file is in place, and the old one is gone.
    Finished(Former),
    /// The new file cannot be written, for this reason: the copy was dropped, and nothing changed.
    GivenUp(String),
    /// No copy is under way: another member's state took the place of the store meanwhile.
    Gone,
}

/// A copy under way. Dropped unfinished, its file is removed.
#[derive(Debug)]
pub(super) struct Rebuild {
    disk: Arc<Disk>,
    medium: Arc<Arriving>,
    /// The last row copied.
    cursor: Option<Rev>,
    /// Revisions that are copied already and were deleted by compaction since.
    gone: Vec<Rev>,
    settled: bool,
}

impl Rebuild {
    /// Notes that compaction deleted these from the old file.
    pub fn deleted(&mut self, revs: Vec<Rev>) {
        let copied = |rev: &Rev| self.cursor.is_some_and(|cursor| *rev <= cursor);
        self.gone.extend(revs.into_iter().filter(copied));
    }

    /// Writes a window. Errors: those of the new file.
    fn write(&mut self, view: &DiskView, window: &Window) -> Result<(), DiskError> {
        self.disk.commit(|txn| {
            append(txn, &window.rows)?;
            remove(txn, &self.gone)?;
            if window.at_end {
                copy_side_tables(view, txn)?;
            }
            Ok(())
        })?;
        self.gone.clear();
        self.cursor = window.rows.last().map(|row| row.rev).or(self.cursor);
        Ok(())
    }
}

/// What is copied at once.
struct Window {
    rows: Vec<RawRow>,
    /// Whether these rows are the last ones: with the side tables the copy is whole.
    at_end: bool,
}

impl Window {
    /// Reads about `bytes_max` bytes behind `cursor`, and checks the side tables before they are
    /// copied. Errors: those of the file in use.
    fn read(view: &DiskView, cursor: Option<Rev>, bytes_max: usize) -> Result<Window, DiskError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in view.raw_rows(cursor)? {
            let row = row?;
            bytes += row.bytes();
            rows.push(row);
            if bytes >= bytes_max {
                let at_end = false;
                return Ok(Window { rows, at_end });
            }
        }
        view.meta()?;
        view.leases()?;
        let at_end = true;
        Ok(Window { rows, at_end })
    }
}

impl Drop for Rebuild {
    fn drop(&mut self) {
        if !self.settled {
            self.medium.discard();
        }
    }
}

impl Shared {
    /// The file in use.
    pub(super) fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.disk.read())
    }
}

impl Store {
    /// Begins to copy the store's file, at `place`, into a new one at `arrived` in the same file
    /// system. Only the StoreWriter calls this. Errors: the new file cannot be made.
    pub fn begin_rebuild(&self, arrived: &Path, place: &Path) -> Result<(), CheckpointError> {
        let medium = Arc::new(Arriving::new(arrived, place));
        // Left by an attempt that the process did not live to end.
        medium.discard();
        let page_cache_bytes = self.shared().disk().page_cache_bytes();
        let disk = Disk::new(Arc::clone(&medium) as _, page_cache_bytes);
        let rebuild = Rebuild {
            disk: Arc::new(disk),
            medium,
            cursor: None,
            gone: Vec::new(),
            settled: false,
        };
        rebuild.disk.prepare()?;
        self.shared().writer.lock().rebuild = Some(rebuild);
        Ok(())
    }

    /// Copies a window of about `bytes_max` bytes. The last one moves the copy to its place. Only
    /// the StoreWriter calls this. Errors end the copy: `NoSpace` while a full disk keeps the file
    /// in use closed; `Failed` if that file cannot be read, or if it is not certain which of the
    /// two is in place.
    pub fn step_rebuild(&self, bytes_max: usize) -> Result<RebuildStep, CheckpointError> {
        let shared = self.shared();
        let mut writer = shared.writer.lock();
        shared.refuse_after_fault()?;
        let Some(mut rebuild) = writer.rebuild.take() else {
            return Ok(RebuildStep::Gone);
        };
        let disk = shared.disk();
        let view = disk.view()?;
        let window = Window::read(&view, rebuild.cursor, bytes_max).inspect_err(|error| {
            if matches!(error, DiskError::Damaged { .. }) {
                let _ = shared.fault.set(error.to_string());
            }
        })?;
        if let Err(error) = rebuild.write(&view, &window) {
            return Ok(RebuildStep::GivenUp(error.to_string()));
        }
        if !window.at_end {
            writer.rebuild = Some(rebuild);
            return Ok(RebuildStep::More);
        }
        drop((window, view));
        let settled = rebuild.medium.settle();
        settled.map_err(|error| CheckpointError::Failed(error.to_string()))?;
        rebuild.settled = true;
        *shared.disk.write() = Arc::clone(&rebuild.disk);
        Ok(RebuildStep::Finished(Former::file(disk)))
    }
}

impl Store {
    /// Gives up the copy under way, if there is one; the file in use stays. Only the StoreWriter
    /// calls this.
    pub fn abandon_rebuild(&self) {
        self.shared().writer.lock().rebuild = None;
    }
}

fn append(txn: &WriteTransaction, rows: &[RawRow]) -> Result<(), redb::Error> {
    let mut revisions = txn.open_table(REVISION)?;
    let mut values = txn.open_table(VALUE)?;
    let mut revisions = revisions.upper_bound_mut(Bound::<RevKey>::Unbounded)?;
    let mut values = values.upper_bound_mut(Bound::<PieceKey>::Unbounded)?;
    for row in rows {
        revisions.insert_before(row.rev.key(), row.revision.value())?;
        for (number, piece) in &row.pieces {
            values.insert_before(piece_key(row.rev, *number), piece.value())?;
        }
    }
    revisions.close()?;
    values.close()?;
    Ok(())
}

fn remove(txn: &WriteTransaction, revs: &[Rev]) -> Result<(), redb::Error> {
    let mut revisions = txn.open_table(REVISION)?;
    let mut values = txn.open_table(VALUE)?;
    for rev in revs {
        remove_revision(&mut revisions, &mut values, *rev)?;
    }
    Ok(())
}

fn copy_side_tables(view: &DiskView, txn: &WriteTransaction) -> Result<(), redb::Error> {
    copy_table(view, txn, META)?;
    copy_table(view, txn, MEMBER)?;
    copy_table(view, txn, REMOVED)?;
    copy_table(view, txn, LEASE)?;
    copy_table(view, txn, ALARM)
}

/// Copies a whole table, if it exists.
fn copy_table<K: Key + 'static, V: Value + 'static>(
    view: &DiskView,
    txn: &WriteTransaction,
    name: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let from = match view.txn.open_table(name) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut to = txn.open_table(name)?;
    for row in from.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use redb::StorageBackend;

    use super::super::StoreSettings;
    use super::super::medium::Medium;
    use super::*;
    use crate::entry::LogId;

    #[derive(Debug)]
    struct Broken;

    impl Medium for Broken {
        fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
            Err(io::Error::other("the disk is broken"))
        }

        fn path(&self) -> &Path {
            Path::new("broken.redb")
        }

        fn allocated_bytes(&self) -> io::Result<u64> {
            Ok(0)
        }
    }

    fn broken() -> Arc<Disk> {
        Arc::new(Disk::new(Arc::new(Broken), 1 << 20))
    }

    #[test]
    fn a_new_file_that_cannot_be_written_is_given_up_and_one_in_use_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let (arrived, place) = (dir.path().join("copy.redb"), dir.path().join("store.redb"));
        let settings = StoreSettings {
            record_cache_bytes: 0,
            page_cache_bytes: 1 << 20,
            pending_bytes_max: 1 << 20,
        };
        let store = Store::open(&place, settings).unwrap();
        store.begin_rebuild(&arrived, &place).unwrap();
        let change = |rebuild: &mut Rebuild| rebuild.disk = broken();
        (store.shared().writer.lock().rebuild.as_mut()).map(change);
        let step = store.step_rebuild(1 << 20).unwrap();
        assert!(
            matches!(&step, RebuildStep::GivenUp(why) if why.contains("is broken")),
            "{step:?}"
        );
        assert!(!arrived.exists());
        store.apply_blank(LogId { term: 1, index: 1 });
        store.checkpoint(LogId::MAX, 1).unwrap();

        store.begin_rebuild(&arrived, &place).unwrap();
        *store.shared().disk.write() = broken();
        let failed = store.step_rebuild(1 << 20).unwrap_err();
        assert!(matches!(failed, CheckpointError::Failed(_)), "{failed}");
    }
}
