//! Backups: the store's state as one of etcd's snapshot files, so that etcd's own tools read it,
//! and back again, from Althing or from etcd 3.4 and later.
//!
//! ```text
//!  store file --Backup--> bbolt file --restore--> a member's first data directory
//!                            |
//!                            '-- status, hash_kv: what is in it
//! ```
//! A backup reads one read transaction twice: once for the layout, which reads no large value, and
//! once for the bytes. etcd's format has no place for the state of raft, which no restore wants;
//! whether a lease belongs to its key is in a field that etcd skips.
//!
//! Owns: the directory that a restore makes, until it is complete. Every failure is a value.

mod export;
mod file;
mod import;
mod restore;
mod rows;
mod status;

pub use export::Backup;
pub use file::{BackupFile, Check};
pub use restore::{Founder, Restored, Restoring, check, restore};
pub use status::{BackupHash, BackupStatus};

use std::io;
use std::path::PathBuf;

use crate::bbolt::BboltError;
use crate::error::OpenError;
use crate::store::CheckpointError;

/// Why a backup could not be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The stream, the file or the directory failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CheckpointError),
    /// The directory or its files cannot be created.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The file is not a snapshot, or is damaged.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The snapshot.
        path: PathBuf,
        /// What was found.
        source: BboltError,
    },
    /// A row of the snapshot makes no sense.
    #[error("{path}: damaged: {what}", path = path.display())]
    Row {
        /// The snapshot.
        path: PathBuf,
        /// Which row, and what is wrong with it.
        what: String,
    },
    /// The hash at the end does not match the file.
    #[error("expected sha256 {expected}, got {found}")]
    Hash {
        /// The hash at the end, in hexadecimal.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// The file has no hash at its end.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    HashMissing,
    /// The snapshot protects its keys with users and roles.
    #[error(
        "the snapshot has authentication enabled ({users} users, {roles} roles), which this \
         version does not serve: everybody would read and write the keys; say --without-auth to \
         restore them all the same"
    )]
    Auth {
        /// The number of users in it.
        users: usize,
        /// The number of roles in it.
        roles: usize,
    },
    /// The destination is in use.
    #[error("data-dir \"{path}\" not empty or could not be read", path = path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The revision asked for does not exist.
    #[error("{0}")]
    Revision(&'static str),
}
