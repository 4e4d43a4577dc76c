//! Whether the directories can be used. Looks at the file system, changes nothing there.

use crate::config::Config;
use crate::error::Fault;
use crate::reader::Reader;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::path::Path;

/// Judges the data directory and the WAL directory.
pub(crate) fn check(config: &Config, reader: &mut Reader<'_>) {
    let data_dir = &config.member.data_dir;
    if !reader.is_refused("member.data_dir")
        && !reader.is_refused("member.name")
        && let Err(fault) = usable(data_dir)
    {
        reader.refuse("member.data_dir", fault);
    }
    if let Some(wal_dir) = &config.member.wal_dir {
        if wal_dir == data_dir {
            let fault = Fault::new("is the data directory", "name a directory of its own");
            reader.refuse("member.wal_dir", fault);
        } else if let Err(fault) = usable(wal_dir) {
            reader.refuse("member.wal_dir", fault);
        }
    }
}

/// Whether no start has settled yet which member this is.
pub(crate) fn is_first_start(config: &Config) -> bool {
    !config.member.data_dir.join("member/id").exists()
}

/// An existing directory must be writable; for one to be made, its parent must be.
fn usable(path: &Path) -> Result<(), Fault> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(Fault::new(
            format!("{shown} is not a directory"),
            "name a directory",
        )),
        Ok(_) => writable(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => Path::new("/"),
            };
            if !parent.is_dir() {
                let parent = parent.display();
                return Err(Fault::new(
                    format!("{shown} cannot be made: {parent} is not a directory"),
                    format!("make it with mkdir -p {parent}, or correct the path"),
                ));
            }
            writable(parent)
        }
        Err(error) => Err(Fault::new(
            format!("{shown} cannot be looked at: {error}"),
            "correct the path or its permissions",
        )),
    }
}

fn writable(directory: &Path) -> Result<(), Fault> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, directory, access, AtFlags::EACCESS).map_err(|error| {
        let shown = directory.display();
        Fault::new(
            format!("{shown} cannot be written by this user: {error}"),
            remedy(error),
        )
    })
}

/// A service may be shown most of the file system read-only, so what root sees there is no answer.
fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::ROFS => {
            "it is mounted read-only, or hidden by the service: add ReadWritePaths= with it to the \
             unit, or name another directory"
        }
        _ => "change its owner or permissions, or name another directory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_is_read_only_is_no_matter_of_permissions() {
        assert!(remedy(Errno::ROFS).contains("ReadWritePaths="));
        assert!(remedy(Errno::ACCESS).contains("permissions"));
    }
}
