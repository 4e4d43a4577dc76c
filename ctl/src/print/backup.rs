//! What a snapshot file holds, in all formats.

use std::io::Write;

use crate::failure::Failure;
use crate::offline::{BackupHash, BackupStatus};
use crate::print::table::{self, human_bytes};
use crate::print::{Format, Printer};

const STATUS_HEADINGS: &[&str] = &["hash", "revision", "total keys", "total size"];
const HASH_HEADINGS: &[&str] = &["hash", "hash revision", "compact revision"];

impl Printer {
    /// Writes the answer of `snapshot status`.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn backup_status(&self, out: &mut dyn Write, status: &BackupStatus) -> Result<(), Failure> {
        let BackupStatus {
            hash,
            revision,
            total_key,
            total_size,
        } = status;
        let cells = vec![
            format!("{hash:x}"),
            revision.to_string(),
            total_key.to_string(),
            human_bytes(*total_size),
        ];
        match self.format {
            Format::Simple => writeln!(out, "{}", cells.join(", "))?,
            Format::Table => table::write(out, STATUS_HEADINGS, &[cells])?,
            Format::Json => writeln!(
                out,
                "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{total_key},\
                 \"totalSize\":{total_size}}}"
            )?,
            Format::Fields => write!(
                out,
                "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_key}\n\
                 \"Size\" : {total_size}\n"
            )?,
            Format::Protobuf => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Writes the answer of `snapshot hashkv`.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn backup_hash(&self, out: &mut dyn Write, hash: &BackupHash) -> Result<(), Failure> {
        let BackupHash {
            hash,
            hash_revision,
            compact_revision,
        } = hash;
        let cells = [
            hash.to_string(),
            hash_revision.to_string(),
            compact_revision.to_string(),
        ];
        match self.format {
            Format::Simple => writeln!(out, "{}", cells.join(", "))?,
            Format::Table => table::write(out, HASH_HEADINGS, &[cells.to_vec()])?,
            Format::Json => writeln!(
                out,
                "{{\"hash\":{hash},\"hashRevision\":{hash_revision},\
                 \"compactRevision\":{compact_revision}}}"
            )?,
            Format::Fields => write!(
                out,
                "\"Hash\" : {hash}\n\"Hash revision\" : {hash_revision}\n\
                 \"Compact revision\" : {compact_revision}\n"
            )?,
            Format::Protobuf => return Err(self.unsupported()),
        }
        Ok(())
    }
}
