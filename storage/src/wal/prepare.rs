//! Prepares the next segment off the WAL's thread: fills a new file with zeros, or takes one whose
//! records are no longer needed. Only renames and directory syncs of ready files are left to do.
//!
//! Without space it tries again and again, and says so meanwhile. Any other failure is final.

use super::disk::{Disk, DiskFile, is_full};
use super::segment;
use super::space::{Space, Watcher};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Segments made ready ahead of need.
const READY: usize = 1;
/// Segments kept when old ones come back; more are removed.
const READY_MAX: usize = 3;
/// How long to wait for space before trying again.
const RETRY: Duration = Duration::from_millis(250);
/// How long to leave the disk to others between two pieces of a zero fill that nobody waits for.
const PAUSE: Duration = Duration::from_millis(5);
/// A new segment leaves this fraction of its size free: a zero fill must not take the last bytes
/// that the store needs, not even for the moment until it fails.
const RESERVE_PART: u64 = 4;

/// A whole segment file, durable under its waiting name.
#[derive(Debug)]
pub(super) struct Prepared {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    /// Whether the file holds records of its former use rather than zeros.
    pub recycled: bool,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Prepared>,
    /// Files that are no longer needed, oldest first; `None` for one that is not worth keeping.
    old: VecDeque<(PathBuf, Option<Arc<dyn DiskFile>>)>,
    wanted: usize,
    /// How many attempts found no space, and whether the last one did.
    refusals: u64,
    full: bool,
    /// Whether somebody waits, so that the next attempt must not.
    urgent: bool,
    failure: Option<(io::ErrorKind, String)>,
    next_number: u64,
    /// Bytes left in the segment being written, as of the last flush.
    room: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
    /// Told after each attempt, whether it succeeded or not.
    watcher: OnceLock<Watcher>,
    /// Whether there is no thread, so that the caller does the work.
    inline: bool,
}

/// Where the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// On a thread of its own.
    Thread,
    /// In the caller, when it flushes: every run makes the same calls in the same order.
    Inline,
}

/// The WAL's handle; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Preparer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// Starts with the files that an earlier run left: `free` whole ones, `unwanted` others.
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        segment_bytes: u64,
        background: Background,
        left: Left,
    ) -> io::Result<Preparer> {
        let mut state = State {
            next_number: left.next_number,
            ..State::default()
        };
        state.ready.extend(left.free);
        state
            .old
            .extend(left.unwanted.into_iter().map(|path| (path, None)));
        let shared = Arc::new(Shared {
            disk,
            dir,
            segment_bytes,
            state: Mutex::new(state),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            watcher: OnceLock::new(),
            inline: background == Background::Inline,
        });
        let thread = match background {
            Background::Inline => None,
            Background::Thread => {
                let shared = Arc::clone(&shared);
                let builder = std::thread::Builder::new().name("wal-prepare".into());
                Some(builder.spawn(move || shared.run())?)
            }
        };
        Ok(Preparer { shared, thread })
    }

    /// Takes `count` ready segments, waiting for them; all or none.
    ///
    /// # Errors
    /// Kind `StorageFull` if there is no space for a segment: nothing changed, try again later. Any
    /// other error is final.
    pub(super) fn acquire(&self, count: usize) -> io::Result<Vec<Prepared>> {
        let mut state = self.shared.state.lock();
        let refusals = state.refusals;
        loop {
            check(&state)?;
            if state.ready.len() >= count {
                break;
            }
            if state.refusals > refusals {
                state.wanted = READY;
                state.urgent = false;
                let why = "no space for the next WAL segment; free some and try again";
                return Err(io::Error::new(io::ErrorKind::StorageFull, why));
            }
            state.wanted = count.max(READY);
            state.urgent = true;
            self.shared.changed.notify_all();
            match &self.thread {
                Some(_) => {
                    self.shared.changed.wait_for(&mut state, RETRY);
                }
                None => {
                    drop(state);
                    self.shared.step();
                    state = self.shared.state.lock();
                }
            }
        }
        let taken = state.ready.drain(..count).collect();
        if count > 0 {
            state.wanted = 0;
            state.urgent = false;
        }
        Ok(taken)
    }

    /// Makes a segment ready ahead of need, without hurry.
    pub(super) fn prepare_ahead(&self) {
        self.shared.state.lock().wanted = READY;
        self.shared.changed.notify_all();
    }

    /// Takes back a segment whose records are no longer needed.
    pub(super) fn give_back(&self, path: PathBuf, file: Arc<dyn DiskFile>) {
        self.shared.state.lock().old.push_back((path, Some(file)));
        self.shared.changed.notify_all();
    }

    /// Does the waiting work now if there is no thread for it.
    pub(super) fn work_inline(&self) {
        if self.thread.is_none() {
            while self.shared.step() {}
        }
    }

    /// Notes how much of the segment being written is left.
    pub(super) fn set_room(&self, bytes: u64) {
        self.shared.state.lock().room = bytes;
    }

    /// The part that other threads may use.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Taken, so that the thread either sees `stop` or is already waiting.
        drop(self.shared.state.lock());
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has reported itself.
            let _ = thread.join();
        }
    }
}

/// What an earlier run left in the directory besides segments.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub free: Vec<Prepared>,
    pub unwanted: Vec<PathBuf>,
    /// A number that no waiting file has.
    pub next_number: u64,
}

