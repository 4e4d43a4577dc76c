//! `lease keep-alive`: renews a lease, once or until it is gone.

use std::io::Write;

use althing_api::error::Error as ApiError;
use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::print::Format;
use crate::print::simple::shown_id;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("keep-alive"))
        .about("Keeps leases alive (renew)")
        .override_usage("althingctl lease keep-alive [OPTIONS] LEASE_ID")
        .after_help("Ends with exit code 0 when the lease has expired or is revoked.")
        .arg(positional())
        .arg(switch("once", "Renew the lease once and exit"))
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal, or no answer to the first renewal in time.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let once = values.switch("once")?;
    let missing = "lease keep-alive command needs lease ID as argument";
    let id = super::id(values, missing)?;
    settings.printer.check_response()?;
    let client = Client::open_lasting(settings).await?;
    let mut keep_alive = client.keep_alive(id, None);
    loop {
        match keep_alive.next().await.map_err(super::unanswered)? {
            Some(answer) => settings.printer.lease(out, &answer)?,
            None if once => {
                let text = ApiError::LeaseNotFound.text();
                return Err(super::unanswered(Failure::new(ERROR, text)));
            }
            None => break,
        }
        out.flush()?;
        if once {
            return Ok(());
        }
    }
    if settings.printer.format == Format::Simple {
        writeln!(out, "lease {} expired or revoked.", shown_id(id))?;
    }
    Ok(())
}
