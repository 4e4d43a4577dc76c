//! A disk in memory for tests: it keeps what a process sees apart from what survives power loss,
//! can lose power at any operation, run out of space, and fail.

use super::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The unit that a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// A disk whose misfortunes a test decides. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    world: Arc<Mutex<World>>,
}

/// An operation that can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `write_at`.
    Write,
    /// `sync` and `sync_all`.
    Sync,
    /// `rename`.
    Rename,
    /// `read_at`.
    Read,
}

#[derive(Debug, Default)]
struct World {
    files: Vec<Content>,
    live: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    unsynced: Vec<NameChange>,
    /// Changes made or attempted so far.
    operations: u64,
    power_off_at: Option<u64>,
    off: bool,
    free_bytes: Option<u64>,
    reported_free_bytes: Option<u64>,
    failing: Option<(Operation, io::ErrorKind)>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl FaultyDisk {
    /// Changes made so far; the first one is number 1.
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// Cuts the power during the change with this number (counted as by
    /// [`operations`](FaultyDisk::operations)); everything fails from then on.
    pub fn power_off_at(&self, operation: u64) {
        self.world.lock().power_off_at = Some(operation);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.world.lock().off
    }

    /// Lets files grow by this many bytes in all; `None` means without limit.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.world.lock().free_bytes = free_bytes;
    }

    /// Sets what the disk reports as free, which need not be true; `None` means plenty.
    pub fn set_reported_free_bytes(&self, free_bytes: Option<u64>) {
        self.world.lock().reported_free_bytes = free_bytes;
    }

    /// Makes such operations fail from now on, without effect; `None` makes none fail.
    pub fn set_failing(&self, failing: Option<(Operation, io::ErrorKind)>) {
        self.world.lock().failing = failing;
    }

    /// The disk after power loss: what was synced, and of the rest any sectors and name changes
    /// that `choose(n)`, a number below `n`, picks.
    pub fn after_power_loss(&self, choose: &mut dyn FnMut(u64) -> u64) -> FaultyDisk {
        let world = self.world.lock();
        let mut durable = world.durable.clone();
        for change in &world.unsynced {
            if choose(2) == 1 {
                change.apply(&mut durable);
            }
        }
        let mut after = World::default();
        for (path, file) in durable {
            let bytes = world.files[file].after_power_loss(choose);
            let number = after.files.len();
            let (live, durable) = (bytes.clone(), bytes);
            after.files.push(Content {
                live,
                durable,
                unsynced: Vec::new(),
            });
            after.live.insert(path.clone(), number);
            after.durable.insert(path, number);
        }
        FaultyDisk {
            world: Arc::new(Mutex::new(after)),
        }
    }

    /// The disk after the worst power loss: what was synced, and nothing else.
    pub fn only_synced(&self) -> FaultyDisk {
        // No name change, and the mood that keeps nothing.
        self.after_power_loss(&mut |below| u64::from(below > 2))
    }

    /// The disk as the next process sees it when one has died at the operation that the power was
    /// set to fail at: the page cache still has what the dead process wrote, and nothing has synced
    /// it.
    pub fn after_process_death(&self) -> FaultyDisk {
        let world = self.world.lock();
        let after = World {
            files: world.files.clone(),
            live: world.live.clone(),
            durable: world.durable.clone(),
            unsynced: world.unsynced.clone(),
            ..World::default()
        };
        FaultyDisk {
            world: Arc::new(Mutex::new(after)),
        }
    }

    /// Every file's path and bytes, as a process sees them.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let world = self.world.lock();
        world
            .live
            .iter()
            .map(|(path, file)| (path.clone(), world.files[*file].live.clone()))
            .collect()
    }

    /// Puts a durable file at `path`, or replaces one.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut world = self.world.lock();
        let number = world.files.len();
        let (live, durable) = (bytes.clone(), bytes);
        world.files.push(Content {
            live,
            durable,
            unsynced: Vec::new(),
        });
        world.live.insert(path.to_path_buf(), number);
        world.durable.insert(path.to_path_buf(), number);
    }

    /// Removes a file for good.
    pub fn take(&self, path: &Path) {
        let mut world = self.world.lock();
        world.live.remove(path);
        world.durable.remove(path);
    }
}

