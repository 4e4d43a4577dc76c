//! The redb file: opening, reading one revision, committing. Nothing else in this crate writes it.
//!
//! Every commit is `Immediate` with quick repair, so that the file opens in milliseconds after a
//! crash, whatever its size. After a failed commit redb refuses all further work; the file is then
//! opened again, in place, by the next caller.

use std::ops::Bound;
use std::sync::Arc;

use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, Table, TableError, WriteTransaction,
};

use super::error::DiskError;
use super::history::Rev;
use super::lease::{LeaseChanges, LeaseRecord};
use super::medium::{Boxed, Medium};
use super::pending::{Batch, PendingRecord};
use super::schema::{self, LEASE, MEMBER, META, REVISION, RevKey, VALUE};
use super::{Applied, MemberRecord, record};

/// The database, closed while `db` is `None`: between a failed commit and the next use.
#[derive(Debug)]
pub(crate) struct Disk {
    medium: Arc<dyn Medium>,
    page_cache_bytes: usize,
    db: RwLock<Option<Database>>,
}

/// A consistent view of the file.
pub(crate) struct DiskView {
    medium: Arc<dyn Medium>,
    txn: ReadTransaction,
    revision: ReadOnlyTable<RevKey, &'static [u8]>,
    value: ReadOnlyTable<RevKey, &'static [u8]>,
}

/// The rows of table `meta` and `member`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    pub applied: Applied,
    pub revision: i64,
    /// -1: never.
    pub compact_scheduled: i64,
    /// -1: never.
    pub compact_finished: i64,
    pub cluster_version: Option<String>,
    pub members: Vec<MemberRecord>,
}

