//! Every gRPC method that the client port serves, with its metrics resolved in advance: a request
//! costs one look-up by path and a few atomic additions, no label look-up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderMap;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use tonic::Code;

use super::slow_calls::{Ended, SlowCalls};
use crate::settings::Live;
use crate::spans::CallSpan;
use Kind::{BidiStream, ServerStream, Unary};

/// How long calls take; only the extensive metrics show it.
pub(super) const HANDLING_SECONDS: &str = "grpc_server_handling_seconds";

/// Which way messages stream; the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

/// A gRPC service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Kv,
    Watch,
    Lease,
    Cluster,
    Maintenance,
    Auth,
    Lock,
    Election,
    Health,
}

type Row = (Service, &'static str, &'static [(&'static str, Kind)]);

const SERVICES: [Row; 9] = [
    (
        Service::Kv,
        "etcdserverpb.KV",
        &[
            ("Range", Unary),
            ("RangeStream", ServerStream),
            ("Put", Unary),
            ("DeleteRange", Unary),
            ("Txn", Unary),
            ("Compact", Unary),
        ],
    ),
    (
        Service::Watch,
        "etcdserverpb.Watch",
        &[("Watch", BidiStream)],
    ),
    (
        Service::Lease,
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", Unary),
            ("LeaseRevoke", Unary),
            ("LeaseKeepAlive", BidiStream),
            ("LeaseTimeToLive", Unary),
            ("LeaseLeases", Unary),
        ],
    ),
    (
        Service::Cluster,
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", Unary),
            ("MemberRemove", Unary),
            ("MemberUpdate", Unary),
            ("MemberList", Unary),
            ("MemberPromote", Unary),
        ],
    ),
    (
        Service::Maintenance,
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", Unary),
            ("Status", Unary),
            ("Defragment", Unary),
            ("Hash", Unary),
            ("HashKV", Unary),
            ("Snapshot", ServerStream),
            ("MoveLeader", Unary),
            ("Downgrade", Unary),
        ],
    ),
    (
        Service::Auth,
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", Unary),
            ("AuthDisable", Unary),
            ("AuthStatus", Unary),
            ("Authenticate", Unary),
            ("UserAdd", Unary),
            ("UserGet", Unary),
            ("UserList", Unary),
            ("UserDelete", Unary),
            ("UserChangePassword", Unary),
            ("UserGrantRole", Unary),
            ("UserRevokeRole", Unary),
            ("RoleAdd", Unary),
            ("RoleGet", Unary),
            ("RoleList", Unary),
            ("RoleDelete", Unary),
            ("RoleGrantPermission", Unary),
            ("RoleRevokePermission", Unary),
        ],
    ),
    (
        Service::Lock,
        "v3lockpb.Lock",
        &[("Lock", Unary), ("Unlock", Unary)],
    ),
    (
        Service::Election,
        "v3electionpb.Election",
        &[
            ("Campaign", Unary),
            ("Proclaim", Unary),
            ("Leader", Unary),
            ("Observe", ServerStream),
            ("Resign", Unary),
        ],
    ),
    (
        Service::Health,
        "grpc.health.v1.Health",
        &[("Check", Unary), ("Watch", ServerStream)],
    ),
];

/// Names of the gRPC codes as Go prints them, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// One method and its counters.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) service: Service,
    /// Whether a call may stay open for long.
    pub(super) is_stream: bool,
    /// Whether a call with one answer may have to wait for what other clients do.
    pub(super) is_queue: bool,
    path: String,
    slow_calls: Arc<SlowCalls>,
    started: IntCounter,
    handled: [IntCounter; CODES.len()],
    handling: Handling,
    messages_received: IntCounter,
    messages_sent: IntCounter,
    bytes_received: IntCounter,
    bytes_sent: IntCounter,
}

