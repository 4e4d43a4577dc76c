//! A separate file system in memory, small enough to be filled; it ends with this value.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Size of each write that fills it.
const BLOCK_BYTES: usize = 64 << 10;

/// A mounted file system.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a file system; returns `None` and prints the reason if this user may not mount.
    ///
    /// # Panics
    /// When there is no place for temporary directories.
    pub fn mount(bytes: u64) -> Option<SmallDisk> {
        let directory = TempDir::with_prefix("althing-disk-").expect("a temporary directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(directory)),
            Ok(output) => {
                println!(
                    "skipped: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                println!("skipped: no mount program: {error}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no space on the disk.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).ok();
        let block = [0; BLOCK_BYTES];
        // The disk is full when it takes no more.
        while filler
            .as_mut()
            .is_some_and(|file| file.write_all(&block).is_ok())
        {}
    }

    /// Gives the space back.
    pub fn free(&self) {
        // Without a filler nothing was taken.
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "the disk stays mounted"
        );
    }
}
