//! `completion`: what a shell completes of this program's command line.

use std::io::Write;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::args::{Values, manners, positional};
use crate::failure::{ERROR, Failure};

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("completion"))
        .about("Generates completion script")
        .after_help(
            "To complete in this session:\n  \
             bash: source <(althingctl completion bash)\n  \
             zsh:  source <(althingctl completion zsh)\n  \
             fish: althingctl completion fish | source",
        )
        .override_usage("althingctl completion [bash|zsh|fish|powershell]")
        .arg(positional())
}

/// Writes the script.
///
/// # Errors
/// Wrong arguments, a shell that is not known.
pub fn run(values: Values<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let arguments = values.arguments();
    let refuse = |text: String| Err(Failure::new(ERROR, text));
    let [shell] = arguments.as_slice() else {
        let count = arguments.len();
        return refuse(format!("accepts 1 arg(s), received {count}"));
    };
    let shell = match shell.as_ref() {
        b"bash" => Shell::Bash,
        b"zsh" => Shell::Zsh,
        b"fish" => Shell::Fish,
        b"powershell" => Shell::PowerShell,
        other => {
            let name = String::from_utf8_lossy(other);
            let text = "invalid argument";
            return refuse(format!("{text} {name:?} for \"althingctl completion\""));
        }
    };
    let mut script = Vec::new();
    generate(shell, &mut crate::command(), "althingctl", &mut script);
    Ok(out.write_all(&script)?)
}
