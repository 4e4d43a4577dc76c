//! `move-leader`: hands the lead to another member.

use std::io::Write;

use althing_api::etcdserverpb::MoveLeaderRequest;
use clap::Command;

use crate::args::{Values, manners, positional};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::text::number::parse_uint;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("move-leader"))
        .about("Transfers leadership to another etcd cluster member.")
        .arg(positional())
}

/// Runs `move-leader`.
///
/// # Errors
/// Wrong arguments, no leader among the endpoints, its refusal, or the deadline.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let target = values.one("move-leader command needs 1 argument")?;
    let target = String::from_utf8_lossy(&target);
    let target_id = parse_uint(&target, 16).map_err(Failure::arguments)?;
    settings.printer.check_changed()?;
    for endpoint in &settings.endpoints {
        let mut client = Client::open(&settings.with_endpoint(endpoint)).await?;
        let status = client.status().await;
        let status = status.map_err(|failure| Failure {
            exit: ERROR,
            ..failure
        })?;
        let asked = status.header.unwrap_or_default().member_id;
        if asked != status.leader {
            continue;
        }
        let answer = client.move_leader(MoveLeaderRequest { target_id }).await?;
        let done = format!("Leadership transferred from {asked:x} to {target_id:x}");
        return settings.printer.changed(out, &answer, &done);
    }
    let endpoints = settings.endpoints.join(" ");
    Err(Failure::arguments(format!(
        "no leader endpoint given at [{endpoints}]"
    )))
}
