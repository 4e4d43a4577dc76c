//! Making a member's first data directory from a backup.
//!
//! The state becomes entry 1 of a new log, and the log before it counts as purged, so that a member
//! that begins empty is sent the state and does not replay a log that lacks it. All first members
//! of the new cluster restore the same file and so begin with the same entry.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use althing_api::commandpb::{MemberNode, Membership, VoterSet};
use prost::Message;

use super::import::Destiny;
use super::rows;
use super::{BackupError, BackupFile};
use crate::data_dir::{DataDir, Identity};
use crate::entry::{LogId, Vote};
use crate::error::OpenError;
use crate::store::AlarmRecord;
use crate::wal::{Wal, WalSettings};

/// The place of the restored state in the log.
const GENESIS: LogId = LogId { term: 1, index: 1 };

/// A voter of the new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// The voter's id.
    pub id: u64,
    /// The URLs where the others reach it.
    pub peer_urls: Vec<String>,
}

/// The instructions for a restore.
#[derive(Clone, Debug)]
pub struct Restoring {
    /// The directory to create.
    pub data_dir: PathBuf,
    /// The log's directory, if it is a separate one.
    pub wal_dir: Option<PathBuf>,
    /// The identity of the directory's member.
    pub identity: Identity,
    /// The voters of the new cluster.
    pub founders: Vec<Founder>,
    /// Added to the revision, which then counts as compacted; 0 changes nothing.
    pub bump: u64,
    /// Restore keys that users and roles guarded.
    pub without_auth: bool,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The store's revision.
    pub revision: i64,
    /// The number of changes in it.
    pub records: u64,
    /// The number of leases in it.
    pub leases: u64,
    /// The alarms that are active in it.
    pub alarms: Vec<AlarmRecord>,
}

/// Creates the directory; `report` is told how many changes were read. Blocks until it is durable.
/// On failure everything begun is removed; a directory that is unavailable is left as it is.
///
/// # Errors
/// Errors of the file and the directory; `NotEmpty`, `Auth`, `Revision`.
pub fn restore(
    file: &BackupFile,
    restoring: &Restoring,
    report: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    check(file, restoring)?;
    let places = std::iter::once(&restoring.data_dir).chain(&restoring.wal_dir);
    let places: Vec<(&Path, bool)> = places
        .map(|place| (place.as_path(), place.exists()))
        .collect();
    // Until here the places may be another process's: only the lock settles that.
    let dir = DataDir::open_with_wal(&restoring.data_dir, restoring.wal_dir.as_deref())?;
    if dir.store().exists() || dir.identity()?.is_some() {
        let path = restoring.data_dir.clone();
        return Err(BackupError::NotEmpty { path });
    }
    let made = make(&dir, file, restoring, report);
    if made.is_err() {
        // The operator must learn the first cause.
        for (place, was_there) in places {
            let _ = remove(place, was_there);
        }
    }
    made
}

/// Removes what was made at `place`: all of it, or only its content if the directory `was_there`.
fn remove(place: &Path, was_there: bool) -> io::Result<()> {
    if !was_there {
        return fs::remove_dir_all(place);
    }
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    Ok(())
}

/// Whether a restore would be refused; changes nothing.
///
/// # Errors
/// Errors of the file; `NotEmpty`, `Auth`.
pub fn check(file: &BackupFile, restoring: &Restoring) -> Result<(), BackupError> {
    refuse_used(&restoring.data_dir)?;
    if let Some(wal) = &restoring.wal_dir {
        refuse_used(wal)?;
    }
    if restoring.without_auth {
        Ok(())
    } else {
        refuse_guarded(file)
    }
}

fn make(
    dir: &DataDir,
    file: &BackupFile,
    restoring: &Restoring,
    report: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    let destiny = Destiny {
        at: GENESIS,
        membership: membership(&restoring.founders).encode_to_vec().into(),
        bump: restoring.bump,
    };
    let imported = file.import(&dir.store(), &destiny, report)?;
    begin_log(dir)?;
    // Written last: a directory without it is not taken for a member's.
    dir.save_identity(&restoring.identity)?;
    Ok(Restored {
        revision: imported.revision,
        records: imported.records,
        leases: imported.leases,
        alarms: imported.alarms,
    })
}

/// Begins an empty log behind the state, in a term in which nobody has voted.
fn begin_log(dir: &DataDir) -> Result<(), BackupError> {
    let (mut wal, _) = Wal::open(&dir.wal(), WalSettings::default())?;
    wal.save_vote(Vote {
        term: GENESIS.term,
        voted_for: None,
        committed: false,
    });
    wal.purge(GENESIS);
    wal.flush().map_err(|source| OpenError::Io {
        path: dir.wal(),
        source,
    })?;
    Ok(())
}

fn membership(founders: &[Founder]) -> Membership {
    let mut ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
    ids.sort_unstable();
    let mut members: Vec<MemberNode> = founders
        .iter()
        .map(|founder| MemberNode {
            id: founder.id,
            peer_urls: founder.peer_urls.clone(),
            wants_vote: false,
        })
        .collect();
    members.sort_unstable_by_key(|member| member.id);
    Membership {
        voters: vec![VoterSet { ids }],
        members,
    }
}

/// Refuses a directory in use: nothing is ever overwritten.
fn refuse_used(dir: &Path) -> Result<(), BackupError> {
    let is_free = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_free {
        Ok(())
    } else {
        Err(BackupError::NotEmpty {
            path: dir.to_path_buf(),
        })
    }
}

/// Refuses a snapshot with authentication: keys that needed a password to be read must not become
/// open by accident.
fn refuse_guarded(file: &BackupFile) -> Result<(), BackupError> {
    let enabled = file.value(rows::AUTH, rows::AUTH_ENABLED)?;
    if enabled.is_none_or(|flag| flag != [1]) {
        return Ok(());
    }
    let count = |name| -> Result<usize, BackupError> {
        let bucket = file.bucket(name)?;
        Ok(file.entries(bucket.as_ref()).count())
    };
    Err(BackupError::Auth {
        users: count(rows::AUTH_USERS)?,
        roles: count(rows::AUTH_ROLES)?,
    })
}
