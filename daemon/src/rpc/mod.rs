//! The gRPC services. One value implements every service: front ends (gRPC, JSON gateway) call the
//! same functions.
//!
//! ```text
//!            guard            check            node                    header
//!  request --------> metadata ------> content ------> read or propose --------> answer
//! ```
//!
//! Reads are served from the store on the calling thread, large ones in slices or, a few at once,
//! on the blocking pool, within one budget of bytes; writes are proposed to the node and answered
//! by the state machine. A refusal is a status with etcd's code and text. This module owns no state
//! but counters; dropping a call's future abandons its answer, never its proposal.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use althing_actors::node::Handles;
use althing_api::commandpb::{Command, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::ResponseHeader;
use althing_storage::apply;
use prost::Message;
use tonic::Status;

use crate::metrics::{RequestKind, RequestMetrics};
use crate::settings::{CurrentLimits, Live};
use crate::spans;
use header::Identity;
use long_reads::Places;
use read_budget::ReadBudget;
use slow::{Asked, SlowLines, Took};

mod auth;
mod backup;
pub mod check;
mod cluster;
mod downgrade;
mod election;
mod guard;
mod header;
mod kv;
mod lease;
mod lock;
mod long_reads;
mod maintenance;
mod observe;
mod overlap;
mod queue;
mod range_stream;
mod read;
pub mod read_budget;
mod slow;
pub mod status;
mod ttl;
mod watch;
mod write_answer;

pub use self::watch::{Replies, WatchReply};

/// Bytes that etcd adds to a command when it measures it against the request limit: the header
/// with the request's id. We add them too, so that both refuse the same requests.
const ENVELOPE_BYTES: usize = 14;

/// Every client service of this member. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// The node behind the services.
    pub handles: Handles,
    /// The current settings, the limits of requests among them.
    pub settings: Live,
    state: Arc<State>,
}

/// What all clones share.
#[derive(Debug)]
struct State {
    identity: Identity,
    metrics: RequestMetrics,
    budget: ReadBudget,
    /// The bytes of an average record when no compaction was under way; `u64::MAX` before that.
    record_bytes: AtomicU64,
    long_reads: Places,
    hashes: Places,
    slow_lines: SlowLines,
}

/// Limits of requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest encoded command, in bytes (etcd: 1.5 MiB). The receive limit is 512 KiB more.
    pub request_bytes_max: usize,
    /// Most operations of one txn (etcd: 128).
    pub txn_ops_max: usize,
    /// A request that takes longer is logged (etcd: 100 ms).
    pub slow_request: Duration,
    /// How long a request may wait for the cluster (etcd: 5 s plus twice the election timeout).
    pub request_timeout: Duration,
    /// How long a member waits for a leader before it stands for election.
    pub election_timeout: Duration,
    /// Silence after which watchers that asked for it are told how far they are.
    pub watch_progress_interval: Duration,
    /// Bytes that all running range reads may hold together; more is refused.
    pub read_bytes_max: usize,
}

impl Rpc {
    /// The services of `handles`. Registers their metrics in the node's registry; error: another
    /// `Rpc` of the same node did so before.
    pub fn new(handles: Handles, settings: Live) -> Result<Rpc, prometheus::Error> {
        let status = handles.status();
        let state = State {
            identity: Identity {
                cluster_id: status.cluster_id,
                member_id: status.member_id,
            },
            metrics: RequestMetrics::register(&handles.metrics())?,
            budget: ReadBudget::new(settings.limits().read_bytes_max),
            record_bytes: AtomicU64::new(u64::MAX),
            long_reads: Places::new(long_reads::READS_MAX),
            hashes: Places::new(long_reads::HASHES_MAX),
            slow_lines: SlowLines::default(),
        };
        Ok(Rpc {
            handles,
            settings,
            state: Arc::new(state),
        })
    }

    /// The current limits. Must not be held across an await.
    fn limits(&self) -> CurrentLimits {
        self.settings.limits()
    }

    /// Takes over the settings that this value keeps copies of, after they were replaced.
    pub fn settings_replaced(&self) {
        self.state.budget.set_max(self.limits().read_bytes_max);
    }

    /// Completes an answer's header; see `Identity::complete`.
    fn complete(&self, header: &mut Option<ResponseHeader>, revision: i64) {
        let term = self.handles.term();
        self.state.identity.complete(header, term, revision);
    }

    /// Proposes a command and waits for the state machine's answer and the revision after it.
    async fn propose(
        &self,
        kind: RequestKind,
        request: command::Request,
    ) -> Result<(apply::Response, i64), Status> {
        let command = Command {
            request: Some(request),
        };
        if command.encoded_len() + ENVELOPE_BYTES > self.limits().request_bytes_max {
            return Err(status::of(Error::RequestTooLarge));
        }
        let start = Instant::now();
        if let Some(request) = &command.request {
            self.refuse_under_alarm(request).await.map_err(status::of)?;
        }
        let asked = Asked::of(command.request.as_ref());
        let proposal = self.handles.propose(command);
        let timeout = self.limits().request_timeout;
        let proposal = tokio::time::timeout(timeout, proposal);
        let outcome = match spans::below("propose", proposal).await {
            Ok(Ok(applied)) => applied.response.map(|answer| (answer, applied.revision)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.handles.why_timed_out(start)),
        };
        self.finish(kind, &asked, start, outcome.is_ok());
        outcome.map_err(status::of)
    }

    /// Refuses early what the state machine would refuse, and what the quota has no room for; in
    /// that case the alarm is raised first, as in etcd. Proposals under way are not counted, so the
    /// store may pass the quota by as much as they hold.
    async fn refuse_under_alarm(&self, request: &command::Request) -> Result<(), Error> {
        let store = self.handles.store();
        if let Some(refusal) = apply::refusal(store, request) {
            return Err(refusal);
        }
        if !apply::adds(request) || !self.handles.is_above_quota(request) {
            return Ok(());
        }
        let raising = self.handles.raise_no_space();
        let raised = tokio::time::timeout(self.limits().request_timeout, raising).await;
        if let Err(error) = raised.unwrap_or(Err(Error::Timeout)) {
            tracing::warn!(%error, "the alarm of the quota was not raised");
        }
        Err(Error::NoSpace)
    }

    /// Waits until the local store has everything that was committed before this call.
    async fn read_index(&self) -> Result<(), Status> {
        let start = Instant::now();
        let read_index = self.handles.read_index();
        let timeout = self.limits().request_timeout;
        let read_index = tokio::time::timeout(timeout, read_index);
        let outcome = spans::below("read_index", read_index).await;
        let outcome = outcome.unwrap_or(Err(Error::Timeout));
        self.state.metrics.observe_read_index(start.elapsed());
        outcome.map_err(status::of)
    }

    /// Records the duration of a request, and logs it when it was long.
    fn finish(&self, kind: RequestKind, asked: &Asked, start: Instant, succeeded: bool) {
        let took = start.elapsed();
        self.state.metrics.observe(kind, took, succeeded);
        let expected = self.limits().slow_request;
        if took > expected {
            let (lines, took) = (&self.state.slow_lines, Took { took, expected });
            lines.tell(kind.name(), asked, took, succeeded);
        }
    }
}

/// The answer of a call that this version of Althing does not serve.
fn unsupported(call: &str) -> Status {
    Status::unimplemented(format!(
        "{call} is not supported by this version of Althing"
    ))
}
