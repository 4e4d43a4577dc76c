//! Revisions on their way from one member's file to another's: the rows as they are in the file,
//! with their own checks, one behind the other.
//!
//! ```text
//!  main u64 LE | sub u32 LE | length u32 LE | length u32 LE | row of `revision` | pieces
//!  piece = number u32 LE | length u32 LE | row of `value`
//! ```
//! The second length is that of all pieces, and zero if the value is inside the record. Nothing is
//! decoded and encoded again on the way; changing the rows' layout makes a new format of the
//! snapshot.

use std::iter;

use super::disk_view::RawRow;
use super::history::Rev;
use super::schema;

const HEAD_BYTES: usize = 20;
const PIECE_HEAD_BYTES: usize = 8;

/// A revision's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CarriedRow<'a> {
    pub rev: Rev,
    /// The row of table `revision`.
    pub revision: &'a [u8],
    /// The rows of table `value`, each behind its number and length.
    pieces: &'a [u8],
}

/// What is behind `rows` is not a row, or fails its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsound;

impl RawRow {
    /// Adds this row to `rows`. `None` for a row of more than 4 GiB, which the file cannot hold
    /// either.
    pub fn carry(&self, rows: &mut Vec<u8>) -> Option<()> {
        let revision = self.revision.value();
        let pieces = self.pieces.iter().map(|(_, row)| row.value().len());
        let pieces_bytes = pieces.map(|bytes| PIECE_HEAD_BYTES + bytes).sum();
        let Rev { main, sub } = self.rev;
        rows.extend_from_slice(&main.to_le_bytes());
        rows.extend_from_slice(&sub.to_le_bytes());
        for bytes in [revision.len(), pieces_bytes] {
            rows.extend_from_slice(&length(bytes)?);
        }
        rows.extend_from_slice(revision);
        for (number, row) in &self.pieces {
            rows.extend_from_slice(&number.to_le_bytes());
            rows.extend_from_slice(&length(row.value().len())?);
            rows.extend_from_slice(row.value());
        }
        Some(())
    }
}

fn length(bytes: usize) -> Option<[u8; 4]> {
    u32::try_from(bytes).ok().map(u32::to_le_bytes)
}

fn number(head: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

impl<'a> CarriedRow<'a> {
    /// Takes the first of `rows`; `None` at their end. Does not verify its checks.
    pub fn take(rows: &mut &'a [u8]) -> Result<Option<CarriedRow<'a>>, Unsound> {
        if rows.is_empty() {
            return Ok(None);
        }
        let (head, rest) = rows.split_first_chunk::<HEAD_BYTES>().ok_or(Unsound)?;
        let main = u64::from(number(head, 0)) | u64::from(number(head, 4)) << 32;
        let rev = Rev {
            main: i64::try_from(main).map_err(|_| Unsound)?,
            sub: number(head, 8),
        };
        let (revision, pieces) = (number(head, 12) as usize, number(head, 16) as usize);
        let (revision, rest) = rest.split_at_checked(revision).ok_or(Unsound)?;
        let (pieces, rest) = rest.split_at_checked(pieces).ok_or(Unsound)?;
        *rows = rest;
        Ok(Some(CarriedRow {
            rev,
            revision,
            pieces,
        }))
    }

    /// The pieces of the value with their numbers, as far as they can be told apart.
    pub fn pieces(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let mut rest = self.pieces;
        iter::from_fn(move || {
            let (head, behind) = rest.split_first_chunk::<PIECE_HEAD_BYTES>()?;
            let (row, behind) = behind.split_at_checked(number(head, 4) as usize)?;
            rest = behind;
            Some((number(head, 0), row))
        })
    }

    /// Verifies the checks of its rows, and whether they belong together.
    pub fn check(&self) -> Result<(), Unsound> {
        let row = schema::read_revision(self.rev, self.revision).ok_or(Unsound)?;
        let (mut bytes, mut value_bytes, mut next) = (0, 0, 0);
        for (number, piece) in self.pieces() {
            bytes += PIECE_HEAD_BYTES + piece.len();
            if number < next {
                return Err(Unsound);
            }
            next = number.checked_add(1).ok_or(Unsound)?;
            let read = schema::read_piece(self.rev, number, piece).ok_or(Unsound)?;
            value_bytes += read.len() as u64;
        }
        let is_whole = bytes == self.pieces.len() && value_bytes == row.value_apart.unwrap_or(0);
        is_whole.then_some(()).ok_or(Unsound)
    }
}
