//! `watch`: shows the changes of keys as they happen. `words` reads what is asked for, `follow`
//! shows it, `interactive` takes many watches from standard input.
//!
//! States: a watch is open -> canceled by the server (exit 5), complete (`--count`, exit 0), or
//! broken off by a signal. A lost connection is none of these: it is taken up again.

mod follow;
mod interactive;
mod words;

use std::cell::RefCell;
use std::io::Write;

use bytes::Bytes;
use clap::Command;

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::Client;
use crate::cmd::Invocation;
use crate::cmd::watch::follow::{Ended, Shown, follow};
use crate::cmd::watch::words::{Surroundings, Words, request};
use crate::failure::{Failure, INTERRUPTED};

const HELP: &str = "\
For every event the COMMAND behind '--' is run, with the variables ETCD_WATCH_REVISION,
ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE; the last three are quoted. If it
fails, the watch ends. ALTHINGCTL_WATCH_KEY and ALTHINGCTL_WATCH_RANGE_END, or etcdctl's
ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END, stand for KEY and RANGE_END.

A lost connection is taken up again at any of the endpoints, without missing or repeating an
event. A script that waits for one change uses --once; to miss none that happens before the
watch is open, it names the revision behind the one that it has read:
  REV=$(althingctl get KEY -w json | jq .header.revision)
  althingctl watch --once --rev $((REV + 1)) KEY

With -i, lines of standard input are obeyed: 'watch [OPTIONS] KEY [RANGE_END] [-- COMMAND]', or
'progress', which asks the server up to which revision everything has been shown.";

/// The command's grammar.
pub fn command() -> Command {
    line_command()
        .about("Watches events stream on keys or prefixes")
        .after_help(HELP)
        .override_usage(
            "althingctl watch [OPTIONS] [KEY or PREFIX] [RANGE_END] [-- COMMAND [ARGS]...]",
        )
        .arg(switch("once", "Exit after the first event; --count 1"))
        .arg(valued(
            "count",
            "0",
            "Exit with 0 after that many events (0: never)",
        ))
}

/// The grammar of a watch in interactive mode.
fn line_command() -> Command {
    manners(Command::new("watch"))
        .arg(positional())
        .arg(switch("interactive", "Interactive mode").short('i'))
        .arg(switch("prefix", "Watch on a prefix if prefix is set"))
        .arg(valued("rev", "0", "Revision to start watching"))
        .arg(switch(
            "prev-kv",
            "Get the previous key-value pair before the event happens",
        ))
        .arg(switch(
            "progress-notify",
            "Get periodic watch progress notification from server",
        ))
}

/// The number of events after which to stop.
fn count(values: Values<'_>) -> Result<Option<u64>, Failure> {
    let (once, count) = (values.switch("once")?, values.int("count")?);
    match (once, u64::try_from(count)) {
        (_, Err(_)) => Err(Failure::arguments("--count cannot be negative")),
        (true, Ok(0 | 1)) => Ok(Some(1)),
        (true, Ok(_)) => Err(Failure::arguments(
            "`--once` and `--count` cannot be set at the same time, choose one",
        )),
        (false, Ok(count)) => Ok(Some(count).filter(|count| *count > 0)),
    }
}

/// How many words of the line stand after `--`.
fn behind_separator(invocation: &Invocation<'_>) -> Option<usize> {
    let line = invocation.line;
    let position = line.iter().position(|word| word == "--")?;
    Some(line.len() - position - 1)
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, a watch that the server canceled, or a command that failed.
pub async fn run(invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let (values, settings) = (Values(invocation.matches), invocation.settings);
    let surroundings = Surroundings::new(invocation.environment)?;
    let count = count(values)?;
    if values.switch("interactive")? {
        if count.is_some() {
            let text = "--once and --count are not for interactive mode";
            return Err(Failure::arguments(text));
        }
        // As with etcdctl, flags of the line itself must be right but count for nothing.
        request(values, &[Bytes::new()])?;
        settings.printer.check_response()?;
        return interactive::run(settings, &surroundings, out).await;
    }
    let arguments: Vec<Bytes> = values.arguments();
    let mut asked = Words::new(arguments, behind_separator(invocation))?;
    surroundings.complete(&mut asked)?;
    let request = request(values, &asked.keys)?;
    settings.printer.check_response()?;
    let client = Client::open_lasting(settings).await?;
    let out = RefCell::new(out);
    let shown = Shown {
        out: &out,
        printer: settings.printer,
        command: asked.command,
        count,
    };
    match follow(client.watch(request), shown).await? {
        Ended::Complete => Ok(()),
        Ended::Canceled => Err(Failure::new(INTERRUPTED, "watch is canceled by the server")),
    }
}
