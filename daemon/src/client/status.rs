//! Statuses that the client port makes itself, without asking a service.

use althing_api::error::Error;
use tonic::{Code, Status};

/// How the protobuf decoder ends its complaint about a message that nests too deep.
const RECURSION_LIMIT: &str = "recursion limit reached";

/// The gRPC status of one of etcd's errors.
pub(super) fn to_status(error: Error) -> Status {
    Status::new(Code::from_i32(error.code() as i32), error.text())
}

/// What a client is told whose message is larger than the receive limit, as Go's library says it.
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
        // Only txns nest without bound; etcd reads this one and refuses it for its operations.
        Code::Internal if text.ends_with(RECURSION_LIMIT) => Some(to_status(Error::TooManyOps)),
        Code::Internal => {
            let reason = text.strip_prefix("failed to decode Protobuf message: ")?;
            let failure = match is_stream {
                true => "failed to unmarshal the received message",
                false => "error unmarshalling request",
            };
            Some(Status::internal(format!(
                "grpc: {failure}: proto: {reason}"
            )))
        }
        _ => None,
    }
}
