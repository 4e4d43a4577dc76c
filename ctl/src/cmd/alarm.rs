//! `alarm list`, `alarm disarm`: the alarms that restrict what the cluster accepts.

use std::io::Write;

use althing_api::etcdserverpb::AlarmResponse;
use clap::{ArgMatches, Command};

use crate::args::{manners, positional};
use crate::client::Client;
use crate::cmd::chosen;
use crate::failure::Failure;
use crate::flags::Settings;

/// The command's grammar.
pub fn command() -> Command {
    let disarm = manners(Command::new("disarm")).about("Disarms all alarms");
    let list = manners(Command::new("list")).about("Lists all alarms");
    manners(Command::new("alarm"))
        .about("Alarm related commands")
        .subcommands([disarm, list].map(|command| command.arg(positional())))
}

/// Runs one of the two commands.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    values.none(&format!("alarm {name} command accepts no arguments"))?;
    settings.printer.check_response()?;
    let mut client = Client::open(settings).await?;
    let alarms = client.alarms().await?;
    if name == "list" {
        return settings.printer.response(out, &alarms);
    }
    let mut cleared = AlarmResponse::default();
    for alarm in alarms.alarms {
        let answer = client.disarm(alarm).await?;
        cleared.alarms.extend(answer.alarms);
    }
    settings.printer.response(out, &cleared)
}
