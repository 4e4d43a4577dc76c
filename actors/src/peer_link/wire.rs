//! Raft's messages as protobufs of `peer.proto`, and back.
//!
//! Bytes from another member are not trusted to be well formed: a decoder returns an error and
//! never panics. openraft's own serialised forms are never used, because they are not stable.

use althing_api::error::Error;
use althing_api::peerpb::{self, append_answer, hand_over_answer, read_index_answer};
use althing_storage::entry::{Entry as StoredEntry, EntryKind, LogId, Vote};
use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;

use crate::raft_node::types::{
    RaftLogId, RaftVote, Types, from_raft_log_id, from_raft_vote, to_raft_log_id, to_raft_vote,
};
use crate::raft_node::{Asker, Entry};

/// Why bytes of another member were refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The bytes are not such a message.
    #[error("not a message of this protocol: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field is missing, or its value has no meaning.
    #[error("a message lacks {0}, or it has no meaning here")]
    Field(&'static str),
}

pub(crate) fn log_id_out(id: LogId) -> peerpb::LogId {
    peerpb::LogId {
        term: id.term,
        index: id.index,
    }
}

pub(crate) fn log_id_in(id: &peerpb::LogId) -> LogId {
    LogId {
        term: id.term,
        index: id.index,
    }
}

fn raft_id_out(id: Option<&RaftLogId>) -> Option<peerpb::LogId> {
    id.map(|id| log_id_out(from_raft_log_id(*id)))
}

fn raft_id_in(id: Option<&peerpb::LogId>) -> Option<RaftLogId> {
    id.map(|id| to_raft_log_id(log_id_in(id)))
}

fn vote_out(vote: &RaftVote) -> peerpb::Vote {
    let vote = from_raft_vote(vote);
    peerpb::Vote {
        term: vote.term,
        voted_for: vote.voted_for,
        committed: vote.committed,
    }
}

fn vote_in(vote: Option<&peerpb::Vote>) -> Result<RaftVote, WireError> {
    let vote = vote.ok_or(WireError::Field("a vote"))?;
    Ok(to_raft_vote(Vote {
        term: vote.term,
        voted_for: vote.voted_for,
        committed: vote.committed,
    }))
}

fn entry_out(entry: Entry) -> peerpb::Entry {
    let StoredEntry { id, kind, payload } = entry.into_stored();
    let kind = match kind {
        EntryKind::Blank => peerpb::EntryKind::Blank,
        EntryKind::Command => peerpb::EntryKind::Command,
        EntryKind::Membership => peerpb::EntryKind::Membership,
    };
    peerpb::Entry {
        id: Some(log_id_out(id)),
        kind: kind.into(),
        payload,
    }
}

fn entry_in(entry: peerpb::Entry) -> Result<Entry, WireError> {
    let id = entry.id.as_ref().map(log_id_in);
    let kind = match peerpb::EntryKind::try_from(entry.kind) {
        Ok(peerpb::EntryKind::Blank) => EntryKind::Blank,
        Ok(peerpb::EntryKind::Command) => EntryKind::Command,
        Ok(peerpb::EntryKind::Membership) => EntryKind::Membership,
        Err(_) => return Err(WireError::Field("a known kind of entry")),
    };
    let stored = StoredEntry {
        id: id.ok_or(WireError::Field("an entry's place"))?,
        kind,
        payload: entry.payload,
    };
    Entry::received(stored).ok_or(WireError::Field("a membership"))
}

/// Entries of a leader, or a heartbeat, with what it says of its lead.
pub(crate) struct FromLeader {
    pub(crate) request: AppendEntriesRequest<Types>,
    /// No quorum hears it, so that it does not count as the leader.
    pub(crate) is_unheard: bool,
}

pub(crate) fn append_out(sent: FromLeader) -> Bytes {
    let FromLeader {
        request,
        is_unheard,
    } = sent;
    let message = peerpb::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        previous: raft_id_out(request.prev_log_id.as_ref()),
        committed: raft_id_out(request.leader_commit.as_ref()),
        entries: request.entries.into_iter().map(entry_out).collect(),
        unheard: is_unheard,
    };
    message.encode_to_vec().into()
}

