//! One error per operation of this crate; each names what failed, where, and what to do.

use std::path::PathBuf;

/// Why a data directory, WAL or store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A WAL record that was durable is gone or altered.
    #[error(
        "{path}: damaged at offset {offset}: {why}; the disk lost what was acknowledged, so do not \
         delete or edit the file: restore this member from a snapshot, or remove it from the \
         cluster and add it again with an empty data directory so that its peers fill it",
        path = path.display()
    )]
    WalDamaged {
        /// The segment.
        path: PathBuf,
        /// Where the first bad record starts, in bytes.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The WAL's files do not make one whole log.
    #[error(
        "{dir}: incomplete write-ahead log: {why}; put the missing files back, or restore this \
         member from a snapshot or from its peers",
        dir = dir.display()
    )]
    WalIncomplete {
        /// The WAL directory.
        dir: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The WAL cannot work with these settings.
    #[error("WAL segment size {segment_bytes} bytes: must be between 1 MiB and 2 GiB")]
    WalSettings {
        /// The refused size.
        segment_bytes: u64,
    },
    /// The file or directory belongs to something else.
    #[error("{path}: {why}", path = path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What it seems to be and what to do.
        why: String,
    },
    /// A later version of Althing wrote the file.
    #[error(
        "{path}: format {found} is newer than this version knows ({known}); start the version of \
         althingd that wrote it, or a later one",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this version reads.
        known: u32,
    },
    /// Another process has the directory open.
    #[error(
        "{path}: another althingd uses this directory; stop it, or choose another data directory",
        path = path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be used as it is.
    #[error("{path}: cannot {what}: {source}; {remedy}", path = path.display())]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// A small file of the data directory fails its checksum.
    #[error(
        "{path}: damaged: {why}; restore the file from a backup, or restore this member from a \
         snapshot",
        path = path.display()
    )]
    FileDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store's file cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::StoreOpenError),
}
