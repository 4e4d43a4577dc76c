//! The file of a store under construction. Nobody opens it before it is whole, so what redb wants
//! to be durable on the way need not be; once it is whole, all of it must be.
//!
//! ```text
//!  pages of redb, 4 KiB each --> extents of 256 KiB --whole, or too many--> file
//!                                       seal: the rest --> file, durable <-- a thread, on the way
//! ```
//! Writing one page costs the kernel nearly as much as writing many, so pages are gathered. The
//! disk begins early: a thread makes durable what was written so far while more is written, and
//! little is left for the end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::medium::{FileMedium, Medium};

const PAGE_BYTES: usize = 4 << 10;
const EXTENT_BYTES: usize = PAGES_PER_EXTENT * PAGE_BYTES;
/// An extent marks its pages by the bits of a word.
const PAGES_PER_EXTENT: usize = u64::BITS as usize;
/// Extents that wait for more of their pages.
const EXTENTS_MAX: usize = 64;
/// Bytes written between two beginnings of making them durable.
const SYNC_BYTES: usize = 16 << 20;

/// The file. All backends that it hands out write to the same file.
#[derive(Debug)]
pub(super) struct UnfinishedFile {
    place: FileMedium,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    file: File,
    extents: BTreeMap<u64, Extent>,
    /// Buffers of extents that were written, for reuse.
    spare: Vec<Box<[u8]>>,
    syncs: Option<Syncs>,
    written_since_sync: usize,
    /// Whether a write failed, so that the file will never be whole.
    failed: bool,
}

/// Neighbouring pages of the file.
#[derive(Debug)]
struct Extent {
    bytes: Box<[u8]>,
    /// A bit for each of its pages that is here.
    pages: u64,
}

/// The thread that makes durable what is written.
#[derive(Debug)]
struct Syncs {
    begin: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl UnfinishedFile {
    /// Creates the file, empty.
    pub fn create(path: PathBuf) -> io::Result<UnfinishedFile> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let state = State {
            file: options.open(&path)?,
            extents: BTreeMap::new(),
            spare: Vec::new(),
            syncs: None,
            written_since_sync: 0,
            failed: false,
        };
        Ok(UnfinishedFile {
            place: FileMedium(path),
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Makes the file durable; nothing more is written. Errors: some of it was not written, at any
    /// time.
    pub fn seal(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.write_all_out()?;
        state.end_syncs()?;
        if state.failed {
            return Err(io::Error::other("a part of the file was not written"));
        }
        state.file.sync_all()
    }
}

impl Medium for UnfinishedFile {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Pages(Arc::clone(&self.state))))
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.place.allocated_bytes()
    }
}

impl State {
    /// Gathers pages. What is not a page, such as the head of the file, is written at once.
    fn write(&mut self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        let is_of_pages = offset.is_multiple_of(PAGE_BYTES as u64);
        if !is_of_pages || !data.len().is_multiple_of(PAGE_BYTES) {
            for number in extents_of(offset, data.len()) {
                self.write_out(number)?;
            }
            return self.file.write_all_at(data, offset);
        }
        while !data.is_empty() {
            let (number, within) = place(offset);
            let (part, rest) = data.split_at(data.len().min(EXTENT_BYTES - within));
            let extent = self.extent(number)?;
            extent.bytes[within..within + part.len()].copy_from_slice(part);
            extent.pages |= mask(within, part.len());
            if extent.pages == u64::MAX {
                self.write_out(number)?;
            }
            offset += part.len() as u64;
            data = rest;
        }
        Ok(())
    }

    fn extent(&mut self, number: u64) -> io::Result<&mut Extent> {
        if !self.extents.contains_key(&number) && self.extents.len() == EXTENTS_MAX {
            let first = self.extents.first_key_value();
            let first = first.map_or(number, |(first, _)| *first);
            self.write_out(first)?;
        }
        let spare = &mut self.spare;
        Ok(self.extents.entry(number).or_insert_with(|| Extent {
            bytes: spare
                .pop()
                .unwrap_or_else(|| vec![0; EXTENT_BYTES].into_boxed_slice()),
            pages: 0,
        }))
    }

