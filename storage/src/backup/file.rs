//! A snapshot file as it is on disk: the bbolt file, and the hash that may follow it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::rows::read_revision;
use super::{BackupError, rows};
use crate::bbolt::{BboltError, Bucket, Reader};

const SHA256_BYTES: usize = 32;
/// The file's length is a multiple of this; what is beyond is the hash.
const SECTOR_BYTES: u64 = 512;
/// Bytes hashed at once.
const READ_BYTES: usize = 1 << 20;

/// Whether a restore insists on the hash at the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The hash must be there and match.
    Hash,
    /// No hash is needed: a file that was copied from a data directory has none.
    Nothing,
}

/// An opened snapshot file.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    reader: Reader,
}

impl BackupFile {
    /// Opens a snapshot of etcd or of Althing.
    ///
    /// # Errors
    /// Errors of the file, or it is not a snapshot.
    pub fn open(path: &Path) -> Result<BackupFile, BackupError> {
        let at = |error: io::Error| {
            let text = format!("{}: {error}", path.display());
            io::Error::new(error.kind(), text)
        };
        let file = File::open(path).map_err(at)?;
        let reader = Reader::open(file).map_err(|source| BackupError::File {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(BackupFile {
            path: path.to_path_buf(),
            reader,
        })
    }

    /// What etcd's tools call the total size.
    pub fn bytes(&self) -> u64 {
        self.reader.bytes()
    }

    /// Hashes the file, and compares that with the hash at its end as far as `check` asks. Returns
    /// the file's hash.
    ///
    /// # Errors
    /// Errors of the file; `HashMissing`, `Hash`.
    pub fn verify(&self, check: Check) -> Result<[u8; SHA256_BYTES], BackupError> {
        let mut file = self.reader.file();
        let len = file.metadata()?.len();
        let has_hash = len % SECTOR_BYTES == SHA256_BYTES as u64;
        let content = if has_hash {
            len - SHA256_BYTES as u64
        } else {
            len
        };
        if check == Check::Hash && !has_hash {
            return Err(BackupError::HashMissing);
        }
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        io::Seek::rewind(&mut file)?;
        let mut content_left = file.take(content);
        loop {
            let read = content_left.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
        }
        let found: [u8; SHA256_BYTES] = sha256.finalize().into();
        if check == Check::Hash {
            let mut expected = [0; SHA256_BYTES];
            self.reader.file().read_exact_at(&mut expected, content)?;
            if expected != found {
                return Err(BackupError::Hash {
                    expected: hex(&expected),
                    found: hex(&found),
                });
            }
        }
        Ok(found)
    }

    pub(super) fn buckets(&self) -> Result<Vec<Bucket>, BackupError> {
        self.reader.buckets().map_err(|error| self.failed(error))
    }

    /// The bucket `name`; etcd creates all of them, but older versions know fewer.
    pub(super) fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, BackupError> {
        let buckets = self.buckets()?;
        Ok(buckets.into_iter().find(|bucket| bucket.name == name))
    }

    /// The entries of `bucket`; empty if the bucket does not exist.
    pub(super) fn entries(
        &self,
        bucket: Option<&Bucket>,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), BackupError>> + '_ {
        let entries = bucket.map(|bucket| self.reader.entries(bucket));
        let entries = entries.into_iter().flatten();
        entries.map(|entry| entry.map_err(|error| self.failed(error)))
    }

    /// The value of `key` in the bucket `name`.
    pub(super) fn value(&self, name: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, BackupError> {
        let bucket = self.bucket(name)?;
        for entry in self.entries(bucket.as_ref()) {
            let (found, value) = entry?;
            if found == key {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The last compaction asked for, and the last one finished.
    pub(super) fn compactions(&self) -> Result<(Option<i64>, Option<i64>), BackupError> {
        let main = |name| -> Result<Option<i64>, BackupError> {
            let Some(value) = self.value(rows::META, name)? else {
                return Ok(None);
            };
            let revision = read_revision(&value);
            let revision = revision.ok_or_else(|| self.damaged("the mark of a compaction"))?;
            Ok(Some(revision.0))
        };
        Ok((
            main(rows::COMPACT_SCHEDULED)?,
            main(rows::COMPACT_FINISHED)?,
        ))
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> BackupError {
        BackupError::Row {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    fn failed(&self, source: BboltError) -> BackupError {
        BackupError::File {
            path: self.path.clone(),
            source,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
