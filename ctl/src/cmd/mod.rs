//! The commands, one file each: `command()` is its grammar, `run` carries it out. A command checks
//! its arguments before it connects, writes what it has to say to `out`, and fails with the
//! sentence and exit code that etcdctl fails with. Commands keep no state.

pub mod alarm;
pub mod check;
mod child;
pub mod compaction;
pub mod completion;
pub mod config;
pub mod defrag;
pub mod del;
pub mod diff;
pub mod doctor;
pub mod downgrade;
pub mod elect;
pub mod endpoint;
pub mod export;
pub mod get;
pub mod import;
pub mod lease;
pub mod lock;
pub mod make_mirror;
pub mod member;
pub mod migrate;
pub mod move_leader;
pub mod put;
mod removal;
pub mod snapshot;
pub mod txn;
mod txn_text;
pub mod version;
pub mod watch;

use std::ffi::OsString;
use std::io::Write;

use bytes::Bytes;
use clap::{ArgMatches, Command};

use althing_api::range::{OPEN_END, prefix_end};

use crate::args::Values;
use crate::failure::Failure;
use crate::flags::{Environment, Settings};

/// A parsed command line and where it was given.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// The first command on the line.
    pub name: &'a str,
    /// What clap found for it.
    pub matches: &'a ArgMatches,
    /// The words of the line, after the program's name.
    pub line: &'a [OsString],
    /// The process's variables.
    pub environment: Environment<'a>,
    /// What the global flags say.
    pub settings: &'a Settings,
}

/// Every command's grammar.
pub fn commands() -> Vec<Command> {
    vec![
        get::command(),
        put::command(),
        del::command(),
        txn::command(),
        watch::command(),
        compaction::command(),
        lease::command(),
        lock::command(),
        elect::command(),
        endpoint::command(),
        alarm::command(),
        defrag::command(),
        member::command(),
        config::command(),
        check::command(),
        snapshot::command(),
        make_mirror::command(),
        export::command(),
        import::command(),
        diff::command(),
        migrate::command(),
        move_leader::command(),
        downgrade::command(),
        snapshot::hashkv(),
        doctor::command(),
        completion::command(),
        version::command(),
    ]
}

/// Runs a command.
///
/// # Errors
/// The command's own.
pub async fn run(invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let (matches, settings) = (invocation.matches, invocation.settings);
    let values = Values(matches);
    match invocation.name {
        "get" => get::run(values, settings, out).await,
        "put" => put::run(values, settings, out).await,
        "del" => del::run(values, settings, out).await,
        "txn" => txn::run(values, settings, out).await,
        "watch" => watch::run(invocation, out).await,
        "compaction" => compaction::run(values, settings, out).await,
        "lease" => lease::run(matches, settings, out).await,
        "lock" => lock::run(values, settings, out).await,
        "elect" => elect::run(values, settings, out).await,
        "endpoint" => endpoint::run(matches, settings, out).await,
        "alarm" => alarm::run(matches, settings, out).await,
        "defrag" => defrag::run(values, settings, out).await,
        "config" => config::run(matches, settings, out).await,
        "check" => check::run(matches, settings, out).await,
        "export" => export::run(values, settings, out).await,
        "import" => import::run(values, settings, out).await,
        "diff" => diff::run(values, settings, out).await,
        "make-mirror" => make_mirror::run(values, settings, out).await,
        "migrate" => migrate::run(values, settings, out).await,
        "snapshot" => snapshot::run(matches, settings, out).await,
        "member" => member::run(matches, settings, out).await,
        "move-leader" => move_leader::run(values, settings, out).await,
        "downgrade" => downgrade::run(matches, settings, out).await,
        "hashkv" => snapshot::run_hashkv(values, settings, out),
        "doctor" => doctor::run(values, settings, out).await,
        "completion" => completion::run(values, out),
        "version" => version::run(out),
        name => unreachable!("{name} has a grammar, and nothing that carries it out"),
    }
}

/// The command of a group that was chosen, and its flags. A group without one is not run: it
/// explains itself.
fn chosen(matches: &ArgMatches) -> (&str, Values<'_>) {
    let chosen = matches.subcommand();
    let (name, matches) = chosen.expect("a group of commands is run with one of them");
    (name, Values(matches))
}

/// The keys that `--prefix` and `--from-key` make of a command's arguments: key and range end.
fn key_range(arguments: &[Bytes], prefix: bool, from_key: bool) -> Result<(Bytes, Bytes), Failure> {
    let (key, end) = (arguments[0].clone(), arguments.get(1));
    if end.is_some() && (prefix || from_key) {
        let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` \
                    is set";
        return Err(Failure::arguments(text));
    }
    // No key is empty on the wire; the smallest one begins "all of them".
    let open = Bytes::from_static(OPEN_END);
    Ok(match end {
        Some(end) => (key, end.clone()),
        None if (prefix || from_key) && key.is_empty() => (open.clone(), open),
        None if from_key => (key, open),
        None if prefix => {
            let end = prefix_end(&key);
            (key, end)
        }
        None => (key, Bytes::new()),
    })
}

/// Refuses two switches that contradict each other.
fn exclude(first: (&str, bool), second: (&str, bool)) -> Result<(), Failure> {
    if !(first.1 && second.1) {
        return Ok(());
    }
    let (first, second) = (first.0, second.0);
    Err(Failure::arguments(format!(
        "`--{first}` and `--{second}` cannot be set at the same time, choose one"
    )))
}