    /// Writes the pages of an extent that are here.
    fn write_out(&mut self, number: u64) -> io::Result<()> {
        let Some(extent) = self.extents.remove(&number) else {
            return Ok(());
        };
        for run in runs(extent.pages) {
            let bytes = run.start * PAGE_BYTES..run.end * PAGE_BYTES;
            let offset = number * EXTENT_BYTES as u64 + bytes.start as u64;
            self.written_since_sync += bytes.len();
            self.file.write_all_at(&extent.bytes[bytes], offset)?;
        }
        self.spare.push(extent.bytes);
        self.sync_beside()
    }

    fn write_all_out(&mut self) -> io::Result<()> {
        while let Some((number, _)) = self.extents.first_key_value() {
            self.write_out(*number)?;
        }
        Ok(())
    }

    /// Ends the thread once it has done what it began. Errors: those of all that it did.
    fn end_syncs(&mut self) -> io::Result<()> {
        let Some(Syncs { begin, thread }) = self.syncs.take() else {
            return Ok(());
        };
        drop(begin);
        let synced = thread.join();
        synced.unwrap_or_else(|_| Err(io::Error::other("a thread ended early")))
    }

    /// Lets the thread begin again if enough was written. Errors: what it did before failed.
    fn sync_beside(&mut self) -> io::Result<()> {
        if self.written_since_sync < SYNC_BYTES {
            return Ok(());
        }
        let syncs = match &mut self.syncs {
            Some(syncs) => syncs,
            none => match self.file.try_clone().and_then(Syncs::start) {
                Ok(syncs) => none.insert(syncs),
                Err(_) => {
                    // The thread only begins early: the end makes everything durable without it,
                    // too.
                    self.written_since_sync = 0;
                    return Ok(());
                }
            },
        };
        match syncs.begin.try_send(()) {
            Ok(()) => self.written_since_sync = 0,
            // What it does now began earlier, and the next time is soon.
            Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => return self.end_syncs(),
        }
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)?;
        let end = offset + out.len() as u64;
        for number in extents_of(offset, out.len()) {
            let Some(extent) = self.extents.get(&number) else {
                continue;
            };
            for run in runs(extent.pages) {
                let begin = number * EXTENT_BYTES as u64;
                let from = offset.max(begin + (run.start * PAGE_BYTES) as u64);
                let until = end.min(begin + (run.end * PAGE_BYTES) as u64);
                if from < until {
                    let here = (from - begin) as usize..(until - begin) as usize;
                    let there = (from - offset) as usize..(until - offset) as usize;
                    out[there].copy_from_slice(&extent.bytes[here]);
                }
            }
        }
        Ok(())
    }

    /// Drops the pages behind the new end.
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let (number, within) = place(len);
        for (_, gone) in self.extents.split_off(&(number + 1)) {
            self.spare.push(gone.bytes);
        }
        if let Some(extent) = self.extents.get_mut(&number) {
            extent.pages &= !mask(within, EXTENT_BYTES - within);
        }
        self.file.set_len(len)
    }
}

impl Syncs {
    fn start(file: File) -> io::Result<Syncs> {
        let (begin, beginnings): (_, Receiver<()>) = sync_channel(1);
        let work = move || beginnings.iter().try_for_each(|()| file.sync_data());
        let thread = Builder::new().name("store-sync".into()).spawn(work)?;
        Ok(Syncs { begin, thread })
    }
}

/// The extent that a place in the file belongs to, and the place in the extent.
fn place(offset: u64) -> (u64, usize) {
    let extent = EXTENT_BYTES as u64;
    (offset / extent, (offset % extent) as usize)
}

fn extents_of(offset: u64, len: usize) -> Range<u64> {
    let (first, _) = place(offset);
    first..(offset + len as u64).div_ceil(EXTENT_BYTES as u64)
}

/// The bits of the pages that `len` bytes touch, from `within` an extent on.
fn mask(within: usize, len: usize) -> u64 {
    let (first, behind) = (within / PAGE_BYTES, (within + len).div_ceil(PAGE_BYTES));
    let below = |page: usize| match page {
        PAGES_PER_EXTENT => u64::MAX,
        page => (1 << page) - 1,
    };
    below(behind) & !below(first)
}

/// The pages that are set, in runs of neighbours.
fn runs(pages: u64) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = pages.checked_shr(at).filter(|rest| *rest != 0)?;
        let first = at + rest.trailing_zeros();
        let behind = first + (pages >> first).trailing_ones();
        at = behind;
        Some(first as usize..behind as usize)
    })
}

