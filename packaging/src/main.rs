//! `althing-packaging man DIR` and `althing-packaging completion DIR`.

use clap::{Arg, Command, value_parser};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = Arg::new("DIR")
        .required(true)
        .value_parser(value_parser!(PathBuf));
    let matches = Command::new("althing-packaging")
        .about("Renders what a package ships beside the binaries")
        .subcommand_required(true)
        .subcommand(Command::new("man").about("Man pages").arg(dir.clone()))
        .subcommand(
            Command::new("completion")
                .about("Shell completions")
                .arg(dir),
        )
        .get_matches();
    let (what, matches) = matches.subcommand().expect("clap requires a sub-command");
    let dir = matches
        .get_one::<PathBuf>("DIR")
        .expect("clap requires the directory");
    let written = match what {
        "man" => althing_packaging::man(dir),
        _ => althing_packaging::completion(dir),
    };
    match written {
        Ok(files) => {
            for file in files {
                println!("{}", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}
