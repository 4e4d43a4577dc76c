//! Gives unused space of a stopped member's store back to the disk.

use std::path::Path;

use althing_storage::data_dir::DataDir;
use althing_storage::store::{RebuildStep, Store, StoreSettings};

use crate::failure::{ERROR, Failure};

/// Bytes copied at once, approximately.
const WINDOW_BYTES: usize = 8 << 20;
/// No record is read from the store, so none is cached.
const SETTINGS: StoreSettings = StoreSettings {
    record_cache_bytes: 0,
    page_cache_bytes: 32 << 20,
    pending_bytes_max: 0,
};

/// Copies the store of the member at `path` into a new file, which takes its place when it is
/// whole. Blocks until that is durable.
///
/// # Errors
/// No member's directory, one that is in use, damage, no space for the copy.
pub fn defragment(path: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(ERROR, error.to_string());
    // Opened only if a member began there: opening creates what is missing.
    let is_there = DataDir::look(path, None).map_err(|error| failed(&error))?;
    if is_there.is_none() {
        let text = format!("{}: no member ever began there", path.display());
        return Err(Failure::new(ERROR, text));
    }
    drop(is_there);
    let dir = DataDir::open(path).map_err(|error| failed(&error))?;
    let store = Store::open(&dir.store(), SETTINGS).map_err(|error| failed(&error))?;
    store
        .begin_rebuild(&dir.rebuilding(), &dir.store())
        .map_err(|error| failed(&error))?;
    loop {
        match store.step_rebuild(WINDOW_BYTES) {
            Ok(RebuildStep::More) => {}
            Ok(RebuildStep::GivenUp(why)) => return Err(failed(&why)),
            Ok(RebuildStep::Finished(_) | RebuildStep::Gone) => return Ok(()),
            Err(error) => return Err(failed(&error)),
        }
    }
}
