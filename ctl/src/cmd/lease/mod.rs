//! `lease`: grants, revokes, lists and renews leases.

pub mod grant;
pub mod keep_alive;
pub mod list;
pub mod revoke;
pub mod timetolive;

use std::io::Write;

use clap::{ArgMatches, Command};

use crate::args::{Values, manners};
use crate::cmd::chosen;
use crate::failure::{BAD_CONNECTION, Failure};
use crate::flags::Settings;
use crate::text::number::parse_int;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("lease"))
        .about("Lease related commands")
        .subcommands([
            grant::command(),
            revoke::command(),
            timetolive::command(),
            list::command(),
            keep_alive::command(),
        ])
}

/// Runs one of the commands.
///
/// # Errors
/// The command's own.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    match name {
        "grant" => grant::run(values, settings, out).await,
        "revoke" => revoke::run(values, settings, out).await,
        "timetolive" => timetolive::run(values, settings, out).await,
        "list" => list::run(settings, out).await,
        _ => keep_alive::run(values, settings, out).await,
    }
}

/// The lease that the one argument names in hexadecimal; `missing` is the refusal of any other
/// number of arguments.
fn id(values: Values<'_>, missing: &str) -> Result<i64, Failure> {
    let id = values.one(missing)?;
    parse_int(&String::from_utf8_lossy(&id), 16).map_err(|error| {
        Failure::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex"))
    })
}

/// A refusal of those commands for which etcdctl blames the connection.
fn unanswered(failure: Failure) -> Failure {
    Failure {
        exit: BAD_CONNECTION,
        ..failure
    }
}
