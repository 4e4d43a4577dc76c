//! The programs under test. `cargo test` does not build another package's programs, so the first
//! user asks cargo for them: in the profile and target directory of the running test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The daemon: `ALTHINGD` if set, otherwise the one beside the running test, built when needed.
///
/// # Panics
/// When it does not exist and cargo cannot build it.
pub fn althingd() -> PathBuf {
    named("ALTHINGD", "althingd")
}

/// The command-line client: `ALTHINGCTL` if set, otherwise the one beside the running test.
///
/// # Panics
/// When it does not exist and cargo cannot build it.
pub fn althingctl() -> PathBuf {
    named("ALTHINGCTL", "althingctl")
}

fn named(variable: &str, program: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => built().join(program),
    }
}

/// The directory of built programs.
fn built() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let own = env::current_exe().expect("the running program has a path");
        let mut directory = own
            .parent()
            .expect("a program lies in a directory")
            .to_owned();
        if directory.ends_with("deps") {
            directory.pop();
        }
        // Under cargo the programs are brought up to date; a test that was started by hand takes
        // the programs beside it.
        if let Some(cargo) = env::var_os("CARGO") {
            build(Path::new(&cargo), &directory);
        }
        for program in ["althingd", "althingctl"] {
            let path = directory.join(program);
            assert!(
                path.exists(),
                "{} is missing: run `cargo build --workspace` in this profile, or name the \
                 programs in ALTHINGD and ALTHINGCTL",
                path.display()
            );
        }
        directory
    })
}

fn build(cargo: &Path, directory: &Path) {
    let target = directory
        .parent()
        .expect("a profile's directory lies in the target directory");
    // In this directory: cargo runs a test in its package's, and so in its workspace, also where a
    // copy of another workspace's target directory is used.
    let mut command = Command::new(cargo);
    command
        .env("CARGO_TARGET_DIR", target)
        .args(["build", "--quiet", "--workspace"])
        .args(["--bin", "althingd", "--bin", "althingctl"])
        // With a test among the targets, dependencies get the features that the running test's own
        // build gave them, and are not compiled again.
        .args(["--test", "house"]);
    if directory.ends_with("release") {
        command.arg("--release");
    }
    let status = command
        .status()
        .expect("cargo can be run by what cargo runs");
    assert!(status.success(), "{command:?} failed: {status}");
}