fn check(state: &State) -> io::Result<()> {
    match &state.failure {
        Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        None => Ok(()),
    }
}

impl Shared {
    /// What can be written without new disk space. While a flush takes a segment this is too small,
    /// but never too large.
    pub(super) fn space(&self) -> Space {
        let state = self.state.lock();
        Space {
            room_bytes: state.room,
            ready_segments: state.ready.len() as u64,
            segment_bytes: self.segment_bytes,
            exhausted: state.full && state.ready.is_empty(),
            failed: state.failure.is_some(),
        }
    }

    /// Makes a segment ready at once, because a command waits for it.
    pub(super) fn want(&self) {
        let mut state = self.state.lock();
        if state.ready.is_empty() {
            state.wanted = state.wanted.max(READY);
            state.urgent = true;
            self.changed.notify_all();
        }
    }

    /// Sets the watcher that is told after each attempt; only the first call counts.
    pub(super) fn watch(&self, watcher: Watcher) {
        let _ = self.watcher.set(watcher);
    }

    fn tell_watcher(&self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.tell();
        }
    }

    fn fail(&self, kind: io::ErrorKind, why: &str) {
        let text = format!("preparing a WAL segment in {}: {why}", self.dir.display());
        self.state.lock().failure = Some((kind, text));
        self.changed.notify_all();
        self.tell_watcher();
    }

    fn run(&self) {
        let _death = OnPanic(self);
        loop {
            let worked = self.step();
            let mut state = self.state.lock();
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if state.failure.is_some() {
                self.changed.wait(&mut state);
            } else if state.full && !state.urgent {
                self.changed.wait_for(&mut state, RETRY);
            } else if !worked && state.old.is_empty() && state.ready.len() >= state.wanted {
                self.changed.wait(&mut state);
            }
        }
    }

    /// Does one piece of work; false if nothing was (or could be) done.
    fn step(&self) -> bool {
        let old = {
            let state = self.state.lock();
            if state.failure.is_some() || self.stop.load(Ordering::Acquire) {
                return false;
            }
            state.old.front().cloned()
        };
        let outcome = match old {
            Some((path, file)) => self.retire(path, file),
            None => self.fill(),
        };
        let mut state = self.state.lock();
        let worked = match outcome {
            Ok(worked) => {
                state.full = false;
                if state.ready.len() >= state.wanted {
                    state.urgent = false;
                }
                worked
            }
            Err(error) if is_full(&error) => {
                state.full = true;
                state.refusals += 1;
                state.urgent = false;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
            Err(error) => {
                drop(state);
                self.fail(error.kind(), &error.to_string());
                return false;
            }
        };
        drop(state);
        self.changed.notify_all();
        self.tell_watcher();
        worked
    }

    /// Keeps the oldest unneeded file for further use, or removes it. Names leave the chain durably
    /// one by one, oldest first, so that no gap can be left behind.
    fn retire(&self, path: PathBuf, file: Option<Arc<dyn DiskFile>>) -> io::Result<bool> {
        let keep = match &file {
            Some(file) => {
                self.state.lock().ready.len() < READY_MAX && file.bytes()? == self.segment_bytes
            }
            None => false,
        };
        let mut prepared = None;
        if let (Some(file), true) = (file, keep) {
            let to = self.dir.join(segment::free_name(self.number()));
            self.disk.rename(&path, &to)?;
            prepared = Some(Prepared {
                path: to,
                file,
                recycled: true,
            });
        } else {
            self.disk.remove(&path)?;
        }
        // The change is made; "no space" here must not cause another attempt.
        self.disk.sync_dir(&self.dir).map_err(io::Error::other)?;
        let mut state = self.state.lock();
        state.old.pop_front();
        state.ready.extend(prepared);
        Ok(true)
    }

    fn fill(&self) -> io::Result<bool> {
        {
            let state = self.state.lock();
            if state.ready.len() >= state.wanted {
                return Ok(false);
            }
        }
        let disk = self.disk.as_ref();
        let needed = self.segment_bytes + self.segment_bytes / RESERVE_PART;
        if disk.free_bytes(&self.dir)? < needed {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let name = segment::free_name(self.number());
        let between = |file: &dyn DiskFile| self.pause(file);
        let (path, file) =
            segment::create_filled(disk, &self.dir, &name, self.segment_bytes, &between)?;
        self.state.lock().ready.push_back(Prepared {
            path,
            file,
            recycled: false,
        });
        Ok(true)
    }

    /// Unless somebody waits, writes what is there and leaves the disk to others for a moment: a
    /// flush that comes meanwhile has at most one piece before it.
    fn pause(&self, file: &dyn DiskFile) -> io::Result<()> {
        if self.inline {
            return Ok(());
        }
        if !self.state.lock().urgent {
            file.sync()?;
            let mut state = self.state.lock();
            if !state.urgent && !self.stop.load(Ordering::Acquire) {
                self.changed.wait_for(&mut state, PAUSE);
            }
        }
        if self.stop.load(Ordering::Acquire) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.next_number += 1;
        state.next_number - 1
    }
}

/// Turns a panic of the thread into an ordinary failure, so that nobody waits for the thread in
/// vain.
struct OnPanic<'a>(&'a Shared);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(io::ErrorKind::Other, "its thread panicked");
        }
    }
}
