//! Start-up: open the file, check its format, and rebuild the index by one pass over the
//! revisions. Large values are not read, so the time grows with the number of revisions only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::builder::FileBuilder;
use super::disk::Disk;
use super::disk_view::StoredRecord;
use super::error::{DiskError, StoreOpenError};
use super::loading::{LoadedRow, Loading};
use super::medium::Medium;
use super::pending::SideChanges;
use super::schema::{EMPTY_REVISION, FORMAT};
use super::{Shared, StoreSettings};

/// Opens the store on `medium`.
pub(super) fn open(
    medium: Arc<dyn Medium>,
    settings: &StoreSettings,
) -> Result<Shared, StoreOpenError> {
    let path = medium.path().to_path_buf();
    // redb may panic on a file whose inner pages do not fit together; a start must refuse it with a
    // message instead.
    let opened = catch_unwind(AssertUnwindSafe(|| rebuild(medium, settings)));
    opened.unwrap_or_else(|_| {
        let detail = "its pages do not fit together".to_owned();
        Err(StoreOpenError::Damaged { path, detail })
    })
}

/// Creates an empty store at `path` unless something is there.
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
    let loaded = load(disk, settings);
    loaded.map_err(refuse)
}

/// Builds the in-memory state from the rows of the file.
fn load(disk: Arc<Disk>, settings: &StoreSettings) -> Result<Shared, DiskError> {
    let view = disk.view()?;
    let meta = view.meta()?;
    let mut loading = Loading::new(settings);
    for stored in view.revisions()? {
        let StoredRecord {
            rev,
            tombstone,
            value_apart,
            record,
            used_bytes,
        } = stored?;
        let added = loading.add(LoadedRow {
            rev,
            tombstone,
            value_apart: value_apart.is_some(),
            record,
            used_bytes,
        });
        added.map_err(|what| view.damaged(what, rev))?;
    }
    loading.finish(disk, &view, meta, settings)
}

fn refusal(path: &Path, error: DiskError) -> StoreOpenError {
    let path = path.to_path_buf();
    match error {
        DiskError::NoSpace => StoreOpenError::Io {
            path,
            source: std::io::ErrorKind::StorageFull.into(),
        },
        DiskError::Damaged { path, detail } => StoreOpenError::Damaged { path, detail },
        error @ (DiskError::Closed | DiskError::Failed(_)) => {
            StoreOpenError::Refused(error.to_string())
        }
    }
}