impl Disk {
    pub fn new(medium: Arc<dyn Medium>, page_cache_bytes: usize) -> Disk {
        Disk {
            medium,
            page_cache_bytes,
            db: RwLock::new(None),
        }
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
    fn with<R>(&self, f: impl FnOnce(&Database) -> Result<R, DiskError>) -> Result<R, DiskError> {
        if let Some(db) = &*self.db.read() {
            return f(db);
        }
        let mut slot = self.db.write();
        if slot.is_none() {
            *slot = Some(self.open_database()?);
        }
        f(slot.as_ref().expect("it was opened above"))
    }

    /// Runs `f` in a write transaction and commits it. A failure closes the database, because redb
    /// accepts no work after one.
    pub fn commit(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), DiskError> {
        let result = self.with(|db| {
            let mut txn = db.begin_write().map_err(|error| self.error(error))?;
            txn.set_durability(Durability::Immediate)
                .map_err(|error| self.error(error))?;
            txn.set_quick_repair(true);
            f(&txn).map_err(|error| self.error(error))?;
            txn.commit().map_err(|error| self.error(error))
        });
        if result.is_err() {
            *self.db.write() = None;
        }
        result
    }

    /// A view of what is committed now.
    pub fn view(&self) -> Result<DiskView, DiskError> {
        self.with(|db| {
            let txn = db.begin_read().map_err(|error| self.error(error))?;
            let table = |error: TableError| self.error(error);
            let revision = txn.open_table(REVISION).map_err(table)?;
            let value = txn.open_table(VALUE).map_err(table)?;
            let medium = self.medium.clone();
            Ok(DiskView {
                medium,
                txn,
                revision,
                value,
            })
        })
    }

    /// Creates the tables of a new file. Answers the format, `None` for a file of other tables.
    pub fn prepare(&self) -> Result<Option<u32>, DiskError> {
        let (foreign, format) = self.with(|db| {
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

    /// Commits whole entries: their changes, their side effects and the applied id, all or none.
    /// Answers about how many bytes the file holds more.
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
            let mut table = txn.open_table(MEMBER)?;
            for member in &side.members {
                put_member(&mut table, member)?;
            }
            change_leases(txn, &side.leases)
        })?;
        Ok(used)
    }

    /// Deletes dead revisions; with `finished`, notes that compaction at it is done. Answers about
    /// how many bytes the file holds less.
    pub fn delete(&self, dead: &[Rev], finished: Option<i64>) -> Result<u64, DiskError> {
        let mut freed = 0;
        self.commit(|txn| {
            let mut revisions = txn.open_table(REVISION)?;
            let mut values = txn.open_table(VALUE)?;
            for rev in dead {
                for table in [&mut revisions, &mut values] {
                    let row = table.remove(rev.key())?;
                    freed += row.map_or(0, |row| schema::row_bytes(row.value().len()));
                }
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

/// Appends records behind the last one; redb refuses any other order. Answers about how many bytes
/// they take.
fn append_records(txn: &WriteTransaction, records: &[PendingRecord]) -> Result<u64, redb::Error> {
    if records.is_empty() {
        return Ok(0);
    }
    let mut used = 0;
    let mut revisions = txn.open_table(REVISION)?;
    let mut values = txn.open_table(VALUE)?;
    let mut revisions = revisions.upper_bound_mut(Bound::<RevKey>::Unbounded)?;
    let mut values = values.upper_bound_mut(Bound::<RevKey>::Unbounded)?;
    for pending in records {
        let rows = schema::rows(pending);
        used += rows.used_bytes();
        revisions.insert_before(pending.rev.key(), rows.revision.as_slice())?;
        if let Some(value) = rows.value {
            values.insert_before(pending.rev.key(), value.as_slice())?;
        }
    }
    revisions.close()?;
    values.close()?;
    Ok(used)
}

/// One row of table `revision`, for scans.
#[derive(Debug)]
pub(crate) struct StoredRecord {
    pub rev: Rev,
    pub tombstone: bool,
    /// Length of the value, if it is in the other table and missing here.
    pub value_apart: Option<u64>,
    pub record: Bytes,
    /// About what its rows take in the file.
    pub used_bytes: u64,
}

/// A row of table `revision` as redb hands it out.
type Row = (
    AccessGuard<'static, RevKey>,
    AccessGuard<'static, &'static [u8]>,
);

/// Rows of table `revision`, read one by one.
pub(crate) struct StoredRecords<'a> {
    view: &'a DiskView,
    rows: redb::Range<'static, RevKey, &'static [u8]>,
}

impl Iterator for StoredRecords<'_> {
    type Item = Result<StoredRecord, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        Some(self.read(row))
    }
}

impl StoredRecords<'_> {
    fn read(&self, row: Result<Row, redb::StorageError>) -> Result<StoredRecord, DiskError> {
        let (key, value) = row.map_err(|error| self.view.error(error))?;
        let bad_key = || DiskError::damaged(self.view.medium.path(), "a revision's key");
        let rev = Rev::from_key(key.value()).ok_or_else(bad_key)?;
        let row = schema::read_revision(rev, value.value());
        let row = row.ok_or_else(|| self.view.damaged("the record", rev))?;
        let value_bytes = row.value_apart.map_or(0, schema::value_row_bytes);
        Ok(StoredRecord {
            rev,
            used_bytes: schema::row_bytes(value.value().len()) + value_bytes,
            tombstone: row.tombstone,
            value_apart: row.value_apart,
            record: Bytes::copy_from_slice(row.record),
        })
    }
}

impl DiskView {
    fn error(&self, error: impl Into<redb::Error>) -> DiskError {
        DiskError::from_redb(self.medium.path(), error)
    }

    pub fn damaged(&self, what: &str, rev: Rev) -> DiskError {
        let detail = format!(
            "{what} of revision {}.{} fails its check",
            rev.main, rev.sub
        );
        DiskError::damaged(self.medium.path(), &detail)
    }

    /// Rows of a table are lost.
    pub fn damaged_table(&self, name: &str) -> DiskError {
        let detail = format!("table {name} lacks rows");
        DiskError::damaged(self.medium.path(), &detail)
    }

    /// The whole record of `rev`, if it is there.
    pub fn record(&self, rev: Rev) -> Result<Option<Bytes>, DiskError> {
        let row = self
            .revision
            .get(rev.key())
            .map_err(|error| self.error(error))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let row = schema::read_revision(rev, row.value());
        let row = row.ok_or_else(|| self.damaged("the record", rev))?;
        if row.value_apart.is_none() {
            return Ok(Some(Bytes::copy_from_slice(row.record)));
        }
        self.join_value(rev, row.record).map(Some)
    }

    /// Puts a large value back into its record.
    pub fn join_value(&self, rev: Rev, record: &[u8]) -> Result<Bytes, DiskError> {
        let kv = KeyValue::decode(record);
        let mut kv = kv.map_err(|_| self.damaged("the record", rev))?;
        let row = self
            .value
            .get(rev.key())
            .map_err(|error| self.error(error))?;
        let row = row.ok_or_else(|| self.damaged("the missing value", rev))?;
        let value = schema::read_value(rev, row.value());
        let value = value.ok_or_else(|| self.damaged("the value", rev))?;
        kv.value = Bytes::copy_from_slice(value);
        Ok(record::encode(&kv))
    }

    /// Rows that table `revision` says it has.
    pub fn revision_count(&self) -> Result<u64, DiskError> {
        self.revision.len().map_err(|error| self.error(error))
    }

    /// Every row of table `revision`, in order, without large values.
    pub fn revisions(&self) -> Result<StoredRecords<'_>, DiskError> {
        self.revisions_between(0, i64::MAX)
    }

    /// The rows of the revisions from `from` to `until`, in order, without large values.
    pub fn revisions_between(&self, from: i64, until: i64) -> Result<StoredRecords<'_>, DiskError> {
        let bound = |main, sub| Rev { main, sub }.key();
        let range = bound(from.max(0), 0)..=bound(until.max(0), u32::MAX);
        let rows = self.revision.range(range);
        let rows = rows.map_err(|error| self.error(error))?;
        Ok(StoredRecords { view: self, rows })
    }

