//! `compaction`: forgets the history before a revision.

use std::io::Write;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::CompactionRequest;
use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::text::number::parse_int;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("compaction"))
        .about("Compacts the event history in the store")
        // Short forms that `completion`, which etcdctl 3.5 lacks, would make ambiguous.
        .aliases(["com", "comp"])
        .override_usage("althingctl compaction [OPTIONS] REVISION")
        .arg(positional())
        .arg(switch(
            "physical",
            "Wait until all old revisions are physically removed",
        ))
        .arg(switch(
            "dry-run",
            "Tell what would be forgotten, and change nothing",
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
    let physical = values.switch("physical")?;
    let revision = values.one("compaction command needs 1 argument")?;
    let revision = parse_int(&String::from_utf8_lossy(&revision), 10)
        .map_err(|error| Failure::new(ERROR, error))?;
    if values.switch("dry-run")? {
        return foresee(revision, settings, out).await;
    }
    let request = CompactionRequest { revision, physical };
    Client::open(settings).await?.compact(request).await?;
    Ok(writeln!(out, "compacted revision {revision}")?)
}

/// Tells which history would go, or refuses as the server would.
async fn foresee(revision: i64, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = Client::open(settings).await?;
    let current = client.status().await?.header.unwrap_or_default().revision;
    let compacted = client.hash_kv(0).await?.compact_revision.max(0);
    let refusal = match revision {
        _ if revision > current => Some(ApiError::FutureRevision),
        _ if revision <= compacted => Some(ApiError::Compacted),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Err(Failure::new(ERROR, refusal.text()));
    }
    Ok(writeln!(
        out,
        "would compact at revision {revision} of {current}: the history before it, back to \
         revision {compacted}, is forgotten, and older reads and watches fail; nothing was changed"
    )?)
}
