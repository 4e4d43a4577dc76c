//! `version`: says what this program is.

use std::io::Write;

use althing_api::ETCD_VERSION;
use clap::Command;

use crate::args::{manners, positional};
use crate::failure::Failure;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("version"))
        .about("Prints the version of althingctl")
        .arg(positional())
}

/// Runs the command.
///
/// # Errors
/// `out` cannot be written.
pub fn run(out: &mut dyn Write) -> Result<(), Failure> {
    let (api, _patch) = ETCD_VERSION.rsplit_once('.').unwrap_or((ETCD_VERSION, ""));
    writeln!(out, "althingctl version: {}", env!("CARGO_PKG_VERSION"))?;
    Ok(writeln!(out, "API version: {api}")?)
}
