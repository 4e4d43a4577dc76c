//! Adapter: openraft's network on the links to the other members.
//!
//! Entries go through a pipe, several messages under way and answered in order. Heartbeats, votes
//! and the hand-over are single calls on connections of their own, so that they never wait behind
//! entries. An answer that cannot be read counts as no answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::Stream;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};

use super::clock;
use super::types::{PeerNode, RaftLogId, RaftVote, Snapshot, Types, to_raft_log_id};
use crate::peer_link::wire::{self, FromLeader, WireError};
use crate::peer_link::{Call, Link, LinkError, Links, Pipe, waits};
use crate::progress::Progress;
use crate::snapshotter::SnapshotData;

/// Makes the client of each other member.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) links: Arc<Links>,
    pub(crate) progress: Arc<Progress>,
}

/// One other member, as one of openraft's tasks reaches it.
#[derive(Clone, Debug)]
pub(crate) struct PeerClient {
    link: Link,
    progress: Arc<Progress>,
    acknowledged: Acknowledged,
    /// Whether it sends one message at a time and waits for the answer, as a call.
    is_for_heartbeats: bool,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, member: u64, node: &PeerNode) -> PeerClient {
        PeerClient {
            link: self.links.reach(member, &node.peer_urls),
            progress: Arc::clone(&self.progress),
            acknowledged: Acknowledged::default(),
            is_for_heartbeats: false,
        }
    }

    async fn new_heartbeat_client(&mut self, member: u64, node: &PeerNode) -> PeerClient {
        PeerClient {
            is_for_heartbeats: true,
            ..self.new_client(member, node).await
        }
    }
}

impl PeerClient {
    async fn ask<T>(
        &self,
        call: Call,
        body: Bytes,
        read: impl FnOnce(Bytes) -> Result<T, WireError>,
    ) -> Result<T, RPCError<Types>> {
        let answer = self.link.call(call, body).await.map_err(failed)?;
        read(answer).map_err(unreadable)
    }
}

/// What a leader sends: it goes on probing after its quorum is lost, which etcd's does not, and the
/// others must not take that for a leader's life.
fn append_out(request: AppendEntriesRequest<Types>, progress: &Progress) -> Bytes {
    let is_unheard = progress.is_unheard_in(request.vote.leader_id.term);
    wire::append_out(FromLeader {
        request,
        is_unheard,
    })
}

/// Raft retries at once after a lost connection, and after a while if the member is unreachable.
fn failed(error: LinkError) -> RPCError<Types> {
    let text = AnyError::error(&error);
    match error {
        LinkError::Lost(_) => RPCError::Network(NetworkError::new(&text)),
        LinkError::NotSent(_) | LinkError::Refused(_) | LinkError::Removed => {
            RPCError::Unreachable(Unreachable::new(&text))
        }
    }
}

fn unreadable(error: WireError) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(error)))
}

/// Reads the answer to entries behind `previous`. If nothing precedes them they cannot conflict, so
/// an answer that says so is not raft's.
fn append_answer(
    answer: Result<Bytes, LinkError>,
    previous: Option<RaftLogId>,
) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
    match wire::append_answer_in(answer.map_err(failed)?).map_err(unreadable)? {
        AppendEntriesResponse::Conflict if previous.is_none() => {
            Err(unreadable(WireError::Field("a sound outcome")))
        }
        answer => Ok(answer),
    }
}

/// The index behind what a member has acknowledged of its log to this leader; zero: nothing.
#[derive(Clone, Debug, Default)]
struct Acknowledged(Arc<AtomicU64>);

impl Acknowledged {
    fn reach(&self, last: Option<RaftLogId>) {
        self.0.fetch_max(end(last), Ordering::Relaxed);
    }

