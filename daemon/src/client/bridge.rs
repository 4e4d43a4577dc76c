//! HTTP/2 requests that are not gRPC: handed to the worker's actix-web application in process, so
//! that a path answers the same over either version of HTTP.
//!
//! actix-web and hyper use different generations of the `http` types; names and values are carried
//! over as bytes.

use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::error::PayloadError;
use actix_web::http::header::{HOST, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri, Version};
use althing_actors::client_session::Session;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use tonic::Status;

use super::grpc_body::ResponseBody;
use super::web::WebService;

/// What an HTTP/2 answer carries.
// Nearly all are of gRPC, and a box would cost each of them an allocation.
#[allow(clippy::large_enum_variant)]
pub(super) enum Http2Body {
    Grpc(ResponseBody),
    /// Unset when the answer has no body.
    Web(Option<Pin<Box<BoxBody>>>),
}

/// Has the application answer `request`.
pub(super) async fn call(
    web: &WebService,
    session: &Rc<Session>,
    request: Request<Incoming>,
) -> Response<Http2Body> {
    let is_head = request.method() == http::Method::HEAD;
    let Some(request) = to_actix(request) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    request.extensions_mut().insert(session.clone());
    let answer = match actix_service::Service::call(web.as_ref(), request).await {
        Ok(answer) => answer.into_parts().1,
        Err(error) => error.error_response(),
    };
    from_actix(answer, is_head)
}

fn empty(status: StatusCode) -> Response<Http2Body> {
    let mut response = Response::new(Http2Body::Web(None));
    *response.status_mut() = status;
    response
}

/// `None` when a part has no form in HTTP/1.1, such as CONNECT's target.
fn to_actix(request: Request<Incoming>) -> Option<actix_http::Request> {
    let (parts, body) = request.into_parts();
    let payload = BodyDataStream::new(body)
        .map(|data| data.map_err(|error| PayloadError::Io(std::io::Error::other(error))));
    let payload = actix_http::Payload::Stream {
        payload: payload.boxed_local(),
    };
    let mut request = actix_http::Request::with_payload(payload);
    let head = request.head_mut();
    head.method = Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
    head.version = Version::HTTP_2;
    let target = parts.uri.path_and_query()?.as_str();
    head.uri = Uri::try_from(target).ok()?;
    for (name, value) in &parts.headers {
        head.headers.append(
            HeaderName::from_bytes(name.as_str().as_bytes()).ok()?,
            HeaderValue::from_bytes(value.as_bytes()).ok()?,
        );
    }
    if let Some(authority) = parts.uri.authority()
        && !head.headers.contains_key(HOST)
    {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        head.headers.insert(HOST, host);
    }
    Some(request)
}

fn from_actix(answer: actix_web::HttpResponse, is_head: bool) -> Response<Http2Body> {
    let Ok(status) = StatusCode::from_u16(answer.status().as_u16()) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = empty(status);
    let headers = response.headers_mut();
    for (name, value) in answer.headers() {
        // HTTP/2 forbids what speaks about an HTTP/1.1 connection.
        if matches!(
            name.as_str(),
            "connection" | "transfer-encoding" | "upgrade"
        ) {
            continue;
        }
        let name = header::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = header::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let body = answer.into_body();
    match (is_head, body.size()) {
        (true, BodySize::Sized(bytes)) => {
            headers.insert(header::CONTENT_LENGTH, bytes.into());
        }
        (true, _) | (false, BodySize::None) => {}
        (false, _) => *response.body_mut() = Http2Body::Web(Some(Box::pin(body))),
    }
    response
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Http2Body::Grpc(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|status: Status| status.into()),
            Http2Body::Web(None) => Poll::Ready(None),
            Http2Body::Web(Some(body)) => {
                let data = ready!(body.as_mut().poll_next(cx));
                Poll::Ready(data.map(|data| match data {
                    Ok(data) => Ok(Frame::data(data)),
                    Err(error) => Err(error.to_string().into()),
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Http2Body::Grpc(body) => body.is_end_stream(),
            Http2Body::Web(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Http2Body::Grpc(body) => body.size_hint(),
            Http2Body::Web(None) => SizeHint::with_exact(0),
            Http2Body::Web(Some(body)) => match body.size() {
                BodySize::Sized(bytes) => SizeHint::with_exact(bytes),
                _ => SizeHint::default(),
            },
        }
    }
}
