//! Words of a line that is typed into an interactive command or a transaction.

use crate::text::quote::take_quoted;

/// Splits a line into words: bare, or quoted as in a shell (double quotes know Go's escapes). A
/// quote that is never closed is dropped. `None` for a bad escape.
pub fn words(mut input: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    while let Some((&first, rest)) = input.split_first() {
        match first {
            b'"' if closing_quote(rest).is_some() => {
                let (word, behind) = take_quoted(input)?;
                words.push(word);
                input = behind;
            }
            b'\'' if rest.contains(&b'\'') => {
                let end = rest.iter().position(|byte| *byte == b'\'')?;
                words.push(rest[..end].to_vec());
                input = &rest[end + 1..];
            }
            b'"' | b'\'' => input = rest,
            _ if is_blank(first) => input = rest,
            _ => {
                let end = input
                    .iter()
                    .position(|byte| is_blank(*byte))
                    .unwrap_or(input.len());
                words.push(input[..end].to_vec());
                input = &input[end..];
            }
        }
    }
    Some(words)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

fn closing_quote(inside: &[u8]) -> Option<usize> {
    let mut position = 0;
    loop {
        match inside.get(position)? {
            b'"' => return Some(position),
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
}
