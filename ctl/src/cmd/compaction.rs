//! `compaction`: forgets the history before a revision.

use std::io::Write;

use althing_api::etcdserverpb::CompactionRequest;
use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::text::number::parse_int;

/// The grammar.
pub fn command() -> Command {
    manners(Command::new("compaction"))
        .about("Compacts the event history in the store")
        .override_usage("althingctl compaction [OPTIONS] REVISION")
        .arg(positional())
        .arg(switch(
            "physical",
            "Wait until all old revisions are physically removed",
        ))
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
    let physical = values.switch("physical")?;
    let arguments = values.arguments();
    let [revision] = arguments.as_slice() else {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    };
    let revision = parse_int(&String::from_utf8_lossy(revision), 10)
        .map_err(|error| Failure::new(ERROR, error))?;
    let request = CompactionRequest { revision, physical };
    Client::open(settings).await?.compact(request).await?;
    Ok(writeln!(out, "compacted revision {revision}")?)
}
