//! Work on files, without a server: reading a snapshot, making a data directory from one, looking
//! for what ails a data directory, and copying its store into a smaller file. The only part of this
//! crate that knows how things are stored.
//!
//! Owns: the directory that a restore makes. Waits for: nobody. Fails: with a sentence that names
//! the file; what a failed restore began is removed.

mod defrag;
mod founding;
mod look;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use althing_api::id::{ClusterId, MemberId};
use althing_storage::backup::{self, BackupError, BackupFile, Check, Founder, Restoring};
pub use althing_storage::backup::{BackupHash, BackupStatus};
use althing_storage::data_dir::Identity;
pub use defrag::defragment;
pub use look::directory;

use crate::failure::{BAD_ARGS, ERROR, Failure};
use crate::print::counted;
use crate::progress::Progress;

/// Hexadecimal digits of the snapshot's hash in the token that is made from it.
const TOKEN_DIGITS: usize = 16;

/// What the flags of `snapshot restore` say.
#[derive(Clone, Debug)]
pub struct RestoreWords {
    /// `--name`
    pub name: String,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--wal-dir`
    pub wal_dir: Option<PathBuf>,
    /// `--initial-cluster`; empty for this member alone.
    pub initial_cluster: String,
    /// `--initial-cluster-token`; empty to make one from the snapshot's hash.
    pub token: String,
    /// `--initial-advertise-peer-urls`
    pub peer_urls: String,
    /// `--skip-hash-check`
    pub skip_hash_check: bool,
    /// `--bump-revision`
    pub bump: u64,
    /// `--without-auth`
    pub without_auth: bool,
    /// `--dry-run`
    pub dry_run: bool,
}

/// What the snapshot at `path` holds.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub fn status(path: &Path) -> Result<BackupStatus, Failure> {
    // In etcd's words, which scripts may know.
    std::fs::metadata(path).map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::NotFound => "no such file or directory".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(ERROR, format!("stat {}: {reason}", path.display()))
    })?;
    open(path)?.status().map_err(|error| refused(&error))
}

/// HashKV of the snapshot at `path` up to `revision` (0: all of it).
///
/// # Errors
/// The file cannot be read, is damaged, or lacks the revision.
pub fn hash_kv(path: &Path, revision: i64) -> Result<BackupHash, Failure> {
    let hash = open(path)?.hash_kv(revision);
    hash.map_err(|error| refused(&error))
}

/// Whether the snapshot at `path` is whole.
///
/// # Errors
/// It is not, or cannot be read.
pub fn verify(path: &Path) -> Result<(), Failure> {
    let verified = open(path)?.verify(Check::Hash);
    verified.map(drop).map_err(|error| refused(&error))
}

/// Makes a data directory from the snapshot at `path`, and writes to `out` what it made.
///
/// # Errors
/// Flags that contradict each other, a damaged file, a directory in use.
pub fn restore(path: &Path, words: &RestoreWords, out: &mut dyn Write) -> Result<(), Failure> {
    let file = open(path)?;
    let check = if words.skip_hash_check {
        Check::Nothing
    } else {
        Check::Hash
    };
    let sha256 = file.verify(check).map_err(|error| refused(&error))?;
    let restoring = plan(words, &sha256).map_err(|text| Failure::new(BAD_ARGS, text))?;
    let directory = restoring.data_dir.display();
    if words.dry_run {
        backup::check(&file, &restoring).map_err(|error| refused(&error))?;
        let status = file.status().map_err(|error| refused(&error))?;
        let (revision, keys) = (status.revision, status.total_key);
        writeln!(
            out,
            "Would restore revision {revision}, {keys} rows, to {directory}; nothing was changed"
        )?;
        return Ok(());
    }
    let progress = Progress::counter();
    progress.say("changes".to_owned());
    let restored = backup::restore(&file, &restoring, &mut |records| progress.at(records));
    drop(progress);
    let restored = restored.map_err(|error| refused(&error))?;
    let identity = &restoring.identity;
    writeln!(
        out,
        "Restored revision {}, {}, {} to {directory}: member {:x} of cluster {:x}",
        restored.revision,
        counted(restored.records, "change"),
        counted(restored.leases, "lease"),
        identity.member_id,
        identity.cluster_id
    )?;
    for alarm in &restored.alarms {
        let (kind, id) = (alarm.alarm.as_str_name(), alarm.member_id);
        writeln!(
            out,
            "The alarm {kind} of member {id:x} is active in it; to end it: althingctl alarm disarm"
        )?;
    }
    Ok(())
}

/// Who the restored member is, and with which members it begins.
fn plan(words: &RestoreWords, sha256: &[u8]) -> Result<Restoring, String> {
    let own_urls = founding::urls(&words.peer_urls)?;
    let members = match words.initial_cluster.as_str() {
        "" => vec![(words.name.clone(), own_urls.clone())],
        list => founding::members(list)?,
    };
    founding::check(&members, &words.name, &own_urls)?;
    // Members that restore the same file get the same token, and no member of the old cluster has
    // it.
    let hash: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = match words.token.as_str() {
        "" => format!("restored-{}", &hash[..TOKEN_DIGITS]),
        token => token.to_owned(),
    };
    let founders: Vec<Founder> = members
        .iter()
        .map(|(_, urls)| Founder {
            id: MemberId::derived(urls, &token).0,
            peer_urls: urls.clone(),
        })
        .collect();
    let ids: Vec<MemberId> = founders
        .iter()
        .map(|founder| MemberId(founder.id))
        .collect();
    let identity = Identity {
        cluster_id: ClusterId::derived(&ids).0,
        member_id: MemberId::derived(&own_urls, &token).0,
        name: words.name.clone(),
    };
    let data_dir = words.data_dir.clone();
    Ok(Restoring {
        data_dir: data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.althing", words.name))),
        wal_dir: words.wal_dir.clone(),
        identity,
        founders,
        bump: words.bump,
        without_auth: words.without_auth,
    })
}

fn open(path: &Path) -> Result<BackupFile, Failure> {
    BackupFile::open(path).map_err(|error| refused(&error))
}

fn refused(error: &BackupError) -> Failure {
    Failure::new(ERROR, error.to_string())
}
