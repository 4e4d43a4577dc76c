//! A gRPC status as an HTTP answer.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use serde::Serialize;
use tonic::{Code, Status};

/// The members of etcd 3.5's object in its order; clients of 3.6 and later read the last two.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    code: i32,
    message: &'a str,
}

/// An error in the middle of a stream.
#[derive(Serialize)]
struct StreamRefusal<'a> {
    error: StreamError<'a>,
}

#[derive(Serialize)]
struct StreamError<'a> {
    code: i32,
    message: &'a str,
}

/// The answer of a call that failed before its first message.
pub(super) fn refusal(status: &Status) -> HttpResponse {
    let body = serde_json::to_string(&Refusal {
        error: status.message(),
        code: status.code().into(),
        message: status.message(),
    });
    let mut response = HttpResponse::build(http_status(status.code()))
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(body.expect("strings and a number always have a JSON form"));
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    response
}

/// The line that ends a stream that failed.
pub(super) fn stream_refusal(status: &Status) -> String {
    let mut line = serde_json::to_string(&StreamRefusal {
        error: StreamError {
            code: status.code().into(),
            message: status.message(),
        },
    })
    .expect("a string and a number always have a JSON form");
    line.push('\n');
    line
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => {
            StatusCode::from_u16(499).expect("499 is in the range of HTTP's statuses")
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_members_of_old_and_new_clients_in_order() {
        let response = refusal(&Status::unauthenticated("etcdserver: invalid auth token"));
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers().get(WWW_AUTHENTICATE).unwrap(),
            "etcdserver: invalid auth token"
        );
        let body = actix_web::body::MessageBody::try_into_bytes(response.into_body()).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"error":"etcdserver: invalid auth token","code":16,"#,
                r#""message":"etcdserver: invalid auth token"}"#
            )
        );
    }

    #[test]
    fn every_code_has_the_http_status_of_the_gateway() {
        let statuses: Vec<u16> = (0..17)
            .map(|code| http_status(Code::from_i32(code)).as_u16())
            .collect();
        let expected = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ];
        assert_eq!(statuses, expected);
    }
}
