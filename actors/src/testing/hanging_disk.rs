//! A disk that hangs when a test says so: whatever it is asked to make durable waits until it is
//! released.

use std::io;
use std::path::Path;
use std::sync::Arc;

use althing_storage::wal::{Disk, DiskFile, RealDisk};
use parking_lot::{Condvar, Mutex};

/// The operating system's files behind a gate. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct HangingDisk(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    hangs: Mutex<bool>,
    released: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut hangs = self.hangs.lock();
        while *hangs {
            self.released.wait(&mut hangs);
        }
    }
}

impl HangingDisk {
    /// Makes nothing durable from now on.
    pub fn hang(&self) {
        *self.0.hangs.lock() = true;
    }

    /// Makes durable everything that waited.
    pub fn release(&self) {
        *self.0.hangs.lock() = false;
        self.0.released.notify_all();
    }

    fn gated(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let gate = Arc::clone(&self.0);
        Arc::new(GatedFile { gate, file })
    }
}

#[derive(Debug)]
struct GatedFile {
    gate: Arc<Gate>,
    file: Arc<dyn DiskFile>,
}

impl Disk for HangingDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.gated(RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.pass();
        RealDisk.sync_dir(dir)
    }
}

impl DiskFile for GatedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_all()
    }
}
