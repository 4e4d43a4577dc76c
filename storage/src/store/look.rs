//! Opening the store's file without changing a byte of it: what redb writes stays in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::medium::{FileMedium, Medium};
use super::{Store, StoreSettings};
use crate::error::OpenError;

/// Written data is kept in blocks of this size.
const BLOCK_BYTES: u64 = 4096;
/// redb's page cache while looking, in bytes.
const PAGE_CACHE_BYTES: usize = 32 << 20;

impl Store {
    /// Opens the store's file at `path` like a start does, with every record read and checked, and
    /// changes nothing. `None` if the file does not exist.
    ///
    /// # Errors
    /// Same as [`Store::open`].
    pub fn look(path: &Path) -> Result<Option<Store>, OpenError> {
        let exists = path.try_exists().map_err(|source| OpenError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        if !exists {
            return Ok(None);
        }
        let settings = StoreSettings {
            record_cache_bytes: 0,
            page_cache_bytes: PAGE_CACHE_BYTES,
            pending_bytes_max: 0,
        };
        let medium = Looked(FileMedium(path.to_path_buf()));
        Store::open_on(Arc::new(medium), settings).map(Some)
    }
}

/// A file that is read, with what was written kept over it.
#[derive(Debug)]
struct Looked(FileMedium);

impl Medium for Looked {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Overlay::over(self.path())?))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.0.allocated_bytes()
    }
}

#[derive(Debug)]
struct Overlay {
    path: PathBuf,
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// The length that redb knows.
    len: u64,
    /// The length of the part of the file that still counts.
    file_len: u64,
    /// Blocks that differ from the file, by their number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn over(path: &Path) -> io::Result<Overlay> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Overlay {
            path: path.to_path_buf(),
            file,
            written: Mutex::new(Written {
                len,
                file_len: len,
                blocks: BTreeMap::new(),
            }),
        })
    }

    /// A block as it is in the file, with zeros behind its end.
    fn block(&self, number: u64, file_len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; BLOCK_BYTES as usize];
        let start = number * BLOCK_BYTES;
        let there = file_len.saturating_sub(start).min(BLOCK_BYTES) as usize;
        self.file.read_exact_at(&mut bytes[..there], start)?;
        Ok(bytes)
    }

    fn refuse_beyond(&self, len: u64, offset: u64, bytes: usize) -> io::Result<()> {
        if offset + bytes as u64 <= len {
            return Ok(());
        }
        let text = format!("{} ends at {len}", self.path.display());
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
    }
}

/// Cuts `bytes` bytes from `offset` on into parts that lie in one block each: the block's number,
/// where the part begins in it, and its place among the bytes.
fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = (at % BLOCK_BYTES) as usize;
        let end = bytes.min(done + BLOCK_BYTES as usize - inside);
        let part = done..end;
        done = end;
        (!part.is_empty()).then_some((at / BLOCK_BYTES, inside, part))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        self.refuse_beyond(written.len, offset, out.len())?;
        if written.blocks.is_empty() && offset + out.len() as u64 <= written.file_len {
            drop(written);
            return self.file.read_exact_at(out, offset);
        }
        for (number, inside, part) in parts(offset, out.len()) {
            let until = inside + part.len();
            match written.blocks.get(&number) {
                Some(block) => out[part].copy_from_slice(&block[inside..until]),
                None => {
                    let block = self.block(number, written.file_len)?;
                    out[part].copy_from_slice(&block[inside..until]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        let Written {
            len: old,
            file_len,
            blocks,
        } = &mut *written;
        *old = len;
        *file_len = len.min(*file_len);
        blocks.split_off(&len.div_ceil(BLOCK_BYTES));
        // A later growth uncovers zeros.
        if let Some(last) = blocks.get_mut(&(len / BLOCK_BYTES)) {
            last[(len % BLOCK_BYTES) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        self.refuse_beyond(written.len, offset, data.len())?;
        let file_len = written.file_len;
        for (number, inside, part) in parts(offset, data.len()) {
            let block = match written.blocks.entry(number) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(place) => place.insert(self.block(number, file_len)?),
            };
            block[inside..inside + part.len()].copy_from_slice(&data[part]);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "look_test.rs"]
mod look_test;
