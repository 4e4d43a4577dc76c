//! `defrag`: members give unused space of their stores back to the disk, one after the
//! other; or the store of a member that is stopped.

use std::io::Write;
use std::path::Path;

use clap::Command;

use super::endpoint;
use crate::args::{Values, manners, positional, switch, valued};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::notice;
use crate::offline;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("defrag"))
        .about("Defragments the storage of the members with given endpoints")
        .arg(switch(
            "cluster",
            "Use all endpoints from the cluster member list",
        ))
        .arg(valued(
            "data-dir",
            "",
            "Data directory of a stopped member, in place of the endpoints",
        ))
        .arg(positional())
}

/// Runs the command.
///
/// # Errors
/// A member that refused or did not answer.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let data_dir = values.text("data-dir");
    if !data_dir.is_empty() {
        return offline::defragment(Path::new(&data_dir)).map_err(|failure| {
            let text = format!("failed to defragment data directory[{data_dir}] ({failure})");
            Failure::new(ERROR, text)
        });
    }
    let endpoints = if values.switch("cluster")? {
        endpoint::of_cluster(settings).await?
    } else {
        settings.endpoints.clone()
    };
    let mut failed = false;
    for endpoint in endpoints {
        let mut client = Client::open(&settings.with_endpoint(&endpoint)).await?;
        match client.defragment().await {
            Ok(()) => writeln!(out, "Finished defragmenting etcd member[{endpoint}]")?,
            Err(failure) => {
                notice::tell(format_args!(
                    "Failed to defragment etcd member[{endpoint}] ({failure})"
                ));
                failed = true;
            }
        }
    }
    // Each failure has been reported where it happened.
    if failed {
        Err(Failure::new(ERROR, ""))
    } else {
        Ok(())
    }
}
