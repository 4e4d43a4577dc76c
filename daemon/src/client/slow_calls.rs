//! Logs unary calls that took too long, in etcd's words: which, from whom, and how long.
//!
//! What a slow call asked for is logged where it is known, in `rpc`, and only for what goes to the
//! store or through the log; here every method is timed, from its head to the end of its answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use althing_actors::log_limit::LogLimit;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tonic::Code;

use crate::log;
use crate::settings::Live;

/// Writes the lines about slow calls, at a limited rate.
#[derive(Debug)]
pub(super) struct SlowCalls {
    settings: Live,
    lines: Mutex<LogLimit>,
}

/// A call that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended<'a> {
    /// `/<service>/<method>`.
    pub(super) path: &'a str,
    pub(super) client: SocketAddr,
    pub(super) took: Duration,
    pub(super) code: Code,
    pub(super) sent_bytes: u64,
}

impl SlowCalls {
    pub(super) fn new(settings: Live) -> SlowCalls {
        SlowCalls {
            settings,
            lines: Mutex::default(),
        }
    }

    /// Logs a call that took too long, unless another one was logged a moment ago.
    pub(super) fn judge(&self, call: Ended<'_>) {
        let expected = self.settings.get().port.slow_call;
        if call.took <= expected {
            return;
        }
        let Some(left_out) = self.lines.lock().pass(Instant::now()) else {
            return;
        };
        let start = log::timestamp(OffsetDateTime::now_utc() - call.took);
        tracing::warn!(
            "start time" = start,
            "time spent" = ?call.took,
            "expected duration" = ?expected,
            remote = %call.client,
            "response type" = call.path,
            "response size" = call.sent_bytes,
            code = ?call.code,
            left_out,
            "request stats"
        );
    }
}
