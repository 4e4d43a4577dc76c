//! `put`: writes a key.

use std::io::{Read, Write};

use althing_api::etcdserverpb::PutRequest;
use bytes::Bytes;
use clap::Command;

use crate::args::{Values, manners, positional, read_duration, switch, valued};
use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::text::number::parse_int;

const ARGUMENTS_TEXT: &str = "put command needs 1 argument and input from stdin or 2 arguments";

/// What to say when a server has done only half of what it was asked.
const NO_TTL_TEXT: &str = "the server does not know put --ttl: the key is written, but without a \
                           time to live, and stays until it is deleted";
/// A second in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("put"))
        .about("Puts the given key into the store")
        .after_help(
            "Without VALUE, the value is read from standard input.\n\
             A value that begins with '-' needs '--' before it: put -- KEY -VALUE",
        )
        .override_usage("althingctl put [OPTIONS] KEY [VALUE]")
        .arg(positional())
        .arg(valued(
            "lease",
            "0",
            "Lease ID (in hexadecimal) to attach to the key",
        ))
        .arg(switch(
            "prev-kv",
            "Return the previous key-value pair before modification",
        ))
        .arg(switch(
            "ignore-value",
            "Update the key using its current value",
        ))
        .arg(switch(
            "ignore-lease",
            "Update the key using its current lease",
        ))
        .arg(valued(
            "ttl",
            "",
            "Delete the key after this time, such as 30s (Althing's servers only)",
        ))
}

/// The time to live that `--ttl` gives, in seconds.
fn time_to_live(values: Values<'_>) -> Result<Option<u32>, Failure> {
    let text = values.text("ttl");
    if text.is_empty() {
        return Ok(None);
    }
    let nanoseconds = read_duration("ttl", &text)?;
    let whole = nanoseconds % SECOND == 0;
    let seconds = u32::try_from(nanoseconds / SECOND).ok();
    match seconds.filter(|seconds| whole && *seconds > 0) {
        Some(_) if values.text("lease") != "0" || values.switch("ignore-lease")? => {
            let text = "--ttl gives the key a lease of its own: it excludes --lease and \
                        --ignore-lease";
            Err(Failure::arguments(text))
        }
        Some(seconds) => Ok(Some(seconds)),
        None => {
            let text = format!("bad --ttl {text}: expecting whole seconds, at least 1s");
            Err(Failure::arguments(text))
        }
    }
}

/// Makes the request of the arguments; `missing` supplies a value that they lack.
///
/// # Errors
/// Wrong arguments.
pub fn request(
    values: Values<'_>,
    missing: impl FnOnce() -> Result<Bytes, Failure>,
) -> Result<PutRequest, Failure> {
    let ignore_value = values.switch("ignore-value")?;
    let prev_kv = values.switch("prev-kv")?;
    let ignore_lease = values.switch("ignore-lease")?;
    let mut arguments = values.arguments().into_iter();
    let key = arguments
        .next()
        .ok_or_else(|| Failure::arguments(ARGUMENTS_TEXT))?;
    let given = arguments.next();
    if ignore_value && given.is_some() {
        let text = "put command needs only 1 argument when 'ignore-value' is set";
        return Err(Failure::arguments(text));
    }
    let value = match given {
        Some(value) => value,
        None if ignore_value => Bytes::new(),
        None => missing()?,
    };
    let lease = parse_int(&values.text("lease"), 16).map_err(|error| {
        Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex"))
    })?;
    Ok(PutRequest {
        key,
        value,
        lease,
        prev_kv,
        ignore_value,
        ignore_lease,
    })
}

/// The refusal of a put without a value.
///
/// # Errors
/// Always.
pub fn no_value() -> Result<Bytes, Failure> {
    Err(Failure::arguments(ARGUMENTS_TEXT))
}

fn value_from_stdin() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut value)
        .map_err(|error| Failure::new(ERROR, format!("read standard input: {error}")))?;
    // An empty input is what a forgotten value looks like in a script.
    if value.is_empty() {
        no_value()
    } else {
        Ok(value.into())
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let ttl = time_to_live(values)?;
    let request = request(values, value_from_stdin)?;
    settings.printer.check_response()?;
    let mut client = Client::open(settings).await?;
    let Some(ttl) = ttl else {
        let answer = client.put(request).await?;
        return settings.printer.response(out, &answer);
    };
    let (answer, understood) = client.put_for(request, ttl).await?;
    if !understood {
        return Err(Failure::new(ERROR, NO_TTL_TEXT));
    }
    settings.printer.response(out, &answer)
}
