//! `/version` and `/metrics`.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Serialize;

use super::api::Api;
use super::methods::HANDLING_SECONDS;
use super::plain::{method_not_allowed, plain_error};
use crate::settings::Live;

#[derive(Serialize)]
struct Version<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
    althing: &'a str,
}

/// Adds `/version`: the etcd release whose contract is served, and our own version beside it.
pub(super) fn version<A: Api>(config: &mut web::ServiceConfig, api: &Arc<A>) {
    let api = api.clone();
    config.route(
        "/version",
        web::to(move |request: HttpRequest| {
            let api = api.clone();
            async move {
                if request.method() != Method::GET {
                    return method_not_allowed();
                }
                version_body(api.cluster_version().as_deref())
            }
        }),
    );
}

/// The answer of `/version`, on the client port and on the peer port.
pub(crate) fn version_body(cluster_version: Option<&str>) -> HttpResponse {
    HttpResponse::Ok().json(Version {
        etcdserver: althing_api::ETCD_VERSION,
        etcdcluster: cluster_version.unwrap_or("not_decided"),
        storage: cluster_version.unwrap_or("unknown"),
        althing: env!("CARGO_PKG_VERSION"),
    })
}

/// Adds `/metrics`. Gathering walks every counter, so it runs off the worker.
pub(super) fn metrics(config: &mut web::ServiceConfig, registry: &Registry, settings: &Live) {
    let (registry, settings) = (registry.clone(), settings.clone());
    config.route(
        "/metrics",
        web::to(move || {
            let registry = registry.clone();
            let is_extensive = settings.get().port.is_metrics_extensive;
            async move {
                let gathered = web::block(move || {
                    let mut text = Vec::new();
                    let mut families = registry.gather();
                    families.retain(|it| is_extensive || it.name() != HANDLING_SECONDS);
                    let encoded = TextEncoder::new().encode(&families, &mut text);
                    encoded.map(|()| text)
                });
                match gathered.await {
                    Ok(Ok(text)) => HttpResponse::Ok()
                        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
                        .body(text),
                    Ok(Err(error)) => {
                        plain_error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
                    }
                    Err(error) => plain_error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
                }
            }
        }),
    );
}
