//! What a link needs from a network: it takes bytes to a member and brings the answer. HTTP lives
//! in the daemon, a loopback in `testing`.

use std::fmt::Debug;
use std::io;

use althing_api::id::MemberId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Another member, as a transport finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The member that must be at the other end.
    pub id: MemberId,
    /// The URLs where it listens; each is as good as the others.
    pub urls: Vec<String>,
}

/// A question with one short answer, on a connection that carries nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// I lead: an append without entries.
    Heartbeat,
    /// Vote for me.
    Vote,
    /// Would you vote for me?
    PreVote,
    /// Take the lead over.
    HandOver,
    /// Which entry must be applied for a read to be linearizable?
    ReadIndex,
    /// Renew a lease.
    KeepLease,
    /// How long does a lease live?
    LeaseTime,
    /// Change the membership.
    ChangeMembers,
    /// Which hash do your records have?
    Hash,
}

impl Call {
    /// Whether raft itself asks, not a client.
    pub(super) const fn is_of_raft(self) -> bool {
        matches!(
            self,
            Call::Heartbeat | Call::Vote | Call::PreVote | Call::HandOver | Call::ReadIndex
        )
    }
}

/// A connection whose requests are answered in their order, many under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pipe {
    /// Entries of the log.
    Append,
    /// Commands for the leader.
    Propose,
}

impl Pipe {
    /// Requests under way at once, at most.
    pub const fn window(self) -> usize {
        match self {
            // Each holds up to a mebibyte of entries.
            Pipe::Append => 16,
            // As many as are admitted by default.
            Pipe::Propose => 4_096,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// The request did not leave this member.
    #[error("cannot be reached: {0}")]
    NotSent(String),
    /// The other member refused it without acting on it.
    #[error("refused: {0}")]
    Refused(String),
    /// This member was removed from its cluster.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The request was sent, and its outcome is unknown.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// An open [`Pipe`]. Dropping it closes the connection.
#[derive(Debug)]
pub struct OpenPipe {
    /// Takes requests; it has room for a whole window.
    pub requests: mpsc::Sender<Bytes>,
    /// The answers, in the same order. `Refused` is the answer to one request; any other error, or
    /// the end, means that no more answers come.
    pub answers: mpsc::Receiver<Result<Bytes, LinkError>>,
}

/// What a knock at a member's door shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// Somebody listens at one of its addresses.
    Open,
    /// Its host answers and refuses at every address: nobody listens.
    Refused,
    /// No answer came in time, or the host does not exist, so nothing is known.
    Silent,
}

/// The bytes of a snapshot on their way out; an error gives the transfer up.
pub type SnapshotBytes = mpsc::Receiver<io::Result<Bytes>>;

/// A network. Its futures run on the thread of the links; they may be dropped at any time. It
/// notices when a member's host is silent, and then ends what waits for that member with `Lost`.
/// The links deal with a process that takes bytes and answers nothing: they limit calls and
/// entries. Nothing limits the wait for a snapshot's answer: its index may take any time to build.
pub trait Transport: Debug + Send + Sync + 'static {
    /// Asks `peer` one question.
    fn call(
        &self,
        peer: &Peer,
        call: Call,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>>;

    /// Finds out whether anybody listens at the addresses of `peer`.
    fn knock(&self, peer: &Peer) -> BoxFuture<'static, Knock>;

    /// Opens a pipe to `peer`.
    fn open(&self, peer: &Peer, pipe: Pipe) -> BoxFuture<'static, Result<OpenPipe, LinkError>>;

    /// Sends a snapshot, and waits until `peer` took it over. `head` is sent before the bytes.
    fn send_snapshot(
        &self,
        peer: &Peer,
        head: Bytes,
        body: SnapshotBytes,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>>;
}
