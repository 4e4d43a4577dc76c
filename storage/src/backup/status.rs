//! What is in a snapshot, as shown by `snapshot status` and `hashkv` of etcd's tools.

use std::collections::{BTreeMap, BTreeSet};

use althing_api::mvccpb::KeyValue;
use prost::Message;

use super::rows::{self, RevisionKey, read_revision};
use super::{BackupError, BackupFile};

/// What etcdutl's `snapshot status` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupStatus {
    /// CRC-32C of all buckets' names, keys and values.
    pub hash: u32,
    /// The last revision in the snapshot.
    pub revision: i64,
    /// The number of entries in all buckets.
    pub total_key: u64,
    /// Bytes of all pages.
    pub total_size: u64,
}

/// What etcdutl's `hashkv` shows; equal to HashKV of the member that wrote the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupHash {
    /// The hash.
    pub hash: u32,
    /// The revision up to which it counts.
    pub hash_revision: i64,
    /// -1 if nothing was compacted.
    pub compact_revision: i64,
}

impl BackupFile {
    /// Reads the whole file.
    ///
    /// # Errors
    /// Errors of the file, or damage.
    pub fn status(&self) -> Result<BackupStatus, BackupError> {
        let mut status = BackupStatus {
            hash: 0,
            revision: 0,
            total_key: 0,
            total_size: self.bytes(),
        };
        for bucket in self.buckets()? {
            status.hash = crc32c::crc32c_append(status.hash, &bucket.name);
            for entry in self.entries(Some(&bucket)) {
                let (key, value) = entry?;
                status.hash = crc32c::crc32c_append(status.hash, &key);
                status.hash = crc32c::crc32c_append(status.hash, &value);
                status.total_key += 1;
                if bucket.name == rows::KEY {
                    let revision = read_revision(&key);
                    let revision = revision.ok_or_else(|| self.damaged("a revision's key"))?;
                    status.revision = revision.0;
                }
            }
        }
        Ok(status)
    }

    /// etcd's HashKV at `revision`; 0 means the newest one.
    ///
    /// # Errors
    /// Errors of the file, or damage; `Revision` for a revision that is compacted or does not exist
    /// yet.
    pub fn hash_kv(&self, revision: i64) -> Result<BackupHash, BackupError> {
        let (scheduled, finished) = self.compactions()?;
        let compacted = scheduled.max(finished).unwrap_or(-1);
        let keys = self.bucket(rows::KEY)?;
        let mut last = compacted.max(1);
        for entry in self.entries(keys.as_ref()) {
            let (key, _) = entry?;
            let revision = read_revision(&key);
            last = last.max(revision.ok_or_else(|| self.damaged("a revision's key"))?.0);
        }
        let at = match revision {
            0 => last,
            at if at > 0 && at < compacted => {
                return Err(BackupError::Revision(
                    "mvcc: required revision has been compacted",
                ));
            }
            at if at > last => {
                return Err(BackupError::Revision(
                    "mvcc: required revision is a future revision",
                ));
            }
            at => at,
        };
        let kept = self.kept(at, compacted)?;
        let mut hash = crc32c::crc32c(rows::KEY);
        for entry in self.entries(keys.as_ref()) {
            let (key, value) = entry?;
            let revision = read_revision(&key);
            let revision = revision.ok_or_else(|| self.damaged("a revision's key"))?;
            let (main, sub, tombstone) = revision;
            if main > at {
                break;
            }
            let name = RevisionKey::new(main, sub, tombstone);
            if main > compacted || kept.contains(&(main, sub)) {
                hash = crc32c::crc32c_append(hash, name.bytes());
                hash = crc32c::crc32c_append(hash, &value);
            }
        }
        Ok(BackupHash {
            hash,
            hash_revision: at,
            compact_revision: compacted,
        })
    }

    /// Revisions up to the compacted one that compaction leaves: the newest of each key, as seen
    /// from `at`, or from the compacted revision if no key exists at `at`.
    fn kept(&self, at: i64, compacted: i64) -> Result<BTreeSet<(i64, u32)>, BackupError> {
        let seen = self.newest(at)?;
        let seen = if seen.is_empty() {
            self.newest(compacted)?
        } else {
            seen
        };
        let kept = seen.into_values().filter(|(main, _)| *main <= compacted);
        Ok(kept.collect())
    }

    /// The newest revision of each key that exists at `at`.
    fn newest(&self, at: i64) -> Result<BTreeMap<Vec<u8>, (i64, u32)>, BackupError> {
        let bucket = self.bucket(rows::KEY)?;
        let mut newest = BTreeMap::new();
        for entry in self.entries(bucket.as_ref()) {
            let (key, value) = entry?;
            let revision = read_revision(&key);
            let revision = revision.ok_or_else(|| self.damaged("a revision's key"))?;
            let (main, sub, tombstone) = revision;
            if main > at {
                break;
            }
            let kv = KeyValue::decode(value.as_slice());
            let kv = kv.map_err(|_| self.damaged(format!("the record of revision {main}")))?;
            if tombstone {
                newest.remove(kv.key.as_ref())
            } else {
                newest.insert(kv.key.to_vec(), (main, sub))
            };
        }
        Ok(newest)
    }
}
