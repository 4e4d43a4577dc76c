//! `grpc-timeout`: how long a client is going to wait, as gRPC and the JSON gateway carry it.

use std::time::Duration;

use tonic::Status;

/// Parses a header value such as `5S` or `100m`: at most eight digits and a unit.
pub(super) fn parse(value: &[u8]) -> Result<Duration, Status> {
    let malformed = |reason: &str| {
        let value = String::from_utf8_lossy(value);
        Status::internal(format!("malformed grpc-timeout: {reason}: {value:?}"))
    };
    let (unit, digits) = match value {
        [] | [_] => return Err(malformed("transport: timeout string is too short")),
        [digits @ .., unit] if digits.len() <= 8 => (unit, digits),
        _ => return Err(malformed("transport: timeout string is too long")),
    };
    if !b"HMSmun".contains(unit) {
        return Err(malformed("transport: timeout unit is not recognized"));
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = String::from_utf8_lossy(digits);
        return Err(Status::internal(format!(
            "malformed grpc-timeout: strconv.ParseUint: parsing {digits:?}: invalid syntax"
        )));
    }
    let count = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        _ => Duration::from_nanos(count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_the_specification_is_understood() {
        for (value, duration) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("5S", Duration::from_secs(5)),
            ("100m", Duration::from_millis(100)),
            ("7u", Duration::from_micros(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(value.as_bytes()).unwrap(), duration);
        }
    }

    #[test]
    fn a_timeout_without_digits_unit_or_sense_is_refused() {
        for value in ["", "S", "5", "5s", "123456789S", "-1S", "1.5S", "\u{e9}S"] {
            let status = parse(value.as_bytes()).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Internal, "{value}");
        }
        let text = |value: &str| parse(value.as_bytes()).unwrap_err().message().to_owned();
        let short = r#"malformed grpc-timeout: transport: timeout string is too short: "5""#;
        assert_eq!(text("5"), short);
        let syntax = r#"malformed grpc-timeout: strconv.ParseUint: parsing "-1": invalid syntax"#;
        assert_eq!(text("-1S"), syntax);
    }
}
