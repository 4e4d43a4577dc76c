//! Spans of calls, exported over OTLP: how long each part took, in the trace that the client began.
//!
//! A call is a span, named as gRPC's instrumentation for Go names it; what it waits for below, the
//! log or a read index, is a span under it. Only a build with the feature `otel` has an exporter
//! (`otlp`); in any other (`none`) there are no spans, and a configuration that asks for them is
//! refused.
//!
//! It owns the process's tracer, which is set once. It waits for nobody: spans are queued, a thread
//! of the exporter sends them, and those that find the queue full are dropped.

#[cfg(not(feature = "otel"))]
mod none;
#[cfg(feature = "otel")]
mod otlp;

use althing_conf::config::Trace;

#[cfg(not(feature = "otel"))]
pub use none::Export;
#[cfg(not(feature = "otel"))]
pub(crate) use none::{CallSpan, below};
#[cfg(feature = "otel")]
pub use otlp::Export;
#[cfg(feature = "otel")]
pub(crate) use otlp::{CallSpan, below};

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum SpansError {
    /// The exporter was not built.
    #[error(
        "--enable-distributed-tracing: this build exports no traces; leave it out, or build \
         althingd with `--features otel`"
    )]
    NotBuilt,
    /// The exporter refuses its settings.
    #[error("--distributed-tracing-address {address:?}: {reason}; name a host and a port")]
    Exporter {
        /// Where spans should go.
        address: String,
        /// The exporter's complaint.
        reason: String,
    },
}

/// Whether this build can do what is asked. Error: it has no exporter.
pub fn check(trace: &Trace) -> Result<(), SpansError> {
    if trace.enabled && cfg!(not(feature = "otel")) {
        Err(SpansError::NotBuilt)
    } else {
        Ok(())
    }
}

/// Begins to export, if that is asked for. Must be called inside a tokio runtime. Errors: both.
pub fn start(trace: &Trace) -> Result<Export, SpansError> {
    check(trace)?;
    Export::start(trace)
}

#[cfg(all(test, not(feature = "otel")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_an_exporter_refuses_to_export_and_says_what_to_do() {
        let mut trace = Trace {
            enabled: false,
            address: "localhost:4317".to_owned(),
            service_name: "etcd".to_owned(),
            instance_id: String::new(),
            sampling_rate: 0,
        };
        assert!(start(&trace).is_ok());
        trace.enabled = true;
        let refusal = start(&trace).unwrap_err().to_string();
        assert!(refusal.contains("--features otel"), "{refusal}");
    }
}
