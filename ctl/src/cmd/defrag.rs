//! `defrag`: members give unused space of their stores back to the disk, one after the other.

use std::io::Write;

use clap::Command;

use super::endpoint;
use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;

/// The grammar.
pub fn command() -> Command {
    manners(Command::new("defrag"))
        .about("Defragments the storage of the members with given endpoints")
        .arg(switch(
            "cluster",
            "Use all endpoints from the cluster member list",
        ))
        .arg(positional())
}

/// Carries it out.
///
/// # Errors
/// A member that refused or did not answer.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let endpoints = match values.switch("cluster")? {
        true => endpoint::of_cluster(settings).await?,
        false => settings.endpoints.clone(),
    };
    let mut failed = false;
    for endpoint in endpoints {
        let mut client = Client::open(&settings.with_endpoint(&endpoint)).await?;
        match client.defragment().await {
            Ok(()) => writeln!(out, "Finished defragmenting etcd member[{endpoint}]")?,
            Err(failure) => {
                eprintln!("Failed to defragment etcd member[{endpoint}] ({failure})");
                failed = true;
            }
        }
    }
    // Each failure has been told where it happened.
    match failed {
        true => Err(Failure::new(ERROR, "")),
        false => Ok(()),
    }
}
