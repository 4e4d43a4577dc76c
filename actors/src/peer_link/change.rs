//! A membership change that the leader is asked to make, and its answer, on the wire.

use althing_api::error::Error;
use althing_api::etcdserverpb::Member;
use althing_api::id::MemberId;
use althing_api::peerpb::{self, change_answer::Outcome, change_question::Change as Asked};
use bytes::Bytes;
use prost::Message;

use super::wire::{WireError, error_in};
use crate::node::MemberStatus;
use crate::raft_node::{Ask, Change, MemberChange};

pub(crate) fn question_out(change: &MemberChange, ask: Ask) -> Bytes {
    let change = Some(match change.clone() {
        MemberChange::Add {
            id,
            peer_urls,
            is_learner,
        } => Asked::Add(peerpb::AddMember {
            id: id.0,
            peer_urls,
            is_learner,
        }),
        MemberChange::Remove(id) => Asked::Remove(id.0),
        MemberChange::Update { id, peer_urls } => Asked::Update(peerpb::UpdateMember {
            id: id.0,
            peer_urls,
        }),
        MemberChange::Promote(id) => Asked::Promote(id.0),
    });
    let again = ask == Ask::Again;
    peerpb::ChangeQuestion { change, again }
        .encode_to_vec()
        .into()
}

/// Decodes the change, and whether an earlier attempt may have made it.
pub(crate) fn question_in(bytes: Bytes) -> Result<(MemberChange, Ask), WireError> {
    let question = peerpb::ChangeQuestion::decode(bytes)?;
    let change = match question.change.ok_or(WireError::Field("a change"))? {
        Asked::Add(peerpb::AddMember {
            id,
            peer_urls,
            is_learner,
        }) => MemberChange::Add {
            id: MemberId(id),
            peer_urls,
            is_learner,
        },
        Asked::Remove(id) => MemberChange::Remove(MemberId(id)),
        Asked::Update(peerpb::UpdateMember { id, peer_urls }) => MemberChange::Update {
            id: MemberId(id),
            peer_urls,
        },
        Asked::Promote(id) => MemberChange::Promote(MemberId(id)),
    };
    let ask = if question.again {
        Ask::Again
    } else {
        Ask::First
    };
    Ok((change, ask))
}

pub(crate) fn answer_out(answer: Result<Change, Error>) -> Bytes {
    let outcome = Some(match answer {
        Ok(Change::Done { index, members }) => Outcome::Done(peerpb::ChangeDone {
            index,
            members: members.into_iter().map(Member::from).collect(),
        }),
        Ok(Change::Elsewhere) => Outcome::NotLeader(peerpb::Empty {}),
        Ok(Change::Unsure) => Outcome::Unsure(peerpb::Empty {}),
        Err(error) => Outcome::Error(error.text().to_owned()),
    });
    peerpb::ChangeAnswer { outcome }.encode_to_vec().into()
}

pub(crate) fn answer_in(bytes: Bytes) -> Result<Result<Change, Error>, WireError> {
    let answer = peerpb::ChangeAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Done(peerpb::ChangeDone { index, members }) => Ok(Change::Done {
                index,
                members: members.into_iter().map(MemberStatus::from).collect(),
            }),
            Outcome::NotLeader(_) => Ok(Change::Elsewhere),
            Outcome::Unsure(_) => Ok(Change::Unsure),
            Outcome::Error(text) => Err(error_in(&text)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_arrive_as_they_were_asked_for() {
        let peer_urls = vec!["http://a:2380".to_owned(), "http://b:2380".to_owned()];
        let id = MemberId(u64::MAX);
        let changes = [
            MemberChange::Add {
                id,
                peer_urls: peer_urls.clone(),
                is_learner: true,
            },
            MemberChange::Remove(id),
            MemberChange::Update { id, peer_urls },
            MemberChange::Promote(id),
        ];
        for change in changes {
            for ask in [Ask::First, Ask::Again] {
                let heard = question_in(question_out(&change, ask)).unwrap();
                assert_eq!(heard, (change.clone(), ask));
            }
        }
        assert!(question_in(Bytes::new()).is_err());
    }

    #[test]
    fn answers_arrive_as_they_were_given() {
        let member = MemberStatus {
            id: MemberId(3),
            name: "three".into(),
            peer_urls: vec!["http://c:2380".into()],
            client_urls: vec!["http://c:2379".into()],
            is_learner: true,
        };
        let answers = [
            Ok(Change::Done {
                index: 9,
                members: vec![member],
            }),
            Ok(Change::Elsewhere),
            Ok(Change::Unsure),
            Err(Error::LearnerNotReady),
        ];
        for answer in answers {
            let heard = answer_in(answer_out(answer.clone())).unwrap();
            assert_eq!(format!("{heard:?}"), format!("{answer:?}"));
        }
        assert!(answer_in(Bytes::new()).is_err());
    }
}
