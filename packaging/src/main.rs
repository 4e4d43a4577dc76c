//! `althing-packaging man DIR`, `completion DIR`, and `deb DIR`: the Debian package.

use althing_packaging::deb::Package;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = Arg::new("DIR")
        .required(true)
        .value_parser(value_parser!(PathBuf));
    let binaries = Arg::new("binaries")
        .long("binaries")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Where althingd and althingctl lie [default: a release build is made]");
    let version = Arg::new("version")
        .long("set-version")
        .value_name("VERSION")
        .default_value(env!("CARGO_PKG_VERSION"))
        .help("Version of the package");
    let matches = Command::new("althing-packaging")
        .about("Renders what a package ships beside the binaries, and packs all of it")
        .subcommand_required(true)
        .subcommand(Command::new("man").about("Man pages").arg(dir.clone()))
        .subcommand(
            Command::new("completion")
                .about("Shell completions")
                .arg(dir.clone()),
        )
        .subcommand(
            Command::new("deb")
                .about("The Debian package")
                .args([dir, binaries, version]),
        )
        .get_matches();
    let (what, matches) = matches.subcommand().expect("clap requires a sub-command");
    let dir = matches
        .get_one::<PathBuf>("DIR")
        .expect("clap requires the directory");
    let written = match what {
        "man" => althing_packaging::man(dir),
        "completion" => althing_packaging::completion(dir),
        _ => deb(matches, dir).map(|package| vec![package]),
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

fn deb(matches: &ArgMatches, dir: &Path) -> io::Result<PathBuf> {
    let binaries = match matches.get_one::<PathBuf>("binaries") {
        Some(binaries) => binaries.clone(),
        None => release_build()?,
    };
    let version = matches.get_one::<String>("version");
    let date = std::process::Command::new("date").arg("-R").output()?;
    let package = Package {
        binaries,
        version: version.expect("it has a default").clone(),
        maintainer: maintainer(),
        date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
    };
    package.build(dir)
}

/// The maintainer, from the variables that Debian's own tools read.
fn maintainer() -> String {
    let variable = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let name = variable("DEBFULLNAME", "The Althing authors");
    let address = variable("DEBEMAIL", "althing@localhost.localdomain");
    format!("{name} <{address}>")
}

/// Builds both programs and returns their directory: that of this one, had it a release build.
fn release_build() -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = std::process::Command::new(cargo);
    build.args([
        "build",
        "--release",
        "--bin",
        "althingd",
        "--bin",
        "althingctl",
    ]);
    if !build.status()?.success() {
        return Err(io::Error::other("the release build failed"));
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target"));
    Ok(target.join("release"))
}
