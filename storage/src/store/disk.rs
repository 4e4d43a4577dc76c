//! Opening and committing the redb file. Nothing else in this crate writes it.
//!
//! Every commit of a file in use is `Immediate` with quick repair, so that the file opens in
//! milliseconds after a crash, whatever its size. After a failed commit redb refuses all further
//! work; the next caller then opens the file again, in place.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use redb::{Database, Durability, ReadableDatabase, Table, TableError, WriteTransaction};

use super::MemberRecord;
use super::alarm::AlarmChanges;
use super::disk_view::DiskView;
use super::error::DiskError;
use super::history::Rev;
use super::lease::LeaseChanges;
use super::medium::{Boxed, Medium};
use super::pending::{Batch, PendingRecord};
use super::schema::{self, ALARM, LEASE, MEMBER, META, PieceKey, REMOVED, REVISION, RevKey, VALUE};

/// How often a read reopens the file when failing commits close it meanwhile.
const OPENINGS_MAX: usize = 8;

/// The database, closed while `db` is `None`: between a failed commit and the next use.
#[derive(Debug)]
pub(crate) struct Disk {
    medium: Arc<dyn Medium>,
    page_cache_bytes: usize,
    db: RwLock<Option<Open>>,
    openings: AtomicU64,
}

/// The open database, and the number of this opening of the file.
#[derive(Debug)]
struct Open {
    db: Database,
    opening: u64,
}

impl Drop for Disk {
    fn drop(&mut self) {
        shut(self.db.get_mut().take());
    }
}

/// Closes the file. redb tidies it up while closing, and may panic over damaged pages; nothing that
/// was committed depends on that, and the next opening refuses or repairs the file.
fn shut(open: Option<Open>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(open)));
}

impl Disk {
    pub fn new(medium: Arc<dyn Medium>, page_cache_bytes: usize) -> Disk {
        Disk {
            medium,
            page_cache_bytes,
            db: RwLock::new(None),
            openings: AtomicU64::new(0),
        }
    }

    pub fn page_cache_bytes(&self) -> usize {
        self.page_cache_bytes
    }

    pub fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    fn error(&self, error: impl Into<redb::Error>) -> DiskError {
        DiskError::from_redb(self.medium.path(), error)
    }

    fn open_database(&self) -> Result<Database, DiskError> {
        let io = |error| self.error(redb::Error::Io(error));
        let backend = self.medium.open().map_err(io)?;
        let mut builder = Database::builder();
        builder.set_cache_size(self.page_cache_bytes);
        let db = builder.create_with_backend(Boxed(backend));
        db.map_err(|error| self.error(error))
    }

    /// Runs `f` on the open database, opening it if a failure closed it.
    fn with<R>(&self, f: impl FnOnce(&Open) -> Result<R, DiskError>) -> Result<R, DiskError> {
        if let Some(open) = &*self.db.read() {
            return f(open);
        }
        let mut slot = self.db.write();
        if slot.is_none() {
            *slot = Some(Open {
                db: self.open_database()?,
                opening: self.openings.fetch_add(1, Ordering::Relaxed),
            });
        }
        f(slot.as_ref().expect("it was opened above"))
    }

    /// Closes the database if it is still that of `opening`, which has failed.
    fn close(&self, opening: u64) {
        let mut slot = self.db.write();
        if slot.as_ref().is_some_and(|open| open.opening == opening) {
            shut(slot.take());
        }
    }

    /// Runs `f` in a write transaction and commits it. A failure closes the database, because redb
    /// accepts no work after one.
    pub fn commit(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), DiskError> {
        self.commit_as(true, f)
    }

    /// Like `commit`, for a file that gets more commits before anybody opens it again, so that it
    /// need not open fast.
    pub fn commit_part(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), DiskError> {
        self.commit_as(false, f)
    }

    fn commit_as(
        &self,
        quick_repair: bool,
        f: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), DiskError> {
        let mut used = None;
        let result = self.with(|Open { db, opening }| {
            used = Some(*opening);
            let mut txn = db.begin_write().map_err(|error| self.error(error))?;
            txn.set_durability(Durability::Immediate)
                .map_err(|error| self.error(error))?;
            txn.set_quick_repair(quick_repair);
            f(&txn).map_err(|error| self.error(error))?;
            txn.commit().map_err(|error| self.error(error))
        });
        if let (Err(_), Some(opening)) = (&result, used) {
            self.close(opening);
        }
        // No commit begins on a file that an earlier one has closed, so a full disk did not close
        // this one.
        result.map_err(|error| match error {
            DiskError::Closed => DiskError::Failed(error.to_string()),
            error => error,
        })
    }

