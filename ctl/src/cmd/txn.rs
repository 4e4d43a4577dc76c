//! `txn`: reads a transaction from standard input and runs it.

use std::io::{BufRead, Write};

use althing_api::etcdserverpb::TxnRequest;
use clap::{Arg, Command};

use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::cmd::txn_text::{parse_compare, parse_request, trim};
use crate::failure::{Failure, INVALID_INPUT};
use crate::flags::Settings;

/// The command's grammar.
pub fn command() -> Command {
    let interactive: Arg = switch("interactive", "Prompt for each part of the transaction");
    manners(Command::new("txn"))
        .about("Txn processes all the requests in one transaction")
        .after_help(
            "Standard input holds three parts, each ended by an empty line:\n  \
             compares:          mod(\"key\") > \"0\"     (mod, create, version, value, lease)\n  \
             success requests:  put key \"a value\"   (get, put, del with their flags)\n  \
             failure requests:  get key",
        )
        .arg(positional())
        .arg(interactive.short('i'))
}

/// The lines of one part, up to the empty line that ends it.
fn part<T>(
    input: &mut dyn BufRead,
    parse: impl Fn(&[u8]) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let refuse = |text: String| Failure::new(INVALID_INPUT, text);
    let mut items = Vec::new();
    loop {
        let mut line = Vec::new();
        input
            .read_until(b'\n', &mut line)
            .map_err(|error| refuse(error.to_string()))?;
        // A part that the input cuts short is refused: the transaction might lack its end.
        if line.last() != Some(&b'\n') {
            return Err(refuse("EOF".to_owned()));
        }
        let line = trim(&line);
        if line.is_empty() {
            return Ok(items);
        }
        items.push(parse(line)?);
    }
}

fn read(input: &mut dyn BufRead, mut prompt: impl FnMut(&str)) -> Result<TxnRequest, Failure> {
    prompt("compares:");
    let compare = part(input, parse_compare)?;
    prompt("success requests (get, put, del):");
    let success = part(input, parse_request)?;
    prompt("failure requests (get, put, del):");
    let failure = part(input, parse_request)?;
    Ok(TxnRequest {
        compare,
        success,
        failure,
    })
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments or input, the server's refusal, or the deadline.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let interactive = values.switch("interactive")?;
    if !values.arguments().is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let mut written = Ok(());
    let request = read(&mut std::io::stdin().lock(), |text| {
        if interactive && written.is_ok() {
            written = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    });
    written?;
    let request = request?;
    settings.printer.check_response()?;
    let answer = Client::open(settings).await?.txn(request).await?;
    settings.printer.response(out, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_make_a_transaction() {
        let input = "ver(\"a\") > \"0\"\nval(\"b\") = \"x\"\n\nput a 1\n\nget a\ndel b\n\n";
        let request = read(&mut input.as_bytes(), |_| {}).unwrap();
        let counts = (
            request.compare.len(),
            request.success.len(),
            request.failure.len(),
        );
        assert_eq!(counts, (2, 1, 2));
    }

    #[test]
    fn a_transaction_that_breaks_off_is_refused() {
        for input in ["", "\n", "\n\n", "\nput a 1\n", "\n\nget a"] {
            let failure = read(&mut input.as_bytes(), |_| {}).unwrap_err();
            assert_eq!(failure, Failure::new(INVALID_INPUT, "EOF"), "{input:?}");
        }
    }
}
