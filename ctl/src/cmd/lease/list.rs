//! `lease list`: all leases.

use std::io::Write;

use clap::Command;

use crate::args::{manners, positional};
use crate::client::Client;
use crate::failure::Failure;
use crate::flags::Settings;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("list"))
        .about("List all active leases")
        .arg(positional())
}

/// Runs the command.
///
/// # Errors
/// The server's refusal, or the deadline.
pub async fn run(settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    settings.printer.check_response()?;
    let answer = Client::open(settings).await?.leases().await;
    let answer = answer.map_err(super::unanswered)?;
    settings.printer.lease(out, &answer)
}
