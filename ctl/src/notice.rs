//! Messages on stderr, beside a command's output. Nobody may be there to read them: a full disk or
//! a reader that has gone must not end the command, as `eprintln!` would.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes `text` as a line of its own.
pub fn tell(text: impl Display) {
    ask(format_args!("{text}\n"));
}

/// Writes `text`; the cursor stays behind it.
pub fn ask(text: impl Display) {
    // In one piece, so that lines of several processes do not mix.
    _ = io::stderr().write_all(text.to_string().as_bytes());
}
