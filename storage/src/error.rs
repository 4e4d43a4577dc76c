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
    /// The store's file cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::StoreOpenError),
}
