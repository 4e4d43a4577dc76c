//! Statuses that the client port makes itself, without asking a service.

use althing_api::error::Error;
use tonic::{Code, Status};

use crate::rpc::status;

/// How the protobuf decoder ends its complaint about a message that nests too deep.
const RECURSION_LIMIT: &str = "recursion limit reached";

/// The status for a message above the receive limit, in the words of Go's library.
pub(super) fn too_large(bytes: usize, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({bytes} vs. {bytes_max})"
    ))
}

/// Rewrites what tonic says by itself about a bad message into the code and text of Go's library,
/// which words the same failure differently for unary calls and for streams.
pub(super) fn in_words_of_go(status: &Status, is_stream: bool, bytes_max: usize) -> Option<Status> {
    let text = status.message();
    match status.code() {
        Code::OutOfRange => {
            let rest = text.strip_prefix("Error, decoded message length too large: found ")?;
            let bytes = rest.split(' ').next()?.parse().ok()?;
            Some(too_large(bytes, bytes_max))
        }
        Code::ResourceExhausted => {
            text.strip_prefix("Error decompressing: size limit")?;
            Some(Status::resource_exhausted(format!(
                "grpc: received message after decompression larger than max {bytes_max}"
            )))
        }
        Code::Unimplemented => {
            let rest = text.strip_prefix("Content is compressed with `")?;
            let encoding = rest.strip_suffix("` which isn't supported")?;
            Some(Status::unimplemented(format!(
                "grpc: Decompressor is not installed for grpc-encoding {encoding:?}"
            )))
        }
        Code::Internal => unreadable(text, is_stream),
        _ => None,
    }
}

/// What `in_words_of_go` makes of a message that cannot be read.
fn unreadable(text: &str, is_stream: bool) -> Option<Status> {
    // Only txns nest without bound, and this one nests deeper than any that is admitted.
    if text.ends_with(RECURSION_LIMIT) {
        return Some(status::of(Error::TooManyOps));
    }
    if text == "Missing request message." && !is_stream {
        return Some(Status::unknown("EOF"));
    }
    if text.ends_with("compressed-flag but no grpc-encoding was specified") {
        let text = "grpc: compressed flag set with identity or empty encoding";
        return Some(Status::internal(text));
    }
    if let Some(rest) = text.strip_prefix("Error decompressing: ") {
        let reason = rest.strip_suffix(", while sending request").unwrap_or(rest);
        let text = format!("grpc: failed to decompress the message: {reason}");
        return Some(Status::internal(text));
    }
    let reason = text.strip_prefix("failed to decode Protobuf message: ")?;
    let failure = if is_stream {
        "failed to unmarshal the received message"
    } else {
        "error unmarshalling request"
    };
    Some(Status::internal(format!(
        "grpc: {failure}: proto: {reason}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tonic_says_of_a_bad_message_is_said_as_go_says_it() {
        let reworded = |status: Status| {
            let status = in_words_of_go(&status, false, 9).expect("it is reworded");
            (status.code(), status.message().to_owned())
        };
        let snappy = "Content is compressed with `snappy` which isn't supported";
        let text = r#"grpc: Decompressor is not installed for grpc-encoding "snappy""#;
        assert_eq!(
            reworded(Status::unimplemented(snappy)),
            (Code::Unimplemented, text.to_owned())
        );
        let flag = "protocol error: received message with compressed-flag but no grpc-encoding was \
                    specified";
        let text = "grpc: compressed flag set with identity or empty encoding";
        assert_eq!(
            reworded(Status::internal(flag)),
            (Code::Internal, text.to_owned())
        );
        let missing = reworded(Status::internal("Missing request message."));
        assert_eq!(missing, (Code::Unknown, "EOF".to_owned()));
        for own in [
            Status::unimplemented("Auth.UserAdd is not supported by this version of Althing"),
            Status::resource_exhausted("etcdserver: too many large reads, try again later"),
            Status::internal("anything else"),
        ] {
            assert!(in_words_of_go(&own, false, 9).is_none(), "{own}");
        }
    }
}