/// Decodes entries, which must follow one another without a hole, or the log would have one.
pub(crate) fn append_in(bytes: Bytes) -> Result<FromLeader, WireError> {
    let message = peerpb::AppendRequest::decode(bytes)?;
    let before = message.previous.as_ref().map(|id| id.index);
    let first = before.map_or(0, |index| index.saturating_add(1));
    let mut entries = Vec::with_capacity(message.entries.len());
    for (offset, entry) in (0_u64..).zip(message.entries) {
        let entry = entry_in(entry)?;
        if Some(entry.id().index) != first.checked_add(offset) {
            return Err(WireError::Field("an entry in the middle"));
        }
        entries.push(entry);
    }
    let request = AppendEntriesRequest {
        vote: vote_in(message.vote.as_ref())?,
        prev_log_id: raft_id_in(message.previous.as_ref()),
        entries,
        leader_commit: raft_id_in(message.committed.as_ref()),
    };
    Ok(FromLeader {
        request,
        is_unheard: message.unheard,
    })
}

pub(crate) fn append_answer_out(answer: &AppendEntriesResponse<Types>) -> Bytes {
    use append_answer::Outcome;
    let outcome = match answer {
        AppendEntriesResponse::Success => Outcome::Success(peerpb::Empty {}),
        AppendEntriesResponse::PartialSuccess(upto) => Outcome::Partial(peerpb::Partial {
            upto: raft_id_out(upto.as_ref()),
        }),
        AppendEntriesResponse::Conflict => Outcome::Conflict(peerpb::Empty {}),
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(vote_out(vote)),
    };
    let outcome = Some(outcome);
    peerpb::AppendAnswer { outcome }.encode_to_vec().into()
}

pub(crate) fn append_answer_in(bytes: Bytes) -> Result<AppendEntriesResponse<Types>, WireError> {
    use append_answer::Outcome;
    let answer = peerpb::AppendAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Success(_) => AppendEntriesResponse::Success,
            Outcome::Partial(partial) => {
                AppendEntriesResponse::PartialSuccess(raft_id_in(partial.upto.as_ref()))
            }
            Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
            Outcome::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_in(Some(&vote))?),
        },
    )
}

pub(crate) fn vote_request_out(request: &VoteRequest<Types>) -> Bytes {
    let message = peerpb::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last: raft_id_out(request.last_log_id.as_ref()),
        hand_over: request.leadership_transfer,
    };
    message.encode_to_vec().into()
}

pub(crate) fn vote_request_in(bytes: Bytes) -> Result<VoteRequest<Types>, WireError> {
    let message = peerpb::VoteRequest::decode(bytes)?;
    let vote = vote_in(message.vote.as_ref())?;
    let mut request = VoteRequest::new(vote, raft_id_in(message.last.as_ref()));
    request.leadership_transfer = message.hand_over;
    Ok(request)
}

pub(crate) fn vote_answer_out(answer: &VoteResponse<Types>) -> Bytes {
    let message = peerpb::VoteAnswer {
        vote: Some(vote_out(&answer.vote)),
        granted: answer.vote_granted,
        last: raft_id_out(answer.last_log_id.as_ref()),
    };
    message.encode_to_vec().into()
}

pub(crate) fn vote_answer_in(bytes: Bytes) -> Result<VoteResponse<Types>, WireError> {
    let message = peerpb::VoteAnswer::decode(bytes)?;
    let vote = vote_in(message.vote.as_ref())?;
    let last = raft_id_in(message.last.as_ref());
    Ok(VoteResponse::new(vote, last, message.granted))
}

pub(crate) fn hand_over_out(request: &TransferLeaderRequest<Types>) -> Bytes {
    let message = peerpb::HandOverRequest {
        from: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last: raft_id_out(request.last_log_id()),
    };
    message.encode_to_vec().into()
}

