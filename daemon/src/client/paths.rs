//! Paths of HTTP requests as Go's library reads them: escapes are resolved before a page is looked
//! for, and a path with superfluous parts is redirected to the one without. A client whose base URL
//! ends with a slash asks for `//v3/kv/range` every day.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::http::{Method, Uri};

/// The path without its escapes; `None` if one of them is malformed.
pub(super) fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(path.into());
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hexadecimal(rest.next()?)? << 4 | hexadecimal(rest.next()?)?,
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned().into())
}

fn hexadecimal(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// The answer to a request whose path is not looked up, because it cannot be read or has
/// superfluous parts.
pub(super) fn diversion(method: &Method, uri: &Uri) -> Option<HttpResponse> {
    let path = uri.path();
    let content_type = |value: &'static str| (CONTENT_TYPE, value);
    if decoded(path).is_none() {
        let mut answer = HttpResponse::BadRequest();
        answer.insert_header(content_type("text/plain; charset=utf-8"));
        return Some(answer.body("400 Bad Request"));
    }
    let mut location = cleaned(path).filter(|_| *method != Method::CONNECT)?;
    if let Some(query) = uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let mut answer = HttpResponse::TemporaryRedirect();
    answer.insert_header((LOCATION, location.as_str()));
    if *method != Method::GET && *method != Method::HEAD {
        return Some(answer.finish());
    }
    answer.insert_header(content_type("text/html; charset=utf-8"));
    let href = location
        .replace('&', "&amp;")
        .replace('\'', "&#39;")
        .replace('"', "&#34;");
    Some(answer.body(format!("<a href=\"{href}\">Temporary Redirect</a>.\n\n")))
}

/// The path without empty parts, `.` and `..`; `None` when it has none of them.
fn cleaned(path: &str) -> Option<String> {
    if !path.contains("//") && !path.contains("/.") {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && !parts.is_empty() {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superfluous_parts_are_taken_out_and_a_slash_at_the_end_stays() {
        for (path, clean) in [
            ("//v3/kv/range", "/v3/kv/range"),
            ("/v3//kv/range", "/v3/kv/range"),
            ("/v3/./kv/range", "/v3/kv/range"),
            ("/v3/kv/../kv/range", "/v3/kv/range"),
            ("/v3/kv/range/.", "/v3/kv/range"),
            ("/v3/kv//", "/v3/kv/"),
            ("/../..", "/"),
            ("//", "/"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
        for path in [
            "/",
            "/v3/kv/range",
            "/v3/kv/range/",
            "/.x/y",
            "/a/..b",
            "/...",
        ] {
            assert_eq!(cleaned(path), None, "{path}");
        }
    }

    #[test]
    fn escapes_are_resolved_or_refused() {
        for (path, decoded_path) in [
            ("/v3/kv/range", "/v3/kv/range"),
            ("/v3/kv/%72ange", "/v3/kv/range"),
            ("/v3/kv%2Frange", "/v3/kv/range"),
            ("/%e4%BA%ba", "/\u{4eba}"),
        ] {
            assert_eq!(decoded(path).as_deref(), Some(decoded_path), "{path}");
        }
        for path in ["/%zz", "/%", "/%4", "/%+1"] {
            assert_eq!(decoded(path), None, "{path}");
        }
    }

    #[test]
    fn only_a_browser_is_shown_a_link() {
        let uri: Uri = "/v3//kv/range?x=1&y".parse().unwrap();
        let shown = |method: Method| {
            let answer = diversion(&method, &uri).unwrap();
            assert_eq!(answer.status(), 307);
            let location = answer.headers().get(LOCATION).unwrap();
            assert_eq!(location, "/v3/kv/range?x=1&y");
            let body = actix_web::body::MessageBody::try_into_bytes(answer.into_body());
            String::from_utf8(body.unwrap().to_vec()).unwrap()
        };
        assert_eq!(shown(Method::POST), "");
        let link = "<a href=\"/v3/kv/range?x=1&amp;y\">Temporary Redirect</a>.\n\n";
        assert_eq!(shown(Method::GET), link);
        assert!(diversion(&Method::CONNECT, &uri).is_none());
    }
}
