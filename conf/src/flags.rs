//! The command line: etcd's flag names, read as etcd's flag library reads them.
//!
//! `--name value`, `--name=value` and a single dash are the same; a boolean takes its value after
//! `=` only; of a flag given twice the last counts. Values stay text here: what is wrong with them
//! is reported together with the mistakes of the other layers.

use crate::DEFAULT_TOML;
use crate::error::LoadError;
use crate::foreign::FOREIGN;
use crate::option::{self, FORMER, OPTIONS, Setting};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;

pub(crate) const CONFIG_FILE: &str = "config-file";
const VERSION: &str = "version";

/// The release of etcd whose interfaces this version serves.
const ETCD_LEVEL: &str = "3.7.0";

/// The end of the help and of the man page.
const AFTER_HELP: &str = "\
Later ones win: defaults, the file of --config-file, the environment, flags.
The variable of --listen-client-urls is ALTHING_LISTEN_CLIENT_URLS, and so on;
ETCD_LISTEN_CLIENT_URLS counts where ours is not set.

SIGHUP reloads the configuration. SIGTERM and SIGINT stop the member in order;
a second one ends it at once.

Exit codes:
   0  stopped, or removed from the cluster
   1  could not start
   2  the command line is wrong
  70  the disk or the core failed; a restart recovers
  78  the configuration or the data directory must be mended before a restart
 130  ended at once by a second SIGINT; 143 by a second SIGTERM";

/// What the command line says, by flag, in the tables' order.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    pub config_file: Option<String>,
    pub options: Vec<(&'static str, String)>,
    pub foreign: Vec<(&'static str, String)>,
}

/// The command line of `althingd`, for parsing, man pages and shell completion.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new("althingd")
        .about("A member of an Althing cluster: a key-value store that speaks etcd's protocols")
        .after_help(AFTER_HELP)
        .args_override_self(true)
        .arg(
            Arg::new(CONFIG_FILE)
                .long(CONFIG_FILE)
                .value_name("FILE")
                .help("TOML file to read"),
        )
        .arg(
            Arg::new(VERSION)
                .long(VERSION)
                .action(ArgAction::SetTrue)
                .help("Print versions and exit"),
        );
    let defaults = defaults();
    for option in OPTIONS {
        let arg = valued(option.flag, option.is_bool());
        let name = if option.is_bool() {
            "BOOL"
        } else {
            option.value
        };
        command = command.arg(arg.value_name(name).help(help(option, &defaults)));
    }
    for (former, _) in FORMER {
        let is_bool = option::by_flag(former).is_some_and(Setting::is_bool);
        command = command.arg(valued(former, is_bool).hide(true));
    }
    for foreign in FOREIGN {
        command = command.arg(valued(foreign.flag, foreign.is_bool).hide(true));
    }
    command
}

/// The help of an option, with its default unless its text has one.
fn help(option: &Setting, defaults: &BTreeMap<String, String>) -> String {
    match defaults.get(option.key) {
        Some(default) if !option.help.contains("[default: ") => {
            format!("{} [default: {default}]", option.help)
        }
        _ => option.help.to_owned(),
    }
}

/// The values of `default.toml` by key, as a flag takes them, without those that are empty.
fn defaults() -> BTreeMap<String, String> {
    let mut defaults = BTreeMap::new();
    let mut section = "";
    for line in DEFAULT_TOML.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.replace(['"', '[', ']'], "");
            if !value.is_empty() {
                defaults.insert(format!("{section}.{key}"), value);
            }
        }
    }
    defaults
}

fn valued(flag: &'static str, is_bool: bool) -> Arg {
    let arg = Arg::new(flag).long(flag).action(ArgAction::Set);
    if is_bool {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg.allow_hyphen_values(true)
    }
}

/// Reads the command line; the first argument is the program's name. Errors: all but `Refused`.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, LoadError> {
    let matches = command()
        .try_get_matches_from(double_dashes(args))
        .map_err(|error| {
            let text = error.render().to_string();
            match error.kind() {
                ErrorKind::DisplayHelp => LoadError::Help(text),
                _ => LoadError::Usage(text),
            }
        })?;
    if matches.get_flag(VERSION) {
        return Err(LoadError::Version(versions()));
    }
    let given = |flag: &'static str| {
        matches
            .get_one::<String>(flag)
            .map(|value| (flag, value.clone()))
    };
    Ok(Flags {
        config_file: matches.get_one::<String>(CONFIG_FILE).cloned(),
        options: OPTIONS
            .iter()
            .flat_map(option::flags_of)
            .filter_map(given)
            .collect(),
        foreign: FOREIGN
            .iter()
            .filter_map(|foreign| given(foreign.flag))
            .collect(),
    })
}

