//! The messages that the Lessor takes.

use actix::Message;

/// Entries granted, checkpointed or ended these leases; the store tells which.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LeasesChanged(pub(crate) Vec<i64>);

/// This member began to lead, or ceased to; the clock tells which.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LeaderChanged;
