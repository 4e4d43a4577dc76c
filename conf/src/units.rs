//! Durations and sizes as operators write them: `100ms`, `1h30m`, `64MiB`, plain numbers as etcd.

use crate::error::Fault;
use std::time::Duration;

/// A duration: one or more numbers with units (`1h30m`, `1.5s`). A plain number counts `bare`
/// units of a nanosecond; with `None` only a plain 0 is understood.
pub(crate) fn duration(text: &str, bare: Option<u64>) -> Result<Duration, Fault> {
    let fault = || Fault::new("is not a duration", "write it as 100ms, 5s, 10m or 1h30m");
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let count: u64 = text.parse().map_err(|_| fault())?;
        return match bare {
            Some(unit) => count
                .checked_mul(unit)
                .map(Duration::from_nanos)
                .ok_or_else(fault),
            None if count == 0 => Ok(Duration::ZERO),
            None => Err(Fault::new(
                "has no unit",
                format!("write {text}s or {text}ms"),
            )),
        };
    }
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let (unit, tail) = split_unit(tail);
        let nanos = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(fault()),
        };
        let part = scaled(number, nanos).ok_or_else(fault)?;
        total = total.checked_add(part).ok_or_else(fault)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(fault())
    } else {
        Ok(Duration::from_nanos(total))
    }
}

/// A size in bytes: a plain number, or one with B, KB, MB, GB, TB, KiB, MiB, GiB, TiB.
pub(crate) fn bytes(text: &str) -> Result<u64, Fault> {
    let fault = || Fault::new("is not a size", "write it in bytes, or as 64MiB, 2GiB");
    let (number, unit) = split_number(text.trim());
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(fault()),
    };
    // Mostly a forgotten unit: as bytes it would be next to nothing.
    if factor == 1 && number.contains('.') {
        return Err(Fault::new(
            "is a fraction of a byte",
            "write it with a unit, as 1.5MiB",
        ));
    }
    scaled(number, factor).ok_or_else(fault)
}

/// A count: a plain number.
pub(crate) fn count(text: &str) -> Result<u64, Fault> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::new("is not a whole number", "write digits only"));
    }
    text.parse()
        .map_err(|_| Fault::new("is too large", "write a smaller number"))
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `number * factor`, where the number may have a fraction; rounded down.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Digits beyond the twelfth are below a nanosecond or a byte for every factor above.
    let fraction = &fraction[..fraction.len().min(12)];
    let part = if fraction.is_empty() {
        0
    } else {
        let value: u128 = fraction.parse().ok()?;
        value * u128::from(factor) / 10u128.pow(u32::try_from(fraction.len()).ok()?)
    };
    whole
        .checked_mul(factor)?
        .checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("100ms", 100_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("2h", 7_200_000_000_000),
            ("7ns", 7),
            ("0", 0),
        ];
        for (text, nanos) in cases {
            assert_eq!(
                duration(text, None),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
        assert_eq!(
            duration("100", Some(1_000_000)),
            Ok(Duration::from_millis(100))
        );
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1x",
            "1s5",
            "1..2s",
            ".s",
            "99999999999999h",
        ] {
            assert!(duration(text, None).is_err(), "{text}");
        }
        assert!(duration("99999999999999999999", Some(1)).is_err());
    }

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let cases = [
            ("1572864", 1_572_864),
            ("1.5MiB", 1_572_864),
            ("2GiB", 1 << 31),
            ("64 MiB", 64 << 20),
            ("1kb", 1_000),
            ("0", 0),
        ];
        for (text, size) in cases {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1XB",
            "99999999999TiB",
            "1.2.3",
            "2.5",
            "2.0",
            "1.5B",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
