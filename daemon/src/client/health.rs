//! `/health`, `/livez` and `/readyz`: is this member of use?
//!
//! `/health` is the old question with one answer; `/livez` and `/readyz` run named checks. A check
//! is either a fact of the member or a trial read through the same service that clients use.

use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use althing_api::etcdserverpb::AlarmType;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use serde::Serialize;

use super::api::Api;
use super::plain::{method_not_allowed, plain_error};

/// A check that `/livez` or `/readyz` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// One of the two end-points.
#[derive(Clone, Copy, Debug)]
struct Probe {
    name: &'static str,
    checks: &'static [Check],
}

const PROBES: [Probe; 2] = [
    Probe {
        name: "livez",
        checks: &[Check::SerializableRead],
    },
    Probe {
        name: "readyz",
        checks: &[
            Check::DataCorruption,
            Check::SerializableRead,
            Check::LinearizableRead,
            Check::NonLearner,
        ],
    },
];

/// The member and the metrics of its probes.
pub(super) struct Probes<A> {
    api: Arc<A>,
    metrics: HealthMetrics,
}

/// Outcomes of probes, under etcd's names.
#[derive(Clone, Debug)]
pub(super) struct HealthMetrics {
    success: IntCounter,
    failures: IntCounter,
    check: IntGaugeVec,
    checks: IntCounterVec,
}

#[derive(Serialize)]
struct Health<'a> {
    health: &'a str,
    reason: &'a str,
}

impl HealthMetrics {
    pub(super) fn register(registry: &Registry) -> Result<HealthMetrics, prometheus::Error> {
        let metrics = HealthMetrics {
            success: IntCounter::new(
                "etcd_server_health_success",
                "The total number of successful health checks.",
            )?,
            failures: IntCounter::new(
                "etcd_server_health_failures",
                "The total number of failed health checks.",
            )?,
            check: IntGaugeVec::new(
                Opts::new(
                    "etcd_server_healthcheck",
                    "The result of the latest run of each check: 1 passed, 0 failed.",
                ),
                &["type", "name"],
            )?,
            checks: IntCounterVec::new(
                Opts::new(
                    "etcd_server_healthchecks_total",
                    "The total number of runs of each check.",
                ),
                &["type", "name", "status"],
            )?,
        };
        registry.register(Box::new(metrics.success.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.check.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        Ok(metrics)
    }
}

/// Adds the end-points.
pub(super) fn routes<A: Api>(config: &mut web::ServiceConfig, probes: &Rc<Probes<A>>) {
    let health = probes.clone();
    config.route(
        "/health",
        web::to(move |request: HttpRequest| {
            let probes = health.clone();
            async move { probes.health(&request).await }
        }),
    );
    for probe in PROBES {
        let mut paths = vec![(format!("/{}", probe.name), probe.checks)];
        for check in probe.checks.chunks(1) {
            paths.push((format!("/{}/{}", probe.name, check[0].name()), check));
        }
        for (path, checks) in paths {
            let probes = probes.clone();
            let probe = Probe { checks, ..probe };
            config.route(
                &path,
                web::to(move |request: HttpRequest| {
                    let probes = probes.clone();
                    async move { probes.run(probe, &request).await }
                }),
            );
        }
    }
}

/// The parameters of a query, in their order; a broken query has none.
fn parameters(request: &HttpRequest) -> Vec<(String, String)> {
    web::Query::from_query(request.query_string())
        .map_or_else(|_| Vec::new(), web::Query::into_inner)
}

fn excludes(parameters: &[(String, String)], name: &str) -> bool {
    let excluded = |(key, value): &(String, String)| key == "exclude" && value == name;
    parameters.iter().any(excluded)
}

impl<A: Api> Probes<A> {
    pub(super) fn new(api: Arc<A>, metrics: HealthMetrics) -> Probes<A> {
        Probes { api, metrics }
    }

    async fn health(&self, request: &HttpRequest) -> HttpResponse {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        let parameters = parameters(request);
        let is_local = parameters
            .iter()
            .any(|(key, value)| key == "serializable" && value == "true");
        let trouble = self.trouble(&parameters, is_local).await;
        let body = |health, reason: &str| {
            serde_json::to_string(&Health { health, reason })
                .expect("two strings always have a JSON form")
        };
        match trouble {
            None => {
                self.metrics.success.inc();
                HttpResponse::Ok()
                    .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
                    .body(body("true", ""))
            }
            Some(reason) => {
                self.metrics.failures.inc();
                tracing::debug!(reason, "the member is not healthy");
                plain_error(StatusCode::SERVICE_UNAVAILABLE, &body("false", &reason))
            }
        }
    }

    /// Why `/health` fails, in etcd's order: alarms, leader, trial read.
    async fn trouble(&self, parameters: &[(String, String)], is_local: bool) -> Option<String> {
        for alarm in self.api.alarms() {
            let name = match alarm {
                AlarmType::Nospace => "NOSPACE",
                AlarmType::Corrupt => "CORRUPT",
                AlarmType::None => "UNKNOWN",
            };
            if !excludes(parameters, name) {
                return Some(format!("ALARM {name}"));
            }
        }
        if !is_local && !self.api.has_leader() {
            return Some("RAFT NO LEADER".to_string());
        }
        let read = self.trial_read(is_local).await;
        read.err().map(|error| format!("RANGE ERROR:{error}"))
    }

    async fn run(&self, probe: Probe, request: &HttpRequest) -> HttpResponse {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        let parameters = parameters(request);
        let mut report = String::new();
        let mut is_well = true;
        for check in probe.checks {
            let name = check.name();
            if excludes(&parameters, name) {
                continue;
            }
            let outcome = self.passes(*check).await;
            let line = match &outcome {
                Ok(()) => writeln!(report, "[+]{name} ok"),
                Err(error) => writeln!(report, "[-]{name} failed: {error}"),
            };
            line.expect("a string takes every text");
            self.metrics
                .check
                .with_label_values(&[probe.name, name])
                .set(outcome.is_ok().into());
            let status = if outcome.is_ok() { "success" } else { "error" };
            self.metrics
                .checks
                .with_label_values(&[probe.name, name, status])
                .inc();
            is_well &= outcome.is_ok();
        }
        if !is_well {
            tracing::debug!(probe = probe.name, report, "a check failed");
            return plain_error(StatusCode::SERVICE_UNAVAILABLE, &report);
        }
        if !parameters.iter().any(|(key, _)| key == "verbose") {
            report.clear();
        }
        report.push_str("ok\n");
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(report)
    }

    async fn passes(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption => {
                if self.api.alarms().contains(&AlarmType::Corrupt) {
                    Err("alarm activated: CORRUPT".to_string())
                } else {
                    Ok(())
                }
            }
            Check::SerializableRead => self.trial_read(true).await,
            Check::LinearizableRead => self.trial_read(false).await,
            Check::NonLearner => {
                if self.api.is_learner() {
                    Err("not supported for learner".to_string())
                } else {
                    Ok(())
                }
            }
        }
    }

    async fn trial_read(&self, is_serializable: bool) -> Result<(), String> {
        let read = self.api.trial_read(is_serializable).await;
        read.map_err(|status| status.message().to_string())
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}