    /// Notes an answer, and tells of a member that lacks what it had acknowledged: its disk lied,
    /// or its data directory was replaced by an older copy.
    fn note(
        &self,
        member: u64,
        answer: &Result<AppendEntriesResponse<Types>, RPCError<Types>>,
        previous: Option<RaftLogId>,
        last: Option<RaftLogId>,
    ) {
        match answer {
            Ok(AppendEntriesResponse::Success) => self.reach(last),
            Ok(AppendEntriesResponse::PartialSuccess(upto)) => self.reach(*upto),
            Ok(AppendEntriesResponse::Conflict)
                if end(previous) <= self.0.load(Ordering::Relaxed) =>
            {
                let acknowledged = self.0.swap(0, Ordering::Relaxed) - 1;
                tracing::error!(
                    peer_id = %format_args!("{member:x}"),
                    acknowledged,
                    "the log of a member went back: its disk lost what it had acknowledged, or \
                    its data directory is an older copy; it is sent again, but a write that only \
                    this member and one that is lost had may be gone: replace it if that happens \
                    again"
                );
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// The index behind a log that ends at `last`.
fn end(last: Option<RaftLogId>) -> u64 {
    last.map_or(0, |last| last.index + 1)
}

/// One message of a stream, answered.
struct Answered {
    result: Result<StreamAppendResult<Types>, RPCError<Types>>,
    /// Nothing behind this is of use: raft starts over from where the member's log ends.
    ends: bool,
    is_repeated: Repeated,
}

/// Set once a later message ends at the same entry as this one.
type Repeated = Arc<AtomicBool>;

/// The last message of a stream.
///
/// Raft learns from answers that a member still followed, and takes an answer to one message as an
/// answer to all messages under way that end at its entry. A message without entries, which tells
/// what is committed, ends where the one before it does. If the process stood still between the
/// two, the answer to the first one, older than another's election, would pass for an answer to the
/// second, and a read would be answered from the past. So the first answer is left out: the second
/// one says the same.
#[derive(Debug, Default)]
struct Sent(Option<(Option<RaftLogId>, Repeated)>);

impl Sent {
    /// Notes that a message up to `last` is sent.
    fn next(&mut self, last: Option<RaftLogId>) -> Repeated {
        let is_repeated = Repeated::default();
        let former = self.0.replace((last, Arc::clone(&is_repeated)));
        if let Some((former_last, former)) = former
            && former_last == last
        {
            former.store(true, Ordering::Relaxed);
        }
        is_repeated
    }
}

fn answered(
    answer: Result<AppendEntriesResponse<Types>, RPCError<Types>>,
    previous: Option<RaftLogId>,
    last: Option<RaftLogId>,
    is_repeated: Repeated,
) -> Answered {
    let ends = match &answer {
        Ok(AppendEntriesResponse::Success) => false,
        Ok(AppendEntriesResponse::PartialSuccess(upto)) => *upto != last,
        Ok(_) | Err(_) => true,
    };
    Answered {
        result: answer.map(|answer| answer.into_stream_result(previous, last)),
        ends,
        is_repeated,
    }
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let previous = request.prev_log_id;
        let body = append_out(request, &self.progress);
        // raft has a heartbeat begin where the member is known to match.
        self.acknowledged.reach(previous);
        let answer = append_answer(self.link.call(Call::Heartbeat, body).await, previous);
        let member = self.link.member();
        self.acknowledged.note(member, &answer, previous, previous);
        answer
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.is_for_heartbeats {
            return stream_append_sequential(self, input, option);
        }
        let (link, progress) = (self.link.clone(), Arc::clone(&self.progress));
        let acknowledged = self.acknowledged.clone();
        let mut sent = Sent::default();
        let under_way = input.map(move |request| {
            let previous = request.prev_log_id;
            let last = request
                .entries
                .last()
                .map(|entry| to_raft_log_id(entry.id()));
            let last = last.or(previous);
            let is_repeated = sent.next(last);
            // Sent now, not when the future is polled: this keeps the order.
            let answer = link.send(Pipe::Append, append_out(request, &progress));
            let (member, acknowledged) = (link.member(), acknowledged.clone());
            async move {
                let answer = append_answer(answer.await, previous);
                acknowledged.note(member, &answer, previous, last);
                answered(answer, previous, last, is_repeated)
            }
        });
        let answers = under_way.buffered(Pipe::Append.window());
        let until_the_end = answers.scan(false, |ended, answered| {
            let is_behind = std::mem::replace(ended, *ended || answered.ends);
            std::future::ready((!is_behind).then_some(answered))
        });
        let told = until_the_end.filter_map(|answered| {
            let is_left_out = !answered.ends && answered.is_repeated.load(Ordering::Relaxed);
            std::future::ready((!is_left_out).then_some(answered.result))
        });
        let answers: BoxStream<'s, _> = Box::pin(told);
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = wire::vote_request_out(&request);
        self.ask(Call::Vote, body, wire::vote_answer_in).await
    }

    /// The default would grant every pre-vote.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = wire::vote_request_out(&request);
        self.ask(Call::PreVote, body, wire::vote_answer_in).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotData::Outgoing(outgoing) = snapshot.snapshot else {
            unreachable!("our state machine gives out its own snapshots only");
        };
        let head = wire::snapshot_head_out(&vote);
        let sending = outgoing.begin(self.link.member());
        let bytes = outgoing.stream(sending.meter());
        let taken = self.link.send_snapshot(head, bytes);
        let answer = tokio::select! {
            biased;
            answer = taken => answer.map_err(failed)?,
            closed = cancel => return Err(closed.into()),
        };
        sending.arrived();
        let vote = wire::snapshot_answer_in(answer).map_err(unreadable)?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let body = wire::hand_over_out(&request);
        let read = |answer| wire::hand_over_answer_in(answer, &request);
        self.ask(Call::HandOver, body, read).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(waits().map(clock::to_raft)))
    }
}

#[cfg(test)]
mod tests {
    use actix::Actor;
    use althing_storage::entry::{LogId, Vote};
    use futures_util::FutureExt;
    use futures_util::stream;
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::arbiters::Thread;
    use crate::departure::Departure;
    use crate::halt::Halt;
    use crate::metrics::Metrics;
    use crate::peer_link::{Knock, LinksSetup, OpenPipe, Peer, SnapshotBytes, Transport};
    use crate::raft_node::types::to_raft_vote;
    use crate::supervisor::Supervisor;

