//! Revisions on their way from one member's file to another's: the rows as they are in the file,
//! with their own checks, one behind the other.
//!
//! ```text
//!  main u64 LE | sub u32 LE | length u32 LE | length u32 LE | row of `revision` | row of `value`
//! ```
//! The second length is zero where the value is inside the record. Nothing is decoded and encoded
//! again on the way; a change of the rows' layout is a new format of the snapshot.

use super::disk_view::RawRow;
use super::history::Rev;
use super::schema;

const HEAD_BYTES: usize = 20;

/// A revision's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CarriedRow<'a> {
    pub rev: Rev,
    /// Of table `revision`.
    pub revision: &'a [u8],
    /// Of table `value`, if the value goes there.
    pub value: Option<&'a [u8]>,
}

/// What is behind `rows` is no row, or one that fails its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsound;

impl RawRow {
    /// Adds it to `rows`. `None`: a row of more than 4 GiB, which the file cannot hold either.
    pub fn carry(&self, rows: &mut Vec<u8>) -> Option<()> {
        let revision = self.revision.value();
        let value = self.value.as_ref().map_or(&[][..], |row| row.value());
        let Rev { main, sub } = self.rev;
        rows.extend_from_slice(&main.to_le_bytes());
        rows.extend_from_slice(&sub.to_le_bytes());
        for row in [revision, value] {
            rows.extend_from_slice(&u32::try_from(row.len()).ok()?.to_le_bytes());
        }
        rows.extend_from_slice(revision);
        rows.extend_from_slice(value);
        Some(())
    }
}

impl<'a> CarriedRow<'a> {
    /// Takes the first of `rows`; `None` at their end. Its checks are not looked at.
    pub fn take(rows: &mut &'a [u8]) -> Result<Option<CarriedRow<'a>>, Unsound> {
        if rows.is_empty() {
            return Ok(None);
        }
        let (head, rest) = rows.split_first_chunk::<HEAD_BYTES>().ok_or(Unsound)?;
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let main = u64::from(number(0)) | u64::from(number(4)) << 32;
        let rev = Rev {
            main: i64::try_from(main).map_err(|_| Unsound)?,
            sub: number(8),
        };
        let (revision, value) = (number(12) as usize, number(16) as usize);
        let (revision, rest) = rest.split_at_checked(revision).ok_or(Unsound)?;
        let (value, rest) = rest.split_at_checked(value).ok_or(Unsound)?;
        *rows = rest;
        Ok(Some(CarriedRow {
            rev,
            revision,
            value: (!value.is_empty()).then_some(value),
        }))
    }

    /// Looks at the checks of its rows, and at whether they belong together.
    pub fn check(&self) -> Result<(), Unsound> {
        let row = schema::read_revision(self.rev, self.revision).ok_or(Unsound)?;
        let value = self.value.map(|value| schema::read_value(self.rev, value));
        let apart = match value {
            Some(value) => Some(value.ok_or(Unsound)?.len() as u64),
            None => None,
        };
        (row.value_apart == apart).then_some(()).ok_or(Unsound)
    }
}
