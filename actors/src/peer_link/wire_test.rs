//! Raft's messages survive the wire, and what is not raft's is refused.

use super::*;

fn vote(term: u64, node: u64, committed: bool) -> RaftVote {
    to_raft_vote(Vote {
        term,
        voted_for: Some(node),
        committed,
    })
}

fn id(term: u64, index: u64) -> RaftLogId {
    to_raft_log_id(LogId { term, index })
}

fn entry(index: u64, kind: EntryKind, payload: &'static [u8]) -> Entry {
    Entry::from(StoredEntry {
        id: LogId { term: 2, index },
        kind,
        payload: Bytes::from_static(payload),
    })
}

fn append() -> FromLeader {
    let request = AppendEntriesRequest {
        vote: vote(2, u64::MAX, true),
        prev_log_id: Some(id(1, 4)),
        entries: vec![
            entry(5, EntryKind::Blank, b""),
            entry(6, EntryKind::Command, b"put"),
        ],
        leader_commit: Some(id(1, 3)),
    };
    FromLeader {
        request,
        is_unheard: false,
    }
}

#[test]
fn an_append_arrives_as_it_was_sent() {
    let received = append_in(append_out(append())).expect("our own bytes");
    assert!(!received.is_unheard);
    let (received, sent) = (received.request, append().request);
    assert_eq!(received.vote, sent.vote);
    assert_eq!(received.prev_log_id, sent.prev_log_id);
    assert_eq!(received.entries, sent.entries);
    assert_eq!(received.leader_commit, sent.leader_commit);
}

#[test]
fn a_leader_that_no_quorum_hears_says_so_and_one_that_does_not_know_the_word_is_heard() {
    let unheard = FromLeader {
        is_unheard: true,
        ..append()
    };
    assert!(append_in(append_out(unheard)).unwrap().is_unheard);
    let vote = Some(vote_out(&vote(2, 1, true)));
    let older = peerpb::AppendRequest {
        vote,
        ..Default::default()
    };
    assert!(!append_in(older.encode_to_vec().into()).unwrap().is_unheard);
}

#[test]
fn every_answer_to_an_append_arrives_as_it_was_given() {
    let all = [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(None),
        AppendEntriesResponse::PartialSuccess(Some(id(2, 9))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(vote(8, 3, false)),
    ];
    for answer in all {
        let heard = append_answer_in(append_answer_out(&answer)).expect("our own bytes");
        assert_eq!(heard, answer);
    }
}

#[test]
fn votes_and_their_answers_arrive_as_they_were_given() {
    let mut request = VoteRequest::new(vote(7, 1, false), Some(id(6, 10)));
    request.leadership_transfer = true;
    let heard = vote_request_in(vote_request_out(&request)).expect("our own bytes");
    assert_eq!(heard, request);
    for granted in [false, true] {
        let answer = VoteResponse::new(vote(7, 1, true), None, granted);
        assert_eq!(vote_answer_in(vote_answer_out(&answer)).unwrap(), answer);
    }
}

#[test]
fn a_hand_over_and_its_answers_arrive_as_they_were_given() {
    let request = TransferLeaderRequest::new(vote(7, 1, true), 2, Some(id(7, 3)));
    let heard = hand_over_in(hand_over_out(&request)).expect("our own bytes");
    assert_eq!(heard, request);
    let all = [
        Ok(()),
        Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote(9, 3, false),
        }),
        Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: None,
        }),
    ];
    for answer in all {
        let heard = hand_over_answer_in(hand_over_answer_out(&answer), &request);
        assert_eq!(heard.expect("our own bytes"), answer);
    }
}

#[test]
fn read_indexes_and_snapshot_votes_arrive_as_they_were_given() {
    for answer in [Ok(0), Ok(u64::MAX), Err(Error::NoLeader)] {
        let heard = read_index_answer_in(read_index_answer_out(answer));
        assert_eq!(heard.expect("our own bytes"), answer);
    }
    let vote = vote(3, 4, true);
    let asker = Asker { member: 5, vote };
    let heard = read_index_question_in(read_index_question_out(&asker));
    assert_eq!(heard.expect("our own bytes"), Some(asker));
    assert_eq!(read_index_question_in(Bytes::new()).unwrap(), None);
    assert_eq!(snapshot_head_in(snapshot_head_out(&vote)).unwrap(), vote);
    let answer = snapshot_answer_out(&vote);
    assert_eq!(snapshot_answer_in(answer).unwrap(), vote);
}

#[test]
fn entries_with_a_hole_or_without_a_meaning_are_refused() {
    let mut hole = append();
    hole.request.entries.remove(0);
    assert!(append_in(append_out(hole)).is_err());
    let mut damaged = append();
    damaged.request.entries[1] = entry(6, EntryKind::Membership, b"\xff\xff");
    assert!(append_in(append_out(damaged)).is_err());
    let without_vote = peerpb::AppendRequest::default();
    assert!(append_in(without_vote.encode_to_vec().into()).is_err());
    let unknown = peerpb::Entry {
        kind: 99,
        id: Some(peerpb::LogId::default()),
        ..Default::default()
    };
    assert!(entry_in(unknown).is_err());
}

#[test]
fn bytes_at_random_never_bring_a_decoder_down() {
    let mut bytes: Vec<u8> = append_out(append()).to_vec();
    for position in 0..bytes.len() {
        let kept = bytes[position];
        for value in [0, 0x7f, 0xff] {
            bytes[position] = value;
            let damaged = Bytes::copy_from_slice(&bytes);
            let _ = append_in(damaged.clone());
            let _ = append_answer_in(damaged.clone());
            let _ = vote_request_in(damaged.clone());
            let _ = vote_answer_in(damaged.clone());
            let _ = hand_over_in(damaged.clone());
            let _ = snapshot_head_in(damaged);
        }
        bytes[position] = kept;
    }
}