/// How long the calls of a method take. Made by its first call: a histogram is fourteen lines of
/// /metrics, and most methods are never called.
#[derive(Debug)]
struct Handling {
    all: HistogramVec,
    labels: [&'static str; 3],
    one: OnceLock<Histogram>,
}

impl Handling {
    fn ended(&self, took: Duration) {
        let one = || self.all.with_label_values(&self.labels);
        let histogram = self.one.get_or_init(one);
        histogram.observe(took.as_secs_f64());
    }
}

/// The methods by path.
#[derive(Clone, Debug)]
pub(super) struct Methods(Arc<HashMap<String, Arc<Method>>>);

impl Methods {
    /// Registers the counters under the names that etcd gives them.
    pub(super) fn register(
        registry: &Registry,
        settings: Live,
    ) -> Result<Methods, prometheus::Error> {
        let counters = Counters::register(registry, settings)?;
        let mut methods = HashMap::new();
        for (service, service_name, rows) in SERVICES {
            for (method, kind) in rows {
                let method = counters.method(service, *kind, [service_name, method]);
                methods.insert(method.path.clone(), Arc::new(method));
            }
        }
        Ok(Methods(Arc::new(methods)))
    }

    /// The method with this path, `/<service>/<method>`.
    pub(super) fn get(&self, path: &str) -> Option<&Arc<Method>> {
        self.0.get(path)
    }

    /// The paths of all methods.
    #[cfg(test)]
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The status of a call to an unknown method, in the words of Go's gRPC library.
pub(super) fn unknown(path: &str) -> tonic::Status {
    let Some((service, method)) = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
    else {
        return tonic::Status::unimplemented(format!("malformed method name: \"{path}\""));
    };
    let served = SERVICES.iter().any(|(_, name, _)| *name == service);
    tonic::Status::unimplemented(if served {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    })
}

struct Counters {
    slow_calls: Arc<SlowCalls>,
    started: IntCounterVec,
    handled: IntCounterVec,
    handling: HistogramVec,
    messages_received: IntCounterVec,
    messages_sent: IntCounterVec,
    bytes_received: IntCounter,
    bytes_sent: IntCounter,
}

impl Counters {
    fn register(registry: &Registry, settings: Live) -> Result<Counters, prometheus::Error> {
        let by_method = ["grpc_type", "grpc_service", "grpc_method"];
        let by_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let vec = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let total = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let handling = HistogramOpts::new(
            HANDLING_SECONDS,
            "Time from the start of an RPC on the server to its end.",
        );
        let handling = HistogramVec::new(handling, &by_method)?;
        registry.register(Box::new(handling.clone()))?;
        Ok(Counters {
            slow_calls: Arc::new(SlowCalls::new(settings)),
            handling,
            started: vec(
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                &by_method,
            )?,
            handled: vec(
                "grpc_server_handled_total",
                "Total number of RPCs finished on the server, whatever their outcome.",
                &by_code,
            )?,
            messages_received: vec(
                "grpc_server_msg_received_total",
                "Total number of messages received from clients.",
                &by_method,
            )?,
            messages_sent: vec(
                "grpc_server_msg_sent_total",
                "Total number of messages sent to clients.",
                &by_method,
            )?,
            bytes_received: total(
                "etcd_network_client_grpc_received_bytes_total",
                "Total number of bytes received from gRPC clients.",
            )?,
            bytes_sent: total(
                "etcd_network_client_grpc_sent_bytes_total",
                "Total number of bytes sent to gRPC clients.",
            )?,
        })
    }

