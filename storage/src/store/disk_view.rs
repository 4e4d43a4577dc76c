//! Reading the redb file: single records and scans.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use prost::Message;
use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    TableError,
};

use super::disk::Disk;
use super::error::DiskError;
use super::history::Rev;
use super::medium::Medium;
use super::record;
use super::schema::{self, PieceKey, REVISION, RevKey, VALUE};

/// A consistent view of the file.
pub(crate) struct DiskView {
    medium: Arc<dyn Medium>,
    opening: u64,
    pub(super) txn: ReadTransaction,
    revision: ReadOnlyTable<RevKey, &'static [u8]>,
    value: ReadOnlyTable<PieceKey, &'static [u8]>,
    /// redb ends all views of a database that is dropped, and another file may take the place of
    /// this one meanwhile. The last field: dropped after those that read it.
    _disk: Arc<Disk>,
}

/// One row of table `revision`, for scans.
#[derive(Debug)]
pub(crate) struct StoredRecord {
    pub rev: Rev,
    pub tombstone: bool,
    /// Length of the value if it is missing here, because its pieces are in the other table.
    pub value_apart: Option<u64>,
    pub record: Bytes,
    /// Roughly the bytes that its rows take in the file.
    pub used_bytes: u64,
}

/// A revision's rows as they are in the file.
pub(crate) struct RawRow {
    pub rev: Rev,
    pub(super) revision: AccessGuard<'static, &'static [u8]>,
    pub(super) pieces: Vec<Piece>,
}

impl RawRow {
    /// Roughly the bytes that the rows take.
    pub fn bytes(&self) -> usize {
        let pieces = self.pieces.iter().map(|(_, row)| row.value().len());
        self.revision.value().len() + pieces.sum::<usize>()
    }
}

/// A row of table `value` as redb hands it out, and its number.
type Piece = (u32, AccessGuard<'static, &'static [u8]>);

/// A row of table `revision` as redb hands it out.
type Row = (
    AccessGuard<'static, RevKey>,
    AccessGuard<'static, &'static [u8]>,
);

/// A row of table `value` as redb hands it out.
type PieceRow = (
    AccessGuard<'static, PieceKey>,
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
        let value_bytes = row.value_apart.map_or(0, schema::pieces_bytes);
        Ok(StoredRecord {
            rev,
            used_bytes: schema::row_bytes(value.value().len()) + value_bytes,
            tombstone: row.tombstone,
            value_apart: row.value_apart,
            record: Bytes::copy_from_slice(row.record),
        })
    }
}

/// Rows of both tables, read side by side: their order is the same.
pub(crate) struct RawRows<'a> {
    view: &'a DiskView,
    revisions: redb::Range<'static, RevKey, &'static [u8]>,
    values: Peekable<redb::Range<'static, PieceKey, &'static [u8]>>,
}

impl Iterator for RawRows<'_> {
    type Item = Result<RawRow, DiskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.revisions.next()?;
        Some(self.read(row))
    }
}

impl RawRows<'_> {
    fn read(&mut self, row: Result<Row, redb::StorageError>) -> Result<RawRow, DiskError> {
        let (key, row) = row.map_err(|error| self.view.error(error))?;
        let bad_key = || DiskError::damaged(self.view.medium.path(), "a revision's key");
        let rev = Rev::from_key(key.value()).ok_or_else(bad_key)?;
        let read = schema::read_revision(rev, row.value());
        let read = read.ok_or_else(|| self.view.damaged("the record", rev))?;
        let pieces = match read.value_apart {
            None => Vec::new(),
            Some(bytes) => self.pieces(rev, bytes)?,
        };
        Ok(RawRow {
            rev,
            revision: row,
            pieces,
        })
    }

    /// The next pieces, which must be those of a value of this many bytes.
    fn pieces(&mut self, rev: Rev, bytes: u64) -> Result<Vec<Piece>, DiskError> {
        let last = *schema::piece_keys(rev).end();
        let rows = || self.values.next_if(|row| is_within(row, last));
        self.view.whole_value(rev, bytes, std::iter::from_fn(rows))
    }
}

/// Whether a row, or the failure to read it, is up to `last`.
fn is_within(row: &Result<PieceRow, redb::StorageError>, last: PieceKey) -> bool {
    row.as_ref().map_or(true, |(key, _)| key.value() <= last)
}

