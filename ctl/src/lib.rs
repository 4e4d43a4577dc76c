//! althingctl, the command-line client. It speaks etcd's gRPC API, so that it works against any
//! etcd as well, takes etcdctl's commands and flags, and writes what etcdctl 3.5 writes: output
//! on stdout and errors on stderr, equal to the byte, with the same exit codes.
//!
//! `flags` and `args` read the command line, `cmd` holds one file per command, `client` talks to
//! the cluster, `session` holds locks and elections with it, `print` writes answers, `text` reads
//! and writes Go's notations; `mirror` copies one cluster into another, `portable` keeps keys as
//! JSON, `progress` draws bars, `notice` writes to stderr, `doctor` judges what ails a cluster or a
//! directory, and `offline` works on files without a server. Most commands are one request or a
//! few; `watch`, `lock`, `elect`, `make-mirror` and `lease keep-alive` last until they are told to
//! end. Nothing outlives the process.

#![forbid(unsafe_code)]
// `eprintln!` panics when nobody reads stderr; `notice` does not.
#![deny(clippy::print_stderr)]

mod args;
mod client;
mod cmd;
mod doctor;
mod endpoint;
mod failure;
mod flags;
mod mirror;
mod notice;
mod offline;
mod password;
mod portable;
mod print;
mod progress;
mod session;
mod text;
mod trust;
mod words;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::slice;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::cmd::Invocation;
use crate::failure::{ERROR, Failure};
use crate::flags::{Environment, Settings};

/// The whole grammar, for parsing and for the manual.
pub fn command() -> Command {
    args::manners(Command::new("althingctl"))
        .about("A command line client for Althing and etcd")
        .args(flags::arguments())
        .subcommands(cmd::commands())
}

/// Runs the command line `line` (program name first) and returns the exit code of the process.
pub fn run(line: Vec<OsString>, environment: Environment<'_>) -> u8 {
    let line = words::command_first(&command(), line);
    let failure = match parse(&line) {
        Ok(Some(matches)) => match execute(&matches, &line, environment) {
            Ok(()) => return 0,
            Err(failure) => failure,
        },
        Ok(None) => return 0,
        Err(failure) => failure,
    };
    failure
        .notes
        .iter()
        .for_each(|note| notice::tell(format_args!("Warning: {note}")));
    if !failure.text.is_empty() {
        notice::tell(format_args!("Error: {failure}"));
    }
    failure.exit
}

/// The parsed line; `None` when help was asked for and shown.
fn parse(line: &[OsString]) -> Result<Option<ArgMatches>, Failure> {
    let mut grammar = command();
    // `help get` is `get -h`, so that it understands short names of commands as well.
    let asked: Vec<OsString>;
    let line = match line {
        [program, help, topic @ ..] if help == "help" => {
            asked = [slice::from_ref(program), topic, &["-h".into()]].concat();
            &asked
        }
        _ => line,
    };
    let matches = match grammar.try_get_matches_from_mut(line) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            write!(io::stdout(), "{}", error.render())?;
            return Ok(None);
        }
        Err(error) => return Err(args::refusal(&error, line)),
    };
    // A group of commands without one of them chosen explains itself, and so does the bare program.
    let mut chosen = &mut grammar;
    let mut at = &matches;
    while let Some((name, below)) = at.subcommand() {
        chosen = chosen
            .find_subcommand_mut(name)
            .expect("clap matched a command of the grammar");
        at = below;
    }
    if chosen.has_subcommands() {
        write!(io::stdout(), "{}", chosen.render_help())?;
        return Ok(None);
    }
    Ok(Some(matches))
}

fn execute(
    matches: &ArgMatches,
    line: &[OsString],
    environment: Environment<'_>,
) -> Result<(), Failure> {
    let (name, chosen) = matches.subcommand().expect("parse has seen a command");
    // Global flags are found at every level; the deepest one has them all.
    let mut deepest = chosen;
    while let Some((_, below)) = deepest.subcommand() {
        deepest = below;
    }
    let settings = Settings::new(deepest, environment)?;
    if settings.debug {
        let lines = Settings::trace(deepest, environment);
        lines.iter().for_each(notice::tell);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(ERROR, error.to_string()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let invocation = Invocation {
        name,
        matches: chosen,
        line: line.get(1..).unwrap_or_default(),
        environment,
        settings: &settings,
    };
    let ended = runtime.block_on(cmd::run(&invocation, &mut out));
    // A command that the operator had run for an event may go on without us.
    runtime.shutdown_background();
    out.flush()?;
    ended
}
