//! Looks at a data directory, and at the disk it is on, for what `doctor` judges. Changes nothing.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use althing_storage::data_dir::{DataDir, SNAP_NOTES};
use althing_storage::error::OpenError;
use althing_storage::store::{Store, StoreOpenError};
use althing_storage::wal;

use crate::doctor::directory::{DirectoryFacts, Held, Log, Refusal, Stored, Stray};

/// Depth of the files that a member makes below its data directory.
const DEPTH_MAX: usize = 4;
/// Files of a member, and of the file system, by the directory they are in.
const FILES: [(&str, &[&str]); 4] = [
    (
        "",
        &["LOCK", "VERSION", "admin.sock", "lost+found", "member"],
    ),
    ("member", &["id", "snap", "store.redb", "wal"]),
    ("member/snap", &SNAP_NOTES),
    ("member/wal", &[]),
];

/// What is known of the data directory `path`, with its log in `wal` if that is elsewhere. Blocks,
/// and reads the whole log and all records of the store.
pub fn directory(path: &Path, wal: Option<&Path>) -> DirectoryFacts {
    let mut facts = DirectoryFacts {
        path: path.to_path_buf(),
        ..DirectoryFacts::default()
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            facts.refusal = Some(unreadable(path, &error));
            return facts;
        }
    };
    facts.mode = metadata.mode() & 0o777;
    facts.owner = metadata.uid();
    if let Ok(stat) = rustix::fs::statvfs(path) {
        facts.free_bytes = Some(stat.f_bavail.saturating_mul(stat.f_frsize));
        facts.disk_bytes = Some(stat.f_blocks.saturating_mul(stat.f_frsize));
    }
    match DataDir::look(path, wal) {
        Err(error) => facts.refusal = Some(refusal(&error)),
        Ok(None) => facts.refusal = None,
        Ok(Some(dir)) => {
            let mut walk = Walk {
                root: path,
                owner: facts.owner,
                strays: Vec::new(),
            };
            if let Err(error) = walk.directory(path, 0) {
                facts.refusal = Some(unreadable(path, &error));
                return facts;
            }
            facts.strays = walk.strays;
            facts.held = Some(held(&dir));
        }
    }
    facts
}

fn held(dir: &DataDir) -> Held {
    let identity = dir.identity().map_err(|error| refusal(&error));
    let log = if dir.wal().is_dir() {
        wal::look(&dir.wal()).map(Some)
    } else {
        Ok(None)
    };
    let store = Store::look(&dir.store());
    let mut mismatch = None;
    if let (Ok(Some(log)), Ok(store)) = (&log, &store) {
        let durable = store.as_ref().and_then(Store::durable);
        mismatch = log.fits(durable, dir.replacing()).err();
    }
    Held {
        identity: identity.map(|identity| {
            identity.map(|identity| {
                format!(
                    "member {} ({:x}) of cluster {:x}",
                    identity.name, identity.member_id, identity.cluster_id
                )
            })
        }),
        log: log.map_err(|error| refusal(&error)).map(|log| {
            log.map(|log| Log {
                first_index: log.purged.map_or(0, |id| id.index + 1),
                last_index: log.last.map_or(0, |id| id.index),
                torn: log.repaired.map(|torn| (torn.file, torn.offset)),
            })
        }),
        store: store
            .map_err(|error| refusal(&error))
            .map(|store| store.map(|store| stored(&store))),
        mismatch,
    }
}

fn stored(store: &Store) -> Stored {
    let sizes = store.sizes();
    let revisions = store.revisions();
    let alarms = store.alarms().into_iter();
    Stored {
        applied_index: store.durable().map_or(0, |id| id.index),
        revision: revisions.current,
        compacted: revisions.compacted,
        keys: store.key_count(),
        file_bytes: sizes.allocated,
        used_bytes: sizes.in_use,
        alarms: alarms
            .map(|alarm| {
                let (kind, id) = (alarm.alarm.as_str_name(), alarm.member_id);
                format!("{kind} of member {id:x}")
            })
            .collect(),
    }
}

/// Files that belong to somebody else, or that no member needs.
struct Walk<'a> {
    root: &'a Path,
    owner: u32,
    strays: Vec<(Stray, PathBuf)>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let stray = self.judge(&path, &metadata);
            let is_known = stray != Some(Stray::Unknown);
            self.strays.extend(stray.map(|stray| (stray, path.clone())));
            if metadata.is_dir() && is_known && depth < DEPTH_MAX {
                self.directory(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn judge(&self, path: &Path, metadata: &Metadata) -> Option<Stray> {
        let name = path.file_name()?.to_string_lossy();
        let parent = path.parent()?.strip_prefix(self.root).ok()?;
        let (place, known) = FILES.iter().find(|(place, _)| Path::new(place) == parent)?;
        if name == "lost+found" {
            return None;
        }
        if metadata.uid() != self.owner {
            return Some(Stray::Foreign);
        }
        let is_unfinished = name.ends_with(".tmp") || name.starts_with("arrival-");
        let is_log =
            *place == "member/wal" && (name.ends_with(".wal") || name.starts_with("free-"));
        match () {
            () if is_unfinished => Some(Stray::Unfinished),
            () if is_log || known.contains(&&*name) => None,
            () => Some(Stray::Unknown),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Refusal {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "directory-missing",
        io::ErrorKind::PermissionDenied => "directory-unreadable",
        _ => "directory-unusable",
    };
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => {
            "name the directory of --data-dir; the package's is \
                                    /var/lib/althing"
        }
        _ => "look as root, or as the user that runs althingd: sudo -u althing althingctl doctor",
    };
    Refusal {
        what,
        text: format!("{}: {error}", path.display()),
        remedy: remedy.to_owned(),
    }
}

fn refusal(error: &OpenError) -> Refusal {
    let source = match error {
        OpenError::Io { path, source } | OpenError::Unusable { path, source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Some(unreadable(path, source))
        }
        _ => None,
    };
    if let Some(refusal) = source {
        return refusal;
    }
    let what = match error {
        OpenError::WalDamaged { .. } => "wal-damaged",
        OpenError::WalIncomplete { .. } => "wal-incomplete",
        OpenError::Foreign { .. } => "directory-foreign",
        OpenError::Newer { .. } | OpenError::Store(StoreOpenError::OtherFormat { .. }) => {
            "other-format"
        }
        OpenError::Locked { .. } => "directory-in-use",
        OpenError::FileDamaged { .. } => "identity-damaged",
        OpenError::Store(_) => "store-damaged",
        OpenError::Io { .. } | OpenError::Unusable { .. } | OpenError::WalSettings { .. } => {
            "directory-unusable"
        }
    };
    // Each text ends with what to do.
    let text = error.to_string();
    let anew = "restore the member from a snapshot, or remove it from the cluster, empty its \
                directory and add it again";
    let (text, remedy) = text.split_once("; ").unwrap_or((&text, anew));
    Refusal {
        what,
        text: text.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use althing_storage::entry::LogId;

    use super::*;

    #[test]
    fn what_a_member_notes_beside_its_snapshots_is_no_stray() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let dir = DataDir::open(&path).unwrap();
        dir.note_copy(2, 1).unwrap();
        dir.begin_replacing(LogId { term: 1, index: 1 }).unwrap();
        drop(dir);
        assert_eq!(directory(&path, None).strays, []);
        std::fs::write(path.join("member/snap/other"), b"").unwrap();
        assert_eq!(directory(&path, None).strays.len(), 1);
    }
}