fn versions() -> String {
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    format!(
        "althingd Version: {}\netcd Version: {ETCD_LEVEL}\nOS/Arch: {system}/{machine}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Turns `-name` into `--name`, leaving alone what is the value of the flag before it.
fn double_dashes(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut is_value = true; // The program's name is not a flag.
    let mut is_over = false;
    for arg in args {
        let text = arg.to_str().unwrap_or_default();
        if is_value || is_over || !text.starts_with('-') || text.len() <= 2 {
            is_over |= !is_value && text == "--";
            is_value = false;
            out.push(arg);
            continue;
        }
        let name = text.trim_start_matches('-');
        is_value = takes_next(name);
        out.push(if text.starts_with("--") {
            arg
        } else {
            OsString::from(format!("-{text}"))
        });
    }
    out
}

/// Whether the argument after `--name` is its value.
fn takes_next(name: &str) -> bool {
    name == CONFIG_FILE
        || option::by_flag(name).is_some_and(|option| !option.is_bool())
        || FOREIGN
            .iter()
            .any(|foreign| foreign.flag == name && !foreign.is_bool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Flags, LoadError> {
        parse(
            std::iter::once("althingd")
                .chain(args.iter().copied())
                .map(OsString::from),
        )
    }

    #[test]
    fn the_table_makes_a_sound_command() {
        command().debug_assert();
    }

    #[test]
    fn the_help_tells_the_defaults_of_the_manual() {
        let command = command();
        let help_of = |flag: &str| {
            let mut args = command.get_arguments();
            let arg = args.find(|arg| arg.get_long() == Some(flag)).unwrap();
            arg.get_help().unwrap().to_string()
        };
        let urls = help_of("listen-client-urls");
        assert!(urls.ends_with("[default: http://localhost:2379]"), "{urls}");
        let segment = help_of("wal-segment-bytes");
        assert!(segment.ends_with("[default: 64MiB]"), "{segment}");
        assert!(!help_of("join").contains("[default"));
        assert_eq!(help_of("data-dir").matches("[default").count(), 1);
    }

    #[test]
    fn one_dash_and_two_dashes_are_the_same() {
        for args in [
            ["-name", "a"].as_slice(),
            &["--name=a"],
            &["-name=a"],
            &["--name", "a"],
        ] {
            assert_eq!(
                parsed(args).unwrap().options,
                [("name", "a".to_owned())],
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_value_that_begins_with_a_dash_stays_a_value() {
        let flags = parsed(&["--quota-backend-bytes", "-1", "-name", "-x"]).unwrap();
        let expected = [
            ("name", "-x".to_owned()),
            ("quota-backend-bytes", "-1".to_owned()),
        ];
        assert_eq!(flags.options, expected);
    }

    #[test]
    fn a_boolean_takes_its_value_after_the_equals_sign_only() {
        let on = [("enable-grpc-gateway", "true".to_owned())];
        assert_eq!(parsed(&["--enable-grpc-gateway"]).unwrap().options, on);
        let off = [("enable-grpc-gateway", "false".to_owned())];
        assert_eq!(
            parsed(&["-enable-grpc-gateway=false"]).unwrap().options,
            off
        );
        let stray = parsed(&["--enable-grpc-gateway", "false"]);
        assert!(matches!(stray, Err(LoadError::Usage(_))));
    }

    #[test]
    fn of_a_flag_given_twice_the_last_counts() {
        let flags = parsed(&["--name=a", "--name=b"]).unwrap();
        assert_eq!(flags.options, [("name", "b".to_owned())]);
    }

    #[test]
    fn help_and_version_are_answers_and_a_stray_word_is_not() {
        for help in ["-h", "--help", "-help"] {
            assert!(matches!(parsed(&[help]), Err(LoadError::Help(_))), "{help}");
        }
        let Err(LoadError::Version(text)) = parsed(&["--version"]) else {
            panic!("no version")
        };
        assert!(text.contains("etcd Version: 3.7.0\n"));
        for usage in [["gateway"].as_slice(), &["--nmae=x"], &["--name"]] {
            let error = parsed(usage).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{usage:?}");
        }
    }
}
