//! `lease timetolive`: how long a lease has to live.

use std::io::Write;

use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::Failure;
use crate::flags::Settings;
use crate::print::TimeToLive;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("timetolive"))
        .about("Get lease information")
        .override_usage("althingctl lease timetolive [OPTIONS] LEASE_ID")
        .arg(positional())
        .arg(switch("keys", "Get keys attached to this lease"))
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let keys = values.switch("keys")?;
    let missing = "lease timetolive command needs lease ID as argument";
    let id = super::id(values, missing)?;
    settings.printer.check_response()?;
    let answer = Client::open(settings).await?.time_to_live(id, keys).await;
    let answer = answer.map_err(super::unanswered)?;
    settings.printer.lease(out, &TimeToLive { answer, keys })
}
