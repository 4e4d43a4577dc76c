//! `lease revoke`: ends a lease and deletes its keys.

use std::io::Write;

use althing_api::error::Error as ApiError;
use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::print::simple::{line, shown_id};
use crate::print::{Format, Revoked, TimeToLive};

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("revoke"))
        .about("Revokes leases")
        .override_usage("althingctl lease revoke [OPTIONS] LEASE_ID")
        .arg(positional())
        .arg(switch(
            "dry-run",
            "List the keys that would go, and change nothing",
        ))
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
    let id = super::id(values, "lease revoke command needs 1 argument")?;
    if values.switch("dry-run")? {
        return foresee(id, settings, out).await;
    }
    settings.printer.check_revoked()?;
    let revoked = Client::open(settings).await?.revoke(id).await;
    let answer = revoked.map_err(|failure| Failure {
        text: format!("failed to revoke lease ({failure})"),
        ..failure
    })?;
    settings.printer.lease(out, &Revoked { id, answer })
}

/// Lists the keys of the lease.
async fn foresee(id: i64, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = Client::open(settings).await?.time_to_live(id, true).await?;
    if answer.ttl < 0 {
        let text = ApiError::LeaseNotFound.text();
        return Err(Failure::new(
            ERROR,
            format!("failed to revoke lease ({text})"),
        ));
    }
    if settings.printer.format != Format::Simple {
        let keys = true;
        return settings.printer.lease(out, &TimeToLive { answer, keys });
    }
    for key in &answer.keys {
        line(&settings.printer, out, key)?;
    }
    let (id, count) = (shown_id(id), answer.keys.len());
    Ok(writeln!(
        out,
        "would revoke lease {id} and delete {count} keys; nothing was changed"
    )?)
}
