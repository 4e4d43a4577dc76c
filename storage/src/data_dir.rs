//! The data directory: its layout, its lock, its format version and the member's identity.
//!
//! ```text
//!   LOCK              held while a process uses the directory
//!   VERSION           whose directory this is, and its format
//!   member/id         the member's identity, written once
//!   member/wal/       the write-ahead log, unless a directory of its own was chosen for it
//!   member/store.redb the key-value state
//!   member/snap/      snapshots on their way in; `replacing`, the note of a store that is about to
//!                     be replaced, and `copied`, that of what a fresh copy of the store took
//! ```
//! A directory that holds anything else before `VERSION` exists belongs to somebody else and is
//! refused.

mod identity;

use self::identity::encode_identity;
pub use self::identity::{Identity, decode_identity};
use crate::entry::LogId;
use crate::error::OpenError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "LOCK";
const VERSION: &str = "VERSION";
const FORMAT: u32 = 1;
/// Files of Althing, and of the file system, that may be there before `VERSION` is.
const HARMLESS: [&str; 3] = [LOCK, "VERSION.tmp", "lost+found"];
/// How the name of an arriving snapshot begins.
const ARRIVAL: &str = "arrival-";
/// The note that the store is about to be replaced, and the note of what a fresh copy of it took.
const REPLACING: &str = "replacing";
const COPIED: &str = "copied";
/// What may lie beside the snapshots during a member's whole life.
pub const SNAP_NOTES: [&str; 2] = [REPLACING, COPIED];
/// An identity is a few short lines; more is damage.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// An opened and locked data directory; the lock lives as long as this value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    wal: PathBuf,
    /// Held open for their locks.
    _locks: Vec<File>,
}

impl DataDir {
    /// Opens or creates `path` (mode 0700), locks it, and refuses a foreign or newer directory.
    ///
    /// # Errors
    /// [`OpenError::Foreign`], [`OpenError::Newer`], [`OpenError::Locked`],
    /// [`OpenError::Unusable`].
    pub fn open(path: &Path) -> Result<DataDir, OpenError> {
        DataDir::open_with_wal(path, None)
    }

    /// Like [`DataDir::open`], with the write-ahead log in `wal` (created, checked and locked
    /// likewise) instead of inside `path`.
    ///
    /// # Errors
    /// Same as [`DataDir::open`]; also if `path` already holds a log of its own.
    pub fn open_with_wal(path: &Path, wal: Option<&Path>) -> Result<DataDir, OpenError> {
        let mut locks = vec![claim(path, "data")?];
        let member = path.join("member");
        let inside = member.join("wal");
        for dir in [&member, &member.join("snap"), &inside] {
            create_dir(dir)?;
        }
        if let Some(wal) = wal {
            refuse_segments(&inside)?;
            locks.push(claim(wal, "WAL")?);
        }
        sync_dir(&member)?;
        sync_dir(path)?;
        let wal = wal.map_or(inside, Path::to_path_buf);
        Ok(DataDir {
            path: path.to_path_buf(),
            wal,
            _locks: locks,
        })
    }

