//! The program `althingctl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let line = std::env::args_os().collect();
    ExitCode::from(althing_ctl::run(line, &|name| std::env::var_os(name)))
}
