//! `doctor`: explains a sick cluster, data directory or configuration, and says what to do.

use std::io::Write;
use std::path::{Path, PathBuf};

use althing_conf::FileInstead;
use clap::Command;
use clap::parser::ValueSource;

use crate::args::{Values, manners, positional, valued};
use crate::doctor::{Report, ask, cluster, configuration, directory};
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::offline;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("doctor"))
        .about("Explains a sick cluster, data directory or configuration, and says what to do")
        .after_help(
            "Without options it asks the members at --endpoints, and those that they know of.\n\
             With --data-dir or --config-file it looks at files, and asks members only if\n\
             --endpoints is given too. Changes nothing. Ends with 0 if nothing is wrong, and with\n\
             1 otherwise.",
        )
        .override_usage("althingctl doctor [options]")
        .arg(positional())
        .args([
            valued(
                "data-dir",
                "",
                "Data directory of a stopped member to look at",
            ),
            valued("wal-dir", "", "Directory of its log, if that is apart"),
            valued(
                "config-file",
                "",
                "Configuration to judge, and its data directory",
            ),
        ])
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, a file that cannot be read, something that is wrong.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    values.none("doctor takes no arguments; name what to look at with its options")?;
    Report::check(&settings.printer)?;
    let path = |name| Some(PathBuf::from(values.text(name))).filter(|path| *path != *"");
    let mut directories: Vec<(PathBuf, Option<PathBuf>)> = Vec::new();
    directories.extend(path("data-dir").map(|data| (data, path("wal-dir"))));
    let (mut examined, mut findings) = (Vec::new(), Vec::new());
    let file = path("config-file");
    let asks = values.0.value_source("endpoints") == Some(ValueSource::CommandLine);
    if asks || (file.is_none() && directories.is_empty()) {
        let report = cluster::judge(&ask::cluster(settings).await);
        examined.extend(report.examined);
        findings.extend(report.findings);
    }
    if let Some(file) = file {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file);
        let text = text.map_err(|error| Failure::new(ERROR, format!("read {name}: {error}")))?;
        let judged = althing_conf::check_file(FileInstead {
            name: &name,
            text: &text,
        });
        findings.extend(configuration::judge(&name, &judged));
        examined.push(format!("configuration {name}"));
        if let (Ok(loaded), true) = (&judged, directories.is_empty()) {
            let member = &loaded.config.member;
            let is_set =
                |given: &althing_conf::Given| given.key == "member.data_dir" && given.is_set();
            if loaded.origins().iter().any(is_set) {
                directories.push((member.data_dir.clone(), member.wal_dir.clone()));
            }
        }
    }
    for (data, wal) in directories {
        let facts = offline::directory(&data, wal.as_deref().map(Path::new));
        examined.push(directory::examined(&facts));
        findings.extend(directory::judge(&facts));
    }
    let report = Report::new(examined, findings);
    report.write(&settings.printer, out)?;
    if report.healthy {
        Ok(())
    } else {
        Err(Failure::new(ERROR, ""))
    }
}