/// The backend that redb writes to. It locks nothing: the directory is this process's.
#[derive(Debug)]
struct Pages(Arc<Mutex<State>>);

impl Pages {
    fn change(&self, change: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.0.lock();
        let changed = change(&mut state);
        state.failed |= changed.is_err();
        changed
    }
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.lock().read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|state| state.set_len(len))
    }

    /// See the module's head.
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|state| state.write(offset, data))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Numbers that follow from a seed (SplitMix64).
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ (mixed >> 29)) % bound
        }
    }

    #[test]
    fn it_reads_and_ends_as_what_was_written_whatever_the_order() {
        for seed in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            let unfinished = UnfinishedFile::create(path.clone()).unwrap();
            let backend = unfinished.open().unwrap();
            let mut chance = Chance(seed);
            let pages = (EXTENTS_MAX + 8) as u64 * PAGES_PER_EXTENT as u64;
            let mut model = vec![0_u8; pages as usize * PAGE_BYTES];
            backend.set_len(model.len() as u64).unwrap();
            for step in 0..800 {
                let page = chance.below(pages);
                let count = 1 << chance.below(6);
                let offset = page as usize * PAGE_BYTES;
                let len = (count * PAGE_BYTES).min(model.len() - offset);
                let here = offset..offset + len;
                match chance.below(10) {
                    0 => {
                        let mut read = vec![0; len];
                        backend.read(offset as u64, &mut read).unwrap();
                        assert!(read == model[here], "seed {seed}, step {step}");
                    }
                    1 => {
                        model[offset + 7..offset + 300].fill(step as u8);
                        let part = &model[offset + 7..offset + 300];
                        backend.write(offset as u64 + 7, part).unwrap();
                    }
                    2 if chance.below(50) == 0 => {
                        model[offset..].fill(0);
                        backend.set_len(offset as u64).unwrap();
                        backend.set_len(model.len() as u64).unwrap();
                    }
                    _ => {
                        model[here.clone()].fill(step as u8);
                        backend.write(offset as u64, &model[here]).unwrap();
                    }
                }
                assert!(unfinished.state.lock().extents.len() <= EXTENTS_MAX);
            }
            drop(backend);
            unfinished.seal().unwrap();
            assert!(fs::read(path).unwrap() == model, "seed {seed}");
        }
    }

    #[test]
    fn a_write_that_failed_is_told_at_the_end_too() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = UnfinishedFile::create(directory.path().join("file")).unwrap();
        let backend = unfinished.open().unwrap();
        // Beyond the limit of any file system.
        let nowhere = i64::MAX as u64 / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        backend.write(nowhere + 1, b"x").unwrap_err();
        backend.write(0, &[1; PAGE_BYTES]).unwrap();
        unfinished.seal().unwrap_err();
    }

    #[test]
    fn a_file_that_could_not_be_made_durable_on_the_way_is_not_written_on() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = UnfinishedFile::create(directory.path().join("file")).unwrap();
        let backend = unfinished.open().unwrap();
        let (begin, beginnings) = sync_channel(1);
        drop(beginnings);
        let thread = std::thread::spawn(|| Err(io::Error::other("the disk is gone")));
        unfinished.state.lock().syncs = Some(Syncs { begin, thread });
        let extents = (SYNC_BYTES / EXTENT_BYTES) as u64;
        let mut offsets = (0..2 * extents).map(|number| number * EXTENT_BYTES as u64);
        let extent = vec![1; EXTENT_BYTES];
        let failed = offsets.find_map(|offset| backend.write(offset, &extent).err());
        assert!(failed.unwrap().to_string().contains("the disk is gone"));
        assert!(offsets.next().is_some(), "it was noticed before the end");
        unfinished.seal().unwrap_err();
    }

    #[test]
    fn runs_are_the_pages_that_are_set() {
        let found = |pages| runs(pages).map(|run| (run.start, run.end));
        assert_eq!(found(0).next(), None);
        assert!(found(u64::MAX).eq([(0, 64)]));
        assert!(found(1 << 63 | 0b1101).eq([(0, 1), (2, 4), (63, 64)]));
    }
}
