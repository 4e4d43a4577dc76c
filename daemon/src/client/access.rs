//! What every HTTP request of the client port passes before it is routed: the check of its Host,
//! the CORS headers, the answer to a pre-flight request, and the look at its path.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use super::paths::diversion;
use super::plain::plain_error;
use crate::settings::Live;

const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("accept, content-type, authorization");

/// Whether a list allows everything: it is empty, or has `*`.
fn is_open(list: &[String]) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == "*")
}

fn allows_host(hosts: &[String], headers: &HeaderMap) -> Result<(), String> {
    if is_open(hosts) {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = without_port(host.unwrap_or_default());
    if hosts.iter().any(|allowed| allowed == host) {
        Ok(())
    } else {
        Err(host.to_string())
    }
}

fn allowed_origin(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    if is_open(origins) {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(ORIGIN)?;
    let is_listed = origins
        .iter()
        .any(|allowed| allowed.as_bytes() == origin.as_bytes());
    is_listed.then(|| origin.clone())
}

/// Strips `:port`; an IPv6 address keeps its colons and loses its brackets.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

/// The middleware.
pub(super) async fn check(
    settings: Live,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let (host, origin) = {
        let port = &settings.get().port;
        let host = allows_host(&port.host_whitelist, request.headers());
        (host, allowed_origin(&port.cors, request.headers()))
    };
    if let Err(host) = host {
        return Ok(request.into_response(misdirected(&host)));
    }
    let mut response = match *request.method() {
        Method::OPTIONS => request.into_response(HttpResponse::Ok().finish()),
        _ => match diversion(request.method(), request.uri()) {
            Some(diversion) => request.into_response(diversion),
            None => next.call(request).await?,
        },
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    }
    Ok(response)
}

fn misdirected(host: &str) -> HttpResponse {
    let text = format!(
        "This member does not answer requests that name it {host:?}.\n\n\
         Add the name to --host-whitelist, or reach the member over TLS. The check keeps web pages \
         from rebinding their names to this address (CVE-2018-5702)."
    );
    plain_error(StatusCode::MISDIRECTED_REQUEST, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("a.example:2379", "a.example"),
            ("[::1]:2379", "::1"),
            ("[::1]", "::1"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
