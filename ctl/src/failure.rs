//! How a command ends when it does not succeed: an exit code of etcdctl's table and a sentence.

use std::io;

use althing_api::error::Error as ApiError;
use tonic::{Code, Status};

/// The RPC failed, an endpoint is unhealthy, or the command line is wrong.
pub const ERROR: u8 = 1;
/// The client could not be set up: no endpoint given, or the login was refused.
pub const BAD_CONNECTION: u8 = 2;
/// The text of a transaction is wrong.
pub const INVALID_INPUT: u8 = 3;
/// A valid flag has a value that means nothing here.
pub const BAD_FEATURE: u8 = 4;
/// The operator said no.
pub const INTERRUPTED: u8 = 5;
/// Standard output cannot be written.
pub const IO: u8 = 6;
/// Wrong number of arguments, or flags that exclude each other.
pub const BAD_ARGS: u8 = 128;

/// What every etcd client says when the time for a command is over.
pub const DEADLINE_TEXT: &str = "context deadline exceeded";

/// Why a command failed and with which code the process ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Exit code of the process.
    pub exit: u8,
    /// Shown as `Error: <text>`; empty when the command has already said what went wrong.
    pub text: String,
    /// Shown as `Warning: <note>` before the error: what each unreachable endpoint answered.
    pub notes: Vec<String>,
}

impl Failure {
    /// A failure with exit code `exit` that says `text`.
    pub fn new(exit: u8, text: impl Into<String>) -> Failure {
        Failure {
            exit,
            text: text.into(),
            notes: Vec::new(),
        }
    }

    /// Wrong arguments (exit code 128).
    pub fn arguments(text: impl Into<String>) -> Failure {
        Failure::new(BAD_ARGS, text)
    }

    /// The command's time is over; `notes` say which endpoints could not be reached and why.
    pub fn deadline(notes: Vec<String>) -> Failure {
        Failure {
            notes,
            ..Failure::new(ERROR, DEADLINE_TEXT)
        }
    }

    /// The failure that a server or the gRPC library reported. A text of etcd's table stands for
    /// itself; any other is wrapped with its code, as Go's gRPC prints it.
    pub fn rpc(status: &Status) -> Failure {
        let text = status.message();
        if ApiError::ALL.iter().any(|known| known.text() == text) {
            return Failure::new(ERROR, text);
        }
        match (status.code(), too_large(text)) {
            (Code::DeadlineExceeded, _) => Failure::deadline(Vec::new()),
            (Code::OutOfRange, Some((size, max))) => {
                let text = format!("grpc: received message larger than max ({size} vs. {max})");
                Failure::new(ERROR, rpc_text(Code::ResourceExhausted, &text))
            }
            (code, _) => Failure::new(ERROR, rpc_text(code, text)),
        }
    }
}

/// The size of an answer and the limit, if the gRPC library says that the answer is over it. Other
/// clients have their own code and words for this, by which scripts know it.
fn too_large(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("Error, decoded message length too large: found ")?;
    let (size, rest) = rest.split_once(" bytes, the limit is: ")?;
    Some((size, rest.strip_suffix(" bytes")?))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        // A reader that has seen enough (`| head`) is not worth a sentence.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(IO, "");
        }
        Failure::new(IO, format!("write standard output: {error}"))
    }
}

/// A status as Go's gRPC library prints it.
pub fn rpc_text(code: Code, message: &str) -> String {
    let name = match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    };
    format!("rpc error: code = {name} desc = {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_etcds_table_stands_for_itself() {
        let known = ApiError::ALL[0].text();
        let failure = Failure::rpc(&Status::new(Code::InvalidArgument, known));
        assert_eq!(failure, Failure::new(ERROR, known));
    }

    #[test]
    fn an_answer_over_the_limit_is_refused_in_gos_words() {
        let text = "Error, decoded message length too large: found 5 bytes, the limit is: 3 bytes";
        let failure = Failure::rpc(&Status::new(Code::OutOfRange, text));
        let expected = "grpc: received message larger than max (5 vs. 3)";
        assert_eq!(failure.text, rpc_text(Code::ResourceExhausted, expected));
        let other = Failure::rpc(&Status::new(Code::OutOfRange, "other"));
        assert_eq!(other.text, rpc_text(Code::OutOfRange, "other"));
    }

    #[test]
    fn an_unknown_text_is_wrapped_with_its_code() {
        let failure = Failure::rpc(&Status::new(Code::Unimplemented, "unknown service"));
        assert_eq!(
            failure.text,
            "rpc error: code = Unimplemented desc = unknown service"
        );
    }
}