impl DiskView {
    /// A view of what `db` of `disk` holds; `opening` is the number of this opening of the file.
    pub fn of(
        disk: &Arc<Disk>,
        db: &Database,
        opening: u64,
        medium: &Arc<dyn Medium>,
    ) -> Result<DiskView, DiskError> {
        let error = |error: redb::Error| DiskError::from_redb(medium.path(), error);
        let txn = db.begin_read().map_err(|failed| error(failed.into()))?;
        let table = |failed: TableError| error(failed.into());
        let revision = txn.open_table(REVISION).map_err(table)?;
        let value = txn.open_table(VALUE).map_err(table)?;
        let medium = Arc::clone(medium);
        Ok(DiskView {
            medium,
            opening,
            txn,
            revision,
            value,
            _disk: Arc::clone(disk),
        })
    }

    /// The opening of the file that this view reads.
    pub fn opening(&self) -> u64 {
        self.opening
    }

    pub(super) fn error(&self, error: impl Into<redb::Error>) -> DiskError {
        DiskError::from_redb(self.medium.path(), error)
    }

    pub(super) fn damage(&self, detail: &str) -> DiskError {
        DiskError::damaged(self.medium.path(), detail)
    }

    pub fn damaged(&self, what: &str, rev: Rev) -> DiskError {
        let detail = format!("{what} of revision {rev} fails its check");
        DiskError::damaged(self.medium.path(), &detail)
    }

    /// The damage of a table whose rows are lost.
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
        match row.value_apart {
            None => Ok(Some(Bytes::copy_from_slice(row.record))),
            Some(bytes) => self.join_value(rev, row.record, bytes).map(Some),
        }
    }

    /// Puts a large value, of this many bytes, back into its record.
    pub fn join_value(&self, rev: Rev, record: &[u8], bytes: u64) -> Result<Bytes, DiskError> {
        let kv = KeyValue::decode(record);
        let mut kv = kv.map_err(|_| self.damaged("the record", rev))?;
        let mut value = Vec::new();
        for (_, row) in self.pieces(rev, bytes)? {
            value.extend_from_slice(schema::piece(row.value()));
        }
        kv.value = value.into();
        Ok(record::encode(&kv))
    }

    /// The pieces of a value of this many bytes, in order, each checked and none missing.
    fn pieces(&self, rev: Rev, bytes: u64) -> Result<Vec<Piece>, DiskError> {
        let rows = self.value.range(schema::piece_keys(rev));
        self.whole_value(rev, bytes, rows.map_err(|error| self.error(error))?)
    }

    /// The pieces among `rows` of the value of `rev`, which must be of this many bytes.
    fn whole_value(
        &self,
        rev: Rev,
        bytes: u64,
        rows: impl Iterator<Item = Result<PieceRow, redb::StorageError>>,
    ) -> Result<Vec<Piece>, DiskError> {
        let (mut pieces, mut found) = (Vec::new(), 0);
        for row in rows {
            let (key, row) = row.map_err(|error| self.error(error))?;
            let (main, sub, number) = key.value();
            // A piece of a revision that does not exist is never read.
            if (main, sub) != rev.key() {
                continue;
            }
            let piece = schema::read_piece(rev, number, row.value());
            found += piece.ok_or_else(|| self.damaged("the value", rev))?.len() as u64;
            pieces.push((number, row));
        }
        if found == bytes {
            Ok(pieces)
        } else {
            Err(self.damaged("the missing value", rev))
        }
    }

    /// The number of rows that table `revision` says it has.
    pub fn revision_count(&self) -> Result<u64, DiskError> {
        self.revision.len().map_err(|error| self.error(error))
    }

    /// Every row of table `revision`, in order, without large values.
    pub fn revisions(&self) -> Result<StoredRecords<'_>, DiskError> {
        self.revisions_between(0, i64::MAX)
    }

    /// The rows behind those of `after`, as they are in the file, each checked, with the rows of
    /// its large value.
    pub fn raw_rows(&self, after: Option<Rev>) -> Result<RawRows<'_>, DiskError> {
        let from = after.map_or(Bound::Unbounded, |rev| Bound::Excluded(rev.key()));
        let revisions = self.revision.range((from, Bound::Unbounded));
        let behind = |rev| Bound::Excluded(*schema::piece_keys(rev).end());
        let from = after.map_or(Bound::Unbounded, behind);
        let values = self.value.range::<PieceKey>((from, Bound::Unbounded));
        Ok(RawRows {
            view: self,
            revisions: revisions.map_err(|error| self.error(error))?,
            values: values.map_err(|error| self.error(error))?.peekable(),
        })
    }

    /// The rows of the revisions from `from` to `until`, in order, without large values.
    pub fn revisions_between(&self, from: i64, until: i64) -> Result<StoredRecords<'_>, DiskError> {
        let bound = |main, sub| Rev { main, sub }.key();
        let range = bound(from.max(0), 0)..=bound(until.max(0), u32::MAX);
        let rows = self.revision.range(range);
        let rows = rows.map_err(|error| self.error(error))?;
        Ok(StoredRecords { view: self, rows })
    }
}
