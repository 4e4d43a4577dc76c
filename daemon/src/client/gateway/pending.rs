//! What has arrived of a body of JSON values. A value may come in thousands of pieces; parsing it
//! again with each would take time that grows with their square, so it is parsed when it is whole.

use bytes::{Buf, BytesMut};

/// Bytes that no message was made of yet, and how far they were inspected.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) bytes: BytesMut,
    /// Bytes that were inspected.
    seen: usize,
    /// Objects and lists that are still open after them.
    depth: usize,
    in_string: bool,
    /// The next byte of the string means itself.
    is_escaped: bool,
    /// Bytes that were there when the value was parsed last.
    parsed: usize,
}

impl Pending {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Removes a value, the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.advance(count);
        *self = Pending {
            bytes,
            ..Pending::default()
        };
    }

    /// Whether the first value seems to be whole. A value that is not is worth parsing too whenever
    /// its length has doubled, so that a mistake in it does not go unnoticed until its end.
    pub(super) fn is_worth_parsing(&mut self) -> bool {
        if self.seen == 0 {
            let blanks = self.bytes.iter().take_while(|byte| is_blank(**byte));
            let blanks = blanks.count();
            self.bytes.advance(blanks);
        }
        if self.is_whole() {
            return true;
        }
        let doubled = self.bytes.len() > self.parsed * 2;
        if doubled {
            self.parsed = self.bytes.len();
        }
        doubled
    }

    /// Inspects the new bytes. Anything but an object, a list or a string is short, or no value.
    fn is_whole(&mut self) -> bool {
        let Some(b'{' | b'[' | b'"') = self.bytes.first() else {
            return !self.bytes.is_empty();
        };
        while let Some(byte) = self.bytes.get(self.seen) {
            self.seen += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => continue,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => continue,
            }
            if self.depth == 0 && !self.in_string {
                return true;
            }
        }
        false
    }
}

/// What JSON allows between values.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths at which a value that comes byte by byte is worth parsing.
    fn worth(text: &str) -> Vec<usize> {
        let mut pending = Pending::default();
        let lengths = text.bytes().enumerate().filter(|(_, byte)| {
            pending.add(&[*byte]);
            pending.is_worth_parsing()
        });
        lengths.map(|(position, _)| position + 1).collect()
    }

    #[test]
    fn a_value_in_many_pieces_is_parsed_when_it_is_whole_and_a_few_times_before() {
        let long = format!(r#"{{"key":"{}"}}"#, r#"\"}"#.repeat(10_000));
        let worth = worth(&long);
        assert_eq!(worth.last(), Some(&long.len()));
        assert!(worth.len() < 20, "{worth:?}");
    }

    #[test]
    fn values_end_where_their_last_bracket_or_quote_does() {
        for (text, end) in [
            (r#"{"a":[{}]}"#, 10),
            (r#"["]"]"#, 5),
            (r#""\\""#, 4),
            (r#""\"""#, 4),
        ] {
            let mut pending = Pending::default();
            pending.add(text.as_bytes());
            pending.add(b" {");
            assert!(pending.is_whole() && pending.seen == end, "{text}");
        }
    }

    #[test]
    fn blanks_between_values_are_dropped() {
        let mut pending = Pending::default();
        for _ in 0..100 {
            pending.add(b" \r\n\t");
            assert!(!pending.is_worth_parsing() && pending.bytes.is_empty());
        }
        pending.add(b" {}");
        assert!(pending.is_worth_parsing());
        pending.consume(2);
        assert!(pending.bytes.is_empty() && !pending.is_worth_parsing());
    }
}
