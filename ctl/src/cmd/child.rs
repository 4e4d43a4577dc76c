//! Runs a command for the operator, with variables of ours, and says how it ended in the words of
//! Go's `os/exec`, which etcdctl shows.
//!
//! The child has our standard output and error and no standard input.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::failure::{ERROR, Failure};
use crate::text::quote::quote;

/// The exit code for a child that a signal ended.
const SIGNALLED: u8 = 255;
/// What Go calls the signals 1 to 15.
const SIGNALS: [&str; 15] = [
    "hangup",
    "interrupt",
    "quit",
    "illegal instruction",
    "trace/breakpoint trap",
    "aborted",
    "bus error",
    "floating point exception",
    "killed",
    "user defined signal 1",
    "segmentation fault",
    "user defined signal 2",
    "broken pipe",
    "alarm clock",
    "terminated",
];

/// Runs `words` (program and arguments, at least the program) until it ends.
///
/// # Errors
/// It could not be started, or ended with another status than 0; the failure has its exit code.
pub async fn run(words: &[Bytes], variables: Vec<(&'static str, OsString)>) -> Result<(), Failure> {
    let program = words[0].clone();
    let mut command = Command::new(OsStr::from_bytes(&program));
    command
        .args(words[1..].iter().map(|word| OsStr::from_bytes(word)))
        .envs(variables)
        .stdin(Stdio::null());
    let ended = spawn_blocking(move || command.status()).await;
    match ended.map_err(io::Error::other).and_then(|status| status) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(end(status)),
        Err(error) => Err(Failure::new(ERROR, start_text(&program, &error))),
    }
}

fn end(status: ExitStatus) -> Failure {
    if let Some(code) = status.code() {
        let exit = u8::try_from(code).unwrap_or(SIGNALLED);
        return Failure::new(exit, format!("exit status {code}"));
    }
    let signal = status.signal().unwrap_or_default();
    let position = usize::try_from(signal - 1).unwrap_or(usize::MAX);
    let name = match SIGNALS.get(position) {
        Some(name) => (*name).to_owned(),
        None => format!("signal {signal}"),
    };
    let core = if status.core_dumped() {
        " (core dumped)"
    } else {
        ""
    };
    Failure::new(SIGNALLED, format!("signal: {name}{core}"))
}

fn start_text(program: &[u8], error: &io::Error) -> String {
    if !program.contains(&b'/') {
        let program = quote(program);
        return format!("exec: {program}: executable file not found in $PATH");
    }
    let reason = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            text.to_lowercase()
        }
    };
    format!("fork/exec {}: {reason}", String::from_utf8_lossy(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32) -> (u8, String) {
        let failure = end(ExitStatus::from_raw(status));
        (failure.exit, failure.text)
    }

    #[test]
    fn an_end_is_told_as_go_tells_it() {
        assert_eq!(ended(3 << 8), (3, "exit status 3".to_owned()));
        assert_eq!(ended(9), (255, "signal: killed".to_owned()));
        assert_eq!(ended(15), (255, "signal: terminated".to_owned()));
        assert_eq!(
            ended(0x80 | 6),
            (255, "signal: aborted (core dumped)".to_owned())
        );
        assert_eq!(ended(31), (255, "signal: signal 31".to_owned()));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_named() {
        let missing = io::Error::from(ErrorKind::NotFound);
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        assert_eq!(
            start_text(b"nope", &missing),
            "exec: \"nope\": executable file not found in $PATH"
        );
        assert_eq!(
            start_text(b"./nope", &missing),
            "fork/exec ./nope: no such file or directory"
        );
        assert_eq!(
            start_text(b"/etc", &denied),
            "fork/exec /etc: permission denied"
        );
    }
}
