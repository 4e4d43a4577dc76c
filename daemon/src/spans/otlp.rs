//! The exporter: OpenTelemetry's own crates, to a collector over gRPC.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use althing_conf::config::Trace;
use http::{HeaderMap, HeaderName};
use opentelemetry::context::{FutureExt, WithContext};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tonic::Code;

use super::SpansError;

/// Spans that wait for the exporter; further ones are dropped.
const QUEUED_SPANS_MAX: usize = 2048;
/// Spans left when the member ends are given up after this time.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The sampling rate is a number of traces out of this many.
const TRACES: f64 = 1e6;

/// Set once: a process has one collector.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What exports the spans of this process; `None` if that is not configured.
#[derive(Debug)]
pub struct Export(Option<SdkTracerProvider>);

impl Export {
    pub(super) fn start(trace: &Trace) -> Result<Export, SpansError> {
        if !trace.enabled {
            return Ok(Export(None));
        }
        let endpoint = format!("http://{}", trace.address);
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        let exporter = exporter.build().map_err(|error| SpansError::Exporter {
            address: trace.address.clone(),
            reason: error.to_string(),
        })?;
        let bounds = BatchConfigBuilder::default().with_max_queue_size(QUEUED_SPANS_MAX);
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(bounds.build());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(batches.build())
            .with_resource(resource(trace))
            .with_sampler(Sampler::ParentBased(Box::new(sampler(trace))))
            .build();
        // A second one in the same process exports nothing.
        let _ = TRACER.set(provider.tracer("althingd"));
        tracing::info!(
            address = trace.address,
            service_name = trace.service_name,
            service_instance_id = trace.instance_id,
            sampling_rate = trace.sampling_rate,
            "distributed tracing enabled"
        );
        Ok(Export(Some(provider)))
    }

    /// Sends the spans that are left.
    pub async fn end(self) {
        let Some(provider) = self.0 else {
            return;
        };
        // Not on this thread, which serves the exporter's connection.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END_TIMEOUT)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// The service that the spans belong to. An instance is named only by an id that somebody chose.
fn resource(trace: &Trace) -> Resource {
    let resource = Resource::builder_empty().with_service_name(trace.service_name.clone());
    match trace.instance_id.as_str() {
        "" => resource.build(),
        id => resource
            .with_attribute(KeyValue::new("service.instance.id", id.to_owned()))
            .build(),
    }
}

/// Which traces that begin here are exported; one that began elsewhere says so itself.
fn sampler(trace: &Trace) -> Sampler {
    match trace.sampling_rate {
        0 => Sampler::AlwaysOff,
        rate => Sampler::TraceIdRatioBased(f64::from(rate) / TRACES),
    }
}

/// The metadata of a call, as the propagator reads it.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// The span of a call.
#[derive(Debug)]
pub(crate) struct CallSpan(Option<Context>);

impl CallSpan {
    /// Begins a span in the trace that the metadata names, or in a new one.
    pub(crate) fn begin(path: &str, headers: &HeaderMap, client: SocketAddr) -> CallSpan {
        let Some(tracer) = TRACER.get() else {
            return CallSpan(None);
        };
        let propagator = TraceContextPropagator::new();
        let parent = propagator.extract_with_context(&Context::new(), &Headers(headers));
        let name = path.trim_start_matches('/').to_owned();
        let (service, method) = name.split_once('/').unwrap_or((name.as_str(), ""));
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", method.to_owned()),
            KeyValue::new("network.peer.address", client.ip().to_string()),
            KeyValue::new("network.peer.port", i64::from(client.port())),
        ];
        let span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, &parent);
        CallSpan(Some(parent.with_span(span)))
    }

    /// Makes the spans that `work` begins belong to this call.
    pub(crate) fn around<F: Future>(&self, work: F) -> WithContext<F> {
        work.with_context(self.0.clone().unwrap_or_default())
    }

    /// Ends the span with the outcome; only the first one counts.
    pub(crate) fn end(&mut self, code: Code) {
        let Some(context) = self.0.take() else {
            return;
        };
        let span = context.span();
        let number = i64::from(i32::from(code));
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", number));
        if is_fault(code) {
            span.set_status(Status::error(code.description()));
        }
        span.end();
    }
}

/// Whether the failure is the server's; a caller's mistake leaves the span as it is.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// Does `work` in a span of its own, if it belongs to a call that is exported.
pub(crate) async fn below<F: Future>(name: &'static str, work: F) -> F::Output {
    let parent = Context::current();
    let is_exported = parent.span().span_context().is_sampled();
    let Some(tracer) = TRACER.get().filter(|_| is_exported) else {
        return work.await;
    };
    let context = parent.with_span(tracer.start_with_context(name, &parent));
    let outcome = work.with_context(context.clone()).await;
    context.span().end();
    outcome
}
