//! The head of a gRPC request: what Go's library looks at before it looks for the method, and how
//! it refuses a head that it does not take.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response, StatusCode};
use tonic::Status;

use super::deadline;
use super::grpc_body::ResponseBody;

const GRPC: &str = "application/grpc";

/// A head that is not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    http_status: StatusCode,
    status: Status,
}

impl Refusal {
    pub(super) fn into_http(self) -> Response<ResponseBody> {
        let mut answer = self.status.into_http();
        *answer.status_mut() = self.http_status;
        answer
    }
}

/// Whether a request is meant as gRPC, even if its head is then refused.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(GRPC.as_bytes()))
}

/// How long the client is going to wait, if it said so. Error: the head is refused.
pub(super) fn read(method: &Method, headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    let is_known = match content_type.strip_prefix(GRPC.as_bytes()) {
        None => false,
        Some([]) => true,
        Some([next, ..]) => matches!(next, b'+' | b';'),
    };
    if !is_known {
        let content_type = String::from_utf8_lossy(content_type);
        let text = format!("invalid gRPC request content-type {content_type:?}");
        return Err(Refusal {
            http_status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            status: Status::invalid_argument(text),
        });
    }
    let timeout = headers.get("grpc-timeout");
    let timeout = timeout.map(|value| deadline::parse(value.as_bytes()));
    let timeout = timeout.transpose().map_err(|status| Refusal {
        http_status: StatusCode::BAD_REQUEST,
        status,
    })?;
    if method != Method::POST {
        let text =
            format!("Received a HEADERS frame with :method \"{method}\" which should be POST");
        return Err(Refusal {
            http_status: StatusCode::METHOD_NOT_ALLOWED,
            status: Status::internal(text),
        });
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(content_type: &'static str, timeout: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert("grpc-timeout", HeaderValue::from_static(timeout));
        headers
    }

    #[test]
    fn a_head_is_refused_for_its_type_then_its_timeout_then_its_method() {
        let table = [
            ("application/grpcx", "x", Method::GET, 415_u16, 3),
            ("application/grpc-web", "5S", Method::POST, 415, 3),
            ("application/grpc", "x", Method::GET, 400, 13),
            ("application/grpc", "5S", Method::GET, 405, 13),
        ];
        for (content_type, timeout, method, http_status, code) in table {
            let headers = headers(content_type, timeout);
            assert!(is_grpc(&headers));
            let refusal = read(&method, &headers).unwrap_err();
            assert_eq!(refusal.status.code() as i32, code, "{content_type}");
            assert_eq!(refusal.into_http().status(), http_status);
        }
    }

    #[test]
    fn a_subtype_and_parameters_are_taken() {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;a=b",
        ] {
            let timeout = read(&Method::POST, &headers(content_type, "5S")).unwrap();
            assert_eq!(timeout, Some(Duration::from_secs(5)));
        }
        assert!(!is_grpc(&headers("text/plain", "5S")));
    }
}
