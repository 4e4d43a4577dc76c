//! What every HTTP request of the client port passes before it is routed: the check of its Host,
//! the CORS headers, and the answer to a pre-flight request.

use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use super::plain::plain_error;

const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("accept, content-type, authorization");

/// Who may ask from a browser, and under which host names.
#[derive(Debug)]
pub(super) struct Access {
    /// None: every origin.
    origins: Option<Vec<String>>,
    /// None: every host.
    hosts: Option<Vec<String>>,
}

impl Access {
    /// An empty list, or one with `*`, allows everything.
    pub(super) fn new(origins: &[String], hosts: &[String]) -> Access {
        let listed = |list: &[String]| {
            let is_open = list.is_empty() || list.iter().any(|entry| entry == "*");
            (!is_open).then(|| list.to_vec())
        };
        Access {
            origins: listed(origins),
            hosts: listed(hosts),
        }
    }

    fn allows_host(&self, headers: &HeaderMap) -> Result<(), String> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = without_port(host.unwrap_or_default());
        match hosts.iter().any(|allowed| allowed == host) {
            true => Ok(()),
            false => Err(host.to_string()),
        }
    }

    fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let Some(origins) = &self.origins else {
            return Some(HeaderValue::from_static("*"));
        };
        let origin = headers.get(ORIGIN)?;
        let is_listed = origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes());
        is_listed.then(|| origin.clone())
    }
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
    access: Rc<Access>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Err(host) = access.allows_host(request.headers()) {
        return Ok(request.into_response(misdirected(&host)));
    }
    let origin = access.allowed_origin(request.headers());
    let mut response = match *request.method() {
        Method::OPTIONS => request.into_response(HttpResponse::Ok().finish()),
        _ => next.call(request).await?,
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