    fn method(&self, service: Service, kind: Kind, names: [&'static str; 2]) -> Method {
        let is_stream = kind != Unary;
        let [service_name, method] = names;
        let kind = kind.label();
        let labels = [kind, service_name, method];
        Method {
            service,
            is_stream,
            is_queue: matches!(method, "Lock" | "Campaign"),
            path: format!("/{service_name}/{method}"),
            slow_calls: self.slow_calls.clone(),
            started: self.started.with_label_values(&labels),
            handled: CODES.map(|code| {
                self.handled
                    .with_label_values(&[kind, service_name, method, code])
            }),
            handling: Handling {
                all: self.handling.clone(),
                labels,
                one: OnceLock::new(),
            },
            messages_received: self.messages_received.with_label_values(&labels),
            messages_sent: self.messages_sent.with_label_values(&labels),
            bytes_received: self.bytes_received.clone(),
            bytes_sent: self.bytes_sent.clone(),
        }
    }
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Unary => "unary",
            ServerStream => "server_stream",
            BidiStream => "bidi_stream",
        }
    }
}

impl Method {
    /// Counts messages of a request and their bytes.
    pub(super) fn received(&self, messages: u64, bytes: u64) {
        self.messages_received.inc_by(messages);
        self.bytes_received.inc_by(bytes);
    }
}

/// One running call. Counted as started when made and as handled when it finishes; a call that is
/// dropped before was cancelled by its client.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Arc<Method>,
    client: SocketAddr,
    start: Instant,
    sent_bytes: u64,
    pub(super) span: CallSpan,
    finished: bool,
}

impl Call {
    /// `headers` are the metadata of the request.
    pub(super) fn start(method: &Arc<Method>, client: SocketAddr, headers: &HeaderMap) -> Call {
        method.started.inc();
        Call {
            method: method.clone(),
            client,
            start: Instant::now(),
            sent_bytes: 0,
            span: CallSpan::begin(&method.path, headers, client),
            finished: false,
        }
    }

    /// Counts messages of the answer and their bytes.
    pub(super) fn sent(&mut self, messages: u64, bytes: u64) {
        self.sent_bytes += bytes;
        self.method.messages_sent.inc_by(messages);
        self.method.bytes_sent.inc_by(bytes);
    }

    /// Counts the outcome; only the first one counts.
    pub(super) fn finish(&mut self, code: Code) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.span.end(code);
        let (method, took) = (&self.method, self.start.elapsed());
        method.handled[code as usize].inc();
        method.handling.ended(took);
        if !method.is_stream {
            method.slow_calls.judge(Ended {
                path: &method.path,
                client: self.client,
                took,
                code,
                sent_bytes: self.sent_bytes,
            });
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::super::port_test::{live, settings};
    use super::*;

    fn client() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 4001))
    }

    #[test]
    fn unknown_methods_and_services_are_told_in_the_words_of_go() {
        let text = |path| unknown(path).message().to_string();
        assert_eq!(
            text("/etcdserverpb.KV/Nosuch"),
            "unknown method Nosuch for service etcdserverpb.KV"
        );
        assert_eq!(text("/no.Such/Range"), "unknown service no.Such");
        assert_eq!(text("/Range"), "malformed method name: \"/Range\"");
    }

    #[test]
    fn a_call_counts_as_started_and_once_as_handled() {
        let registry = Registry::new();
        let methods = Methods::register(&registry, live(settings())).unwrap();
        let method = methods.get("/etcdserverpb.KV/Put").unwrap();
        let shown = || prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        assert!(!shown().unwrap().contains("grpc_server_handling_seconds"));
        let mut call = Call::start(method, client(), &HeaderMap::new());
        call.finish(Code::Ok);
        call.finish(Code::Internal);
        drop(call);
        drop(Call::start(method, client(), &HeaderMap::new()));
        assert_eq!(method.started.get(), 2);
        assert_eq!(method.handled[Code::Ok as usize].get(), 1);
        assert_eq!(method.handled[Code::Internal as usize].get(), 0);
        assert_eq!(method.handled[Code::Cancelled as usize].get(), 1);
        let timed = r#"grpc_server_handling_seconds_count{grpc_method="Put""#;
        let lines = shown().unwrap();
        let line = lines.lines().find(|line| line.starts_with(timed));
        assert!(line.unwrap().ends_with(" 2"), "{line:?}");
    }
}