    /// Opens what [`DataDir::open_with_wal`] made, to look at it: nothing is created or changed,
    /// and no member can start on it meanwhile. `None` if no member ever began there.
    ///
    /// # Errors
    /// Same as [`DataDir::open_with_wal`]; [`OpenError::Unusable`] also if the directory does not
    /// exist.
    pub fn look(path: &Path, wal: Option<&Path>) -> Result<Option<DataDir>, OpenError> {
        let inside = path.join("member/wal");
        let mut locks = Vec::new();
        for (dir, purpose) in [(Some(path), "data"), (wal, "WAL")] {
            let Some(dir) = dir else { continue };
            if !check_version(dir, purpose)? {
                check_empty(dir, purpose)?;
                return Ok(None);
            }
            locks.extend(lock_to_look(dir)?);
        }
        if wal.is_some() && inside.is_dir() {
            refuse_segments(&inside)?;
        }
        Ok(Some(DataDir {
            path: path.to_path_buf(),
            wal: wal.map_or(inside, Path::to_path_buf),
            _locks: locks,
        }))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the WAL segments.
    pub fn wal(&self) -> PathBuf {
        self.wal.clone()
    }

    /// The path of the store's file.
    pub fn store(&self) -> PathBuf {
        self.path.join("member/store.redb")
    }

    /// The directory where snapshots arrive.
    pub fn snap(&self) -> PathBuf {
        self.path.join("member/snap")
    }

    /// Free bytes of the file system that holds the directory, as far as this user may use them.
    ///
    /// # Errors
    /// Any error of the operating system.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The member's identity; `None` before it was bootstrapped.
    ///
    /// # Errors
    /// [`OpenError::FileDamaged`] if the file fails its checksum; otherwise any error of the
    /// operating system.
    pub fn identity(&self) -> Result<Option<Identity>, OpenError> {
        let path = self.identity_path();
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file
                .take(IDENTITY_BYTES_MAX)
                .read_to_end(&mut bytes)
                .map_err(|source| OpenError::Io {
                    path: path.clone(),
                    source,
                })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        match decode_identity(&bytes) {
            Ok(identity) => Ok(Some(identity)),
            Err(why) => Err(OpenError::FileDamaged {
                path,
                why: why.into(),
            }),
        }
    }

    /// Writes the member's identity, so that it survives power loss.
    ///
    /// # Errors
    /// `InvalidInput` for a name with control characters; otherwise any error of the operating
    /// system.
    pub fn save_identity(&self, identity: &Identity) -> io::Result<()> {
        if identity.name.chars().any(char::is_control) {
            let what = "a member name must not have control characters";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        replace_file(&self.identity_path(), encode_identity(identity).as_bytes())
    }

    /// Notes durably that the store's file is about to be replaced by a state that ends at `state`,
    /// which the log does not reach. Until [`DataDir::end_replacing`], such a store does not mean
    /// that the log is lost.
    ///
    /// # Errors
    /// Any error of the operating system.
    pub fn begin_replacing(&self, state: LogId) -> io::Result<()> {
        let text = format!("{} {}\n", state.term, state.index);
        replace_file(&self.replacing_path(), text.as_bytes())
    }

    /// The state that was last noted, if any.
    pub fn replacing(&self) -> Option<LogId> {
        let text = std::fs::read_to_string(self.replacing_path()).ok()?;
        let (term, index) = text.trim_end().split_once(' ')?;
        Some(LogId {
            term: term.parse().ok()?,
            index: index.parse().ok()?,
        })
    }

    /// Notes that the log has caught up with the replaced store.
    ///
    /// # Errors
    /// Any error of the operating system.
    pub fn end_replacing(&self) -> io::Result<()> {
        match std::fs::remove_file(self.replacing_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Notes what a fresh copy of the store's file took: bytes allocated, and bytes in use. Only a
    /// hint, so a power loss may take it.
    ///
    /// # Errors
    /// Any error of the operating system.
    pub fn note_copy(&self, allocated: u64, used: u64) -> io::Result<()> {
        replace_file(
            &self.copy_path(),
            format!("{allocated} {used}\n").as_bytes(),
        )
    }

    /// The hint that was last noted: allocated and used bytes.
    pub fn noted_copy(&self) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(self.copy_path()).ok()?;
        let (allocated, used) = text.trim_end().split_once(' ')?;
        Some((allocated.parse().ok()?, used.parse().ok()?))
    }

    /// Removes snapshots that arrived and were not taken over.
    ///
    /// # Errors
    /// Any error of the operating system.
    pub fn remove_arrivals(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.snap())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(ARRIVAL) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The path where the snapshot with this number arrives.
    pub fn arrival(&self, number: u64) -> PathBuf {
        self.snap().join(format!("{ARRIVAL}{number}.redb"))
    }

    /// The path where the store's file is copied to before the copy takes its place.
    pub fn rebuilding(&self) -> PathBuf {
        self.snap().join(format!("{ARRIVAL}copy.redb"))
    }

    fn copy_path(&self) -> PathBuf {
        self.snap().join(COPIED)
    }

    fn replacing_path(&self) -> PathBuf {
        self.snap().join(REPLACING)
    }

    fn identity_path(&self) -> PathBuf {
        self.path.join("member/id")
    }
}

/// Creates, checks and locks a directory for Althing.
fn claim(path: &Path, purpose: &str) -> Result<File, OpenError> {
    create_dir(path)?;
    if !check_version(path, purpose)? {
        check_empty(path, purpose)?;
        // The process that created it may have died before this.
        sync_name(path)?;
    }
    let lock = lock(path)?;
    // Read again under the lock: another process may have begun the directory meanwhile.
    if !check_version(path, purpose)? {
        let version = path.join(VERSION);
        let text = format!("althing {purpose} directory, format {FORMAT}\n");
        replace_file(&version, text.as_bytes())
            .map_err(|e| unusable(&version, "write", e, WRITE_REMEDY))?;
    }
    Ok(lock)
}

const WRITE_REMEDY: &str = "make the directory writable for the user that runs althingd, and the \
                            file system large enough, or choose another directory";

fn unusable(path: &Path, what: &'static str, source: io::Error, remedy: &'static str) -> OpenError {
    OpenError::Unusable {
        path: path.to_path_buf(),
        what,
        source,
        remedy,
    }
}

/// Creates a directory for its owner only, and its parents, so that all of them survive power loss.
fn create_dir(path: &Path) -> Result<(), OpenError> {
    let mut missing = Vec::new();
    let is_there = |dir: &&Path| dir.as_os_str().is_empty() || dir.is_dir();
    missing.extend(path.ancestors().take_while(|dir| !is_there(dir)));
    for dir in missing.into_iter().rev() {
        let mode = if dir == path { 0o700 } else { 0o777 };
        match DirBuilder::new().mode(mode).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made.map_err(|e| unusable(path, "create the directory", e, WRITE_REMEDY))?,
        }
        sync_name(dir)?;
    }
    Ok(())
}

/// Makes the name of a directory durable; it is stored in the parent.
fn sync_name(dir: &Path) -> Result<(), OpenError> {
    let around = dir.parent().filter(|dir| !dir.as_os_str().is_empty());
    match sync_dir(around.unwrap_or(Path::new("."))) {
        // The parent is somebody else's, who has also created this directory: it may be entered but
        // not opened.
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(())
        }
        synced => synced,
    }
}

/// Whether the directory says that it belongs to Althing.
fn check_version(dir: &Path, purpose: &str) -> Result<bool, OpenError> {
    let path = dir.join(VERSION);
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(unusable(&path, "read", error, READ_REMEDY)),
    };
    let start = format!("althing {purpose} directory, format ");
    let format = text
        .strip_prefix(&start)
        .and_then(|rest| rest.trim_end().parse::<u32>().ok());
    match format {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => Err(OpenError::Newer {
            path,
            found,
            known: FORMAT,
        }),
        _ => {
            let why = format!(
                "does not say that this is the {purpose} directory of an althingd; choose another \
                 directory, or restore the file if it was damaged"
            );
            Err(OpenError::Foreign { path, why })
        }
    }
}

