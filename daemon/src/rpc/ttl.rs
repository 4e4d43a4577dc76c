//! Put with a time to live, which etcd does not have: the metadata `althing-ttl` on a Put makes the
//! put bring a lease of its own, in one command. The answer's metadata `althing-lease` is the
//! lease's id.

use althing_api::etcdserverpb::PutRequest;
use althing_storage::apply::TTL_MAX;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

/// Metadata of a request: the time to live of what is put.
const TTL: &str = "althing-ttl";
/// Metadata of the answer: the lease's id, in decimal as in the JSON API.
const LEASE: &str = "althing-lease";

fn refusal(text: &str) -> Status {
    Status::invalid_argument(format!("{TTL}: {text}"))
}

/// The time to live that a put asks for, in seconds. Refuses one that cannot be read, and one
/// beside a lease, with a text that names the metadata.
pub(super) fn asked(metadata: &MetadataMap, put: &PutRequest) -> Result<Option<i64>, Status> {
    let Some(value) = metadata.get(TTL) else {
        return Ok(None);
    };
    if put.lease != 0 || put.ignore_lease {
        return Err(refusal("not together with a lease in the request"));
    }
    let text = value.to_str().unwrap_or_default();
    match seconds(text) {
        Some(1..=TTL_MAX) => {}
        Some(_) => return Err(refusal(&format!("from 1 to {TTL_MAX} seconds"))),
        None => {
            return Err(refusal(
                "not a time to live; give seconds, or a duration such as 30s, 5m or 1h30m",
            ));
        }
    }
    Ok(seconds(text))
}

/// Refuses the metadata on a call that would not heed it: a key meant to vanish would stay.
pub(super) fn refuse(metadata: &MetadataMap) -> Result<(), Status> {
    match metadata.get(TTL) {
        None => Ok(()),
        Some(_) => Err(refusal("only Put takes it; a Txn puts with a lease")),
    }
}

/// Tells the client which lease its put was given.
pub(super) fn tell(metadata: &mut MetadataMap, lease: i64) {
    metadata.insert(LEASE, MetadataValue::from(lease));
}

/// Whole seconds, or a sequence of numbers with units; rounded up to seconds.
fn seconds(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(seconds);
    }
    let mut rest = text;
    let mut millis: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|letter: char| letter.is_ascii_digit());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let millis_of_one = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let piece = number.parse::<i64>().ok()?.checked_mul(millis_of_one)?;
        millis = millis.checked_add(piece)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(millis / 1000 + i64::from(millis % 1000 > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(value: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(TTL, MetadataValue::from_static(value));
        metadata
    }

    #[test]
    fn seconds_and_durations_are_read_and_nothing_else() {
        let table = [
            ("30", Some(30)),
            ("30s", Some(30)),
            ("1h30m", Some(5400)),
            ("1500ms", Some(2)),
            ("-5", Some(-5)),
            ("", None),
            ("s", None),
            ("5x", None),
            ("5 s", None),
            ("1.5h", None),
            ("9223372036854775807h", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_refusal_names_the_metadata() {
        let plain = PutRequest::default();
        let leased = PutRequest {
            lease: 7,
            ..PutRequest::default()
        };
        assert_eq!(asked(&MetadataMap::new(), &leased).unwrap(), None);
        assert_eq!(asked(&metadata("30s"), &plain).unwrap(), Some(30));
        for (value, put) in [
            ("soon", &plain),
            ("0", &plain),
            ("-1", &plain),
            ("9000000001", &plain),
            ("30s", &leased),
        ] {
            let status = asked(&metadata(value), put).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with("althing-ttl: "), "{status}");
        }
        assert!(refuse(&metadata("30s")).is_err());
    }
}
