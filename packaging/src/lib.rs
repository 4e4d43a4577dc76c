//! Renders what a package ships beside the binaries: man pages and shell completions, from the
//! same command lines that the binaries parse, so that they cannot say something else; and packs
//! all of it for Debian.
//!
//! Owns nothing; fails with the error of the file it could not write.

#![forbid(unsafe_code)]

pub mod deb;
pub mod manual;

use clap::Command;
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};

/// The command lines that are packaged.
#[must_use]
pub fn commands() -> Vec<Command> {
    vec![althing_conf::command(), althing_ctl::command()]
}

/// Writes the man pages of every command and its sub-commands into `dir`, which is made if it is
/// missing. Returns the files of `dir`, sorted. Errors: those of writing and listing.
pub fn man(dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    for command in commands() {
        clap_mangen::generate_to(command, dir)?;
    }
    let entries = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    files.sort();
    Ok(files)
}

/// Writes the completions of every command for bash, zsh and fish into `dir`, which is made if it
/// is missing. Returns the files. Errors: those of writing.
pub fn completion(dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let mut written = Vec::new();
    for mut command in commands() {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            written.push(clap_complete::generate_to(shell, &mut command, &name, dir)?);
        }
    }
    Ok(written)
}
