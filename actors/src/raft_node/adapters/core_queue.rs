//! The queue in front of openraft's core, which is never full.

use futures_util::FutureExt;
use openraft::errors::Fatal;

use super::types::Types;

/// Requests that wait for the raft core; more than are ever admitted, so that handing one over
/// never waits.
pub(crate) const CORE_QUEUE: u64 = 65_536;

/// Hands something to the core, whose queue is longer than what is ever admitted, so this never
/// waits. Without `unconstrained` tokio would make it wait, once per 128 messages, to be fair to
/// others. If the core is gone, so is what the message was for (the reply of a proposal is dropped,
/// which answers `Stopped`), and nobody waits until the core has ended.
pub(in crate::raft_node) fn post(asked: impl Future<Output = Result<(), Fatal<Types>>>) {
    let _ = tokio::task::unconstrained(asked).now_or_never();
}
