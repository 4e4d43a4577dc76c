//! `lease grant`: makes a lease.

use std::io::Write;

use clap::Command;

use crate::args::{Values, manners, positional};
use crate::client::Client;
use crate::failure::Failure;
use crate::flags::Settings;
use crate::text::number::parse_int;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("grant"))
        .about("Creates leases")
        .override_usage("althingctl lease grant [OPTIONS] TTL")
        .arg(positional())
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
    let ttl = values.one("lease grant command needs TTL argument")?;
    let ttl = parse_int(&String::from_utf8_lossy(&ttl), 10)
        .map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
    settings.printer.check_response()?;
    let granted = Client::open(settings).await?.grant(ttl).await;
    let answer = granted.map_err(|failure| Failure {
        text: format!("failed to grant lease ({failure})"),
        ..failure
    })?;
    settings.printer.lease(out, &answer)
}
