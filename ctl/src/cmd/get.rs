//! `get`: reads a key or a range of keys.

use std::io::Write;

use althing_api::etcdserverpb::RangeRequest;
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use clap::Command;

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::Client;
use crate::cmd::{exclude, key_range};
use crate::failure::{BAD_FEATURE, Failure};
use crate::flags::Settings;
use crate::print::{Format, Printer};
use crate::text::quote::quote;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("get"))
        .about("Gets the key or a range of keys")
        .override_usage("althingctl get [OPTIONS] KEY [RANGE_END]")
        .arg(positional())
        .arg(valued(
            "consistency",
            "l",
            "Linearizable(l) or Serializable(s)",
        ))
        .arg(valued(
            "order",
            "",
            "Order of results; ASCEND or DESCEND (ASCEND by default)",
        ))
        .arg(valued(
            "sort-by",
            "",
            "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION",
        ))
        .arg(valued("limit", "0", "Maximum number of results"))
        .arg(switch("prefix", "Get keys with matching prefix"))
        .arg(switch(
            "from-key",
            "Get keys greater than or equal to the given key, byte by byte",
        ))
        .arg(valued("rev", "0", "Revision of the store to read"))
        .arg(switch("keys-only", "Get only the keys"))
        .arg(switch("count-only", "Get only the count"))
        .arg(switch(
            "print-value-only",
            "Only write values (with --write-out=simple)",
        ))
        .arg(valued("min-create-rev", "0", "Minimum create revision"))
        .arg(valued("max-create-rev", "0", "Maximum create revision"))
        .arg(valued("min-mod-rev", "0", "Minimum modification revision"))
        .arg(valued("max-mod-rev", "0", "Maximum modification revision"))
        .arg(switch("stream", "Use the streaming range call"))
}

/// Makes the request of the arguments.
///
/// # Errors
/// Wrong arguments.
pub fn request(values: Values<'_>) -> Result<RangeRequest, Failure> {
    let (prefix, from_key) = (values.switch("prefix")?, values.switch("from-key")?);
    let (keys_only, count_only) = (values.switch("keys-only")?, values.switch("count-only")?);
    let (limit, revision) = (values.int("limit")?, values.int("rev")?);
    let create = revision_span(values, "min-create-rev", "max-create-rev")?;
    let modified = revision_span(values, "min-mod-rev", "max-mod-rev")?;
    let arguments = values.arguments();
    if arguments.is_empty() {
        let text = "get command needs one argument as key and an optional argument as range_end";
        return Err(Failure::arguments(text));
    }
    exclude(("prefix", prefix), ("from-key", from_key))?;
    exclude(("keys-only", keys_only), ("count-only", count_only))?;
    let serializable = match values.text("consistency").as_str() {
        "l" => false,
        "s" => true,
        other => {
            let text = format!("unknown consistency flag {}", quote(other.as_bytes()));
            return Err(Failure::new(BAD_FEATURE, text));
        }
    };
    let (key, range_end) = key_range(&arguments, prefix, from_key)?;
    let (sort_order, sort_target) = sorting(values)?;
    let (min_create, max_create) = ordered(create, "getMinCreateRev", "getMaxCreateRev")?;
    let (min_mod, max_mod) = ordered(modified, "getMinModRev", "getMaxModRev")?;
    Ok(RangeRequest {
        key,
        range_end,
        limit,
        revision: revision.max(0),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only,
        count_only,
        min_mod_revision: min_mod,
        max_mod_revision: max_mod,
        min_create_revision: min_create,
        max_create_revision: max_create,
    })
}

fn sorting(values: Values<'_>) -> Result<(SortOrder, SortTarget), Failure> {
    let refuse = |what: &str, given: &str| {
        Err(Failure::new(
            BAD_FEATURE,
            format!("bad sort {what} {given}"),
        ))
    };
    let (order, target) = (values.text("order"), values.text("sort-by"));
    let sort_order = match order.to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return refuse("order", &order),
    };
    let sort_target = match target.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return refuse("target", &target),
    };
    // Keys come in ascending order anyway; not asking for it spares the server a sort.
    Ok(match (sort_order, sort_target) {
        (SortOrder::Ascend, SortTarget::Key) => (SortOrder::None, SortTarget::Key),
        sorting => sorting,
    })
}

fn revision_span(values: Values<'_>, min: &str, max: &str) -> Result<(i64, i64), Failure> {
    Ok((values.int(min)?.max(0), values.int(max)?.max(0)))
}

fn ordered(span: (i64, i64), min_name: &str, max_name: &str) -> Result<(i64, i64), Failure> {
    let (min, max) = span;
    if max > 0 && min > max {
        let text = format!("{min_name}(={min}) > {max_name}(={max})");
        return Err(Failure::new(BAD_FEATURE, text));
    }
    Ok(span)
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
    let request = request(values)?;
    let value_only = values.switch("print-value-only")?;
    let stream = values.switch("stream")?;
    let count_only = request.count_only;
    let mut client = Client::open(settings).await?;
    let answer = if stream {
        client.range_stream(request).await?
    } else {
        client.range(request).await?
    };
    // As with etcdctl, these two are judged after the read: the server's refusal goes first.
    let format = settings.printer.format;
    if count_only && format != Format::Fields {
        return Err(Failure::arguments(
            "--count-only is only for `--write-out=fields`",
        ));
    }
    if value_only && format != Format::Simple {
        return Err(Failure::arguments(
            "print-value-only is only for `--write-out=simple`",
        ));
    }
    let printer = Printer {
        value_only,
        ..settings.printer
    };
    printer.response(out, &answer)
}
