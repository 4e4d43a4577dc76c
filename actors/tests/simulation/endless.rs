//! Runs a seed, and ends the process if the seed never ends: a member that is busy without a pause
//! keeps the simulated time from passing, and nothing on its thread can notice that.

use std::io::{self, Write};
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::world::{self, Outcome};

/// A seed takes less than a second of a processor. This is for one that shares it with many others.
const END_MAX: Duration = Duration::from_secs(300);
/// The exit code of a test that panicked.
const PANICKED: i32 = 101;

/// What became of `seed`.
pub fn run(seed: u64) -> Outcome {
    let (running, ended) = channel::<()>();
    let watch = thread::spawn(move || {
        if ended.recv_timeout(END_MAX) == Err(RecvTimeoutError::Timeout) {
            // Not what the test harness collects: that is lost with the process.
            let _ = writeln!(io::stderr(), "seed {seed}: a member is busy without end");
            exit(PANICKED);
        }
    });
    let outcome = world::run(seed);
    drop(running);
    watch.join().unwrap();
    outcome
}
