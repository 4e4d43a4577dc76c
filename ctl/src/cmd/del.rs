//! `del`: deletes a key or a range of keys.

use std::io::{BufRead, IsTerminal, Write};

use althing_api::etcdserverpb::{DeleteRangeRequest, RangeRequest};
use althing_api::range::OPEN_END;
use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::client::pages::Pages;
use crate::cmd::{exclude, key_range};
use crate::failure::{ERROR, Failure, INTERRUPTED};
use crate::flags::Settings;
use crate::notice;
use crate::print::Format;
use crate::print::simple::line;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("del"))
        .about("Removes the specified key or range of keys [KEY, RANGE_END)")
        .after_help(
            "Deleting every key (an empty KEY with --prefix or --from-key) asks first when\n\
             standard input is a terminal, unless --yes is given.",
        )
        .override_usage("althingctl del [OPTIONS] KEY [RANGE_END]")
        .arg(positional())
        .arg(switch("prefix", "Delete keys with matching prefix"))
        .arg(switch("prev-kv", "Return deleted key-value pairs"))
        .arg(switch(
            "from-key",
            "Delete keys greater than or equal to the given key, byte by byte",
        ))
        .arg(switch(
            "range",
            "Accepted for etcdctl's sake: RANGE_END needs no consent here",
        ))
        .arg(switch("yes", "Do not ask before every key is deleted").visible_alias("force"))
        .arg(switch(
            "dry-run",
            "List the keys that would go, and change nothing",
        ))
}

/// Makes the request of the arguments.
///
/// # Errors
/// Wrong arguments.
pub fn request(values: Values<'_>) -> Result<DeleteRangeRequest, Failure> {
    let (prefix, from_key) = (values.switch("prefix")?, values.switch("from-key")?);
    let prev_kv = values.switch("prev-kv")?;
    values.switch("range")?;
    let arguments = values.arguments();
    if arguments.is_empty() || arguments.len() > 2 {
        let text = "del command needs one argument as key and an optional argument as range_end";
        return Err(Failure::arguments(text));
    }
    exclude(("prefix", prefix), ("from-key", from_key))?;
    let (key, range_end) = key_range(&arguments, prefix, from_key)?;
    Ok(DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

/// Asks the person at the terminal whether every key shall go; a script is not asked.
fn consent() -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(());
    }
    notice::ask("This deletes every key in the store. Type 'yes' to go on: ");
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(ERROR, format!("read standard input: {error}")))?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(INTERRUPTED, "nothing was deleted")),
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal, the deadline, or no consent.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let request = request(values)?;
    settings.printer.check_response()?;
    let agreed = values.switch("yes")?;
    if values.switch("dry-run")? {
        return foresee(request, settings, out).await;
    }
    if request.key == OPEN_END && request.range_end == OPEN_END && !agreed {
        consent()?;
    }
    let answer = Client::open(settings).await?.delete_range(request).await?;
    settings.printer.response(out, &answer)
}

/// Lists the keys that the request would delete.
async fn foresee(
    request: DeleteRangeRequest,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut client = Client::open_lasting(settings).await?;
    let range = RangeRequest {
        key: request.key,
        range_end: request.range_end,
        keys_only: true,
        ..RangeRequest::default()
    };
    if settings.printer.format != Format::Simple {
        return settings.printer.response(out, &client.range(range).await?);
    }
    let mut pages = Pages::new(range);
    let mut count = 0;
    while let Some(page) = pages.next(&mut client).await? {
        for kv in &page.kvs {
            line(&settings.printer, out, &kv.key)?;
        }
        count += page.kvs.len();
    }
    Ok(writeln!(
        out,
        "would delete {count} keys; nothing was changed"
    )?)
}
