//! What can go wrong with the store's file, in words an operator can act on.

use std::io;
use std::path::{Path, PathBuf};

/// A failed access to the store's file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// The disk, or the quota on it, is full.
    #[error("no space left on device")]
    NoSpace,
    /// An earlier failure closed the file: open it again.
    #[error("closed by an earlier failure")]
    Closed,
    /// The file holds bytes that were never written like this.
    #[error("{}", damage(path, detail))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// redb refused the file; the text names the file.
    #[error("{0}")]
    Refused(String),
    /// The content makes no sense.
    #[error(
        "{path}: the store is damaged: {detail}; restore it from a snapshot, or remove the data \
         directory and let the member join again",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is not a store of althingd.
    #[error(
        "{path}: not a store of althingd: {detail}; point the data directory elsewhere",
        path = path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another version wrote the file.
    #[error(
        "{path}: store format {found} is not {known}, which this version reads; \
         install the version that wrote it",
        path = path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format known here.
        known: u32,
    },
}

/// Whether the cause is a full disk or an exhausted quota.
fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether the cause is in the bytes: they make no sense, or the file ends before they do.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// The same words at a start and while the member runs.
fn damage(path: &Path, detail: &str) -> StoreOpenError {
    let (path, detail) = (path.to_path_buf(), detail.to_owned());
    StoreOpenError::Damaged { path, detail }
}

impl DiskError {
    /// Sorts one of redb's errors.
    pub fn from_redb(path: &Path, error: impl Into<redb::Error>) -> DiskError {
        match error.into() {
            redb::Error::Io(error) if is_no_space(&error) => DiskError::NoSpace,
            redb::Error::Io(error) if is_damage(&error) => {
                DiskError::damaged(path, &error.to_string())
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => DiskError::Closed,
            redb::Error::Corrupted(detail) => DiskError::damaged(path, &detail),
            error => DiskError::Failed(format!("{}: {error}", path.display())),
        }
    }

    /// Damage of the file at `path`.
    pub fn damaged(path: &Path, detail: &str) -> DiskError {
        let path = path.to_path_buf();
        let detail = detail.to_owned();
        DiskError::Damaged { path, detail }
    }
}
