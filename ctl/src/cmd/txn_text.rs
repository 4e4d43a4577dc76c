//! The language of transactions: compares such as `mod("key") > "0"` and requests such as
//! `put key "a value"`. Lines are bytes, so that quoted keys and values may hold any.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use althing_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use althing_api::etcdserverpb::request_op::Request;
use althing_api::etcdserverpb::{Compare, RequestOp};
use bytes::Bytes;
use clap::Command;

use crate::args::{Values, manners};
use crate::cmd::{del, get, put};
use crate::failure::{Failure, INVALID_INPUT};
use crate::text::number::parse_int;
use crate::text::quote::{quote, take_quoted};
use crate::text::words::words;

fn refuse<T>(text: String) -> Result<T, Failure> {
    Err(Failure::new(INVALID_INPUT, text))
}

/// The line without white space at its ends.
pub fn trim(line: &[u8]) -> &[u8] {
    match str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

/// The parts of a compare after its target, as far as they could be read.
#[derive(Default)]
struct Compared {
    key: Vec<u8>,
    operator: String,
    value: Vec<u8>,
    whole: bool,
}

/// Reads `"key") operator "value"`. What follows the value is ignored.
fn compared(input: &[u8]) -> Compared {
    let mut parts = Compared::default();
    let Some((key, rest)) = take_quoted(input.trim_ascii_start()) else {
        return parts;
    };
    parts.key = key;
    let Some(rest) = rest.strip_prefix(b")").and_then(behind_blank) else {
        return parts;
    };
    let end = rest
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(rest.len());
    parts.operator = String::from_utf8_lossy(&rest[..end]).into_owned();
    let value = behind_blank(&rest[end..]).and_then(take_quoted);
    if let Some((value, _)) = value {
        parts.value = value;
        parts.whole = true;
    }
    parts
}

fn behind_blank(input: &[u8]) -> Option<&[u8]> {
    input
        .first()?
        .is_ascii_whitespace()
        .then(|| input.trim_ascii_start())
}

/// Reads a compare.
///
/// # Errors
/// The line is not a compare (exit code 3).
pub fn parse_compare(line: &[u8]) -> Result<Compare, Failure> {
    let shown = String::from_utf8_lossy(line);
    let Some(open) = line.iter().position(|byte| *byte == b'(') else {
        return refuse(format!("malformed comparison: {shown}"));
    };
    let target_name = String::from_utf8_lossy(&line[..open]);
    let parts = compared(&line[open + 1..]);
    if !parts.whole {
        let (key, operator, value) = (quote(&parts.key), parts.operator, quote(&parts.value));
        let got = format!("{target_name}({key}) {operator} {value}");
        return refuse(format!("malformed comparison: {shown}; got {got}"));
    }
    let number = |base| {
        let text = String::from_utf8_lossy(&parts.value);
        parse_int(&text, base).or_else(|_| refuse(format!("invalid txn compare request: {shown}")))
    };
    let (target, union) = match &*target_name {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number(10)?),
        ),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (
            CompareTarget::Value,
            TargetUnion::Value(Bytes::copy_from_slice(&parts.value)),
        ),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => {
            return refuse(format!(
                "malformed comparison: {shown} (unknown target {other})"
            ));
        }
    };
    let result = match parts.operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => {
            return refuse(format!(
                "malformed comparison: {shown} (unknown operator {other})"
            ));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: parts.key.into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

/// Reads a request.
///
/// # Errors
/// The line is not a request (exit code 3), or its arguments are wrong (as the command itself
/// says).
pub fn parse_request(line: &[u8]) -> Result<RequestOp, Failure> {
    let shown = String::from_utf8_lossy(line);
    let Some(words) = words(line) else {
        return refuse("invalid syntax".to_owned());
    };
    if words.len() < 2 {
        return refuse(format!("invalid txn compare request: {shown}"));
    }
    let grammar = manners(Command::new("txn"))
        .no_binary_name(true)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands([get::command(), put::command(), del::command()]);
    let matches = grammar.try_get_matches_from(words.into_iter().map(OsString::from_vec));
    let invalid = || refuse(format!("invalid txn request: {shown}"));
    let Ok(matches) = matches else {
        return invalid();
    };
    let Some((name, matches)) = matches.subcommand() else {
        return invalid();
    };
    let values = Values(matches);
    let request = match name {
        "get" => get::request(values).map(Request::RequestRange),
        "put" if !values.text("ttl").is_empty() => {
            return refuse("put --ttl cannot be a part of a transaction".to_owned());
        }
        "del" if values.switch("dry-run").unwrap_or(true) => {
            return refuse("del --dry-run cannot be a part of a transaction".to_owned());
        }
        "put" => put::request(values, put::no_value).map(Request::RequestPut),
        _ => del::request(values).map(Request::RequestDeleteRange),
    };
    let request = match request {
        Err(failure) if failure.exit == crate::failure::ERROR => return invalid(),
        other => other?,
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

#[cfg(test)]
#[path = "txn_text_test.rs"]
mod tests;
