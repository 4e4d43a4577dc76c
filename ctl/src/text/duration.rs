//! Durations in Go's notation: `1h2m3.5s` on the way in, `3.321665ms` on the way out.

use crate::text::quote::quote;

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000 * MICROSECOND;
const SECOND: i64 = 1_000 * MILLISECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Reads a duration; the result is in nanoseconds and may be negative.
///
/// # Errors
/// The sentence Go's parser gives: an invalid duration, a missing or an unknown unit.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text.as_bytes()));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (whole, fraction, behind) = leading_number(rest).ok_or_else(invalid)?;
        let unit_len = behind
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (name, next) = behind.split_at(unit_len);
        if name.is_empty() {
            return Err(format!(
                "time: missing unit in duration {}",
                quote(text.as_bytes())
            ));
        }
        let unit = unit_nanoseconds(name).ok_or_else(|| {
            let (name, text) = (quote(name.as_bytes()), quote(text.as_bytes()));
            format!("time: unknown unit {name} in duration {text}")
        })?;
        let part = (fraction * unit as f64) as i64;
        total = whole
            .checked_mul(unit)
            .and_then(|nanoseconds| nanoseconds.checked_add(part))
            .and_then(|nanoseconds| nanoseconds.checked_add(total))
            .ok_or_else(invalid)?;
        rest = next;
    }
    Ok(if negative { -total } else { total })
}

/// Splits off `12`, `12.5` or `.5`: the whole part, the fraction below one, and what follows.
fn leading_number(text: &str) -> Option<(i64, f64, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let value = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let below_one = if fraction.is_empty() {
        0.0
    } else {
        format!("0.{fraction}").parse().ok()?
    };
    Some((value, below_one, rest))
}

fn unit_nanoseconds(name: &str) -> Option<i64> {
    match name {
        "ns" => Some(1),
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(MICROSECOND),
        "ms" => Some(MILLISECOND),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        _ => None,
    }
}

/// Writes a duration in nanoseconds the way Go's `Duration.String` does.
pub fn format(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let size = nanoseconds.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if size == 0 {
        return "0s".to_owned();
    }
    if size < second {
        let (unit, name) = match size {
            0..=999 => (1, "ns"),
            1_000..=999_999 => (MICROSECOND.unsigned_abs(), "\u{b5}s"),
            _ => (MILLISECOND.unsigned_abs(), "ms"),
        };
        return format!("{sign}{}{name}", decimal(size, unit));
    }
    let seconds = decimal(size % MINUTE.unsigned_abs(), second);
    let minutes = size / MINUTE.unsigned_abs();
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `size / unit` as an exact decimal without trailing zeros; `unit` is a power of ten.
fn decimal(size: u64, unit: u64) -> String {
    let fraction = size % unit;
    if fraction == 0 {
        return (size / unit).to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{}.{}", size / unit, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("5s", 5 * SECOND),
            (
                "1h2m3.5s",
                HOUR + 2 * MINUTE + 3 * SECOND + 500 * MILLISECOND,
            ),
            ("-1s", -SECOND),
            ("+.5ms", 500 * MICROSECOND),
            ("0", 0),
            ("1us", MICROSECOND),
            ("7ns", 7),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse(text), Ok(nanoseconds), "{text}");
        }
    }

    #[test]
    fn a_bad_duration_is_refused_with_gos_sentence() {
        let cases = [
            ("", r#"time: invalid duration """#),
            ("abc", r#"time: invalid duration "abc""#),
            ("3", r#"time: missing unit in duration "3""#),
            ("3x", r#"time: unknown unit "x" in duration "3x""#),
            ("1.5.s", r#"time: missing unit in duration "1.5.s""#),
            ("99999999999h", r#"time: invalid duration "99999999999h""#),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (988_794, "988.794\u{b5}s"),
            (2_910_230, "2.91023ms"),
            (1_000_502_804, "1.000502804s"),
            (SECOND, "1s"),
            (HOUR + SECOND, "1h0m1s"),
            (-MINUTE, "-1m0s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(format(nanoseconds), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read_back(nanoseconds in -HOUR..HOUR) {
            let read = parse(&format(nanoseconds)).unwrap();
            // The fraction passes through a float, as it does in Go.
            prop_assert!((read - nanoseconds).abs() <= 1);
        }
    }
}