    fn meta_row(&self, name: &'static str) -> Result<Option<Bytes>, DiskError> {
        let table = self
            .txn
            .open_table(META)
            .map_err(|error| self.error(error))?;
        let row = table.get(name).map_err(|error| self.error(error))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let content = schema::unseal(name.as_bytes(), row.value());
        let content = content.ok_or_else(|| self.damaged_meta(name))?;
        Ok(Some(Bytes::copy_from_slice(content)))
    }

    fn damaged_meta(&self, name: &str) -> DiskError {
        let detail = format!("row {name} fails its check");
        DiskError::damaged(self.medium.path(), &detail)
    }

    fn meta_i64(&self, name: &'static str, absent: i64) -> Result<i64, DiskError> {
        let Some(row) = self.meta_row(name)? else {
            return Ok(absent);
        };
        let bytes = row
            .as_ref()
            .try_into()
            .map_err(|_| self.damaged_meta(name))?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// The side tables.
    pub fn meta(&self) -> Result<Meta, DiskError> {
        let log_id = match self.meta_row(schema::META_APPLIED)? {
            None => None,
            Some(row) => {
                let id = schema::decode_log_id(&row);
                Some(id.ok_or_else(|| self.damaged_meta(schema::META_APPLIED))?.0)
            }
        };
        let membership = match self.meta_row(schema::META_MEMBERSHIP)? {
            None => None,
            Some(row) => {
                let membership = schema::decode_membership(&row);
                Some(membership.ok_or_else(|| self.damaged_meta(schema::META_MEMBERSHIP))?)
            }
        };
        let cluster_version = match self.meta_row(schema::META_CLUSTER_VERSION)? {
            None => None,
            Some(row) => {
                let text = String::from_utf8(row.into());
                Some(text.map_err(|_| self.damaged_meta(schema::META_CLUSTER_VERSION))?)
            }
        };
        Ok(Meta {
            applied: Applied { log_id, membership },
            revision: self.meta_i64(schema::META_REVISION, schema::EMPTY_REVISION)?,
            compact_scheduled: self.meta_i64(schema::META_COMPACT_SCHEDULED, -1)?,
            compact_finished: self.meta_i64(schema::META_COMPACT_FINISHED, -1)?,
            cluster_version,
            members: self.members()?,
        })
    }

    /// Every lease, in the order of ids.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>, DiskError> {
        let table = match self.txn.open_table(LEASE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(self.error(error)),
        };
        let rows = table.iter().map_err(|error| self.error(error))?;
        let mut leases = Vec::new();
        for row in rows {
            let (id, row) = row.map_err(|error| self.error(error))?;
            let lease = schema::read_lease(id.value(), row.value());
            leases.push(lease.ok_or_else(|| self.damaged_meta("of a lease"))?);
        }
        if leases.len() as u64 != table.len().map_err(|error| self.error(error))? {
            return Err(self.damaged_table("lease"));
        }
        Ok(leases)
    }

    fn members(&self) -> Result<Vec<MemberRecord>, DiskError> {
        let table = self
            .txn
            .open_table(MEMBER)
            .map_err(|error| self.error(error))?;
        let rows = table.iter().map_err(|error| self.error(error))?;
        let mut members = Vec::new();
        for row in rows {
            let (id, row) = row.map_err(|error| self.error(error))?;
            let content = schema::unseal(&id.value().to_le_bytes(), row.value());
            let member = content.and_then(schema::decode_member);
            members.push(member.ok_or_else(|| self.damaged_meta("of a member"))?);
        }
        Ok(members)
    }
}
