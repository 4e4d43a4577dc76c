//! Errors as plain text, in the form of Go's HTTP library; the peer port answers with them too.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

/// An answer of `status` whose body is `text` and a line end.
pub(crate) fn plain_error(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(format!("{text}\n"))
}

/// The answer of a page that serves GET, for every other method.
pub(crate) fn method_not_allowed() -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((ALLOW, "GET"))
        .body("Method Not Allowed\n")
}

/// The answer where there is no page.
pub(crate) fn not_found() -> HttpResponse {
    plain_error(StatusCode::NOT_FOUND, "404 page not found")
}