    /// A view of what is committed now. Between the failure of a commit and the closing of the file
    /// it finds the file closed, and opens it again.
    pub fn view(self: &Arc<Self>) -> Result<DiskView, DiskError> {
        for _ in 1..OPENINGS_MAX {
            let mut used = None;
            match self.with(|open| {
                used = Some(open.opening);
                DiskView::of(self, &open.db, open.opening, &self.medium)
            }) {
                Err(DiskError::Closed) => used.into_iter().for_each(|opening| self.close(opening)),
                result => return result,
            }
        }
        self.with(|open| DiskView::of(self, &open.db, open.opening, &self.medium))
    }

    /// Reads from a fresh view, and once more from another one if a commit that failed meanwhile
    /// has closed the file.
    pub fn read<R>(
        self: &Arc<Self>,
        read: impl Fn(&DiskView) -> Result<R, DiskError>,
    ) -> Result<(DiskView, R), DiskError> {
        let mut tries = 1..OPENINGS_MAX;
        loop {
            let view = self.view()?;
            match read(&view) {
                Err(DiskError::Closed) if tries.next().is_some() => self.close(view.opening()),
                result => return result.map(|found| (view, found)),
            }
        }
    }

    /// Creates the tables of a new file. Returns the format, or `None` for a file with other
    /// tables.
    pub fn prepare(&self) -> Result<Option<u32>, DiskError> {
        let (foreign, format) = self.with(|Open { db, .. }| {
            let txn = db.begin_read().map_err(|error| self.error(error))?;
            let tables = txn
                .list_tables()
                .map_err(|error| self.error(error))?
                .count();
            match txn.open_table(META) {
                Ok(table) => {
                    let row = table.get(schema::META_FORMAT);
                    let row = row.map_err(|error| self.error(error))?;
                    let format = row.and_then(|row| format_of(row.value()));
                    Ok((format.is_none(), format))
                }
                Err(TableError::TableDoesNotExist(_)) => Ok((tables > 0, None)),
                Err(error) => Err(self.error(error)),
            }
        })?;
        if foreign || format.is_some() {
            return Ok(format);
        }
        self.commit(|txn| {
            txn.open_table(REVISION)?;
            txn.open_table(VALUE)?;
            txn.open_table(MEMBER)?;
            let mut meta = txn.open_table(META)?;
            put_meta(
                &mut meta,
                schema::META_FORMAT,
                &schema::FORMAT.to_le_bytes(),
            )?;
            put_meta(
                &mut meta,
                schema::META_REVISION,
                &schema::EMPTY_REVISION.to_le_bytes(),
            )
        })?;
        Ok(Some(schema::FORMAT))
    }

    /// Commits whole entries: their changes, their side effects and the applied id, all or nothing.
    /// Returns roughly how many more bytes the file holds.
    pub fn append(&self, batch: &Batch) -> Result<u64, DiskError> {
        let mut used = 0;
        self.commit(|txn| {
            used = append_records(txn, &batch.records)?;
            let mut meta = txn.open_table(META)?;
            if let Some(applied) = batch.applied {
                let row = schema::encode_log_id(applied);
                put_meta(&mut meta, schema::META_APPLIED, &row)?;
            }
            put_meta(
                &mut meta,
                schema::META_REVISION,
                &batch.revision.to_le_bytes(),
            )?;
            let side = &batch.side;
            if let Some(membership) = &side.membership {
                let row = schema::encode_membership(membership);
                put_meta(&mut meta, schema::META_MEMBERSHIP, &row)?;
            }
            if let Some(revision) = side.compact {
                put_meta(
                    &mut meta,
                    schema::META_COMPACT_SCHEDULED,
                    &revision.to_le_bytes(),
                )?;
            }
            if let Some(version) = &side.cluster_version {
                put_meta(&mut meta, schema::META_CLUSTER_VERSION, version.as_bytes())?;
            }
            if let Some(target) = &side.downgrade {
                put_meta(&mut meta, schema::META_DOWNGRADE, target.as_bytes())?;
            }
            let mut table = txn.open_table(MEMBER)?;
            for member in &side.members {
                put_member(&mut table, member)?;
            }
            remove_members(txn, &mut table, &side.removed)?;
            change_alarms(txn, &side.alarms)?;
            change_leases(txn, &side.leases)
        })?;
        Ok(used)
    }

