//! The data directory: its layout, its lock and its format version.
use crate::error::OpenError;
use std::path::{Path, PathBuf};

/// An opened and locked data directory; the lock lives as long as this value.
#[derive(Debug)]
pub struct DataDir {}

impl DataDir {
    /// Opens or creates `path` (mode 0700), locks it, and refuses a foreign or newer directory.
    pub fn open(_path: &Path) -> Result<DataDir, OpenError> {
        todo!()
    }
    /// Where the WAL segments are.
    pub fn wal(&self) -> PathBuf {
        todo!()
    }
    /// The store's file.
    pub fn store(&self) -> PathBuf {
        todo!()
    }
    /// Where snapshots arrive.
    pub fn snap(&self) -> PathBuf {
        todo!()
    }
    /// Free bytes of the file system that holds the directory.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        todo!()
    }
}
