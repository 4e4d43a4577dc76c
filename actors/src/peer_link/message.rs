//! The messages that a PeerLink takes. Answers go straight to the caller.

use actix::Message;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::transport::{self, Call, LinkError, Pipe, SnapshotBytes};

/// Where the answer to one message for another member goes. Dropped unanswered if the link died.
pub(crate) type PeerReply = oneshot::Sender<Result<Bytes, LinkError>>;

/// Ask the member one question.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub(crate) call: Call,
    pub(crate) body: Bytes,
    pub(crate) reply: PeerReply,
}

/// Send this behind everything sent on the same pipe before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Send {
    pub(crate) pipe: Pipe,
    pub(crate) body: Bytes,
    pub(crate) reply: PeerReply,
}

/// Send the member a snapshot.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct SendSnapshot {
    pub(crate) head: Bytes,
    pub(crate) body: SnapshotBytes,
    pub(crate) reply: PeerReply,
}

/// Find out whether anybody listens at the member's addresses.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Knock {
    pub(crate) reply: oneshot::Sender<transport::Knock>,
}

/// The member listens elsewhere now.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct MemberUpdated {
    pub(crate) urls: Vec<String>,
}
