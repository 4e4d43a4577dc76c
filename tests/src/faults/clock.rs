//! Wall clocks that jump: libfaketime, loaded into a member, adds what a file says. The monotonic
//! clock (CLOCK_MONOTONIC) goes on unchanged, as when an operator sets a clock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::member::Member;

/// The places where distributions put the library.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The wall clock of one member.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// The library, if it is installed.
    pub fn library() -> Option<&'static Path> {
        PLACES.map(Path::new).into_iter().find(|path| path.exists())
    }

    /// Gives a member that is not started yet a clock that can be set.
    ///
    /// # Panics
    /// When its directory cannot be written.
    pub fn of(member: &mut Member, library: &Path) -> Clock {
        let clock = Clock {
            file: member.directory().join("clock"),
        };
        clock.set(0);
        member.set("LD_PRELOAD", library);
        member.set("FAKETIME_TIMESTAMP_FILE", &clock.file);
        for name in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC"] {
            member.set(name, "1");
        }
        clock
    }

    /// Sets the clock this far from the true time.
    ///
    /// # Panics
    /// When the member's directory cannot be written.
    pub fn set(&self, seconds: i64) {
        let written = self.file.with_extension("new");
        let set = fs::write(&written, format!("{seconds:+}\n"));
        set.and_then(|()| fs::rename(&written, &self.file))
            .expect("the member's directory can be written");
    }
}
