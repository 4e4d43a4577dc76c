//! A disk in memory that can lose power at any sync and can fill up.
//!
//! `live` is what the process reads back, `durable` what survives for certain. Between two syncs
//! any part of the unsynced writes may or may not survive, page by page.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use althing_storage::store::Medium;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

const PAGE_BYTES: usize = 4096;

#[derive(Debug, Default)]
struct Image {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    written: BTreeSet<usize>,
    /// Whether no new page can be written.
    full: bool,
    /// The images that a power cut around each sync may leave.
    crashes: Vec<Vec<u8>>,
    crash_rng: Option<StdRng>,
}

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    image: Arc<Mutex<Image>>,
}

impl SimDisk {
    /// A disk that keeps an image for each sync.
    pub fn crashing(seed: u64) -> SimDisk {
        let disk = SimDisk::default();
        disk.image.lock().unwrap().crash_rng = Some(StdRng::seed_from_u64(seed));
        disk
    }

    /// A disk with this content.
    pub fn of(content: Vec<u8>) -> SimDisk {
        let disk = SimDisk::default();
        let mut image = disk.image.lock().unwrap();
        image.durable.clone_from(&content);
        image.written = (0..content.len().div_ceil(PAGE_BYTES)).collect();
        image.live = content;
        drop(image);
        disk
    }

    /// The images kept since the last call.
    pub fn take_crashes(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.image.lock().unwrap().crashes)
    }

    pub fn set_full(&self, full: bool) {
        self.image.lock().unwrap().full = full;
    }
}

impl Medium for SimDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn path(&self) -> &Path {
        Path::new("simulated.redb")
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.image.lock().unwrap().live.len() as u64)
    }
}

impl Image {
    fn torn(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut content = self.durable.clone();
        if rng.random() && self.live.len() > content.len() {
            content.resize(self.live.len(), 0);
        }
        for (offset, data) in &self.unsynced {
            for (number, page) in data.chunks(PAGE_BYTES).enumerate() {
                if rng.random() {
                    let start = *offset as usize + number * PAGE_BYTES;
                    let end = start + page.len();
                    if content.len() < end {
                        content.resize(end, 0);
                    }
                    content[start..end].copy_from_slice(page);
                }
            }
        }
        content
    }
}

fn no_space() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.image.lock().unwrap();
        let start = offset as usize;
        let content = image.live.get(start..start + out.len());
        out.copy_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut image = self.image.lock().unwrap();
        if image.full && len as usize > image.live.len() {
            return Err(no_space());
        }
        image.live.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut image = self.image.lock().unwrap();
        if let Some(mut rng) = image.crash_rng.take() {
            let torn = image.torn(&mut rng);
            image.crashes.push(torn);
            let synced = image.live.clone();
            image.crashes.push(synced);
            image.crash_rng = Some(rng);
        }
        image.durable = image.live.clone();
        image.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut image = self.image.lock().unwrap();
        let start = offset as usize;
        let pages = start / PAGE_BYTES..(start + data.len()).div_ceil(PAGE_BYTES);
        if image.full && !pages.clone().all(|page| image.written.contains(&page)) {
            return Err(no_space());
        }
        image.written.extend(pages);
        image.live[start..start + data.len()].copy_from_slice(data);
        if image.crash_rng.is_some() {
            image.unsynced.push((offset, data.to_vec()));
        }
        Ok(())
    }
}
