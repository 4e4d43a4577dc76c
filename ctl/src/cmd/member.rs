//! `member list`: who belongs to the cluster.

use std::io::Write;

use althing_api::etcdserverpb::MemberListRequest;
use clap::Command;

use crate::args::{Values, manners, positional, valued};
use crate::client::Client;
use crate::failure::{BAD_FEATURE, Failure};
use crate::flags::Settings;
use crate::text::quote::quote;

/// The grammar.
pub fn command() -> Command {
    let list = manners(Command::new("list"))
        .about("Lists all members in the cluster")
        .arg(valued(
            "consistency",
            "l",
            "Linearizable(l) or Serializable(s)",
        ))
        .arg(positional());
    manners(Command::new("member"))
        .about("Membership related commands")
        .subcommand(list)
}

/// Carries out `member list`.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let linearizable = match values.text("consistency").as_str() {
        "l" => true,
        "s" => false,
        other => {
            let text = format!("unknown consistency flag {}", quote(other.as_bytes()));
            return Err(Failure::new(BAD_FEATURE, text));
        }
    };
    let request = MemberListRequest { linearizable };
    let answer = Client::open(settings).await?.member_list(request).await?;
    settings.printer.members(out, &answer)
}
