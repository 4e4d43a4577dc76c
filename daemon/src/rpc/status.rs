//! Errors of the API as gRPC statuses.

use althing_api::error::Error;
use tonic::{Code, Status};

/// The status that carries `error`: its code and exactly its text.
pub fn of(error: Error) -> Status {
    Status::new(Code::from_i32(error.code() as i32), error.text())
}

/// The status of a failure that is not in etcd's table: code Unknown and its own text, as etcd
/// sends what it does not map.
pub fn unmapped(failure: impl std::fmt::Display) -> Status {
    Status::unknown(failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_keeps_its_code_and_its_text() {
        for error in Error::ALL {
            let status = of(*error);
            assert_eq!(status.code() as i32, error.code() as i32);
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(status.message(), error.text());
        }
    }
}
