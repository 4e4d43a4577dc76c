//! Start-up: open the file, check its format, and rebuild the index by one pass over the
//! revisions. Large values are not read, so the time grows with the number of revisions only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::alarm::Alarms;
use super::builder::FileBuilder;
use super::compaction::Writer;
use super::disk::Disk;
use super::disk_view::{DiskView, StoredRecord};
use super::error::{DiskError, StoreOpenError};
use super::history::Stamp;
use super::index::Index;
use super::lease::{Leases, Touch};
use super::medium::Medium;
use super::pending::{Pending, SideChanges};
use super::schema::{EMPTY_REVISION, FORMAT};
use super::side_tables::Meta;
use super::{Published, Shared, StoreSettings, record};

/// Opens the store on `medium`.
pub(super) fn open(
    medium: Arc<dyn Medium>,
    settings: &StoreSettings,
) -> Result<Shared, StoreOpenError> {
    let path = medium.path().to_path_buf();
    // redb may panic on a file whose inner pages do not fit together; a start must refuse it in
    // words instead.
    let opened = catch_unwind(AssertUnwindSafe(|| rebuild(medium, settings)));
    opened.unwrap_or_else(|_| {
        let detail = "its pages do not fit together".to_owned();
        Err(StoreOpenError::Damaged { path, detail })
    })
}

/// Makes an empty store at `path` unless something is there.
pub(super) fn create_if_absent(path: &Path) -> Result<(), StoreOpenError> {
    let exists = path.try_exists().map_err(|source| StoreOpenError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    if exists {
        return Ok(());
    }
    let created = FileBuilder::create(path)
        .and_then(|builder| builder.finish(None, EMPTY_REVISION, SideChanges::default()));
    created.map_err(|error| refusal(path, error))
}

fn rebuild(medium: Arc<dyn Medium>, settings: &StoreSettings) -> Result<Shared, StoreOpenError> {
    let path = medium.path().to_path_buf();
    let refuse = |error| refusal(&path, error);
    let disk = Arc::new(Disk::new(medium, settings.page_cache_bytes));
    match disk.prepare().map_err(refuse)? {
        Some(FORMAT) => {}
        Some(found) => {
            let known = FORMAT;
            return Err(StoreOpenError::OtherFormat { path, found, known });
        }
        None => {
            let detail = "a redb file of another program".to_owned();
            return Err(StoreOpenError::Foreign { path, detail });
        }
    }
    let view = disk.view().map_err(refuse)?;
    let meta = view.meta().map_err(refuse)?;
    let index = Index::new(settings.record_cache_bytes);
    let mut leases = Leases::load(view.leases().map_err(refuse)?);
    let used_bytes = load(&view, &meta, &index, &mut leases).map_err(refuse)?;
    leases.attach_noted();
    drop(view);
    let durable = meta.applied.clone();
    Ok(Shared {
        index,
        pending: RwLock::new(Pending::default()),
        leases: RwLock::new(leases),
        writer: Mutex::new(Writer::new(meta.compact_scheduled, meta.compact_finished)),
        published: RwLock::new(Published {
            current: meta.revision,
            compacted: meta.compact_scheduled,
            applied: meta.applied,
            members: meta.members,
            removed: meta.removed,
            cluster_version: meta.cluster_version,
            downgrade_target: meta.downgrade_target,
            alarms: Alarms::load(meta.alarms),
            pin: Arc::new(()),
            older_views: Vec::new(),
        }),
        disk: RwLock::new(disk),
        durable: RwLock::new(durable),
        pending_bytes_max: settings.pending_bytes_max,
        used_bytes: AtomicU64::new(used_bytes),
        deleted: AtomicU64::new(0),
        fault: OnceLock::new(),
    })
}

/// Fills the index and notes which keys have leases; answers about how many bytes the rows take.
fn load(
    view: &DiskView,
    meta: &Meta,
    index: &Index,
    leases: &mut Leases,
) -> Result<u64, DiskError> {
    let mut used = 0;
    let mut rows = 0;
    for stored in view.revisions()? {
        let StoredRecord {
            rev,
            tombstone,
            value_apart,
            record,
            used_bytes,
        } = stored?;
        let kv = record::decode(&record);
        let kv = kv.map_err(|_| view.damaged("the record", rev))?;
        if rev.main > meta.revision || (!tombstone && kv.mod_revision != rev.main) {
            return Err(view.damaged("the place", rev));
        }
        used += used_bytes;
        rows += 1;
        let stamp = Stamp {
            rev,
            tombstone,
            create: kv.create_revision,
            version: kv.version,
        };
        let lease = kv.lease;
        leases.note(Touch {
            key: &kv.key,
            lease,
        });
        let whole = !tombstone && value_apart.is_none();
        index.push(&kv.key, stamp, whole.then_some(record));
    }
    if rows != view.revision_count()? {
        return Err(view.damaged_table("revision"));
    }
    Ok(used)
}

fn refusal(path: &Path, error: DiskError) -> StoreOpenError {
    let path = path.to_path_buf();
    match error {
        DiskError::NoSpace => StoreOpenError::Io {
            path,
            source: std::io::ErrorKind::StorageFull.into(),
        },
        error @ (DiskError::Closed | DiskError::Damaged(_) | DiskError::Failed(_)) => {
            StoreOpenError::Refused(error.to_string())
        }
    }
}
