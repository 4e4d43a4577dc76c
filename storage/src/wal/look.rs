//! Reads a log without changing a byte of it, to find out why a member does not start.

use super::disk::{Disk, DiskFile};
use super::{Recovery, recovery};
use crate::error::OpenError;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a start on the log in `dir` would find, and the torn tail that it would cut off. Blocks,
/// and reads every segment.
///
/// # Errors
/// The errors of [`super::Wal::open`], which is what a caller wants to find.
pub fn look(dir: &Path) -> Result<Recovery, OpenError> {
    recovery::look(&ReadOnlyDisk, dir)
}

/// Like [`look`], on any disk.
///
/// # Errors
/// Same as [`look`].
pub fn look_on(disk: &dyn Disk, dir: &Path) -> Result<Recovery, OpenError> {
    recovery::look(disk, dir)
}

/// The operating system's files, opened for reading.
#[derive(Clone, Copy, Debug)]
struct ReadOnlyDisk;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        super::RealDisk.list(dir)
    }

    fn create(&self, _path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        super::RealDisk.free_bytes(dir)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        refused()
    }
}
