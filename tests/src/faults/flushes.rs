//! Flushes that take long or fail: strace changes what fdatasync and fsync of a process do, until
//! this value is dropped.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::Process;

/// The tracer of one process.
#[derive(Debug)]
pub struct Flushes(Process);

impl Flushes {
    /// Whether strace is installed.
    pub fn can_be_changed() -> bool {
        let asked = Command::new("strace")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    }

    /// Makes each flush of a process take this long.
    pub fn delayed(process_id: u32, late: Duration) -> Flushes {
        Flushes::changed(process_id, &format!("delay_enter={}", late.as_micros()))
    }

    /// Makes the next flush of each thread fail as on a broken disk.
    pub fn failing(process_id: u32) -> Flushes {
        Flushes::changed(process_id, "error=EIO:when=1")
    }

    fn changed(process_id: u32, how: &str) -> Flushes {
        let mut command = Command::new("strace");
        command
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync,fsync",
            ])
            .args(["-e", &format!("inject=fdatasync,fsync:{how}")])
            .args(["-p", &process_id.to_string()]);
        Flushes(Process::start(command))
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        // The kernel releases the traced process; if asked to end in order, strace may wait forever
        // for one of its threads.
        self.0.kill();
    }
}