    #[test]
    fn a_message_is_repeated_by_one_that_ends_at_the_same_entry() {
        let at = |index| Some(to_raft_log_id(LogId { term: 1, index }));
        let mut sent = Sent::default();
        let repeated = [at(3), at(4), at(4), at(4), at(5)].map(|last| sent.next(last));
        let repeated = repeated.map(|flag| flag.load(Ordering::Relaxed));
        assert_eq!(repeated, [false, true, true, false, false]);
    }

    /// The link to a member that the test plays; it has one pipe.
    #[derive(Debug)]
    struct Played(Mutex<Option<OpenPipe>>);

    type Answer<T> = openraft::base::BoxFuture<'static, Result<T, LinkError>>;

    impl Transport for Played {
        fn call(&self, _: &Peer, _: Call, _: Bytes) -> Answer<Bytes> {
            std::future::pending().boxed()
        }

        fn knock(&self, _: &Peer) -> BoxFuture<'static, Knock> {
            std::future::pending().boxed()
        }

        fn open(&self, _: &Peer, _: Pipe) -> Answer<OpenPipe> {
            let open = self.0.lock().take();
            let open = open.ok_or_else(|| LinkError::NotSent("there was one".into()));
            std::future::ready(open).boxed()
        }

        fn send_snapshot(&self, _: &Peer, _: Bytes, _: SnapshotBytes) -> Answer<Bytes> {
            std::future::pending().boxed()
        }
    }

    /// A client of a member, with the member's end of the pipe in the test's hands.
    fn client() -> (
        PeerClient,
        mpsc::Receiver<Bytes>,
        mpsc::Sender<Result<Bytes, LinkError>>,
    ) {
        let (requests, asked) = mpsc::channel(Pipe::Append.window());
        let (to, answers) = mpsc::channel(Pipe::Append.window());
        let transport = Played(Mutex::new(Some(OpenPipe { requests, answers })));
        let links = Links::new(LinksSetup {
            me: 1,
            transport: Arc::new(transport),
            thread: Thread::Callers,
            supervisor: Supervisor::new(Halt::default()).start(),
            metrics: Metrics::new(),
            departure: Departure::default(),
        });
        let client = PeerClient {
            link: links.reach(2, &[]),
            progress: Arc::default(),
            acknowledged: Acknowledged::default(),
            is_for_heartbeats: false,
        };
        (client, asked, to)
    }

    /// A message that commits everything up to entry 4, where the member's log ends.
    fn commits() -> AppendEntriesRequest<Types> {
        let last = Some(to_raft_log_id(LogId { term: 1, index: 4 }));
        let vote = Vote {
            term: 1,
            voted_for: Some(1),
            committed: true,
        };
        AppendEntriesRequest {
            vote: to_raft_vote(vote),
            prev_log_id: last,
            entries: Vec::new(),
            leader_commit: last,
        }
    }

    #[actix::test]
    async fn a_leader_that_no_quorum_hears_tells_those_that_it_still_reaches() {
        let (mut client, mut asked, _to) = client();
        let progress = Arc::clone(&client.progress);
        let option = RPCOption::new(std::time::Duration::from_secs(60));
        let input = stream::iter([Some(1), Some(2), None]).map(move |unheard_in| {
            progress.lead_unheard(unheard_in);
            commits()
        });
        let mut answers = client.stream_append(input, option).await.unwrap();
        assert!(answers.next().now_or_never().is_none());
        let mut told = Vec::new();
        for _ in 0..3 {
            let sent = asked.recv().await.unwrap();
            told.push(wire::append_in(sent).unwrap().is_unheard);
        }
        assert_eq!(told, [true, false, false], "it leads in the first term");
    }

    #[actix::test]
    async fn an_answer_does_not_vouch_for_what_was_sent_after_it() {
        let (mut client, mut asked, to) = client();
        let option = RPCOption::new(std::time::Duration::from_secs(60));
        let input = stream::iter([commits(), commits()]).chain(stream::pending());
        let mut told = client.stream_append(input, option).await.unwrap();
        let member = async {
            for _ in 0..2 {
                asked.recv().await.unwrap();
            }
            let success = wire::append_answer_out(&AppendEntriesResponse::Success);
            to.send(Ok(success)).await.unwrap();
            // And it ends: the second message was never answered.
            drop((asked, to));
        };
        let (first, ()) = tokio::join!(told.next(), member);
        assert!(first.unwrap().is_err());
    }
}
