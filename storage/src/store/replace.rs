//! A store's file that takes the place of the one in use: the state of another member, received as
//! a snapshot.
//!
//! Everything slow is done beside the running store. Before the swap, the file is written and
//! opened and its index built. After it, the caller that swaps gets the former state, file and
//! index, and drops them where nobody waits. The swap itself is a rename. Views of the former state
//! keep it until they are dropped.

use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use super::disk::Disk;
use super::error::DiskError;
use super::loading::Loading;
use super::medium::{FileMedium, Medium, sync_parent};
use super::{AppliedMark, Shared, Store, StoreSettings};

/// What was replaced: a state, or the file of one. To drop it may take seconds, as all keys are
/// freed and a large file is removed; so drop it where nobody waits, and never under a lock.
#[derive(Debug)]
#[must_use = "dropping it may take seconds: choose where"]
pub struct Former {
    _state: Option<Arc<Shared>>,
    _file: Option<Arc<Disk>>,
}

impl Former {
    fn state(shared: Arc<Shared>) -> Former {
        Former {
            _state: Some(shared),
            _file: None,
        }
    }

    pub(super) fn file(disk: Arc<Disk>) -> Former {
        Former {
            _state: None,
            _file: Some(disk),
        }
    }
}

/// A state that is ready to take over. If it is dropped unused, its file is removed.
#[derive(Debug)]
pub struct Replacement {
    shared: Option<Arc<Shared>>,
    medium: Arc<Arriving>,
}

/// A file that is opened where it arrived, and later moves to its place.
#[derive(Debug)]
pub(super) struct Arriving {
    arrived: FileMedium,
    place: FileMedium,
    has_moved: AtomicBool,
}

impl Arriving {
    /// A file at `arrived` whose place will be `place`.
    pub fn new(arrived: &Path, place: &Path) -> Arriving {
        Arriving {
            arrived: FileMedium(arrived.to_path_buf()),
            place: FileMedium(place.to_path_buf()),
            has_moved: AtomicBool::new(false),
        }
    }

    /// Moves the file to its place, durably.
    pub fn settle(&self) -> io::Result<()> {
        std::fs::rename(&self.arrived.0, &self.place.0)?;
        sync_parent(&self.place.0)?;
        self.has_moved.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes a file that will not be needed. If that fails, the next start removes it.
    pub fn discard(&self) {
        let _ = std::fs::remove_file(&self.arrived.0);
    }

    fn file(&self) -> &FileMedium {
        if self.has_moved.load(Ordering::Acquire) {
            &self.place
        } else {
            &self.arrived
        }
    }
}

impl Medium for Arriving {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.file().open()
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file().allocated_bytes()
    }
}

impl Replacement {
    /// Opens the store's file at `arrived`, which will take the place of the one at `place`, with
    /// the in-memory state that `loading` built of its rows while they were written. Blocks.
    /// Errors: the file cannot be read, or holds other rows; it is removed.
    pub(crate) fn open(
        arrived: &Path,
        place: &Path,
        loading: Loading,
        settings: &StoreSettings,
    ) -> Result<Replacement, DiskError> {
        let medium = Arc::new(Arriving::new(arrived, place));
        let disk = Disk::new(Arc::clone(&medium) as _, settings.page_cache_bytes);
        let disk = Arc::new(disk);
        let finish = || {
            let view = disk.view()?;
            let meta = view.meta()?;
            loading.finish(Arc::clone(&disk), &view, meta, settings)
        };
        let shared = finish().inspect_err(|_| medium.discard())?;
        Ok(Replacement {
            shared: Some(Arc::new(shared)),
            medium,
        })
    }

    /// Gives this state up: its file loses its name. Returns what is left of it.
    pub fn give_up(mut self) -> Former {
        self.medium.discard();
        let shared = self.shared.take();
        Former::state(shared.expect("taken only here and by `replace`"))
    }

    /// The log position and membership of the state.
    pub fn applied(&self) -> AppliedMark {
        let shared = self.shared.as_ref().expect("taken only by `replace`");
        shared.durable.read().clone()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.shared.take().is_some() {
            self.medium.discard();
        }
    }
}

impl Store {
    /// Makes `replacement` the state of this store and of all its clones; returns the former one.
    /// Nothing may be applied meanwhile. Errors: the rename, or making it durable, failed; the
    /// process must then end.
    pub fn replace(&self, mut replacement: Replacement) -> io::Result<Former> {
        // A copy under way is of the former state, and in the way of the next one.
        self.shared().writer.lock().rebuild = None;
        replacement.medium.settle()?;
        let shared = replacement.shared.take().expect("taken only here");
        let former = mem::replace(&mut *self.current.write(), shared);
        Ok(Former::state(former))
    }
}
