//! Flags and arguments with etcdctl's manners: booleans may carry a value (`--prefix=false`), the
//! last of a repeated flag counts, values may begin with a dash, and every complaint reads as
//! etcdctl's. clap finds the flags; what their values mean is read here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bytes::Bytes;
use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::{ERROR, Failure};
use crate::text::{duration, number};

const ARGUMENTS: &str = "arguments";

/// A flag that is on when named, off with `=false`.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .value_name("bool")
        .value_parser(OsStringValueParser::new())
        .action(ArgAction::Set)
}

/// A flag with a value; without the flag, the value is `default`.
pub fn valued(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .default_value(default)
        .hide_default_value(default.is_empty())
        .allow_hyphen_values(true)
        .value_parser(OsStringValueParser::new())
        .action(ArgAction::Set)
}

/// The positional arguments, any number of them and any bytes; the command counts them itself.
/// The line of usage names them.
pub fn positional() -> Arg {
    Arg::new(ARGUMENTS)
        .hide(true)
        .num_args(0..)
        .value_parser(OsStringValueParser::new())
        .action(ArgAction::Append)
}

/// The manners that every command shares.
pub fn manners(command: Command) -> Command {
    command
        .args_override_self(true)
        .infer_subcommands(true)
        .disable_version_flag(true)
}

/// A parsed command line, read by flag name.
#[derive(Clone, Copy)]
pub struct Values<'a>(pub &'a ArgMatches);

impl Values<'_> {
    /// The positional arguments as bytes.
    pub fn arguments(&self) -> Vec<Bytes> {
        let words = self.0.get_many::<OsString>(ARGUMENTS);
        let bytes = |word: &OsString| Bytes::copy_from_slice(word.as_bytes());
        words.into_iter().flatten().map(bytes).collect()
    }

    /// The one positional argument; `refusal` answers any other number of them.
    ///
    /// # Errors
    /// `refusal`, with exit code 128.
    pub fn one(&self, refusal: &str) -> Result<Bytes, Failure> {
        match self.arguments().as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(Failure::arguments(refusal)),
        }
    }

    /// As [`Values::one`], as a path.
    ///
    /// # Errors
    /// As [`Values::one`].
    pub fn path(&self, refusal: &str) -> Result<PathBuf, Failure> {
        let path = self.one(refusal)?;
        Ok(PathBuf::from(OsStr::from_bytes(&path)))
    }

    /// Refuses positional arguments with `refusal`.
    ///
    /// # Errors
    /// `refusal`, with exit code 128.
    pub fn none(&self, refusal: &str) -> Result<(), Failure> {
        if self.arguments().is_empty() {
            Ok(())
        } else {
            Err(Failure::arguments(refusal))
        }
    }

    /// The text of flag `name`.
    pub fn text(&self, name: &str) -> String {
        let value = self.0.get_one::<OsString>(name);
        value.map_or_else(String::new, |value| value.to_string_lossy().into_owned())
    }

    /// The bytes of flag `name`: the name of a key need not be text.
    pub fn bytes(&self, name: &str) -> Bytes {
        let value = self.0.get_one::<OsString>(name);
        value.map_or_else(Bytes::new, |value| Bytes::copy_from_slice(value.as_bytes()))
    }

    /// Whether switch `name` is on.
    ///
    /// # Errors
    /// The value is not a boolean.
    pub fn switch(&self, name: &str) -> Result<bool, Failure> {
        read_text(name, &self.text(name), number::parse_bool)
    }

    /// The integer of flag `name`.
    ///
    /// # Errors
    /// The value is not an integer.
    pub fn int(&self, name: &str) -> Result<i64, Failure> {
        read_text(name, &self.text(name), |text| number::parse_int(text, 0))
    }
}

/// Reads a flag's value with `parse`; a refusal names flag and value.
///
/// # Errors
/// `parse` refused the text.
pub fn read_text<T>(
    name: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    let short = match name {
        "interactive" => "-i, ",
        "listen" => "-l, ",
        _ => "",
    };
    parse(text).map_err(|reason| {
        let text = format!("invalid argument \"{text}\" for \"{short}--{name}\" flag: {reason}");
        Failure::new(ERROR, text)
    })
}

/// Reads the nanoseconds of duration flag `name`.
///
/// # Errors
/// The text is not a duration.
pub fn read_duration(name: &str, text: &str) -> Result<i64, Failure> {
    read_text(name, text, duration::parse)
}

/// The complaint about a command line in etcdctl's words. `line` is the whole line with the
/// program's name in front.
pub fn refusal(error: &clap::Error, line: &[OsString]) -> Failure {
    let invalid = text_of(error, ContextKind::InvalidArg);
    // clap names an argument with its usage (`--lease <lease>`); only the flag is of interest.
    let flag = invalid.split([' ', '=', '[']).next().unwrap_or_default();
    let text = match error.kind() {
        ErrorKind::UnknownArgument if flag == "--" || flag.starts_with("---") => {
            let start = if flag == "--" { "--=" } else { flag };
            let mut words = line.iter().filter_map(|word| word.to_str());
            let word = words.find(|word| word.starts_with(start));
            format!("bad flag syntax: {}", word.unwrap_or(flag))
        }
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let letter = flag.chars().nth(1).unwrap_or('-');
            let word = line.iter().filter_map(|word| word.to_str()).find(|word| {
                word.starts_with('-') && !word.starts_with("--") && word.contains(letter)
            });
            format!(
                "unknown shorthand flag: '{letter}' in {}",
                word.unwrap_or(flag)
            )
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals => missing_value(flag, line),
        ErrorKind::InvalidSubcommand => {
            let word = text_of(error, ContextKind::InvalidSubcommand);
            format!("unknown command \"{word}\" for \"althingctl\"")
        }
        _ => {
            let rendered = error.to_string();
            let first = rendered.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    };
    let hint = "Run 'althingctl --help' for usage.";
    Failure::new(ERROR, format!("{text}\n{hint}"))
}

/// A flag at the end of the line without its value; clap names it by its long form only.
fn missing_value(flag: &str, line: &[OsString]) -> String {
    let last = line
        .last()
        .and_then(|word| word.to_str())
        .unwrap_or_default();
    if last.starts_with("--") || !last.starts_with('-') {
        return format!("flag needs an argument: {flag}");
    }
    let letter = last.chars().next_back().unwrap_or('-');
    format!("flag needs an argument: '{letter}' in {last}")
}

fn text_of(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    #[test]
    fn a_prefix_is_read_byte_by_byte() {
        let prefix = |line: &[&[u8]]| {
            let line = line.iter().map(|word| OsStr::from_bytes(word));
            let matches = command().try_get_matches_from(line).unwrap();
            let (_, matches) = matches.subcommand().expect("the test names a command");
            Values(matches).bytes("prefix")
        };
        let line: [&[u8]; 4] = [b"althingctl", b"migrate", b"--prefix=\xff", b"h:1"];
        assert_eq!(prefix(&line), b"\xff"[..]);
        assert_eq!(prefix(&[b"althingctl", b"migrate", b"h:1"]), b""[..]);
    }
}
