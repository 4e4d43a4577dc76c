//! `lease revoke`: ends a lease and deletes its keys.

use std::io::Write;

use clap::Command;

use crate::args::{Values, manners, positional};
use crate::client::Client;
use crate::failure::Failure;
use crate::flags::Settings;
use crate::print::Revoked;

/// The grammar.
pub fn command() -> Command {
    manners(Command::new("revoke"))
        .about("Revokes leases")
        .override_usage("althingctl lease revoke [OPTIONS] LEASE_ID")
        .arg(positional())
}

/// Carries it out.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = super::id(&values.arguments(), "lease revoke command needs 1 argument")?;
    settings.printer.check_revoked()?;
    let revoked = Client::open(settings).await?.revoke(id).await;
    let answer = revoked.map_err(|failure| Failure {
        text: format!("failed to revoke lease ({failure})"),
        ..failure
    })?;
    settings.printer.lease(out, &Revoked { id, answer })
}