const READ_REMEDY: &str = "make it readable for the user that runs althingd";

/// A directory without our version must be empty: we never write into somebody else's.
fn check_empty(dir: &Path, purpose: &str) -> Result<(), OpenError> {
    let mut names = list(dir)?;
    names.sort();
    let Some(name) = names.iter().find(|name| !HARMLESS.contains(&name.as_str())) else {
        return Ok(());
    };
    let etcd = dir.join("member/snap/db").exists()
        || (name.ends_with(".wal") && purpose == "WAL")
        || dir.join("member/wal").is_dir();
    let why = if etcd {
        "looks like a directory of etcd, whose files althingd does not read; choose an empty \
         directory and copy the keys through the client API while etcd runs"
            .to_owned()
    } else {
        format!("not empty (it has {name:?}) and not a directory of althingd; choose another one")
    };
    Err(OpenError::Foreign {
        path: dir.to_path_buf(),
        why,
    })
}

fn list(dir: &Path) -> Result<Vec<String>, OpenError> {
    let unreadable = |e| unusable(dir, "list", e, READ_REMEDY);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        names.push(
            entry
                .map_err(unreadable)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    Ok(names)
}

/// Refuses a log inside the data directory if it is meant to be elsewhere.
fn refuse_segments(inside: &Path) -> Result<(), OpenError> {
    if !list(inside)?.iter().any(|name| name.ends_with(".wal")) {
        return Ok(());
    }
    let why = "the log is here, but another WAL directory is configured; move these files there \
               while the member is stopped, or drop the option";
    Err(OpenError::Foreign {
        path: inside.to_path_buf(),
        why: why.into(),
    })
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| unusable(&path, "open", e, WRITE_REMEDY))?;
    locked(dir, &path, file.try_lock()).map(|()| file)
}

/// Keeps members off a directory while it is looked at. Does not create a missing lock file.
fn lock_to_look(dir: &Path) -> Result<Option<File>, OpenError> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, "open", error, READ_REMEDY)),
    };
    locked(dir, &path, file.try_lock_shared()).map(|()| Some(file))
}

fn locked(dir: &Path, path: &Path, lock: Result<(), TryLockError>) -> Result<(), OpenError> {
    match lock {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(e)) => {
            let remedy = "use a file system that supports locks";
            Err(unusable(path, "lock", e, remedy))
        }
    }
}

/// Writes a whole small file: afterwards it has the old or the new content, whatever happens.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    let dir = path
        .parent()
        .expect("a file of ours is in a directory of ours");
    File::open(dir)?.sync_all()
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    let synced = File::open(dir).and_then(|file| file.sync_all());
    synced.map_err(|source| OpenError::Io {
        path: dir.to_path_buf(),
        source,
    })
}

#[cfg(test)]
#[path = "data_dir_test.rs"]
mod data_dir_test;