    /// Deletes dead revisions; with `finished`, notes that the compaction at that revision is done.
    /// Returns roughly how many fewer bytes the file holds.
    pub fn delete(&self, dead: &[Rev], finished: Option<i64>) -> Result<u64, DiskError> {
        let mut freed = 0;
        self.commit(|txn| {
            let mut revisions = txn.open_table(REVISION)?;
            let mut values = txn.open_table(VALUE)?;
            for rev in dead {
                freed += remove_revision(&mut revisions, &mut values, *rev)?;
            }
            if let Some(revision) = finished {
                let mut meta = txn.open_table(META)?;
                put_meta(
                    &mut meta,
                    schema::META_COMPACT_FINISHED,
                    &revision.to_le_bytes(),
                )?;
            }
            Ok(())
        })?;
        Ok(freed)
    }
}

fn format_of(row: &[u8]) -> Option<u32> {
    let content = schema::unseal(schema::META_FORMAT.as_bytes(), row)?;
    Some(u32::from_le_bytes(content.try_into().ok()?))
}

fn put_meta(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    name: &str,
    content: &[u8],
) -> Result<(), redb::Error> {
    let row = schema::seal(name.as_bytes(), content);
    table.insert(name, row.as_slice())?;
    Ok(())
}

fn put_member(
    table: &mut Table<'_, u64, &'static [u8]>,
    member: &MemberRecord,
) -> Result<(), redb::Error> {
    let row = schema::seal(&member.id.to_le_bytes(), &schema::encode_member(member));
    table.insert(member.id, row.as_slice())?;
    Ok(())
}

fn change_alarms(txn: &WriteTransaction, alarms: &AlarmChanges) -> Result<(), redb::Error> {
    if alarms.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(ALARM)?;
    for (key, change) in alarms {
        let place = (key.0 as i32, key.1);
        match change {
            Some(clears) => table.insert(place, schema::alarm_row(*key, *clears).as_slice())?,
            None => table.remove(place)?,
        };
    }
    Ok(())
}

/// Removes what these members published; that they were members stays known.
fn remove_members(
    txn: &WriteTransaction,
    published: &mut Table<'_, u64, &'static [u8]>,
    removed: &[u64],
) -> Result<(), redb::Error> {
    if removed.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(REMOVED)?;
    for id in removed {
        published.remove(id)?;
        table.insert(id, schema::seal(&id.to_le_bytes(), &[]).as_slice())?;
    }
    Ok(())
}

fn change_leases(txn: &WriteTransaction, leases: &LeaseChanges) -> Result<(), redb::Error> {
    if leases.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(LEASE)?;
    for (id, lease) in leases {
        match lease {
            Some(lease) => table.insert(id, schema::lease_row(lease).as_slice())?,
            None => table.remove(id)?,
        };
    }
    Ok(())
}

/// Deletes a revision with the pieces of its value. Returns roughly how many bytes they took.
pub(super) fn remove_revision(
    revisions: &mut Table<'_, RevKey, &'static [u8]>,
    values: &mut Table<'_, PieceKey, &'static [u8]>,
    rev: Rev,
) -> Result<u64, redb::Error> {
    let Some(row) = revisions.remove(rev.key())? else {
        return Ok(0);
    };
    let freed = schema::row_bytes(row.value().len());
    let read = schema::split_revision(row.value());
    let Some(value_bytes) = read.and_then(|row| row.value_apart) else {
        return Ok(freed);
    };
    values.retain_in(schema::piece_keys(rev), |_, _| false)?;
    Ok(freed + schema::pieces_bytes(value_bytes))
}

/// Appends records behind the last one; redb refuses any other order. Returns roughly how many
/// bytes they take.
fn append_records(txn: &WriteTransaction, records: &[PendingRecord]) -> Result<u64, redb::Error> {
    if records.is_empty() {
        return Ok(0);
    }
    let mut used = 0;
    let mut revisions = txn.open_table(REVISION)?;
    let mut values = txn.open_table(VALUE)?;
    let mut revisions = revisions.upper_bound_mut(Bound::<RevKey>::Unbounded)?;
    let mut values = values.upper_bound_mut(Bound::<PieceKey>::Unbounded)?;
    for pending in records {
        let rows = schema::rows(pending);
        used += rows.used_bytes();
        revisions.insert_before(pending.rev.key(), rows.revision.as_slice())?;
        for (key, piece) in schema::piece_rows(pending.rev, &rows.value.unwrap_or_default()) {
            values.insert_before(key, piece.as_slice())?;
        }
    }
    revisions.close()?;
    values.close()?;
    Ok(used)
}
