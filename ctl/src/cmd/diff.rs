//! `diff`: how the cluster, or another export, differs from an export.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Command;

use super::export::Pages;
use crate::args::{Values, manners, positional};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::portable::{Differs, ExportFile, Record, differences, shown};
use crate::print::Format;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("diff"))
        .about("Shows how the cluster's keys, or another export, differ from an export")
        .after_help(
            "Lines begin with + (added since), - (removed) or ~ (changed). The exit code is 0 if\n\
             nothing differs and 1 if something does.",
        )
        .override_usage("althingctl diff [options] <filename> [filename]")
        .arg(positional())
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, a damaged file, the server's refusal; also, without a sentence, a difference.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !matches!(settings.printer.format, Format::Simple | Format::Json) {
        return Err(settings.printer.unsupported());
    }
    let arguments = values.arguments();
    let open = |path: &bytes::Bytes| ExportFile::open(&String::from_utf8_lossy(path));
    let (first, second) = match arguments.as_slice() {
        [first, second] => (open(first)?.records()?, open(second)?.records()?),
        [first] => {
            let file = open(first)?;
            let head = file.head.clone();
            let mut client = Client::open_lasting(settings).await?;
            let there = Pages::new(head.key, head.range_end, 0);
            (file.records()?, there.all(&mut client).await?)
        }
        _ => return Err(Failure::arguments("diff takes one file or two")),
    };
    let differences = differences(first, second);
    for differs in &differences {
        match settings.printer.format {
            Format::Json => json(out, differs)?,
            _ => simple(out, differs)?,
        }
    }
    out.flush()?;
    if differences.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(ERROR, ""))
    }
}

fn simple(out: &mut dyn Write, differs: &Differs) -> Result<(), Failure> {
    let both = |record: &Record| format!("{} = {}", shown(&record.key), shown(&record.value));
    match differs {
        Differs::Removed(record) => writeln!(out, "- {}", both(record))?,
        Differs::Added(record) => writeln!(out, "+ {}", both(record))?,
        Differs::Changed(old, new) => {
            writeln!(out, "~ {} -> {}", both(old), shown(&new.value))?;
        }
    }
    Ok(())
}

fn json(out: &mut dyn Write, differs: &Differs) -> Result<(), Failure> {
    let (change, old, new) = match differs {
        Differs::Removed(record) => ("removed", Some(record), None),
        Differs::Added(record) => ("added", None, Some(record)),
        Differs::Changed(old, new) => ("changed", Some(old), Some(new)),
    };
    let mut object = serde_json::Map::new();
    object.insert("change".into(), change.into());
    let mut set = |name: &str, bytes: &bytes::Bytes| match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
    if let Some(record) = old.or(new) {
        set("key", &record.key);
    }
    if let Some(old) = old {
        set("old", &old.value);
    }
    if let Some(new) = new {
        set("new", &new.value);
    }
    writeln!(out, "{}", serde_json::Value::Object(object))?;
    Ok(())
}
