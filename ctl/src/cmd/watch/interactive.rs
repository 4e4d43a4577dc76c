//! `watch -i`: each line of standard input begins a watch (`watch [options] KEY [RANGE_END] [--
//! COMMAND]`) or asks all of them how far they are (`progress`). The end of the input is an error,
//! as it is with etcdctl.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStringExt;

use althing_api::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;
use clap::ArgMatches;
use clap::error::ErrorKind;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::args::{self, Values};
use crate::client::Client;
use crate::cmd::watch::follow::{Shown, follow};
use crate::cmd::watch::words::{Surroundings, Words, request};
use crate::failure::{Failure, INVALID_INPUT};
use crate::flags::Settings;
use crate::notice;
use crate::text::words::words;

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Line {
    Watch(WatchCreateRequest, Vec<Bytes>),
    Progress,
    /// A line that cannot be carried out, for this reason; the next line may be better.
    Invalid(String),
}

/// Reads and follows until the input ends.
///
/// # Errors
/// The end of the input, a line that etcdctl gives up over, or the output cannot be written.
pub async fn run(
    settings: &Settings,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let client = Client::open_lasting(settings).await?;
    let mut lines = lines();
    let out = RefCell::new(out);
    let mut bells = Vec::new();
    let mut followed = FuturesUnordered::new();
    loop {
        let line = tokio::select! {
            // What is there to be shown is shown before the next line is obeyed.
            biased;
            Some(ended) = followed.next() => {
                ended?;
                continue;
            }
            line = lines.recv() => line.unwrap_or_else(|| Err("EOF".to_owned())),
        };
        let line = line.map_err(|reason| {
            let text = format!("error reading watch request line: {reason}");
            Failure::new(INVALID_INPUT, text)
        })?;
        match read(&line, surroundings)? {
            Line::Invalid(text) => notice::tell(text),
            Line::Progress => bells
                .iter()
                .for_each(|bell: &crate::client::ProgressBell| bell.ring()),
            Line::Watch(request, command) => {
                let watcher = client.watch(request);
                bells.push(watcher.bell());
                let shown = Shown {
                    out: &out,
                    printer: settings.printer,
                    command,
                    count: None,
                };
                followed.push(follow(watcher, shown));
            }
        }
    }
}

/// The lines of standard input, read by a thread of their own because a read cannot be waited
/// for otherwise. The thread ends with the input, or with the process.
fn lines() -> mpsc::Receiver<Result<Vec<u8>, String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line);
            // A last line without its end may be a part of one.
            let read = match read {
                Err(error) => Err(error.to_string()),
                Ok(_) if line.pop() == Some(b'\n') => Ok(line),
                Ok(_) => Err("EOF".to_owned()),
            };
            let over = read.is_err();
            if sender.blocking_send(read).is_err() || over {
                return;
            }
        }
    });
    receiver
}

fn read(line: &[u8], surroundings: &Surroundings) -> Result<Line, Failure> {
    let shown = String::from_utf8_lossy(line);
    let Some(words) = words(line) else {
        return Err(Failure::new(INVALID_INPUT, "invalid syntax"));
    };
    let invalid = |text: String| Ok(Line::Invalid(text));
    let Some((name, words)) = words.split_first() else {
        let text = "(watch and progress supported)";
        return invalid(format!("Invalid command: {shown} {text}"));
    };
    match name.as_slice() {
        b"progress" => Ok(Line::Progress),
        b"watch" if words.is_empty() && !surroundings.has_key() => {
            let text = "(command type or key is not provided)";
            invalid(format!("Invalid command {shown} {text}"))
        }
        b"watch" => read_watch(words, surroundings, &shown),
        _ => invalid(format!("Invalid command {shown} (only support watch)")),
    }
}

fn read_watch(
    words: &[Vec<u8>],
    surroundings: &Surroundings,
    shown: &str,
) -> Result<Line, Failure> {
    let separator = words.iter().position(|word| word == b"--");
    let behind = separator.map(|position| words.len() - position - 1);
    if behind == Some(0) {
        Words::new(Vec::new(), behind)?;
    }
    let matches = parse(words)?;
    let values = Values(&matches);
    let mut asked = Words::new(values.arguments(), behind)?;
    surroundings.complete(&mut asked)?;
    if asked.keys.is_empty() && behind.is_none() {
        return Err(super::words::no_key());
    }
    match request(values, &asked.keys) {
        Ok(request) => Ok(Line::Watch(request, asked.command)),
        Err(failure) if failure.exit == crate::failure::ERROR => {
            Err(Failure::arguments(failure.text))
        }
        Err(failure) => Ok(Line::Invalid(format!(
            "Invalid command {shown} ({failure})"
        ))),
    }
}

fn parse(words: &[Vec<u8>]) -> Result<ArgMatches, Failure> {
    let mut line: Vec<OsString> = words.iter().cloned().map(OsString::from_vec).collect();
    line.insert(0, OsString::from("watch"));
    super::line_command()
        .try_get_matches_from(&line)
        .map_err(|error| {
            let text = match error.kind() {
                ErrorKind::DisplayHelp => "pflag: help requested".to_owned(),
                _ => args::refusal(&error, &line).text,
            };
            Failure::arguments(text.lines().next().unwrap_or_default())
        })
}

#[cfg(test)]
#[path = "interactive_test.rs"]
mod tests;