impl Content {
    fn after_power_loss(&self, choose: &mut dyn FnMut(u64) -> u64) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        // All, none or some: the first two are likely on real disks, and random picks would seldom
        // hit them.
        let mood = choose(4);
        for (offset, written) in &self.unsynced {
            let mut at = *offset;
            let end = offset + written.len();
            while at < end {
                let stop = (at / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES).min(end);
                if mood == 0 || (mood > 1 && choose(2) == 1) {
                    bytes.resize(bytes.len().max(stop), 0);
                    bytes[at..stop].copy_from_slice(&written[at - offset..stop - offset]);
                }
                at = stop;
            }
        }
        bytes
    }
}

fn power_loss() -> io::Error {
    io::Error::other("the power is off")
}

impl World {
    /// Counts a change. `Ok(true)` means that the power goes now, after the change reached the
    /// cache.
    fn begin(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(power_loss());
        }
        self.operations += 1;
        self.off = self.power_off_at == Some(self.operations);
        Ok(self.off)
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        match self.failing {
            Some((failing, kind)) if failing == operation => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: NameChange) -> io::Result<()> {
        let going = self.begin()?;
        change.apply(&mut self.live);
        self.unsynced.push(change);
        if going { Err(power_loss()) } else { Ok(()) }
    }

    fn give_space_back(&mut self, path: &Path) {
        let bytes = self
            .live
            .get(path)
            .map_or(0, |file| self.files[*file].live.len() as u64);
        if let Some(free) = &mut self.free_bytes {
            *free += bytes;
        }
    }
}

impl Disk for FaultyDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world.lock();
        if world.off {
            return Err(power_loss());
        }
        let names = world.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(names
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world.lock();
        world.give_space_back(path);
        let number = world.files.len();
        world.files.push(Content::default());
        world.change(NameChange::Create(path.to_path_buf(), number))?;
        Ok(Arc::new(FaultyFile {
            world: Arc::clone(&self.world),
            number,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.world.lock();
        if world.off {
            return Err(power_loss());
        }
        let number = *world.live.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile {
            world: Arc::clone(&self.world),
            number,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        world.check(Operation::Rename)?;
        if !world.live.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        if !world.live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.give_space_back(path);
        world.change(NameChange::Remove(path.to_path_buf()))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.world.lock().reported_free_bytes.unwrap_or(u64::MAX))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        if world.begin()? {
            return Err(power_loss());
        }
        let changes = std::mem::take(&mut world.unsynced);
        for change in changes {
            change.apply(&mut world.durable);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct FaultyFile {
    world: Arc<Mutex<World>>,
    number: usize,
}

impl DiskFile for FaultyFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.world.lock().files[self.number].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let world = self.world.lock();
        world.check(Operation::Read)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = world.files[self.number]
            .live
            .get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world.lock();
        world.check(Operation::Write)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        let growth = end.saturating_sub(world.files[self.number].live.len()) as u64;
        if let Some(free) = &mut world.free_bytes {
            *free = free.checked_sub(growth).ok_or(io::ErrorKind::StorageFull)?;
        }
        let going = world.begin()?;
        let file = &mut world.files[self.number];
        file.live.resize(file.live.len().max(end), 0);
        file.live[start..end].copy_from_slice(bytes);
        file.unsynced.push((start, bytes.to_vec()));
        if going { Err(power_loss()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.check(Operation::Sync)?;
        if world.begin()? {
            return Err(power_loss());
        }
        let file = &mut world.files[self.number];
        file.unsynced.clear();
        file.durable.clone_from(&file.live);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }
}
