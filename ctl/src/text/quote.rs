//! Quoted strings as Go's `strconv.Quote` writes them and `strconv.Unquote` reads them. Keys and
//! values are bytes; a byte that is not UTF-8 is written `\xNN`.

use std::fmt::Write as _;

/// Writes `bytes` as a double-quoted Go string (the `%q` verb).
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk
            .valid()
            .chars()
            .for_each(|c| push_char(&mut quoted, c));
        for byte in chunk.invalid() {
            write!(quoted, "\\x{byte:02x}").expect("a string accepts every write");
        }
    }
    quoted.push('"');
    quoted
}

fn push_char(quoted: &mut String, c: char) {
    let code = u32::from(c);
    let written = match c {
        '"' => quoted.write_str("\\\""),
        '\\' => quoted.write_str("\\\\"),
        '\x07' => quoted.write_str("\\a"),
        '\x08' => quoted.write_str("\\b"),
        '\x0c' => quoted.write_str("\\f"),
        '\n' => quoted.write_str("\\n"),
        '\r' => quoted.write_str("\\r"),
        '\t' => quoted.write_str("\\t"),
        '\x0b' => quoted.write_str("\\v"),
        _ if is_print(c) => quoted.write_char(c),
        ..' ' => write!(quoted, "\\x{code:02x}"),
        ..'\u{10000}' => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
    written.expect("a string accepts every write");
}

/// Whether Go prints `c` as it is: letters, marks, numbers, punctuation, symbols and the blank.
/// Rust's debug escapes draw the same line (for characters that both Unicode versions know), if
/// `c` is not the first of its string: there a combining mark would be escaped as well.
fn is_print(c: char) -> bool {
    let mut after_letter = String::from("a");
    after_letter.push(c);
    after_letter.escape_debug().nth(1) == Some(c)
}

/// Reads one quoted string from the front of `input`: double quotes with escapes, or back quotes
/// without. Returns the string and the rest after the closing quote; `None` if there is no quoted
/// string.
pub fn take_quoted(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match input.first()? {
        b'`' => {
            let inside = &input[1..];
            let end = inside.iter().position(|byte| *byte == b'`')?;
            let raw = inside[..end].iter().copied().filter(|byte| *byte != b'\r');
            Some((raw.collect(), &inside[end + 1..]))
        }
        b'"' => {
            let mut end = 1;
            while *input.get(end)? != b'"' {
                end += if input[end] == b'\\' { 2 } else { 1 };
            }
            Some((unescape(&input[1..end])?, &input[end + 1..]))
        }
        _ => None,
    }
}

/// Resolves the escapes between double quotes; `None` for a bad escape or a bare line break.
fn unescape(mut inside: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(inside.len());
    while let Some((&first, rest)) = inside.split_first() {
        if first == b'\n' {
            return None;
        }
        if first != b'\\' {
            bytes.push(first);
            inside = rest;
            continue;
        }
        let (&letter, rest) = rest.split_first()?;
        inside = rest;
        let simple = match letter {
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'\\' | b'"' => letter,
            _ => {
                inside = unescape_number(letter, rest, &mut bytes)?;
                continue;
            }
        };
        bytes.push(simple);
    }
    Some(bytes)
}

/// Resolves `\xNN`, `\NNN`, `\uNNNN` and `\UNNNNNNNN`; returns what follows the digits.
fn unescape_number<'a>(letter: u8, rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    let digits = |digits: &[u8], base: u32| -> Option<u32> {
        digits.iter().try_fold(0u32, |value, digit| {
            let digit = char::from(*digit).to_digit(base)?;
            value.checked_mul(base)?.checked_add(digit)
        })
    };
    let (value, length) = match letter {
        b'x' => (digits(rest.get(..2)?, 16)?, 2),
        b'0'..=b'7' => {
            let high = u32::from(letter - b'0') * 64;
            (high + digits(rest.get(..2)?, 8)?, 2)
        }
        b'u' => (digits(rest.get(..4)?, 16)?, 4),
        b'U' => (digits(rest.get(..8)?, 16)?, 8),
        _ => return None,
    };
    if matches!(letter, b'u' | b'U') {
        let mut buffer = [0; 4];
        let text = char::from_u32(value)?.encode_utf8(&mut buffer);
        bytes.extend_from_slice(text.as_bytes());
    } else {
        bytes.push(u8::try_from(value).ok()?);
    }
    Some(&rest[length..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_quoted_as_etcdctl_quotes_them() {
        let cases: [(&[u8], &str); 8] = [
            (b"", r#""""#),
            (b"plain <&> key", r#""plain <&> key""#),
            (b"\x07\x08\x0b\x0c\n\r\t\"\\", r#""\a\b\v\f\n\r\t\"\\""#),
            (b"\x00\x1b\x7f\x80\xff", r#""\x00\x1b\u007f\x80\xff""#),
            (
                "\u{2028}\u{200b}\u{ad}\u{a0}".as_bytes(),
                r#""\u2028\u200b\u00ad\u00a0""#,
            ),
            (
                "\u{378}\u{e000}\u{10ffff}".as_bytes(),
                r#""\u0378\ue000\U0010ffff""#,
            ),
            ("\u{301}\u{fffd}".as_bytes(), "\"\u{301}\u{fffd}\""),
            ("\u{e9}\u{1f600}".as_bytes(), "\"\u{e9}\u{1f600}\""),
        ];
        for (bytes, quoted) in cases {
            assert_eq!(quote(bytes), quoted);
        }
    }

    #[test]
    fn escapes_are_resolved_as_go_resolves_them() {
        let cases: [(&str, &[u8], &str); 5] = [
            (r#""a\tb" rest"#, b"a\tb", " rest"),
            (
                "\"\\x41\\101\u{e9}\\U0001F600\"",
                "AA\u{e9}\u{1f600}".as_bytes(),
                "",
            ),
            (r#""\xff")"#, b"\xff", ")"),
            (r#""say \"hi\"" x"#, b"say \"hi\"", " x"),
            (r"`raw \n` x", br"raw \n", " x"),
        ];
        for (input, bytes, rest) in cases {
            let expected = Some((bytes.to_vec(), rest.as_bytes()));
            assert_eq!(take_quoted(input.as_bytes()), expected, "{input}");
        }
    }

    #[test]
    fn a_broken_quoted_string_is_refused() {
        let broken = [
            "",
            "a",
            "\"open",
            "`open",
            r#""\q""#,
            r#""\'""#,
            r#""\x4""#,
            r#""\400""#,
            r#""\ud800""#,
            r#""\U00110000""#,
            "\"a\nb\"",
            "\"\\",
        ];
        for input in broken {
            assert_eq!(take_quoted(input.as_bytes()), None, "{input}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_string_survives_quoting(bytes: Vec<u8>) {
            let quoted = quote(&bytes);
            prop_assert_eq!(take_quoted(quoted.as_bytes()), Some((bytes, &b""[..])));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, quoted in "[\"`\\\\a-zU0-9]*") {
            let _ = (take_quoted(&bytes), take_quoted(quoted.as_bytes()));
        }
    }
}
