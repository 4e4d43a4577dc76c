//! Asks for a password.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::{ERROR, Failure};
use crate::notice;

/// Reads one line from standard input; on a terminal it asks first and shows nothing of what is
/// typed.
///
/// # Errors
/// Standard input or the terminal failed.
pub fn ask() -> Result<String, Failure> {
    let fail = |error: io::Error| Failure::new(ERROR, format!("read password: {error}"));
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        let shown = tcgetattr(&stdin).map_err(|error| fail(error.into()))?;
        let mut hidden = shown.clone();
        hidden.local_modes -= LocalModes::ECHO;
        notice::ask("Password: ");
        io::stderr().flush().map_err(fail)?;
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|error| fail(error.into()))?;
        let read = stdin.lock().read_line(&mut line);
        // The echo must come back whether or not the line was read.
        tcsetattr(&stdin, OptionalActions::Flush, &shown).map_err(|error| fail(error.into()))?;
        notice::tell("");
        read.map_err(fail)?;
    } else {
        stdin.lock().read_line(&mut line).map_err(fail)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
