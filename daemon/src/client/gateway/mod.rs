//! The JSON gateway: `POST /v3/...` with a request message as JSON, answered with the response
//! message as JSON.
//!
//! A route calls the same function of the same service as gRPC does, so the two cannot differ. The
//! gateway owns nothing but its table of routes, one per worker. It fails as its call fails: a gRPC
//! status becomes an HTTP status and a small JSON object.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, UPGRADE};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::api::Api;
use super::deadline;
use super::grpc_body::Limits;
use super::methods::{Method as GrpcMethod, Methods};
use super::web::session_of;
use crate::settings::Live;

mod json;
mod metadata;
mod pending;
mod refusal;
mod routes;
mod stream;
mod unary;

use refusal::refusal;

/// The refusal of a WebSocket, with what to do instead.
const NO_WEBSOCKET: &str = "WebSocket is not served: send the requests of a stream as the body of \
    a POST, one JSON value after the other, and read one JSON value per line";

/// The routes and what they need.
pub(super) struct Gateway<A> {
    routes: HashMap<&'static str, Route<A>>,
    api: Arc<A>,
    settings: Live,
}

/// One path: its method and how to call it.
struct Route<A> {
    method: Arc<GrpcMethod>,
    answer: Answer<A>,
}

type Answer<A> = Box<dyn Fn(Exchange<A>) -> LocalBoxFuture<'static, HttpResponse>>;

/// One HTTP request on its way to a method.
struct Exchange<A> {
    api: Arc<A>,
    method: Arc<GrpcMethod>,
    metadata: MetadataMap,
    limits: Limits,
    receive_bytes_max: usize,
    /// The body's length, where the client said so.
    body_bytes: Option<usize>,
    payload: web::Payload,
}

impl<A: Api> Gateway<A> {
    /// `settings` bound the decoded request message, as for gRPC.
    pub(super) fn new(api: Arc<A>, methods: &Methods, settings: Live) -> Gateway<A> {
        Gateway {
            routes: routes::table(methods),
            api,
            settings,
        }
    }

    /// Whether the gateway answers for `path`, if only to say that nothing is there. While it is
    /// switched off, it answers for none.
    pub(super) fn is_its(&self, path: &str) -> bool {
        self.settings.get().port.gateway
            && (path.starts_with("/v3/") || path.starts_with("/v3beta/"))
    }

    /// Answers a request for `path`, which is the request's without escapes.
    pub(super) async fn serve(
        &self,
        path: &str,
        request: &HttpRequest,
        payload: web::Payload,
    ) -> HttpResponse {
        let route = match path.strip_prefix("/v3beta/") {
            None => self.routes.get(path),
            Some(rest) => self.routes.get(format!("/v3/{rest}").as_str()),
        };
        let Some(route) = route else {
            return refusal(&Status::new(Code::NotFound, "Not Found"));
        };
        // Before anything waits for the body: with this header it has no end for the HTTP library.
        if asks_for_websocket(request.headers()) {
            return refusal(&Status::unimplemented(NO_WEBSOCKET));
        }
        if request.method() != Method::POST {
            return refusal(&Status::new(Code::Unimplemented, "Method Not Allowed"));
        }
        let deadline = match deadline_of(request.headers()) {
            Ok(deadline) => deadline,
            Err(status) => return refusal(&status),
        };
        let exchange = Exchange {
            api: self.api.clone(),
            method: route.method.clone(),
            metadata: metadata::from_headers(request.headers()),
            limits: Limits {
                deadline,
                session: session_of(request),
            },
            receive_bytes_max: self.settings.get().port.receive_bytes_max(),
            body_bytes: length_of(request.headers()),
            payload,
        };
        (route.answer)(exchange).await
    }
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers.get_all(UPGRADE).any(|protocol| {
        let protocol = protocol.as_bytes().trim_ascii();
        protocol.eq_ignore_ascii_case(b"websocket")
    })
}

fn length_of(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn deadline_of(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    // A gateway's client wrote the header: what is wrong with it is wrong with the request. An
    // empty or zero timeout means no deadline, as in etcd.
    match deadline::parse(value.as_bytes()) {
        _ if value.is_empty() => Ok(None),
        Ok(timeout) if timeout.is_zero() => Ok(None),
        Ok(timeout) => Ok(Some(Instant::now() + timeout)),
        Err(_) => Err(Status::invalid_argument(format!(
            "invalid grpc-timeout: {}",
            String::from_utf8_lossy(value.as_bytes())
        ))),
    }
}

/// The paths of all routes.
#[cfg(test)]
pub(super) fn paths() -> Vec<&'static str> {
    use super::port_test;
    let settings = port_test::live(port_test::settings());
    let methods = Methods::register(&prometheus::Registry::new(), settings).unwrap();
    routes::table::<crate::rpc::Rpc>(&methods)
        .into_keys()
        .collect()
}
