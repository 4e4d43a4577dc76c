//! Integers and booleans as Go's `strconv` reads them, with its error sentences.

use crate::text::quote::quote;

/// Reads a signed 64-bit integer in `base` (2 to 36). Base 0 takes the base from a prefix (`0x`,
/// `0o`, `0b`, `0`) and allows underscores between digits, as flags do.
///
/// # Errors
/// Go's sentence for bad syntax or a value out of range.
pub fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let fail = |reason: &str| {
        let text = quote(text.as_bytes());
        format!("strconv.ParseInt: parsing {text}: {reason}")
    };
    let invalid = || fail("invalid syntax");
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, base) = if base == 0 {
        prefixed(unsigned).ok_or_else(invalid)?
    } else {
        (unsigned.to_owned(), base)
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(invalid());
    }
    let signed = if negative {
        format!("-{digits}")
    } else {
        digits
    };
    i64::from_str_radix(&signed, base).map_err(|_| fail("value out of range"))
}

/// Reads an unsigned 64-bit integer in `base` (2 to 36).
///
/// # Errors
/// Go's sentence for bad syntax or a value out of range.
pub fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    let fail = |reason: &str| {
        let text = quote(text.as_bytes());
        format!("strconv.ParseUint: parsing {text}: {reason}")
    };
    if text.is_empty() || !text.chars().all(|c| c.is_digit(base)) {
        return Err(fail("invalid syntax"));
    }
    u64::from_str_radix(text, base).map_err(|_| fail("value out of range"))
}

/// The digits without prefix and underscores, and the base that the prefix names.
fn prefixed(text: &str) -> Option<(String, u32)> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    // An underscore stands between two digits, or between a prefix and a digit; never at an end.
    let has_prefix = digits.len() < lower.len();
    let misplaced =
        digits.contains("__") || digits.ends_with('_') || (digits.starts_with('_') && !has_prefix);
    (!misplaced).then(|| (digits.replace('_', ""), base))
}

/// Writes `number` as Go's `%x` writes it, padded with zeros to `width` characters; the sign counts
/// as one.
pub fn hex(number: i64, width: usize) -> String {
    let digits = number.unsigned_abs();
    if number < 0 {
        format!("-{digits:0width$x}", width = width.saturating_sub(1))
    } else {
        format!("{digits:0width$x}")
    }
}

/// Reads a boolean.
///
/// # Errors
/// Go's sentence for bad syntax.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => {
            let text = quote(text.as_bytes());
            Err(format!("strconv.ParseBool: parsing {text}: invalid syntax"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_written_as_go_writes_them() {
        let cases = [
            (0x7a1e, 16, "0000000000007a1e"),
            (-1, 16, "-000000000000001"),
            (i64::MIN, 16, "-8000000000000000"),
            (0x7a1e, 0, "7a1e"),
            (-1, 0, "-1"),
        ];
        for (number, width, text) in cases {
            assert_eq!(hex(number, width), text);
        }
    }

    #[test]
    fn flags_accept_gos_integer_literals() {
        let cases = [
            ("0", 0),
            ("-5", -5),
            ("+1", 1),
            ("0x10", 16),
            ("0b1", 1),
            ("017", 15),
            ("0o17", 15),
            ("1_000", 1000),
            ("0x_f", 15),
            ("-9223372036854775808", i64::MIN),
        ];
        for (text, value) in cases {
            assert_eq!(parse_int(text, 0), Ok(value), "{text}");
        }
    }

    #[test]
    fn bad_integers_are_refused_with_gos_sentence() {
        for text in ["", "x", "-", "--1", "1__0", "_1", "1_", "0x", "08"] {
            let error = format!("strconv.ParseInt: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_int(text, 0), Err(error), "{text}");
        }
        assert_eq!(
            parse_int("8000000000000000", 16).unwrap_err(),
            r#"strconv.ParseInt: parsing "8000000000000000": value out of range"#
        );
        assert!(parse_int("1_0", 10).is_err());
        assert!(parse_int("0x1", 16).is_err());
    }

    #[test]
    fn ids_of_members_are_unsigned() {
        assert_eq!(
            parse_uint("8e9e05c52164694d", 16),
            Ok(0x8e9e_05c5_2164_694d)
        );
        for text in ["", "xyz", "-1", "+1", "0x1"] {
            let error = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_uint(text, 16), Err(error));
        }
        let large = parse_uint("10000000000000000", 16).unwrap_err();
        assert!(large.ends_with("value out of range"));
    }

    #[test]
    fn booleans_are_gos_twelve_words() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        assert_eq!(
            parse_bool("maybe").unwrap_err(),
            r#"strconv.ParseBool: parsing "maybe": invalid syntax"#
        );
    }

    proptest! {
        #[test]
        fn every_integer_is_read_back(value: i64) {
            prop_assert_eq!(parse_int(&value.to_string(), 0), Ok(value));
            prop_assert_eq!(parse_int(&value.to_string(), 10), Ok(value));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = (parse_int(&text, 0), parse_int(&text, 16), parse_bool(&text));
        }
    }
}