pub(crate) fn hand_over_in(bytes: Bytes) -> Result<TransferLeaderRequest<Types>, WireError> {
    let message = peerpb::HandOverRequest::decode(bytes)?;
    let from = vote_in(message.from.as_ref())?;
    let last = raft_id_in(message.last.as_ref());
    Ok(TransferLeaderRequest::new(from, message.to, last))
}

pub(crate) fn hand_over_answer_out(answer: &TransferLeaderResponse<Types>) -> Bytes {
    use hand_over_answer::Outcome;
    let outcome = match answer {
        Ok(()) => Outcome::Accepted(peerpb::Empty {}),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            Outcome::OtherVote(vote_out(actual))
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => Outcome::Behind(peerpb::Behind {
            flushed: raft_id_out(actual.as_ref()),
        }),
    };
    let outcome = Some(outcome);
    peerpb::HandOverAnswer { outcome }.encode_to_vec().into()
}

/// `asked` is the request that this answers.
pub(crate) fn hand_over_answer_in(
    bytes: Bytes,
    asked: &TransferLeaderRequest<Types>,
) -> Result<TransferLeaderResponse<Types>, WireError> {
    use hand_over_answer::Outcome;
    let answer = peerpb::HandOverAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::OtherVote(vote) => Err(TransferLeaderError::VoteChanged {
                expected: *asked.from_leader(),
                actual: vote_in(Some(&vote))?,
            }),
            Outcome::Behind(behind) => Err(TransferLeaderError::LogNotFlushed {
                expected: asked.last_log_id().copied(),
                actual: raft_id_in(behind.flushed.as_ref()),
            }),
        },
    )
}

pub(crate) fn read_index_question_out(asker: &Asker) -> Bytes {
    let question = peerpb::ReadIndexQuestion {
        member: asker.member,
        vote: Some(vote_out(&asker.vote)),
    };
    question.encode_to_vec().into()
}

/// Decodes a question; `None` stands for a member that asks without telling its vote.
pub(crate) fn read_index_question_in(bytes: Bytes) -> Result<Option<Asker>, WireError> {
    let question = peerpb::ReadIndexQuestion::decode(bytes)?;
    let Some(vote) = &question.vote else {
        return Ok(None);
    };
    Ok(Some(Asker {
        member: question.member,
        vote: vote_in(Some(vote))?,
    }))
}

pub(crate) fn read_index_answer_out(answer: Result<u64, Error>) -> Bytes {
    use read_index_answer::Outcome;
    let outcome = Some(match answer {
        Ok(index) => Outcome::Index(index),
        Err(error) => Outcome::Error(error.text().to_owned()),
    });
    peerpb::ReadIndexAnswer { outcome }.encode_to_vec().into()
}

pub(crate) fn read_index_answer_in(bytes: Bytes) -> Result<Result<u64, Error>, WireError> {
    use read_index_answer::Outcome;
    let answer = peerpb::ReadIndexAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Index(index) => Ok(index),
            Outcome::Error(text) => Err(error_in(&text)),
        },
    )
}

/// A newer member may send an error with a text that this one does not know.
pub(crate) fn error_in(text: &str) -> Error {
    Error::from_text(text).unwrap_or(Error::Timeout)
}

pub(crate) fn snapshot_head_out(vote: &RaftVote) -> Bytes {
    let vote = Some(vote_out(vote));
    peerpb::SnapshotHead { vote }.encode_to_vec().into()
}

pub(crate) fn snapshot_head_in(bytes: Bytes) -> Result<RaftVote, WireError> {
    vote_in(peerpb::SnapshotHead::decode(bytes)?.vote.as_ref())
}

pub(crate) fn snapshot_answer_out(vote: &RaftVote) -> Bytes {
    let vote = Some(vote_out(vote));
    peerpb::SnapshotAnswer { vote }.encode_to_vec().into()
}

pub(crate) fn snapshot_answer_in(bytes: Bytes) -> Result<RaftVote, WireError> {
    vote_in(peerpb::SnapshotAnswer::decode(bytes)?.vote.as_ref())
}

#[cfg(test)]
#[path = "wire_test.rs"]
mod tests;
